"""The one pass over all elements and items, which writes what may be let out.

Rules: each element is decided by its tag and VR (`actions`), at every depth alike. Only what is
known to be kept is copied. Elements of unknown tags, private ones but safe ones, group lengths,
curves and overlays go. A value of VR UN is read by the dictionary. What stays is copied as it was,
large values as views on the source. Nothing is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lfscp.deidentification.actions import PATIENT_ID, Action, Profile
from lfscp.deidentification.coded_items import Coded
from lfscp.deidentification.content_items import (
    Treated,
    treatments_of,
    treatments_outside,
    value_type_of,
)
from lfscp.deidentification.errors import HeldBackError
from lfscp.deidentification.kept_groups import KeptGroups, text_of
from lfscp.deidentification.layout import Found, Writer, elements_of, items_of
from lfscp.deidentification.options import Option
from lfscp.deidentification.plans import (
    SPECIFIC_CHARACTER_SET,
    Plan,
    character_set,
    fits,
    is_multiple,
    plan_of,
)
from lfscp.deidentification.pseudonyms import Pseudonyms
from lfscp.deidentification.values import dummy, padded, shifted, with_dummies
from lfscp.deidentification.words.descriptors import cleaned
from lfscp.deidentification.words.naming import may_have_names, without_names
from lfscp.dicom.conversion.encoder import Piece, read_pieces
from lfscp.dicom.encoding.elements import IMPLICIT_LITTLE, Buffer, Encoding

PIXEL_DATA: Final = 0x7FE00010
_PIXELS: Final = 0x7FE00000  # the group of pixels
_ISSUER: Final = 0x00100021
_MAX_DEPTH: Final = 48
_MOST_ZEROS: Final = 1 << 20  # bytes
_LONG_HEAD: Final = 12  # bytes of a head with a VR and a length of 32 bits


@dataclass(slots=True)
class Facts:
    """What the whole of an object says that single elements need.

    Args:
        identity: of the patient, as bytes.
        days: by which dates go back.
        find_identifying: finds the words that no text may keep.
        hidden: what finds names of people, if one was found in what stays; None if not.
    """

    identity: bytes
    days: int
    find_identifying: Callable[[], frozenset[bytes]]
    hidden: re.Pattern[bytes] | None = None
    _identifying: frozenset[bytes] | None = None

    @property
    def identifying(self) -> frozenset[bytes]:
        """Words that no text may keep; found when they are asked for."""
        if self._identifying is None:
            self._identifying = self.find_identifying()
        return self._identifying


@dataclass(slots=True)
class Level:
    """Where the pass is.

    Args:
        treated: tags of a content item that are treated otherwise than elsewhere.
        dummies: whether all text and numbers are replaced.
    """

    encoding: Encoding
    depth: int = 0
    dummies: bool = False
    treated: dict[int, Action] = field(default_factory=dict)


class Rewriter:
    """Rewrites datasets by one profile.

    Args:
        target: the encoding that is written.
    """

    def __init__(self, profile: Profile, pseudonyms: Pseudonyms, target: Encoding) -> None:
        self._profile = profile
        self._pseudonyms = pseudonyms
        self._writer = Writer(target)
        self._target = target
        self._plans: dict[tuple[int, bytes], Plan] = {}
        self._coded = Coded(self._writer)
        self._cleans_content = Option.CLEAN_STRUCTURED_CONTENT in profile.options
        self._groups = KeptGroups(profile.options, self._writer)

    def rewrite(
        self,
        buffer: memoryview,
        found: list[Found],
        encoding: Encoding,
        facts: Facts,
        added: Mapping[int, Piece],
        treated: dict[int, Action] | None = None,
    ) -> list[Piece]:
        """The pieces of a dataset.

        Args:
            found: its elements.
            added: whole elements by tag that stand in place of what was there.
            treated: tags of the dataset itself that are treated otherwise.
        """
        level = Level(encoding, treated=treated or {})
        return self._pass(buffer, found, level, facts, added)

    def _pass(
        self,
        buffer: memoryview,
        found: list[Found],
        level: Level,
        facts: Facts,
        added: Mapping[int, Piece],
    ) -> list[Piece]:
        out: list[Piece] = []
        plans = self._plans
        # Pixels below the top belong to pictures that nobody has looked at.
        last = _PIXELS if level.depth else 1 << 32
        same = level.encoding is self._target and not level.dummies and not level.treated
        waiting = sorted(added.items(), reverse=True)
        begin = end = 0  # of what is copied at once
        for each in found:
            tag = each.tag
            while waiting and waiting[-1][0] <= tag:
                if end > begin:
                    out.append(buffer[begin:end])
                    begin = end = 0
                out.append(waiting.pop()[1])
            if tag in added or tag >= last:
                continue
            plan = plans.get((tag, each.declared)) or self._plan(tag, each.declared)
            if same and plan.action is Action.KEEP and self._may_copy(buffer, each, plan, facts):
                if each.begin != end:
                    if end > begin:
                        out.append(buffer[begin:end])
                    begin = each.begin
                end = each.after
                continue
            written = self._element(buffer, each, plan, level, facts, found)
            if written:
                if end > begin:
                    out.append(buffer[begin:end])
                    begin = end = 0
                out.append(written)
        if end > begin:
            out.append(buffer[begin:end])
        out += [element for _, element in reversed(waiting)]
        return out

    def _plan(self, tag: int, declared: bytes) -> Plan:
        plan = plan_of(self._profile, tag, declared)
        if len(self._plans) < 65_536:
            self._plans[tag, declared] = plan
        return plan

    def _may_copy(self, buffer: memoryview, each: Found, plan: Plan, facts: Facts) -> bool:
        if each.tag == SPECIFIC_CHARACTER_SET or each.is_undefined or not plan.copies:
            return False
        if each.value - each.begin == _LONG_HEAD and any(buffer[each.begin + 6 : each.begin + 8]):
            return False  # bytes that are reserved, and zero
        return _is_valid(buffer, each, plan) and not _names(buffer, each, plan, facts)

    # One element

    def _element(
        self,
        buffer: memoryview,
        each: Found,
        plan: Plan,
        level: Level,
        facts: Facts,
        around: list[Found],
    ) -> bytes | memoryview:
        action = level.treated.get(each.tag) or plan.action
        if each.tag >> 16 & 1:
            if level.dummies:
                return b""
            return self._groups.private(buffer, each, around, facts.hidden)
        if each.tag >> 24 == 0x60:
            return b"" if level.depth else self._groups.overlay(buffer, each, around)
        if action is Action.REMOVE:
            return b""
        if level.dummies:
            action = _in_dummies(action, plan.vr)
        if action is Action.EMPTY or (each.value == each.end and not each.is_undefined):
            return self._writer.element(each.tag, plan.vr, b"")
        if plan.vr == b"SQ":
            return self._sequence(buffer, each, action, level, facts)
        if each.is_undefined:
            return b""  # fragments; those of the pixels themselves are not written here
        value = self._value(buffer, each, plan, action, facts, around)
        if not self._target.explicit or fits(plan.vr, len(value)):
            return self._writer.element(each.tag, plan.vr, value)
        return self._writer.element(each.tag, plan.vr, dummy(plan.vr))

    def _value(
        self,
        buffer: memoryview,
        each: Found,
        plan: Plan,
        action: Action,
        facts: Facts,
        around: list[Found],
    ) -> bytes:
        vr = plan.vr
        if action is Action.KEEP:
            return self._kept(buffer, each, plan, facts)
        if action is Action.UID:
            uids = self._pseudonyms.uids(each.tag, bytes(buffer[each.value : each.end]))
            return padded(uids, b"UI")
        if action is Action.SHIFT:
            return shifted(bytes(buffer[each.value : each.end]), vr, facts.days)
        if action is Action.CLEAN:
            text = cleaned(bytes(buffer[each.value : each.end]), facts.identifying)
            return padded(text, vr) or dummy(vr)
        if action is Action.PSEUDONYM:
            identity = identity_of(buffer, around) or facts.identity
            return padded(self._pseudonyms.patient(identity), vr)
        return _zeros(each, plan) if plan.width else dummy(vr)

    def _kept(self, buffer: memoryview, each: Found, plan: Plan, facts: Facts) -> bytes:
        value = bytes(buffer[each.value : each.end])
        if each.tag == SPECIFIC_CHARACTER_SET:
            return padded(character_set(value), b"CS")
        if facts.hidden is not None and _names(buffer, each, plan, facts):
            return without_names(value, plan.vr, facts.hidden, facts.identifying)
        if _is_valid(buffer, each, plan):
            return padded(value, plan.vr)
        if plan.vr == b"UI":  # replaced, so that what was the same still is
            return padded(self._pseudonyms.uids(each.tag, value), b"UI")
        return with_dummies(value, plan.vr) if is_multiple(plan.vr) else self._number(plan)

    def _number(self, plan: Plan) -> bytes:
        return bytes(plan.most) if 0 < plan.most <= 64 else dummy(plan.vr)

    # Sequences

    def _sequence(
        self, buffer: memoryview, each: Found, action: Action, level: Level, facts: Facts
    ) -> bytes:
        encoding = self._inner(each, level)
        if encoding is None or level.depth >= _MAX_DEPTH:
            if level.depth >= _MAX_DEPTH:
                raise HeldBackError(f"its sequences are nested more than {_MAX_DEPTH} deep")
            return self._writer.element(each.tag, b"SQ", b"")
        items = []
        for begin, end in items_of(buffer, each, encoding):
            found = elements_of(buffer, begin, end, encoding)
            items.append(self._item(buffer, found, encoding, action, level, facts))
        return self._writer.element(each.tag, b"SQ", b"".join(items))

    def _inner(self, each: Found, level: Level) -> Encoding | None:
        """The encoding of the items; None if they cannot be read or written."""
        if each.declared == b"UN":
            return IMPLICIT_LITTLE if level.encoding.byteorder == "little" else None
        return level.encoding if each.inner is not None or each.value == each.end else None

    def _item(
        self,
        buffer: memoryview,
        found: list[Found],
        encoding: Encoding,
        action: Action,
        level: Level,
        facts: Facts,
    ) -> bytes:
        if action is Action.CODES:
            return self._writer.item(self._coded.item(buffer, found, facts.identifying))
        inner = Level(encoding, level.depth + 1, level.dummies or action is Action.DUMMY_ITEMS, {})
        if action is Action.CONTENT:
            value_type = value_type_of(buffer, found)
            inner.treated = treatments_of(value_type, cleans=self._cleans_content)
        elif action in (Action.OTHER_CONTENT, Action.DESCRIPTIONS):
            inner.treated = treatments_outside(action)
        elif level.treated and Treated.spreads(level.treated):
            inner.treated = level.treated
        pieces = self._pass(buffer, found, inner, facts, {})
        return self._writer.item(b"".join(read_pieces(pieces)))


def _is_valid(buffer: memoryview, each: Found, plan: Plan) -> bool:
    length = each.end - each.value
    if plan.pattern is not None:
        return plan.pattern.fullmatch(buffer, each.value, each.end) is not None
    if plan.width:
        return not length % plan.width and not (plan.most and length > plan.most)
    return True


def _names(buffer: memoryview, each: Found, plan: Plan, facts: Facts) -> bool:
    """Whether the text of an element that stays has a name of a person of this object."""
    if facts.hidden is None or not may_have_names(plan.vr):
        return False
    return facts.hidden.search(buffer, each.value, each.end) is not None


def _zeros(each: Found, plan: Plan) -> bytes:
    """As many numbers as there were, so that what counts them stays right."""
    length = min(each.end - each.value, plan.most or _MOST_ZEROS)
    return bytes(length - length % max(plan.width, 2)) or dummy(plan.vr)


def _in_dummies(action: Action, vr: bytes) -> Action:
    """What becomes of an element in an item of which no text or number may stay."""
    if action in (Action.EMPTY, Action.UID, Action.PSEUDONYM, Action.SHIFT):
        return action
    if vr == b"SQ":
        return Action.DUMMY_ITEMS
    return Action.KEEP if vr in (b"CS", b"US", b"SS", b"UL", b"SL", b"AT", b"UI") else Action.DUMMY


def identity_of(buffer: Buffer, found: list[Found]) -> bytes:
    """What tells a patient from others: ID and issuer; empty if there is no ID."""
    values = {
        each.tag: text_of(buffer, each).encode("latin_1")
        for each in found
        if each.tag in (PATIENT_ID, _ISSUER)
    }
    patient_id = values.get(PATIENT_ID, b"")
    return patient_id + b"\0" + values.get(_ISSUER, b"") if patient_id else b""
