"""Brings an index to the schema of this version.

Opening a current index costs one SELECT. A new one is made from the schema itself; Alembic,
which takes long to load, is for indexes of an older version. A test holds both ways equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine, inspect, text

from lfscp.archive.errors import ArchiveError
from lfscp.archive.job_tables import job
from lfscp.archive.maintenance_tables import maintenance

HEAD: Final = "0005"
_KNOWN: Final = ("0001", "0002", "0003", "0004", "0005")
_VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def upgrade(engine: Engine) -> None:
    """Create or migrate the tables.

    Raises:
        ArchiveError: the index was written by a newer version.
    """
    with engine.connect() as connection:
        revision = None
        tables = inspect(connection).get_table_names()
        if "alembic_version" in tables:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision == HEAD:
        return
    if not tables:
        _create(engine)
        return
    if revision is not None and revision not in _KNOWN:
        raise ArchiveError(
            "open the index",
            f"it has schema {revision}, this version knows schemas up to {HEAD}",
            "run the newer lfscp that wrote it",
        )
    _run_alembic(engine)


def _create(engine: Engine) -> None:
    """Make all tables in one transaction, so that a crash leaves none of them."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # whose driver begins none before a CREATE
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        assert job.metadata is maintenance.metadata  # noqa: S101 - one schema has them all
        job.metadata.create_all(connection, checkfirst=False)
        connection.exec_driver_sql(_VERSION_TABLE)
        stamp = text("INSERT INTO alembic_version (version_num) VALUES (:head)")
        connection.execute(stamp, {"head": HEAD})


def _run_alembic(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
