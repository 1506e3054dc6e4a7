"""Reads an HL7 version 2 message: segments, fields, repetitions, components, and their text.

It is split only where it is asked for, so that a message of nothing but separators costs no more
than its bytes; the parsers of PyPI make an object of each part (`hl7` takes 450 MB for one of 1 MB)
or check each against the tables of its version. Every text comes out with its escape sequences
replaced. The null value ("") counts as empty.

Source: HL7 version 2.5.1, sections 2.5 (rules), 2.7 (escape sequences) and 2.15.9 (MSH).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from lfscp.hl7.character_sets import decode_message
from lfscp.hl7.errors import DATA_TYPE, SEGMENT_SEQUENCE, VALUE_UNKNOWN, MessageError, Place

MAX_FIELDS: Final = 200  # of a segment; more are part of the last one
MAX_FIELD: Final = 64 << 10  # characters; longer than any value of DICOM that is made here
MAX_SEGMENTS: Final = 5000
MAX_REPETITIONS: Final = 100
MAX_COMPONENTS: Final = 50
_LINE_END: Final = re.compile(rb"\r\n|\n")
NULL: Final = '""'


class Separators(NamedTuple):
    """MSH-1 and MSH-2; those that a sender does not give are empty."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


@dataclass(frozen=True, slots=True)
class Part:
    """A field or a piece of one.

    Args:
        raw: as it stands in the message.
        place: where it stands.
    """

    raw: str
    message: Message
    place: Place

    def __bool__(self) -> bool:
        return bool(self.whole())

    def repetitions(self) -> list[Part]:
        """The repetitions of a field that are not empty."""
        parts = _split(self.raw, self.message.separators.repetition, MAX_REPETITIONS)
        return [each for each in (self._at(raw) for raw in parts) if each]

    def component(self, number: int) -> Part:
        """A component, from 1, of a repetition."""
        place = Place(self.place.segment, self.place.sequence, self.place.field, number)
        return Part(self._piece(number, self.message.separators.component), self.message, place)

    def subcomponent(self, number: int) -> Part:
        """A subcomponent, from 1, of a component."""
        return self._at(self._piece(number, self.message.separators.subcomponent))

    def text(self) -> str:
        """The text of the first component of the first repetition."""
        separators = self.message.separators
        raw = self.raw
        for each in (separators.repetition, separators.component, separators.subcomponent):
            raw = _split(raw, each, 1)[0]
        return self.message.plain(raw)

    def whole(self) -> str:
        """All of it as text: also what a sender has not escaped, as the & in a description."""
        return self.message.plain(self.raw)

    def _at(self, raw: str) -> Part:
        return Part(raw, self.message, self.place)

    def _piece(self, number: int, separator: str) -> str:
        pieces = _split(self.raw, separator, MAX_COMPONENTS)
        return pieces[number - 1] if number <= len(pieces) else ""


class Segment:
    """A segment of a message.

    Args:
        sequence: which of its name it is, from 1.
    """

    def __init__(self, raw: str, message: Message, sequence: int) -> None:
        self.name = raw[:3]
        self.sequence = sequence
        self._raw = raw
        self._message = message

    @cached_property
    def _fields(self) -> list[str]:
        separator = self._message.separators.field
        fields = self._raw.split(separator, MAX_FIELDS)
        if self.name == "MSH":  # its first field is the separator itself
            fields.insert(1, separator)
        return fields

    def field(self, number: int) -> Part:
        """A field, from 1, with all its repetitions; empty when it is absent."""
        raw = self._fields[number] if number < len(self._fields) else ""
        return Part(raw[:MAX_FIELD], self._message, Place(self.name, self.sequence, number))


class Message:
    """A message as text.

    Args:
        text: with segments that end in a carriage return.
        codec: Python's name of the character set that it came in.
    Raises:
        MessageError: it has no MSH segment that can be read, or too many segments.
    """

    def __init__(self, text: str, codec: str = "utf_8") -> None:
        self.codec = codec
        lines = text.split("\r", MAX_SEGMENTS)
        self.separators = _separators_of(lines[0])
        self._escape = _escape_pattern(self.separators.escape)
        if len(lines) > MAX_SEGMENTS:
            raise MessageError("AR", SEGMENT_SEQUENCE, f"more than {MAX_SEGMENTS} segments")
        self.segments = list(self._segments(lines))
        self.header = self.segments[0]

    def _segments(self, lines: list[str]) -> Iterator[Segment]:
        numbers: dict[str, int] = {}
        for line in lines:
            name = line[:3]
            if line.strip():
                numbers[name] = numbers.get(name, 0) + 1
                yield Segment(line, self, numbers[name])

    def named(self, name: str) -> list[Segment]:
        """The segments of a name."""
        return [each for each in self.segments if each.name == name]

    def plain(self, raw: str) -> str:
        """Text without escape sequences, control characters, and space around it."""
        if self.separators.escape and self.separators.escape in raw:
            raw = self._escape.sub(lambda found: self._meaning(found[1]), raw)
        kept = "".join(each for each in raw if each.isprintable() or each == "\n").strip()
        return "" if kept == NULL else kept

    def _meaning(self, sequence: str) -> str:
        separators = self.separators
        if sequence.startswith("X"):
            return _text_of_hex(sequence[1:], self.codec)
        if sequence.startswith((".br", ".sp")):
            return "\n"
        signs = {
            "F": separators.field,
            "S": separators.component,
            "T": separators.subcomponent,
            "R": separators.repetition,
            "E": separators.escape,
        }
        return signs.get(sequence, "")  # the others say how text looks


def read_message(data: bytes, default_character_set: str = "UNICODE UTF-8") -> Message:
    """Read a message.

    Args:
        data: what was between the bytes of its MLLP frame.
        default_character_set: see `decode_message`.
    Raises:
        MessageError: it is none.
    """
    lines = _LINE_END.sub(b"\r", data.removeprefix(b"\xef\xbb\xbf")).strip(b"\r\n \t\0")
    # The header is read first for itself: it says what the rest is written in.
    header = Message(lines.split(b"\r", 1)[0].decode("latin_1"), "latin_1").header
    named = header.field(18)
    try:
        text, codec = decode_message(
            lines, [each.text() for each in named.repetitions()], default_character_set
        )
    except ValueError as error:
        raise MessageError("AE", VALUE_UNKNOWN, str(error), named.place) from error
    return Message(text, codec)


def _separators_of(line: str) -> Separators:
    place = Place("MSH", 1, 2)
    if not line.startswith("MSH") or len(line) < 5:
        raise MessageError("AR", SEGMENT_SEQUENCE, "the message does not begin with MSH")
    signs = line[3] + line[4:].split(line[3], 1)[0]
    is_usable = all(each.isascii() and each.isprintable() and not each.isalnum() for each in signs)
    if not is_usable or not 2 <= len(signs) <= 6 or len(set(signs)) < len(signs) or " " in signs:
        raise MessageError("AR", DATA_TYPE, "the encoding characters cannot be used", place)
    return Separators(*signs[:5], *[""] * (5 - len(signs)))


def _split(raw: str, separator: str, most: int) -> list[str]:
    return raw.split(separator, most) if separator else [raw]


def _escape_pattern(escape: str) -> re.Pattern[str]:
    """What looks like an escape sequence; a stray escape character is text."""
    if not escape:
        return re.compile("(?!)")
    sign = re.escape(escape)
    known = r"[FSTREHN]|X[0-9A-Fa-f]*|\.[a-z]{2}[+-]?\d{0,4}|[CM][0-9A-Fa-f]{4,6}|Z\w{0,20}"
    return re.compile(f"{sign}({known}){sign}")


def _text_of_hex(digits: str, codec: str) -> str:
    if len(digits) % 2:
        return ""
    data = bytes.fromhex(digits)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        text = data.decode("latin_1")
    return text.replace("\r\n", "\n").replace("\r", "\n")
