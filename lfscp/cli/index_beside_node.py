"""Opens the index alone, for commands that may run beside the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lfscp.cli.stopped_node import require_index

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.config import Settings


@contextmanager
def open_index(settings: Settings, operation: str) -> Iterator[Index]:
    """The index of an existing archive, which others may use at the same time.

    Args:
        operation: what is done with it, for errors.
    Raises:
        CommandError: there is no index.
        ArchiveError: it fails.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from lfscp.archive.archive import INDEX_FILE
    from lfscp.archive.errors import ArchiveError
    from lfscp.archive.index.database.database import reason_of, sqlite_url
    from lfscp.archive.index.index import Index

    require_index(settings)
    index = Index(settings.index.url or sqlite_url(settings.data_dir / INDEX_FILE))
    try:
        yield index
    except (SQLAlchemyError, OSError) as error:
        raise ArchiveError(operation, reason_of(error)) from None
    finally:
        index.close()
