"""Objects in a bucket of an S3-compatible store: <prefix>/<Study UID>/<Series UID>/<UID>.dcm.

Rules: a received object is written into the cache's incoming folder first, then put; it is stored
when the store has answered that it has it. Puts are conditional (`If-None-Match: *`), so that a
name never changes hands; a name that is taken gives way to `<UID>~<random>.dcm`. A large object
goes up in parts, which S3 cannot do conditionally: an empty object takes the name for it first.
A put without an answer may have happened: its object has no row, and `lfscp check` finds it.
After the row is committed the file stays in the cache as a copy for readers.
"""

# ruff: noqa: PTH108 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store.bucket.object_probe import PROBES
from lfscp.archive.store.bucket.remote_fetch import Remote, copy_part
from lfscp.archive.store.bucket.remote_object import ReadAhead, RemoteObject
from lfscp.archive.store.bucket.s3_client import (
    PART_BYTES,
    PARTS_AT_ONCE,
    S3Options,
    connect,
    counted,
    reason_of,
)
from lfscp.archive.store.disk_cache import DiskCache
from lfscp.archive.store.files import instance_of, write_file
from lfscp.archive.store.object_store import NameTakenError, Piece, Placement, Uids

if TYPE_CHECKING:
    from obstore.store import S3Store

PUT_IN_PARTS_ABOVE: Final = 2 * PART_BYTES
_DELETED_AT_ONCE: Final = 1000  # what one request takes
_FETCHES_AHEAD: Final = 4
_CONTENT_TYPE: Final[Any] = {"Content-Type": "application/dicom"}
_HINT: Final = "check the object store, and send again"


class S3Objects:
    """The objects of one bucket; see `object_store.ObjectStore`.

    Args:
        options: where it is; its rights and identity were looked at.
        cache: of this node; received objects are written on its file system first.
    """

    is_remote = True

    def __init__(self, options: S3Options, cache: DiskCache) -> None:
        self.root = cache.folder
        self.incoming = cache.incoming
        self._cache = cache
        self._options = options
        self._client: S3Store | None = None
        self._ahead: ThreadPoolExecutor | None = None
        self._made_by = 0
        self._remote = Remote(self._connected, cache, self._executor, options.url.rstrip("/"))

    def _connected(self) -> S3Store:
        """This process's client: one made before a fork would hang."""
        if self._made_by != os.getpid() or self._client is None:
            self._ahead = None
            self._client = connect(self._options)
            self._made_by = os.getpid()
        return self._client

    def _executor(self) -> Executor:
        self._connected()
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(_FETCHES_AHEAD, "lfscp-fetch-ahead")
        return self._ahead

    def close(self) -> None:
        """Fetch nothing ahead any more; fetches that have begun end by themselves."""
        if self._ahead is not None and self._made_by == os.getpid():
            self._ahead.shutdown(wait=False, cancel_futures=True)
            self._ahead = None

    # Storing

    def write_piece(self, header: bytes, dataset: bytes | memoryview, uids: Uids) -> Piece:  # noqa: ARG002 - a bucket's objects are placed whole
        path = self._cache.new_piece()
        write_file(path, header, dataset, sync=False)
        return Piece(path, len(header) + len(dataset))

    def adopt(self, path: str | Path, uids: Uids, descriptor: int = -1) -> Piece:  # noqa: ARG002 - likewise
        found = os.stat(path if descriptor < 0 else descriptor)  # noqa: PTH116
        return Piece(str(path), found.st_size)

    def place(self, piece: Piece, study_uid: str, series_uid: str, instance_uid: str) -> str:
        key = f"{study_uid}/{series_uid}/{instance_uid}.dcm"
        self._put(piece, key)
        return key

    def place_beside(self, piece: Piece, study_uid: str, series_uid: str, instance_uid: str) -> str:
        key = f"{study_uid}/{series_uid}/{instance_uid}~{secrets.token_hex(8)}.dcm"
        self._put(piece, key)
        return key

    def _put(self, piece: Piece, key: str) -> None:
        if piece.size <= PUT_IN_PARTS_ABOVE:
            self._put_once(key, Path(piece.path), mode="create", use_multipart=False)
            return
        self._put_once(key, b"", mode="create", use_multipart=False)  # holds the name
        parts = {"chunk_size": PART_BYTES, "max_concurrency": PARTS_AT_ONCE}
        try:
            self._put_once(key, Path(piece.path), mode="overwrite", use_multipart=True, **parts)
        except OutOfResourcesError:
            self.remove(key)
            raise

    def _put_once(self, key: str, content: bytes | Path, **how: Any) -> None:
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            with counted("put"):
                self._connected().put(key, content, attributes=_CONTENT_TYPE, **how)
        except AlreadyExistsError:
            raise NameTakenError(key) from None
        except (BaseError, OSError, ValueError) as error:
            raise OutOfResourcesError("store the instance", reason_of(error), _HINT) from None

    def keep(self, piece: Piece, placement: Placement) -> None:
        """Keep the file of a committed object as a copy."""
        version = _version(
            placement.digest, placement.transfer_syntax_uid, placement.dataset_offset
        )
        if version:
            part = copy_part(placement.path, version)
            self._cache.add(piece.path, placement.path, piece.size, part)

    def discard(self, piece: Piece) -> None:
        """Remove a piece's own name; a copy of it stays."""
        with contextlib.suppress(OSError):
            os.unlink(piece.path)

    # Removing

    def remove(self, relative: str) -> None:
        self.remove_all([relative])

    def remove_all(self, paths: Iterable[str]) -> list[str]:
        from obstore.exceptions import BaseError

        gone: list[str] = []
        left = iter(paths)
        while some := list(itertools.islice(left, _DELETED_AT_ONCE)):
            try:
                with counted("delete"):
                    self._connected().delete(some)
            except FileNotFoundError:
                pass
            except (BaseError, OSError, ValueError):
                break  # the removal is tried again later
            for key in some:
                self._cache.drop(key)
            gone += some
        return gone

    # Reading

    def path(self, relative: str) -> RemoteObject:
        return RemoteObject(self._remote, relative)

    def file_of(self, row: Any) -> RemoteObject:
        version = _version(row.digest, row.transfer_syntax_uid, row.dataset_offset)
        return RemoteObject(self._remote, row.path, version, row.dataset_offset + row.size)

    def located(self, rows: Iterable[Any]) -> list[RemoteObject]:
        found = [self.file_of(row) for row in rows]
        ahead = ReadAhead(self._remote, found)
        for number, each in enumerate(found):
            each.read_before(ahead, number)
        return found

    def exists(self, relative: str) -> bool:
        try:
            self._remote.head(relative)
        except FileNotFoundError:
            return False
        return True

    def may_exist(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:  # noqa: ARG002
        """Never: to ask costs as much as to put, and the put tells."""
        return False

    def pieces(self) -> Iterator[Path]:
        """Nothing: what an earlier run left went when the cache was opened."""
        return iter(())

    def names_of(self, study_uid: str, series_uid: str, instance_uid: str) -> list[str]:
        return [
            key
            for key in self._keys(f"{study_uid}/{series_uid}")
            if instance_of(key) == instance_uid
        ]

    def walk(self) -> Iterator[str]:
        """Every object below the prefix; memory holds a thousand names at a time.

        Raises:
            OSError: they cannot be listed.
        """
        for key in self._keys(None):
            if not key.startswith(f"{PROBES}/"):
                yield key

    def _keys(self, prefix: str | None) -> Iterator[str]:
        pages = iter(self._connected().list(prefix))
        while True:
            page = self._remote.ask("list", "", lambda: next(pages, None))
            if page is None:
                return
            for each in page:
                yield each["path"]


def _version(digest: str, transfer_syntax_uid: str, dataset_offset: int) -> str:
    """What tells two contents of one name apart; empty when no digests are kept."""
    return f"{digest}|{transfer_syntax_uid}|{dataset_offset}" if digest else ""
