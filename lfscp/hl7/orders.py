"""The orders of a message: its groups of segments, and the worklist items that they make.

A group begins with ORC, or with OBR where there is none. In an ORM it is one scheduled step, or one
protocol code of it; in an OMI it has an IPC segment for each. Groups of the same requested
procedure make one item. The identifiers that a message may lack are made from the order numbers, so
that the same order always has the same.

Source: IHE RAD TF-2 sections 4.4 and 4.13 (RAD-4, RAD-13), appendix B; HL7 2.5.1 section 4.5.6.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from lfscp.archive.workflow.worklist.ordered_items import Number, OrderedItem, OrderNumbers
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.hl7 import mapping, patients
from lfscp.hl7.errors import (
    FIELD_MISSING,
    SEGMENT_SEQUENCE,
    VALUE_UNKNOWN,
    MessageError,
    Place,
)
from lfscp.hl7.mapping import Scope, fill, first_text, parts_at
from lfscp.hl7.message import Message, Segment
from lfscp.hl7.stations import Stations
from lfscp.hl7.values import tag_and_vr, tree

MAX_GROUPS: Final = 100  # an item has at most as many steps
_OF_GROUP: Final = frozenset({"OBR", "TQ1", "TQ2", "NTE", "OBX", "IPC", "ZDS", "DG1", "CTD"})
_NAMES: Final = uuid.UUID("8b6d3a5e-20f4-5c1b-9f54-3f0c6d1c7a11")  # of identifiers made here
_PROTOCOL: Final = "ScheduledProtocolCodeSequence"
_MAX_SHORT: Final = 16


@dataclass(slots=True)
class Group:
    """The segments of one order.

    Args:
        control: ORC-1; `status` ORC-5.
        scope: its segments by name, with those of patient and visit.
        studies: the ZDS segment that stands once for all orders of the message.
        place: where it begins.
    """

    control: str
    status: str
    scope: dict[str, list[Segment]]
    studies: list[Segment]
    place: Place

    @property
    def numbers(self) -> OrderNumbers:
        """Its order numbers, without that of the procedure.

        Raises:
            MessageError: there is none.
        """
        placer = _number(self.scope, "ORC-2", "OBR-2")
        filler = _number(self.scope, "ORC-3", "OBR-3")
        if not (placer.text or filler.text):
            place = Place(self.place.segment, self.place.sequence, 2)
            raise MessageError("AE", FIELD_MISSING, "no placer or filler order number", place)
        return OrderNumbers(placer, filler)

    def has_schedule(self) -> bool:
        """Whether it says when something is to be done."""
        return "OBR" in self.scope and bool(first_text(self.scope, *mapping.SCHEDULED))

    def parts(self) -> list[dict[str, list[Segment]]]:
        """Its scope for each of its IPC segments; as it is when there is none."""
        segments = self.scope.get("IPC", [])
        return [{**self.scope, "IPC": [each]} for each in segments] or [self.scope]

    def procedures(self) -> list[OrderNumbers]:
        """Its order numbers, with each of its procedures that is named."""
        found = (procedure_of(scope) for scope in self.parts())
        numbers = self.numbers
        return [OrderNumbers(numbers.placer, numbers.filler, each) for each in dict.fromkeys(found)]


def _number(scope: Scope, *paths: str) -> Number:
    for path in paths:
        for part in parts_at(scope, path):
            first = next(iter(part.repetitions()), part)
            found = first.component(1).text()
            if found:
                return Number(found, first.component(2).text())
    return Number()


def procedure_of(scope: Scope) -> str:
    """What a requested procedure is called; empty when the message does not say."""
    return first_text(scope, "IPC-2", "OBR-19", "IPC-3", "ZDS-1")


def groups_of(message: Message) -> list[Group]:
    """The orders of a message.

    Raises:
        MessageError: there is none, or there are too many.
    """
    about_patient = {name: message.named(name) for name in ("PID", "PV1", "AL1")}
    made: list[dict[str, list[Segment]]] = []
    for segment in message.segments:
        begins = segment.name == "ORC" or (
            segment.name == "OBR" and (not made or "OBR" in made[-1])
        )
        if begins:
            made.append({})
        if made and (begins or segment.name in _OF_GROUP):
            made[-1].setdefault(segment.name, []).append(segment)
    if not made:
        raise MessageError("AE", SEGMENT_SEQUENCE, "no order in the message", Place("ORC"))
    if len(made) > MAX_GROUPS:
        raise MessageError("AE", SEGMENT_SEQUENCE, f"more than {MAX_GROUPS} orders")
    studies = message.named("ZDS")
    return [_group({**about_patient, **each}, studies[-1:]) for each in made]


def _group(scope: dict[str, list[Segment]], studies: list[Segment]) -> Group:
    first = (scope.get("ORC") or scope["OBR"])[0]
    if "ORC" not in scope:
        raise MessageError("AE", SEGMENT_SEQUENCE, "no ORC before it", Place("OBR", first.sequence))
    control = first.field(1).text().upper()
    place = Place("ORC", first.sequence, 1)
    if not control:
        raise MessageError("AE", FIELD_MISSING, "no order control", place)
    return Group(control, first.field(5).text().upper(), scope, studies, place)


@dataclass(slots=True)
class _Item:
    """An item while its steps come together."""

    numbers: OrderNumbers
    dataset: Tree
    steps: dict[str, Tree] = field(default_factory=dict)


def items_of(groups: list[Group], stations: Stations) -> list[OrderedItem]:
    """The items of new or changed orders.

    Raises:
        MessageError: something that an item needs is missing, or cannot be.
    """
    items: list[_Item] = []
    for group in groups:
        if "OBR" not in group.scope:
            place = Place("ORC", group.place.sequence)
            raise MessageError("AE", SEGMENT_SEQUENCE, "no OBR after it", place)
        for part in group.parts():
            scope = {"ZDS": group.studies, **part}
            numbers = group.numbers
            numbers = OrderNumbers(numbers.placer, numbers.filler, procedure_of(scope))
            item = next((each for each in items if each.numbers.is_same(numbers)), None)
            if item is None:
                item = _Item(numbers, _procedure(scope, numbers))
                items.append(item)
            _add_step(item, scope, stations)
    return [_finished(each) for each in items]


def _procedure(scope: Scope, numbers: OrderNumbers) -> Tree:
    item = patients.patient(scope)
    for rows in (mapping.VISIT, mapping.ORDER, mapping.PROCEDURE):
        fill(item, rows, scope)
    accession, vr = tag_and_vr("AccessionNumber")
    if accession not in item and numbers.filler.text and len(numbers.filler.text) <= _MAX_SHORT:
        item[accession] = Element(vr.encode(), numbers.filler.text)
    return item


def _add_step(item: _Item, scope: Scope, stations: Stations) -> None:
    """Add a step, or the protocol of one that is there already."""
    step = fill(Tree(), mapping.STEP, scope)
    for row in mapping.PROTOCOL:
        if tag_and_vr(_PROTOCOL)[0] not in step:
            fill(step, (row,), scope)
    step_id = step.text(tag_and_vr("ScheduledProcedureStepID")[0])
    known = item.steps.get(step_id) if step_id else None
    if known is not None:
        _add_protocol(known, step)
        return
    _schedule(step, scope)
    _place(step, scope, stations)
    item.steps[step_id or f"\0{len(item.steps)}"] = step


def _add_protocol(known: Tree, step: Tree) -> None:
    tag, vr = tag_and_vr(_PROTOCOL)
    codes = known.sequence(tag)
    codes += [each for each in step.sequence(tag) if each not in codes]
    if codes:
        known[tag] = Element(vr.encode(), codes)


def _schedule(step: Tree, scope: Scope) -> None:
    if tag_and_vr("ScheduledProcedureStepStartDate")[0] not in step:
        name = "TQ1" if scope.get("TQ1") else "ORC"
        place = Place(name, scope[name][0].sequence, 7, 0 if name == "TQ1" else 4)
        raise MessageError("AE", FIELD_MISSING, "no scheduled date and time", place)


def _place(step: Tree, scope: Scope, stations: Stations) -> None:
    """Set modality and station."""
    said = next((part for path in ("IPC-5", "OBR-24") for part in parts_at(scope, path)), None)
    obr = Place("OBR", scope["OBR"][0].sequence, 24)
    if said is None:
        raise MessageError("AE", FIELD_MISSING, "no modality", obr)
    modality = stations.modality(said.text())
    if not modality:
        hint = "no modality that is known; see worklist.hl7_modalities"
        raise MessageError("AE", VALUE_UNKNOWN, hint, said.place)
    titles = [part.text() for part in parts_at(scope, "IPC-9")] or stations.ae_titles(modality)
    if not titles:
        ipc = scope.get("IPC")
        where = Place("IPC", ipc[0].sequence, 9) if ipc else obr
        reason = f"no station for {modality}; see worklist.hl7_stations"
        raise MessageError("AE", FIELD_MISSING, reason, where)
    for keyword, text in (("Modality", modality), ("ScheduledStationAETitle", "\\".join(titles))):
        tag, vr = tag_and_vr(keyword)
        step[tag] = Element(vr.encode(), text)


def _finished(item: _Item) -> OrderedItem:
    tag, vr = tag_and_vr("ScheduledProcedureStepSequence")
    dataset = Tree({**item.dataset, tag: Element(vr.encode(), list(item.steps.values()))})
    return OrderedItem(item.numbers, dataset, _made_identifiers(item.numbers, len(item.steps)))


def _made_identifiers(numbers: OrderNumbers, steps: int) -> Tree:
    """Identifiers from the order numbers, for what the message does not give."""
    # Of two numbers the placer's is there from the beginning.
    first = numbers.placer if numbers.placer.text else numbers.filler
    named = "\n".join((*first, numbers.procedure))
    step_ids = [_made_id("S", f"{named}\n{number}") for number in range(steps)]
    made = tree(
        {
            "StudyInstanceUID": f"2.25.{uuid.uuid5(_NAMES, named).int}",
            "RequestedProcedureID": _made_id("R", named),
        }
    )
    sequence, vr = tag_and_vr("ScheduledProcedureStepSequence")
    items = [tree({"ScheduledProcedureStepID": each}) for each in step_ids]
    return Tree({**made, sequence: Element(vr.encode(), items)})


def _made_id(prefix: str, named: str) -> str:
    return prefix + blake2b(named.encode(), digest_size=7).hexdigest().upper()
