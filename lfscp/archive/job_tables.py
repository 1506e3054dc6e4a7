"""The jobs' tables, kept in the index's database so that one schema and its migrations have all.

`node` keeps nodes apart that share a database: each runs its own jobs again. `job_item` holds
what an unfinished job has behind it (studies of a retrieve, objects of a send): there it goes on.
The rows are read and written in lfscp/jobs.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from lfscp.archive.schema import KEY, metadata


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


job: Final = Table(
    "job",
    metadata,
    Column("arrival", KEY, primary_key=True),
    Column("id", Text, nullable=False),
    _text("node"),
    _text("kind"),
    _text("peers"),  # JSON, as `parameters` and `result`
    _text("parameters"),
    _text("state"),
    _text("created_at"),  # ISO 8601 in UTC, as all times here
    Column("started_at", Text),
    Column("ended_at", Text),
    _number("attempts"),
    _number("done"),
    _number("failed"),
    _number("remaining"),
    _number("bytes"),
    Column("rate_bytes_s", Float, nullable=False, server_default="0"),
    _text("reason"),
    _text("result"),
    _number("failures"),
    Column("next_attempt_at", Text),
    UniqueConstraint("id"),
    Index(None, "node", "state"),
    Index(None, "ended_at"),
    sqlite_autoincrement=True,
)

job_item: Final = Table(
    "job_item",
    metadata,
    Column("job_id", Text, nullable=False),
    Column("item", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "item"),
)
