"""An object of a bucket as readers see it: fetched when it is needed, piece by piece, and cached.

Rules: memory holds one piece of an object at most. A fetch that several ask for at once happens
once. What is sent may begin before the fetch has ended. All pieces are of one version of the
object, or the fetch fails. Objects that will be asked for next are fetched ahead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Sequence
from typing import IO, Any, Final, Literal, cast

from lfscp.archive.store.bucket.remote_fetch import Fetch, Remote, copy_part
from lfscp.archive.store.bucket.s3_client import PART_BYTES

_AHEAD: Final = 8  # objects
_REGULAR_FILE: Final = 0o100640


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

    __slots__ = (
        *("_ahead", "_e_tag", "_fetch", "_head", "_number", "_remote", "_size", "_version"),
        "key",
    )

    def __init__(self, remote: Remote, key: str, version: str = "", size: int = 0) -> None:
        self.key = key
        self._remote = remote
        self._version = version
        self._size = size
        self._head: Any = None
        self._e_tag = ""  # of what was read by range
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

    @property
    def size(self) -> int:
        """Bytes of it; 0 when the caller did not know its version."""
        return self._size if self._version else 0

    @property
    def has_copy(self) -> bool:
        """Whether it is on this machine."""
        return self._copy() is not None

    @property
    def identity(self) -> tuple[str, str]:
        """What changes with its name or its content."""
        return str(self), self._version

    def read_range(self, begin: int, end: int) -> bytes:
        """Some of its bytes, from the bucket; no copy is kept.

        Raises:
            OSError: they cannot be had, or are of another version than those read before.
        """
        options: dict[str, Any] = {"range": (begin, end)}
        if self._e_tag:
            options["if_match"] = self._e_tag

        def get() -> Any:
            answer = self._remote.client().get(self.key, options=cast(Any, options))
            return answer.meta, answer.bytes()

        meta, content = self._remote.ask("get", self.key, get)
        if meta["size"] != self._size or len(content) != end - begin:
            reason = f"the object has {meta['size']} bytes instead of {self._size}"
            raise OSError(errno.EIO, reason, self.key)
        self._e_tag = meta["e_tag"] or ""
        return bytes(content)

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

    def _part(self) -> str:
        """Of its copy in the cache; empty for none: a name may get other content."""
        return copy_part(self.key, self._version) if self._version else ""

    def _copy(self) -> str | None:
        part = self._part()
        return self._remote.cache.find(self.key, part) if part else None

    def _begin(self) -> Fetch:
        e_tag = ""
        size = self._size
        if not self._version:
            head = self._known_head()
            size, e_tag = head["size"], head["e_tag"] or ""
        return self._remote.fetch(self.key, self._part(), size, e_tag)
