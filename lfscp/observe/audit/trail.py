"""The trail of a process: writes messages, and counts those that come too often instead."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

from lfscp.observe import metrics
from lfscp.observe.audit import message as m
from lfscp.observe.audit.log import AuditFile
from lfscp.observe.audit.repeats import Repeats, source_of

# Any client can have these written, under any name.
_OF_STRANGERS: Final = (m.SECURITY_ALERT, m.USER_AUTHENTICATION, m.NETWORK_ENTRY)
_MOST_PREPARED: Final = 256
NO_TIME: Final = "-"  # in the place of a message's time, which comes before all else in it


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message that is written again and again, as text without its time.

    Args:
        key, source: as `AuditTrail.may_write` takes them.
    """

    message: m.AuditMessage
    text: str
    key: Hashable
    source: Hashable


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """Where this process writes its messages, in which form, and how many that are alike."""

    file: AuditFile
    source: str
    ae_title: str
    host: str
    as_xml: bool
    repeats: Repeats
    associations: Repeats  # of one address, whatever titles it gives
    queries: Repeats  # of one address that are recorded in full
    short_queries: Repeats  # and that are recorded at all
    prepared: dict[Hashable, Prepared] = field(default_factory=dict, compare=False)

    def write(
        self, message: m.AuditMessage, source: Hashable = None, limit: Repeats | None = None
    ) -> None:
        """Write a message, or count it when many that are alike have come; see `may_write`."""
        text = self.text(message, NO_TIME)
        if self.may_write(repeat_key(message, text), lambda: message, source, limit):
            self._write_now(text)

    def write_prepared(self, what: Hashable, prepare: Callable[[], Prepared]) -> None:
        """The same for a message that comes again and again.

        Args:
            what: says all that is in the message, but for its time.
            prepare: makes it.
        """
        found = self.prepared.get(what)
        if found is None:
            if len(self.prepared) >= _MOST_PREPARED:
                self.prepared.clear()
            found = self.prepared[what] = prepare()
        if self.may_write(found.key, lambda: found.message, found.source):
            self._write_now(found.text)

    def _write_now(self, text: str) -> None:
        self.file.write(text.replace(f'"{NO_TIME}"', f'"{m.now()}"', 1))

    def text(self, message: m.AuditMessage, time: str = "") -> str:
        """A message as a line of the file; `time` as in `AuditMessage.to_json`."""
        return message.to_xml(time) if self.as_xml else message.to_json(time)

    def may_write(
        self,
        key: Hashable,
        message: Callable[[], m.AuditMessage],
        source: Hashable = None,
        limit: Repeats | None = None,
    ) -> bool:
        """Whether a message is written now.

        Args:
            key: the same for messages that are alike.
            message: gives it, if one is to tell of others.
            source: the same for those from one address, where these are limited as well.
            limit: of these; that of associations when None.
        """

        def tell(number: int, within_s: float) -> None:
            said = message()
            more = f"{number} more of these within {within_s:.0f} s"
            reason = f"{m.cut(said.reason)}; {more}" if said.reason else more
            told = replace(said, reason=reason)
            self.file.write(self.text(told))

        if self.repeats.may_write(key, tell) and (
            source is None or (limit or self.associations).may_write(source, tell)
        ):
            return True
        metrics.AUDIT_COUNTED.add()
        return False

    def tell_repeats(self) -> None:
        """Write how many records were only counted."""
        for each in (self.repeats, self.associations, self.short_queries):
            each.tell()

    def message(
        self,
        event: m.Code,
        action: str,
        participants: tuple[m.Participant, ...],
        objects: tuple[m.Object, ...] = (),
        *,
        kind: m.Code | None = None,
        reason: str = "",
        outcome: m.EventOutcome | None = None,
    ) -> m.AuditMessage:
        """A message of this node; what has a reason is a minor failure, unless `outcome` says."""
        if outcome is None:
            outcome = m.EventOutcome.MINOR_FAILURE if reason else m.EventOutcome.SUCCESS
        return m.AuditMessage(
            self.source, event, action, participants, objects, kind, outcome, reason
        )

    def here(self, role: m.Code | None = None, *, is_requestor: bool = False) -> m.Participant:
        """This node as a participant."""
        process = str(os.getpid())
        return m.Participant(
            self.ae_title, self.host, is_requestor, role, name="lfscp", alternative=process
        )


def repeat_key(message: m.AuditMessage, text: str) -> Hashable:
    """What is the same for messages that are alike; `text` has no time."""
    refused = message.outcome is not m.EventOutcome.SUCCESS and message.event in _OF_STRANGERS
    if refused and message.type is not m.DETACH and message.participants:
        kind = message.type.value if message.type else ""
        return message.event.value, kind, source_of(message.participants[0].address)
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).digest()
