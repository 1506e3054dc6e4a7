"""Opens the archive for commands that need it whole: of a node that does not run, or beside it."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.cli.errors import CommandError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings


def open_stopped(settings: Settings, *, objects_id: str = "") -> Archive:
    """Open the archive of a node that does not run.

    Args:
        objects_id: as `Archive.open` takes it.
    Raises:
        CommandError: the node runs, or is of another user.
        ArchiveError: the archive cannot be opened.
    """
    from lfscp.archive.errors import ArchiveInUseError
    from lfscp.node.parts import open_archive

    _require_user_of_node(settings)
    try:
        return open_archive(settings, objects_id=objects_id)
    except ArchiveInUseError as error:
        raise CommandError(f"{error.reason}; stop the node first") from error


def open_beside_or_stopped(settings: Settings) -> tuple[Archive, bool]:
    """Open the archive of a node, as another process of it if it runs.

    Returns:
        The archive, and whether the node runs.
    Raises:
        CommandError: the node is just starting, or is of another user.
        ArchiveError: the archive cannot be opened.
    """
    from lfscp.archive.data_folder import join_node
    from lfscp.archive.errors import ArchiveInUseError
    from lfscp.node.parts import open_archive

    _require_user_of_node(settings)
    try:
        joined = join_node(settings.data_dir)
        return open_archive(settings, joined=joined), joined is not None
    except ArchiveInUseError as error:
        raise CommandError(f"{error.reason}; {error.hint}") from error


def _require_user_of_node(settings: Settings) -> None:
    """Refuse root where the node is of another user, who could not read what root stores."""
    from lfscp.archive.data_folder import LOCK_FILE

    with suppress(FileNotFoundError):
        owner = (settings.data_dir / LOCK_FILE).stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            name = _name_of(owner)
            raise CommandError(
                f"the node of {settings.data_dir} is of the user {name}, who could not read the "
                f"files of root; run this as that user: sudo -u '{name}' lfscp"
            )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo takes it


def require_index(settings: Settings, *, to_rebuild: bool = False) -> None:
    """Refuse an archive without an index, since opening it would make an empty one.

    Args:
        to_rebuild: objects without an index are enough.
    Raises:
        CommandError: there is no index.
        ArchiveError: a restore into the folder did not end.
    """
    from lfscp.archive.data_folder import require_whole

    index = index_file(settings)
    if index is None or index.is_file():
        return
    require_whole(settings.data_dir)
    has_objects = settings.objects.is_bucket or any(objects_folder(settings).glob("*/*/*.dcm"))
    if has_objects and to_rebuild:
        return
    lost = ", or make it anew with `lfscp check --rebuild`" if has_objects else ""
    raise CommandError(f"there is no index {index}; check data_dir and index.url{lost}")


def index_file(settings: Settings) -> Path | None:
    """The file of the index; None when the index is in PostgreSQL."""
    from lfscp.archive.archive import INDEX_FILE
    from lfscp.archive.index.database.database import sqlite_path

    return sqlite_path(settings.index.url) if settings.index.url else settings.data_dir / INDEX_FILE


def objects_folder(settings: Settings) -> Path:
    """The folder of the objects, unless they are in a bucket."""
    from lfscp.archive.archive import OBJECTS

    return settings.objects.root or settings.data_dir / OBJECTS
