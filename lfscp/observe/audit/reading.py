"""Reads the newest records of the audit trail, for the page; as JSON or XML, as they were written.

Rule: what one look reads is limited, so that a trail of gigabytes is not read as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from lfscp.observe.recent_log import lines_backwards

MAX_READ_BYTES: Final = 32 << 20
_MAX_FILES: Final = 100
_OUTCOMES: Final = {"0": "success", "4": "failure", "8": "failure", "12": "failure"}


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One record in the words of the page.

    Args:
        time: ISO 8601 with its zone.
        event: its name, with its type.
        who: the participants: user or AE title, and address.
        what: the objects: studies, patients, queries.
        outcome: "success" or "failure"; `reason` says why.
    """

    time: str
    event: str
    who: tuple[str, ...]
    what: tuple[str, ...]
    outcome: str
    reason: str

    def has(self, text: str) -> bool:
        """Whether a text is in it, without regard to case."""
        words = [self.event, self.outcome, self.reason, *self.who, *self.what]
        return text.lower() in " ".join(words).lower()


@dataclass(slots=True)
class AuditReader:
    """One look at the trail.

    Attributes:
        is_cut: whether older records were not looked at.
    """

    path: Path
    is_cut: bool = False

    def records(self) -> Iterator[AuditRecord]:
        """The records, the newest first.

        Raises:
            OSError: a file cannot be read.
        """
        left = MAX_READ_BYTES
        for number in range(_MAX_FILES):
            path = self.path if not number else Path(f"{self.path}.{number}")
            if number and not path.exists():
                return
            for line in lines_backwards(path):
                left -= len(line)
                if left < 0:
                    self.is_cut = True
                    return
                record = _read(line)
                if record is not None:
                    yield record


def _read(line: bytes) -> AuditRecord | None:
    """A record; None if a crash has cut it off."""
    try:
        parts = _of_xml(line) if line.startswith(b"<") else json.loads(line)
        event = parts["EventIdentification"]
        kinds = [each["originalText"] for each in _all(event.get("EventTypeCode"))]
        name = event["EventID"]["originalText"]
        return AuditRecord(
            str(event["EventDateTime"]),
            ": ".join([name, *kinds]),
            tuple(_who(each) for each in _all(parts.get("ActiveParticipant"))),
            tuple(_what(each) for each in _all(parts.get("ParticipantObjectIdentification"))),
            _OUTCOMES.get(str(event.get("EventOutcomeIndicator")), "failure"),
            str(event.get("EventOutcomeDescription") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ElementTree.ParseError):
        return None


def _all(parts: Any) -> list[Any]:
    if parts is None:
        return []
    return parts if isinstance(parts, list) else [parts]


def _who(part: Any) -> str:
    address = part.get("NetworkAccessPointID") or ""
    name = part.get("UserID") or part.get("UserName") or ""
    return f"{name} ({address})" if address else str(name)


def _what(part: Any) -> str:
    """An object by its kind, its name and its identifier."""
    kind = (part.get("ParticipantObjectIDTypeCode") or {}).get("originalText", "")
    named = part.get("ParticipantObjectName") or ""
    identifier = part.get("ParticipantObjectID") or ""
    return " ".join(str(each) for each in (kind, identifier, named) if each)


def _of_xml(line: bytes) -> Any:
    """A record of XML as that of JSON is: attributes and children by name."""
    root = ElementTree.fromstring(line.decode("utf-8", "replace"))  # noqa: S314 - we wrote it

    def parts(element: ElementTree.Element) -> Any:
        if not element.attrib and not len(element):
            return element.text or ""
        found: dict[str, Any] = dict(element.attrib)
        for child in element:
            value = parts(child)
            if child.tag in found:
                before = found[child.tag]
                found[child.tag] = [*(before if isinstance(before, list) else [before]), value]
            else:
                found[child.tag] = value
        return found

    return parts(root)
