"""Answers a message: MSH, MSA and, when it is not taken, ERR.

It has the separators, the character set and the version of the message. Source: HL7 2.5.1 section
2.13.1 (ACK), 2.15.5 (ERR; before version 2.5 its one field), 2.9.2 (original mode).
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from lfscp.hl7.character_sets import encode_answer
from lfscp.hl7.errors import MEANINGS, MessageError
from lfscp.hl7.message import Message, Separators

_MAX_COPIED: Final = 250  # characters of a field of the message
_TABLE: Final = "HL70357"
_WITH_NEW_ERR: Final = (2, 5)


def acknowledge(message: Message | None, ae_title: str, error: MessageError | None = None) -> bytes:
    """The answer to a message.

    Args:
        message: None when it could not be read.
        ae_title: names this node where the message does not say whom it is for.
        error: why it is not taken.
    """
    signs = message.separators if message is not None else Separators()
    code = error.answer if error is not None else "AA"
    lines = [_header(message, signs, ae_title)]
    said = _escaped(error.reason if error is not None else "", signs)
    lines.append(_segment(signs, "MSA", code, _copied(message, 10), said))
    if error is not None:
        lines.append(_error(error, signs, version_of(message)))
    text = "".join(f"{line}\r" for line in lines)
    return encode_answer(text, message.codec if message is not None else "ascii")


def version_of(message: Message | None) -> tuple[int, ...]:
    """MSH-12 as numbers, (2, 5, 1); 2.3 when it is none."""
    said = message.header.field(12).text() if message is not None else ""
    parts = said.split(".")
    if len(said) > 10 or not all(each.isascii() and each.isdigit() for each in parts):
        return 2, 3
    return tuple(map(int, parts))


def _header(message: Message | None, signs: Separators, ae_title: str) -> str:
    event = message.header.field(9).component(2).text()[:10] if message is not None else ""
    kind = signs.component.join(filter(None, ("ACK", _escaped(event, signs))))
    if event and version_of(message) >= (2, 3, 1):
        kind += f"{signs.component}ACK"
    now = datetime.now().astimezone().strftime("%Y%m%d%H%M%S%z")
    return _segment(
        signs,
        "MSH",
        signs.component + signs.repetition + signs.escape + signs.subcomponent,
        _copied(message, 5) or _escaped(ae_title, signs),
        _copied(message, 6),
        _copied(message, 3),
        _copied(message, 4),
        now,
        "",
        kind,
        uuid.uuid4().hex[:20],
        _copied(message, 11) or "P",
        _copied(message, 12) or "2.3.1",
        *("", "", "", "", ""),
        _copied(message, 18),
    )


def _error(error: MessageError, signs: Separators, version: tuple[int, ...]) -> str:
    meaning = signs.component.join((str(error.code), MEANINGS[error.code], _TABLE))
    place = error.place
    where: list[str] = []
    if place is not None:
        where = [place.segment, str(place.sequence)]
        if place.field:
            where.append(str(place.field))
    if version < _WITH_NEW_ERR:
        where += [""] * (3 - len(where))
        inner = (signs.subcomponent or " ").join((str(error.code), MEANINGS[error.code], _TABLE))
        return _segment(signs, "ERR", signs.component.join((*where, inner)))
    if place is not None and place.component:
        where += ["1", str(place.component)]
    said = _escaped(error.said, signs)
    return _segment(signs, "ERR", "", signs.component.join(where), meaning, "E", "", "", "", said)


def _segment(signs: Separators, *fields: str) -> str:
    return signs.field.join(fields).rstrip(signs.field)


def _copied(message: Message | None, number: int) -> str:
    """A field of the message's header as it stands there."""
    raw = message.header.field(number).raw if message is not None else ""
    return "".join(each for each in raw if each.isprintable())[:_MAX_COPIED]


def _escaped(text: str, signs: Separators) -> str:
    """Text whose separators mean nothing."""
    letters = dict(zip(signs, "FSRET", strict=True))
    return "".join(
        (f"{signs.escape}{letters[each]}{signs.escape}" if signs.escape else " ")
        if each in letters
        else each
        for each in text
    )
