"""The jobs' tables, kept in the index's database so that one schema and its migrations have all.

`node` of a job is where it was submitted. `job_item` holds what an unfinished job has behind it
(studies of a retrieve, objects of a send): there it goes on. The rows are read and written in
lfscp/jobs; those of the nodes that share a database in archive/index/nodes.py.
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
    UniqueConstraint,
)

from lfscp.archive.index.schema import KEY, TEXT, metadata


def _text(name: str) -> Column[str]:
    return Column(name, TEXT, nullable=False, server_default="")


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


job: Final = Table(
    "job",
    metadata,
    Column("arrival", KEY, primary_key=True),
    Column("id", TEXT, nullable=False),
    _text("node"),
    _text("kind"),
    _text("peers"),  # JSON, as `parameters` and `result`
    _text("parameters"),
    _text("state"),
    _text("created_at"),  # ISO 8601 in UTC, as all times here
    Column("started_at", TEXT),
    Column("ended_at", TEXT),
    _number("attempts"),
    _number("done"),
    _number("failed"),
    _number("remaining"),
    _number("bytes"),
    Column("rate_bytes_s", Float, nullable=False, server_default="0"),
    _text("reason"),
    _text("result"),
    _number("failures"),
    Column("next_attempt_at", TEXT),
    _text("ae_title"),  # of the nodes that may run it, when several share the index
    _text("bound_to"),  # the only node that may, since it reads that machine's files
    _text("held_by"),  # the node that runs it now, until `held_until` unless it says more
    _text("wish"),  # of another node's user, for the one that runs it
    _number("held_until"),
    UniqueConstraint("id"),
    Index(None, "node", "state"),
    Index(None, "state"),
    Index(None, "ended_at"),
    sqlite_autoincrement=True,
)

job_item: Final = Table(
    "job_item",
    metadata,
    Column("job_id", TEXT, nullable=False),
    Column("item", TEXT, nullable=False),
    PrimaryKeyConstraint("job_id", "item"),
)

node: Final = Table(
    "node",
    metadata,
    Column("id", TEXT, nullable=False),
    _text("ae_title"),
    _text("host"),
    _text("configuration"),  # JSON: the settings in which nodes have to agree
    _number("seen_at"),
    PrimaryKeyConstraint("id"),
)
