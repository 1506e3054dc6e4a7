"""Reads the identifier of a worklist query, and says which items match and what is answered.

Rules: an item matches by its steps: one of them fits all keys of the step, and the item itself the
others. The answer has the steps that fit. Steps that have ended are left out, unless the query asks
for a status. Several keys inside another sequence fit one and the same item of it. No SQL.
Source: PS3.4 sections K.2.2 and K.6.1.2, C.2.2.2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Final

from pydicom.datadict import dictionary_VM, keyword_for_tag

from lfscp.archive.query.key_values import match_of
from lfscp.archive.query.keys import UNIVERSAL, Match, Names
from lfscp.archive.query.object_keys import vr_by_dictionary
from lfscp.archive.query.query import InvalidKeyError
from lfscp.archive.workflow.worklist.item import ENDED, START_DATE, START_TIME, STATUS, STEPS
from lfscp.archive.workflow.worklist.keys import MATCHED, MATCHED_OF_STEP
from lfscp.dicom.errors import named
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.dicom.reading import identifiers
from lfscp.dicom.reading.identifiers import Identifier
from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET, TEXT_VRS
from lfscp.dicom.values.temporal import Span, without_delimiters

_COMPARED_VRS: Final = TEXT_VRS | {"US"}
_RANGE: Final = "-"


@dataclass(frozen=True, slots=True)
class WorklistKey:
    """One key.

    Args:
        vr: by the data dictionary, for an item that has no such attribute.
        items: of a sequence, the keys of its items; None for whole items.
        compared: those of `items` that are matched.
    """

    tag: int
    vr: str
    match: Match = UNIVERSAL
    items: tuple[WorklistKey, ...] | None = None
    compared: tuple[WorklistKey, ...] = ()

    @property
    def is_compared(self) -> bool:
        """Whether an item may fail to fit."""
        return self.match is not UNIVERSAL or bool(self.compared)

    def fits(self, item: Tree) -> bool:
        """Whether an item, or an item of a sequence, fits this key."""
        if self.compared:
            return any(map(self.fits_inside, item.sequence(self.tag)))
        stored = _compared_text(item.get(self.tag), self.vr)
        if isinstance(self.match, Names):
            return self.match.accepts_written(stored)
        return self.match.accepts(stored)

    def fits_inside(self, item: Tree) -> bool:
        """Whether one item of this sequence fits all keys inside."""
        return all(key.fits(item) for key in self.compared)

    def answer(self, item: Tree) -> Element:
        """The element of an answer; with zero length when the item has none."""
        element = item.get(self.tag)
        if self.items is None:
            return _empty(self.vr) if element is None else element
        fitting = item.sequence(self.tag)
        if self.compared:
            fitting = list(filter(self.fits_inside, fitting))
        return self.of_items(fitting)

    def of_items(self, items: Sequence[Tree]) -> Element:
        """The sequence of some items, each with what is asked for."""
        if self.items is None:
            return Element(b"SQ", list(items))
        return Element(b"SQ", [_answered(self.items, item) for item in items])


def _answered(keys: Sequence[WorklistKey], item: Tree) -> Tree:
    return Tree({key.tag: key.answer(item) for key in keys})


def _empty(vr: str) -> Element:
    if vr == "SQ":
        return Element(b"SQ", [])
    return Element(vr.encode(), "" if vr in TEXT_VRS else b"")


def _compared_text(element: Element | None, vr: str) -> str:
    """A stored value as keys are compared with it."""
    if element is None:
        return ""
    value = element.value
    if isinstance(value, bytes) and vr == "US":
        numbers = (value[at : at + 2] for at in range(0, len(value), 2))
        return "\\".join(str(int.from_bytes(number, "little")) for number in numbers)
    if not isinstance(value, str):
        return ""
    text = value.strip(" \0").replace("\0", "\ufffd")
    return without_delimiters(text, vr) if vr in {"DA", "TM"} else text


@dataclass(frozen=True, slots=True)
class WorklistQuery:
    """A checked query.

    Args:
        keys: those of the item; the sequence of the steps is `steps`.
        steps: None when the steps are not asked for.
        period: the days and the times that bound one span of time from the first time on the first
            day to the last on the last; None when the keys do not make one.
        unsupported_keys: keywords of keys that have a value and are not matched.
        character_set: the request's Specific Character Set, several values with backslash.

    Attributes:
        compared: the keys of the item that are matched, and `compared_of_steps` of the steps.
        includes_ended: steps that have ended are wanted too, as the query asks for a status.
    """

    keys: tuple[WorklistKey, ...] = ()
    steps: WorklistKey | None = None
    period: tuple[Span, Span] | None = None
    unsupported_keys: tuple[str, ...] = ()
    character_set: str = ""
    compared: tuple[WorklistKey, ...] = field(init=False)
    compared_of_steps: tuple[WorklistKey, ...] = field(init=False)
    includes_ended: bool = field(init=False)

    def __post_init__(self) -> None:
        """Say what follows from the keys, once for all items."""
        of_steps = () if self.steps is None else self.steps.compared
        set_field = partial(object.__setattr__, self)
        set_field("compared", tuple(key for key in self.keys if key.is_compared))
        set_field("compared_of_steps", of_steps)
        set_field("includes_ended", any(key.tag == STATUS for key in of_steps))

    def answer(self, item: Tree) -> Tree | None:
        """What is answered for an item; None when it does not match."""
        if not all(key.fits(item) for key in self.compared):
            return None
        steps = list(filter(self._fits_step, item.sequence(STEPS)))
        if not steps:
            return None
        answer = _answered(self.keys, item)
        if self.steps is not None:
            answer[STEPS] = self.steps.of_items(steps)
        return answer

    def _fits_step(self, step: Tree) -> bool:
        if not self.includes_ended and step.text(STATUS) in ENDED:
            return False
        if not all(key.fits(step) for key in self.compared_of_steps):
            return False
        return self.period is None or _is_within(*self.period, step)


def _is_within(days: Span, times: Span, step: Tree) -> bool:
    day, time = step.text(START_DATE), step.text(START_TIME)
    return (
        days.accepts(day)
        and (day > days.low or time >= times.low)
        and (day < days.high or time <= times.high)
    )


def parse_worklist_query(identifier: Identifier) -> WorklistQuery:
    """Read the identifier of a C-FIND request on the worklist.

    Args:
        identifier: as received (its elements need not be valid for their VRs) or built.
    Raises:
        InvalidKeyError: a value that its key cannot have, or a sequence key of several items.
        DatasetError: a sequence key, received as bytes, is broken inside.
    Source: PS3.4 sections K.2.2.1, K.4.1.1.3, C.2.2.2.
    """
    reading = _Reading()
    charset = identifiers.character_set(identifier)
    keys = list(reading.keys(identifier, charset, MATCHED))
    return WorklistQuery(
        keys=tuple(key for key in keys if key.tag != STEPS),
        steps=next((key for key in keys if key.tag == STEPS), None),
        period=reading.period,
        unsupported_keys=tuple(reading.unsupported),
        character_set=charset,
    )


class _Reading:
    """Reads the keys of one identifier.

    Attributes:
        unsupported: keywords of keys that have a value and are not matched.
        period: the span of time that date and time make together.
    """

    def __init__(self) -> None:
        self.unsupported: list[str] = []
        self.period: tuple[Span, Span] | None = None

    def keys(
        self, identifier: Identifier, charset: str, matched: Collection[int] | None
    ) -> Iterator[WorklistKey]:
        """The keys of an identifier or of an item; all of them are matched where None are named."""
        charset = identifiers.character_set(identifier) or charset
        for tag in identifiers.tags(identifier):
            if tag == SPECIFIC_CHARACTER_SET:
                continue
            vr = _single_vr(vr_by_dictionary(tag))
            is_matched = matched is None or tag in matched or tag == STEPS
            if vr == "SQ":
                yield self._sequence(identifier, tag, charset, is_matched)
            else:
                yield self._key(identifier, tag, vr, charset, is_matched)

    def _key(
        self, identifier: Identifier, tag: int, vr: str, charset: str, is_matched: bool
    ) -> WorklistKey:
        match: Match = UNIVERSAL
        if is_matched and vr in _COMPARED_VRS:
            text = identifiers.text(identifier, tag, vr, charset)
            try:
                match = match_of(text, vr, several=_may_have_several(tag))
            except ValueError as error:
                raise InvalidKeyError(tag, f"{_name(tag)}: {error}") from error
        elif _has_value(identifier, tag, vr):
            self.unsupported.append(_name(tag))
        return WorklistKey(tag, vr, match)

    def _sequence(
        self, identifier: Identifier, tag: int, charset: str, is_matched: bool
    ) -> WorklistKey:
        found = identifiers.items(identifier, tag)
        if len(found) > 1:
            raise InvalidKeyError(tag, f"{_name(tag)}: a sequence key holds one item")
        matched = MATCHED_OF_STEP if tag == STEPS else None if is_matched else ()
        inside = [key for item in found for key in self.keys(item, charset, matched)]
        if not inside:
            return WorklistKey(tag, "SQ")
        if tag == STEPS:
            self.period = _period(found[0], inside)
        together = () if self.period is None or tag != STEPS else (START_DATE, START_TIME)
        compared = tuple(k for k in inside if k.is_compared and k.tag not in together)
        return WorklistKey(tag, "SQ", items=tuple(inside), compared=compared)


def _period(step: Identifier, keys: Sequence[WorklistKey]) -> tuple[Span, Span] | None:
    """The span of time of a range of dates and a range of times (PS3.4 table K.6-1)."""
    matches = {key.tag: key.match for key in keys}
    dates, times = matches.get(START_DATE), matches.get(START_TIME)
    are_ranges = all(
        _RANGE in identifiers.text(step, tag, "DA")
        for tag in (START_DATE, START_TIME)
        if tag in matches
    )
    if are_ranges and isinstance(dates, Span) and isinstance(times, Span):
        return dates, times
    return None


def _has_value(identifier: Identifier, tag: int, vr: str) -> bool:
    if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
        return False  # whose private elements follow
    if vr in TEXT_VRS:
        return bool(identifiers.text(identifier, tag, vr).strip("*\\"))
    return not identifiers.is_empty(identifier, tag)


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or named(tag)


@lru_cache(maxsize=1024)
def _may_have_several(tag: int) -> bool:
    try:
        return dictionary_VM(tag) != "1"
    except KeyError:
        return False


def _single_vr(vr: str) -> str:
    """One VR where the data dictionary has several."""
    return "OW" if "OW" in vr else vr[:2]
