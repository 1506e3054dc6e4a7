"""Opens the place of an archive's objects after checking that it is the right one.

Nothing is written there before: it may be the folder below a volume that is not mounted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.durability import Durability
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.objects_identity import known
from lfscp.archive.node_id import node_id
from lfscp.archive.store.files import ObjectFiles
from lfscp.archive.store.identity import IDENTITY_FOLDER, FolderPlace, recognise
from lfscp.archive.store.object_probe import recognise_bucket
from lfscp.archive.store.object_store import ObjectStore

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.archive.store.s3_client import S3Options

OBJECTS: Final = "objects"
_SHARED: Final = (
    "each node has its own such folder, but nodes that share an index need one place of objects: "
    "give all of them the same objects.url, of a bucket or a folder that all mount; if this is the "
    "only node, see that its volume is mounted"
)
CACHED_OBJECTS: Final = Path("cache/objects")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects are instead of a folder.

    Args:
        cache_mb: megabytes of copies of them, kept in the data folder.
        follows: another node uses the cache still.
    """

    options: S3Options
    cache_mb: int
    follows: bool


def open_objects(
    index: Index,
    data_dir: Path,
    root: Path | None,
    durability: Durability,
    bucket: Bucket | None,
    objects_id: str,
) -> tuple[ObjectStore, str]:
    """Open the folder or the bucket of an index's objects.

    Args:
        root: the folder; None for the one in the data folder.
        objects_id: the identity that it must have, when the index knows none.
    Returns:
        It, and its identity.
    Raises:
        ArchiveError, OSError: it is another's, or cannot be used.
    """
    index_knows = known(index)
    if objects_id and not index_knows.identity:
        index_knows = replace(index_knows, identity=objects_id)
    if bucket is not None:
        return _open_bucket(data_dir, bucket, recognise_bucket(bucket.options, index_knows))
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


def _open_bucket(data_dir: Path, bucket: Bucket, identity: str) -> tuple[ObjectStore, str]:
    from lfscp.archive.store.disk_cache import DiskCache
    from lfscp.archive.store.s3 import S3Objects

    folder, max_bytes = data_dir / CACHED_OBJECTS, bucket.cache_mb * 1_000_000
    cache = DiskCache(folder, max_bytes, is_ours=not bucket.follows)
    return S3Objects(bucket.options, cache), identity
