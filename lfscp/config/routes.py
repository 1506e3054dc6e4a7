"""The settings of a route: which objects go on, when, and where to.

Here stands what a table has. Whether its condition and actions can be, and whether its peers are
there, is checked when it is read for use, in `lfscp.routing.reading`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from lfscp.config.checks import Amount, Bool, Int, ListOf, Seconds
from lfscp.config.declaration import Section, setting

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")


def check_name(name: str) -> str:
    """A name of a route."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name of at most 64 letters, digits, spaces, dots, hyphens, underscores")
    return name


def check_hours(span: str) -> str:
    """A span of a day."""
    match = _HOURS.fullmatch(span)
    if match is None or span[:5] == span[6:]:
        raise ValueError('a span of hours such as "20:00-06:30"; it may pass midnight')
    return span


class RouteSettings(Section):
    """Where objects go on to after they are stored: one `[[route]]` each. See config/routing.md."""

    name: Annotated[str, AfterValidator(check_name)] = setting(
        ..., "A name for queues and log lines. Must be given."
    )
    enabled: Bool = setting(True, "With false, nothing new goes this way. What waits still goes.")
    on: Literal["instance", "series", "study"] = setting(
        "instance",
        "What goes: each object that meets the condition, or the whole series or study once it is "
        "complete. One object of it that meets the condition is enough.",
    )
    when: dict[str, Any] = setting(
        {},
        'Condition on the sender and on attributes, for example { Modality = ["CT", "MR"] }. '
        "Empty: every object meets it.",
    )
    send_to: ListOf[str] = setting(
        ...,
        "The peers that get the objects, by their name in [peers]. Must be given.",
        min_length=1,
    )
    mode: Literal["all", "failover", "share"] = setting(
        "all",
        "all: each peer gets the objects. failover: the first peer that answers. share: each study "
        "goes to as many of the peers as `copies` says, always the same ones.",
    )
    copies: Int = setting(1, "With share: how many of the peers get each study.", ge=1)
    quiet_s: Seconds = setting(
        60.0, "A series or study is complete if nothing of it came for this long, in seconds."
    )
    days: ListOf[Weekday] = setting(
        (), "Days on which objects are sent: mon, tue, wed, thu, fri, sat, sun. Empty: every day."
    )
    hours: ListOf[Annotated[str, AfterValidator(check_hours)]] = setting(
        (),
        'Hours in which objects are sent, by this machine\'s clock, such as "20:00-06:00". '
        "Empty: at any hour.",
    )
    actions: ListOf[dict[str, Any]] = setting(
        (),
        "What is done to an object before it is sent, in this order: a list of tables with "
        "one action each: coerce, deidentify, plugin or transfer_syntax.",
    )
    transfer_syntax: str = setting(
        "",
        "Transfer syntax in which objects are sent, by keyword or UID: ExplicitVRLittleEndian, "
        "ImplicitVRLittleEndian, RLELossless, JPEGLSLossless or JPEG2000Lossless. Empty: as they "
        "are stored, or uncompressed if the peer takes nothing else.",
    )
    priority: Int = setting(
        0, "Routes with a higher number are sent first to the same peer.", ge=-100, le=100
    )
    parallel: Int = setting(
        1,
        "Most associations at once to one peer. With more than 1, objects may arrive in "
        "another order.",
        ge=1,
        le=32,
    )
    max_mb_s: Amount = setting(
        0.0, "Highest rate to one peer, in megabytes per second. 0 means no limit."
    )
    commit: Bool = setting(
        False,
        "Ask the peer for storage commitment. An object stays in the queue until the peer has "
        "committed to it.",
    )
    keep_days: Annotated[Amount, Field(gt=0, le=36500)] = setting(
        7.0, "How long an object that cannot be sent is tried again, in days."
    )
    retry_delay_s: Seconds = setting(
        10.0,
        "Wait before the first retry, in seconds. It doubles each time, up to one hour.",
    )

    @field_validator("send_to")
    @classmethod
    def _no_peer_twice(cls, peers: tuple[str, ...]) -> tuple[str, ...]:
        for peer in peers:
            if peers.count(peer) > 1:
                raise ValueError(f"each peer once; {peer} is there twice")
        return peers

    @model_validator(mode="after")
    def _can_send(self) -> Self:
        if self.copies > 1 and self.mode != "share":
            raise ValueError('leave out copies, or set mode = "share"')
        if self.mode == "share" and self.copies > len(self.send_to):
            raise ValueError(f"set copies to at most {len(self.send_to)}, as many as send_to has")
        return self


def no_name_twice(routes: object) -> object:
    """Routes, each with a name of its own."""
    tables = routes if isinstance(routes, list | tuple) else []
    names = [table.get("name") for table in tables if isinstance(table, dict)]
    for name in names:
        if name is not None and names.count(name) > 1:
            raise ValueError(f"name each route once; {name} is there twice")
    return routes
