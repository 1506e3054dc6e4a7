"""Brings an index to the schema of this version.

Opening a current index costs one SELECT; Alembic is loaded only when there is work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine, inspect, text

from lfscp.archive.errors import ArchiveError

HEAD: Final = "0002"
_KNOWN: Final = ("0001", "0002")


def upgrade(engine: Engine) -> None:
    """Create or migrate the tables.

    Raises:
        ArchiveError: the index was written by a newer version.
    """
    with engine.connect() as connection:
        revision = None
        if inspect(connection).has_table("alembic_version"):
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision == HEAD:
        return
    if revision is not None and revision not in _KNOWN:
        raise ArchiveError(
            "open the index",
            f"it has schema {revision}, this version knows schemas up to {HEAD}",
            "run the newer lfscp that wrote it",
        )
    _run_alembic(engine)


def _run_alembic(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
