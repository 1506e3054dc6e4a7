"""The tables of routes: items, queues, releases, outcomes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0009"
down_revision = "0008"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = BytewiseText()


def name(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, server_default="")


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def upgrade() -> None:
    """Make the tables."""
    _items()
    _queues()
    op.create_table(
        "route_release",
        *map(name, ("route", "uid")),
        *map(number, ("up_to", "released_at")),
        sa.PrimaryKeyConstraint("route", "uid", name="pk_route_release"),
    )
    op.create_table(
        "route_outcome",
        *map(name, ("route", "destination", "study_instance_uid")),
        *map(number, ("sent", "failed", "last_at")),
        text("reason"),
        sa.PrimaryKeyConstraint(
            "route", "destination", "study_instance_uid", name="pk_route_outcome"
        ),
    )
    _index("route_outcome", "study_instance_uid")
    _index("route_outcome", "last_at")


def _items() -> None:
    op.create_table(
        "route_item",
        sa.Column("id", KEY, nullable=False),
        *map(name, ("route", "destination", "form")),
        *map(name, ("study_instance_uid", "series_instance_uid", "sop_instance_uid")),
        text("origin"),
        *map(number, ("state", "priority", "version", "size", "queued_at")),
        *map(number, ("failures", "next_attempt_at")),
        *map(text, ("commitment", "reason")),
        sa.PrimaryKeyConstraint("id", name="pk_route_item"),
        sa.UniqueConstraint(
            "destination",
            "form",
            "sop_instance_uid",
            name="uq_route_item_destination_form_sop_instance_uid",
        ),
        sqlite_autoincrement=True,
    )
    _index("route_item", "route", "destination", "state", "id")
    _index("route_item", "study_instance_uid")


def _queues() -> None:
    op.create_table(
        "route_queue",
        *map(name, ("route", "destination")),
        number("is_paused"),
        text("holder"),
        *map(number, ("held_until", "failures", "next_attempt_at")),
        text("reason"),
        *map(number, ("sent", "sent_bytes", "given_up", "last_sent_at")),
        sa.PrimaryKeyConstraint("route", "destination", name="pk_route_queue"),
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
