"""The tables of routes: what waits to be sent, the queues, and what became of each study.

A row of `route_item` is written in the transaction of its instance's row, so that no object which a
route wants can be forgotten. It goes when the destination has the object. `route_queue` has a row
for each queue, which is a route and one of its destinations: the node that serves it, and its
pauses. `route_release` says up to which instance a series or study has gone, `route_outcome` what
became of a study's objects. `route_made` has the UIDs that actions have given, and
`study_completion` until when plug-ins were told that a study is complete. The rows are read and
written in lfscp/routing.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Table, UniqueConstraint

from lfscp.archive.index.tables.schema import KEY, TEXT, metadata, text_column

# The states of an item.
HELD, WAITING, GIVEN_UP = range(3)  # until its series or study is complete; to be sent; failed


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _name(name: str) -> Column[str]:
    return Column(name, TEXT, nullable=False)


route_item: Final = Table(
    "route_item",
    metadata,
    Column("id", KEY, primary_key=True),
    _name("route"),
    _name("destination"),
    _name("form"),  # what is done to the object; see lfscp/routing/routes.py
    _name("study_instance_uid"),
    _name("series_instance_uid"),
    _name("sop_instance_uid"),
    text_column("origin"),  # AE title of the sender, to which it does not go back
    _number("state"),
    _number("priority"),
    _number("version"),  # one more each time the object is stored again while it waits
    _number("size"),
    _number("queued_at"),  # milliseconds since 1970, by the database's clock, as all times here
    _number("failures"),
    _number("next_attempt_at"),
    text_column(
        "commitment"
    ),  # Transaction UID of the request, while the receiver has not answered
    text_column("reason"),
    text_column("sent_uid"),  # SOP Instance UID under which the receiver is asked for commitment
    UniqueConstraint("destination", "form", "sop_instance_uid"),
    Index(None, "route", "destination", "state", "id"),
    Index(None, "study_instance_uid"),
    sqlite_autoincrement=True,
)

route_queue: Final = Table(
    "route_queue",
    metadata,
    _name("route"),
    _name("destination"),
    _number("is_paused"),
    text_column("holder"),  # the node that serves it now, until `held_until` unless it says more
    _number("held_until"),
    _number("failures"),  # of the destination, in a row
    _number("next_attempt_at"),
    text_column("reason"),
    _number("sent"),
    _number("sent_bytes"),
    _number("given_up"),
    _number("last_sent_at"),
    PrimaryKeyConstraint("route", "destination"),
)

route_release: Final = Table(
    "route_release",
    metadata,
    _name("route"),
    _name("uid"),  # of the series or study
    _number("up_to"),  # key of the last instance that has gone
    _number("released_at"),
    PrimaryKeyConstraint("route", "uid"),
)

route_outcome: Final = Table(
    "route_outcome",
    metadata,
    _name("route"),
    _name("destination"),
    _name("study_instance_uid"),
    _number("sent"),
    _number("failed"),
    _number("last_at"),
    text_column("reason"),
    PrimaryKeyConstraint("route", "destination", "study_instance_uid"),
    Index(None, "study_instance_uid"),
    Index(None, "last_at"),
)

# SOP Instance UIDs of objects that actions of routes have made; such an object is not changed again
# when it comes back.
route_made: Final = Table(
    "route_made",
    metadata,
    Column("uid", TEXT, primary_key=True),
    _number("made_at"),
    Index(None, "made_at"),
)

# The row of the empty UID says until when studies were looked at.
study_completion: Final = Table(
    "study_completion",
    metadata,
    Column("study_instance_uid", TEXT, primary_key=True),
    _number("last_at"),  # when the last instance of the study had come
    Index(None, "last_at"),
)
