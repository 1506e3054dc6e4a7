"""An object of a bucket as readers see it: fetched when it is needed, piece by piece, and cached.

Rules: memory holds one piece of an object at most. A fetch that several ask for at once happens
once. What is sent may begin before the fetch has ended. All pieces are of one version of the
object, or the fetch fails. Objects that will be asked for next are fetched ahead.
"""

# ruff: noqa: PTH108 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import IO, TYPE_CHECKING, Any, Final, Literal, cast
from weakref import WeakValueDictionary

from lfscp.archive.store.disk_cache import DiskCache
from lfscp.archive.store.s3_client import PART_BYTES, counted, reason_of

if TYPE_CHECKING:
    from obstore.store import S3Store

_AHEAD: Final = 8  # objects
_REGULAR_FILE: Final = 0o100640


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

    def fetch(self, key: str, name: str, size: int, e_tag: str) -> Fetch:
        """The fetch of an object that is under way, or a new one."""
        with self._lock:
            found = self._fetches.get(name) if name else None
            if found is None or found.has_failed:
                found = Fetch(self, key, name, size, e_tag)
                if name:
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
        name: of its copy in the cache; empty for none.
        size: bytes of the object.
        e_tag: the version to fetch; empty for whichever is there first.
    """

    def __init__(self, remote: Remote, key: str, name: str, size: int, e_tag: str) -> None:
        self._remote = remote
        self._key = key
        self._name = name
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
        if not self._name:
            return
        self.path = self._remote.cache.add(self._piece, self._name, self.size)
        if self.is_kept:
            os.unlink(self._piece)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)
        with contextlib.suppress(AttributeError, OSError):
            if not self.is_kept:
                os.unlink(self._piece)


class ReadAhead:
    """Fetches the next objects of a list while one is being sent.

    Args:
        objects: in the order in which they will be asked for.
    """

    def __init__(self, remote: Remote, objects: Sequence[RemoteObject]) -> None:
        self._remote = remote
        self._objects = objects
        self._next = 0  # the first that has not been asked for
        self._lock = threading.Lock()

    def note(self, number: int) -> None:
        """The object of this number is wanted now: the next ones will be."""
        with self._lock:
            first = max(self._next, number + 1)
            self._next = max(self._next, min(number + 1 + _AHEAD, len(self._objects)))
            wanted = self._objects[first : self._next]
        for each in wanted:
            self._remote.ahead().submit(each.fetch_ahead)


class RemoteObject:
    """One object; see `object_store.StoredFile`.

    Args:
        key: its name in the bucket, below the prefix.
        version: what changes with its content; empty when the caller does not know, then it is
            read from the bucket and no copy is kept.
        size: bytes of the object; when `version` is given.
    """

    __slots__ = ("_ahead", "_fetch", "_head", "_number", "_remote", "_size", "_version", "key")

    def __init__(self, remote: Remote, key: str, version: str = "", size: int = 0) -> None:
        self.key = key
        self._remote = remote
        self._version = version
        self._size = size
        self._head: Any = None
        self._fetch: Fetch | None = None
        self._ahead: ReadAhead | None = None
        self._number = 0

    def read_before(self, ahead: ReadAhead, number: int) -> None:
        """Note that it stands in a list that is read in order."""
        self._ahead, self._number = ahead, number

    def __str__(self) -> str:
        return f"{self._remote.url}/{self.key}"

    def __fspath__(self) -> str:
        """The path of a local copy, fetched first if there is none.

        Raises:
            OSError: it cannot be had.
        """
        copy = self._copy()
        if copy is not None:
            return copy
        self._fetch = fetch = self._fetch or self._begin()
        path = fetch.finish()
        if fetch.is_kept:
            self._fetch = None  # else it is held, and so its file is, as long as this object
        return path

    def open(self, mode: Literal["rb"] = "rb") -> IO[bytes]:
        """Open a local copy for reading."""
        return open(self, mode)

    def begin(self) -> Fetch | None:
        """Begin to fetch it; None when there is a local copy already.

        Raises:
            OSError: it cannot be had.
        """
        if self._ahead is not None:
            self._ahead.note(self._number)
        begun, self._fetch = self._fetch, None
        return begun or (None if self._copy() is not None else self._begin())

    def fetch_ahead(self) -> None:
        """Fetch a local copy, if it is of a size to keep; a failure shows when it is read."""
        if 0 < self._size <= PART_BYTES and self._copy() is None:
            with contextlib.suppress(OSError):
                self._begin().finish()

    def exists(self) -> bool:
        """Whether it is in the bucket; of a known version, whether it can be read.

        Then its first piece is fetched at once, since it is read next.
        """
        try:
            if not self._version:
                self._known_head()
            elif self._copy() is None:
                fetch = self._begin()
                fetch.wait_for(min(self._size, PART_BYTES))
                self._fetch = None if fetch.is_kept else fetch
        except FileNotFoundError:
            return False
        except OSError:
            return True  # reading it says why it cannot be read
        return True

    is_file = exists

    def stat(self) -> os.stat_result:
        """Size, time of change, and a number that changes with the content as the inode's."""
        head = self._known_head()
        changed = head["last_modified"].timestamp()
        identity = int.from_bytes(str(head["e_tag"]).encode()[1:8], "little")
        times_ns = [int(changed * 1_000_000_000)] * 3
        numbers = [_REGULAR_FILE, identity, 0, 1, 0, 0, head["size"], *[int(changed)] * 3]
        return os.stat_result((*numbers, *[changed] * 3, *times_ns))

    def _known_head(self) -> Any:
        if self._head is None:
            self._head = self._remote.head(self.key)
        return self._head

    def _name(self) -> str:
        """Of its copy in the cache; empty for none: a name may get other content."""
        return f"{self.key}\0{self._version}" if self._version else ""

    def _copy(self) -> str | None:
        name = self._name()
        return self._remote.cache.find(name) if name else None

    def _begin(self) -> Fetch:
        e_tag = ""
        size = self._size
        if not self._version:
            head = self._known_head()
            size, e_tag = head["size"], head["e_tag"] or ""
        return self._remote.fetch(self.key, self._name(), size, e_tag)
