"""Fetches objects of a bucket into files, for `remote_object`.

Rules: a fetch that several ask for at once happens once. Memory holds one piece of an object at
most. All pieces are of one version of the object, or the fetch fails.
"""

# ruff: noqa: PTH108 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from lfscp.archive.store.bucket.s3_client import PART_BYTES, counted, reason_of
from lfscp.archive.store.disk_cache import DiskCache
from lfscp.archive.store.files import instance_of
from lfscp.archive.store.kept_beside import part_of

if TYPE_CHECKING:
    from obstore.store import S3Store


def copy_part(key: str, version: str) -> str:
    """Which of an object's copies in the cache has this version."""
    digest = hashlib.sha256(version.encode()).hexdigest()[:24]
    return part_of(instance_of(key), digest)


class Remote:
    """How the objects of one bucket are read: its client, the cache, and what is on its way.

    Args:
        client: gives this process's client.
        ahead: where fetches ahead run; made when it is first asked for.
        url: what error messages call the bucket.
    """

    def __init__(
        self,
        client: Callable[[], S3Store],
        cache: DiskCache,
        ahead: Callable[[], Executor],
        url: str,
    ) -> None:
        self.client = client
        self.cache = cache
        self.ahead = ahead
        self.url = url
        self._lock = threading.Lock()
        self._fetches: WeakValueDictionary[str, Fetch] = WeakValueDictionary()

    def fetch(self, key: str, part: str, size: int, e_tag: str) -> Fetch:
        """The fetch of an object that is under way, or a new one."""
        with self._lock:
            name = f"{key}{part}"
            found = self._fetches.get(name) if part else None
            if found is None or found.has_failed:
                found = Fetch(self, key, part, size, e_tag)
                if part:
                    self._fetches[name] = found
            return found

    def head(self, key: str) -> Any:
        """Size, time of change and ETag.

        Raises:
            OSError: it is not there, or cannot be asked for.
        """
        return self.ask("head", key, lambda: self.client().head(key))

    def ask(self, kind: str, key: str, request: Callable[[], Any]) -> Any:
        """Do a request; all that it fails with becomes an OSError.

        Args:
            kind: as it is counted.
        """
        from obstore.exceptions import BaseError

        try:
            with counted(kind):
                return request()
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", f"{self.url}/{key}") from None
        except (BaseError, OSError, ValueError) as error:
            raise OSError(errno.EIO, reason_of(error), f"{self.url}/{key}") from None


class Fetch:
    """One object on its way into a file. Any thread may call any method.

    Args:
        part: which copy of that name in the cache it becomes; empty for none.
        size: bytes of the object.
        e_tag: the version to fetch; empty for whichever is there first.
    """

    def __init__(self, remote: Remote, key: str, part: str, size: int, e_tag: str) -> None:
        self._remote = remote
        self._key = key
        self._part = part
        self._e_tag = e_tag
        self._lock = threading.Lock()
        self._here = 0  # bytes fetched so far
        self.size = size
        self.has_failed = False
        self.path = self._piece = remote.cache.new_piece()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o640)

    def fileno(self) -> int:
        """The file that the object is fetched into; open as long as this fetch is held."""
        return self._descriptor

    def wait_for(self, end: int) -> None:
        """Have the object's first `end` bytes in the file.

        Raises:
            OSError: they cannot be had.
        """
        if end <= self._here:
            return
        with self._lock:
            try:
                while self._here < min(end, self.size):
                    self._next_part()
            except OSError:
                self.has_failed = True
                raise
            if end > self.size:
                raise OSError(errno.EIO, f"the object has {self.size} bytes only", self._key)

    def finish(self) -> str:
        """Fetch all of it; returns a path that lasts as long as this fetch is held.

        Raises:
            OSError: it cannot be had.
        """
        self.wait_for(self.size)
        with self._lock:
            return self.path

    @property
    def is_kept(self) -> bool:
        """Whether all of it is in the cache, where it stays without this fetch."""
        return self.path != self._piece

    def _next_part(self) -> None:
        start, end = self._here, min(self._here + PART_BYTES, self.size)
        options: dict[str, Any] = {"range": (start, end)}
        if self._e_tag:
            options["if_match"] = self._e_tag

        def get() -> Any:
            answer = self._remote.client().get(self._key, options=cast(Any, options))
            return answer.meta, answer.bytes()

        meta, content = self._remote.ask("get", self._key, get)
        if meta["size"] != self.size or len(content) != end - start:
            raise OSError(
                errno.EIO, f"the object has {meta['size']} bytes instead of {self.size}", self._key
            )
        self._e_tag = meta["e_tag"] or ""
        view = memoryview(content)
        while view:
            view = view[os.pwrite(self._descriptor, view, end - len(view)) :]
        self._here = end
        if end == self.size:
            self._keep()

    def _keep(self) -> None:
        if not self._part:
            return
        self.path = self._remote.cache.add(self._piece, self._key, self.size, self._part)
        if self.is_kept:
            os.unlink(self._piece)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)
        with contextlib.suppress(AttributeError, OSError):
            if not self.is_kept:
                os.unlink(self._piece)
