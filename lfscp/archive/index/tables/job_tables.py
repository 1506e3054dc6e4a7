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

from lfscp.archive.index.tables.schema import KEY, TEXT, metadata, text_column


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


job: Final = Table(
    "job",
    metadata,
    Column("arrival", KEY, primary_key=True),
    Column("id", TEXT, nullable=False),
    text_column("node"),
    text_column("kind"),
    text_column("peers"),  # JSON, as `parameters` and `result`
    text_column("parameters"),
    text_column("state"),
    text_column("created_at"),  # ISO 8601 in UTC, as all times here
    Column("started_at", TEXT),
    Column("ended_at", TEXT),
    _number("attempts"),
    _number("done"),
    _number("failed"),
    _number("remaining"),
    _number("bytes"),
    Column("rate_bytes_s", Float, nullable=False, server_default="0"),
    text_column("reason"),
    text_column("result"),
    _number("failures"),
    Column("next_attempt_at", TEXT),
    text_column("ae_title"),  # of the nodes that may run it, when several share the index
    text_column("bound_to"),  # the only node that may, since it reads that machine's files
    text_column("held_by"),  # the node that runs it now, until `held_until` unless it says more
    text_column("wish"),  # of another node's user, for the one that runs it
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
    text_column("ae_title"),
    text_column("host"),
    text_column("configuration"),  # JSON: the settings in which nodes have to agree
    _number("seen_at"),
    PrimaryKeyConstraint("id"),
)
