"""Opens what an archive is made of, and removes what a crash left: lock, index, objects' place.

Nothing is written to the objects' place before it proved to be the right one: it may be the folder
below a volume that is not mounted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.archive_id import name_archive
from lfscp.archive.data_folder import lock_folder, require_whole, without_commands
from lfscp.archive.durability import Durability
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.clock_readings import Stamps, read_kept, task_of
from lfscp.archive.index.database.database import (
    DEFAULT_CONNECTIONS,
    DEFAULT_TIMEOUT_S,
    is_sqlite_file,
    sqlite_url,
)
from lfscp.archive.index.index import Index
from lfscp.archive.index.objects_identity import bind, known
from lfscp.archive.late_sync import restore
from lfscp.archive.left_overs import clear_incoming
from lfscp.archive.node_id import node_id
from lfscp.archive.store.bucket.object_probe import recognise_bucket
from lfscp.archive.store.digest import ALGORITHMS, DEFAULT_ALGORITHM
from lfscp.archive.store.files import ObjectFiles
from lfscp.archive.store.identity import IDENTITY_FOLDER, FolderPlace, Presence, recognise
from lfscp.archive.store.object_store import ObjectStore
from lfscp.archive.store.received_objects import Duplicates
from lfscp.archive.store.space import AUTOMATIC, MEGABYTE, Space

if TYPE_CHECKING:
    from lfscp.archive.store.bucket.s3_client import S3Options

INDEX_FILE: Final = "index.sqlite"
OBJECTS: Final = "objects"
CACHED_OBJECTS: Final = Path("cache/objects")
_SHARED: Final = (
    "each node has its own such folder, but nodes that share an index need one place of objects: "
    "give all of them the same objects.url, of a bucket or a folder that all mount; if this is the "
    "only node, see that its volume is mounted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How an archive is opened.

    Args:
        index_url: SQLAlchemy URL; an SQLite file in the data folder when None.
        index_connections: as `connect.open_database` takes it, as `index_timeout_s`.
        objects_root: folder of the objects; `objects` in the data folder when None.
        digest: one of `digest.ALGORITHMS`; None stores no digests.
        reserve_mb: as `space.Space` takes it.
        bucket: where the objects are instead of a folder.
        cache_mb: megabytes of copies of a bucket's objects, kept in the data folder.
        lock: the `lock_descriptor` of the node that this one follows on, which still stores what
            it has begun to receive; closed with this archive.
        objects_id: the identity of its objects' place, for an index that knows none yet; see
            `store.identity`.
    """

    index_url: str | None = None
    index_connections: int = DEFAULT_CONNECTIONS
    index_timeout_s: float = DEFAULT_TIMEOUT_S
    objects_root: Path | None = None
    durability: Durability | str = Durability.FULL
    duplicates: Duplicates | str = Duplicates.KEEP
    digest: str | None = DEFAULT_ALGORITHM
    reserve_mb: int = AUTOMATIC
    bucket: S3Options | None = None
    cache_mb: int = 10_000
    lock: int | None = None
    objects_id: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened.

    Args:
        node: names this node among those that share the index; empty when it shares none.
        lock: a descriptor of the data folder's lock.
    """

    files: ObjectStore
    index: Index
    space: Space
    presence: Presence
    node: str
    lock: int


@contextmanager
def opened(data_dir: Path, options: OpenOptions) -> Iterator[Opened]:
    """Open an archive's parts; when that or the block fails, all are closed again.

    Args:
        data_dir: made when missing.
    Raises:
        ArchiveInUseError: another node has it open.
        ArchiveError: it cannot be written to, the index is of a newer version, or the objects'
            place is not the one that the index knows.
    """
    if options.digest is not None and options.digest not in ALGORITHMS:
        hint = f"use {' or '.join(ALGORITHMS)}"
        raise ArchiveError("open the archive", f"no digest algorithm {options.digest}", hint)
    lock = lock_folder(data_dir) if options.lock is None else options.lock
    with ExitStack() as parts:
        parts.callback(os.close, lock)
        try:
            yield _open(data_dir, options, lock, parts)
        except OSError as error:
            reason = f"{error.strerror}: {error.filename or data_dir}"
            raise ArchiveError("open the archive", reason) from None
        parts.pop_all()


def _open(data_dir: Path, options: OpenOptions, lock: int, parts: ExitStack) -> Opened:
    require_whole(data_dir)
    url = options.index_url or sqlite_url(data_dir / INDEX_FILE)
    was_there = is_sqlite_file(url)
    durability = Durability(options.durability)
    index = Index(
        url,
        durability,
        connections=options.index_connections,
        timeout_s=options.index_timeout_s,
    )
    parts.callback(index.close)
    node = node_id(data_dir) if index.is_shared else ""
    files, identity = _open_objects(index, data_dir, options, durability)
    presence = Presence(None if files.is_remote else files.root, data_dir, identity)
    parts.callback(presence.close)
    space = Space((files.root, data_dir), options.reserve_mb, lambda: presence.problem)
    with index.doing("write to the index"):
        bind(index, identity)
        with index.engine.connect() as connection:
            index.stamps = Stamps(read_kept(connection, task_of(node)))
    if options.lock is None:
        if not index.is_shared:
            with index.doing("open the index"):
                name_archive(index)
        with without_commands(data_dir) as are_alone:
            if are_alone:
                with index.doing("restore files"):
                    restore(index, files)
                may_judge = was_there or bool(index.placements(limit=1))
                clear_incoming(files, index, may_judge=may_judge)
    return Opened(files, index, space, presence, node, lock)


def _open_objects(
    index: Index, data_dir: Path, options: OpenOptions, durability: Durability
) -> tuple[ObjectStore, str]:
    """The folder or the bucket of an index's objects, and its identity."""
    index_knows = known(index)
    if options.objects_id and not index_knows.identity:
        index_knows = replace(index_knows, identity=options.objects_id)
    if options.bucket is not None:
        identity = recognise_bucket(options.bucket, index_knows)
        return _open_bucket(options.bucket, data_dir, options), identity
    root = options.objects_root
    folder = root or data_dir / OBJECTS
    try:
        identity = recognise(FolderPlace(folder), index_knows)
    except ArchiveError as error:
        if root is not None or not index.is_shared:
            raise
        raise ArchiveError(error.operation, error.reason, _SHARED) from None
    node = "" if root is None else node_id(data_dir)
    at = folder / IDENTITY_FOLDER / identity
    return ObjectFiles(folder, durability, node=node, identity=at), identity


def _open_bucket(bucket: S3Options, data_dir: Path, options: OpenOptions) -> ObjectStore:
    from lfscp.archive.store.bucket.s3 import S3Objects
    from lfscp.archive.store.disk_cache import DiskCache

    max_bytes = options.cache_mb * MEGABYTE
    cache = DiskCache(data_dir / CACHED_OBJECTS, max_bytes, is_ours=options.lock is None)
    return S3Objects(bucket, cache)
