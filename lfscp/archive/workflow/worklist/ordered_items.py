"""Worklist items that belong to orders of another system: found by order number, changed together.

An order has a number of who placed it, one of who fills it, or both, and one item for each of its
requested procedures. The item's source key holds all of these, so that a message with either number
finds it; a number that comes later is added. What one message asks for is one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from sqlalchemy import Connection, or_, select, update

from lfscp.archive.index.tables.workflow_tables import worklist_item, worklist_step
from lfscp.archive.workflow.worklist import rows
from lfscp.archive.workflow.worklist.item import OF_FOLDER, STEPS, complete_item
from lfscp.dicom.models.element_tree import Element, Tree

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.archive.workflow.worklist.item import WorklistItem

_ITEM: Final = worklist_item.c
_STEP: Final = worklist_step.c
_ISSUER: Final = 0x00100021
_BEGUN: Final = frozenset({"STARTED", "COMPLETED", "DISCONTINUED"})

Result = TypeVar("Result")
Change = Literal["created", "changed", "removed"]


class Number(NamedTuple):
    """An order number.

    Args:
        text: empty for none.
        authority: who gave it; may be empty.
    """

    text: str = ""
    authority: str = ""

    def is_same(self, other: Number) -> bool:
        """Whether both are the same number, as far as the two say who gave it."""
        has_other = bool(self.authority and other.authority and self.authority != other.authority)
        return bool(self.text) and self.text == other.text and not has_other


@dataclass(frozen=True, slots=True)
class OrderNumbers:
    """What an item is called by the system that ordered it.

    Args:
        placer: the number of who placed the order.
        filler: the number of who fills it.
        procedure: of the requested procedure; empty when it is not said.
    """

    placer: Number
    filler: Number
    procedure: str = ""

    @property
    def key(self) -> str:
        """The source key."""
        return json.dumps([*self.placer, *self.filler, self.procedure])

    @classmethod
    def of_key(cls, key: str) -> OrderNumbers | None:
        """The numbers in a source key; None when it is no such key."""
        try:
            placer, of_placer, filler, of_filler, procedure = map(str, json.loads(key))
        except (ValueError, TypeError):
            return None
        return cls(Number(placer, of_placer), Number(filler, of_filler), procedure)

    def is_same(self, other: OrderNumbers) -> bool:
        """Whether both name the same procedure of the same order."""
        differ = bool(self.procedure and other.procedure and self.procedure != other.procedure)
        if differ or self._contradicts(other):
            return False
        return self.placer.is_same(other.placer) or self.filler.is_same(other.filler)

    def _contradicts(self, other: OrderNumbers) -> bool:
        """Whether one of the numbers is another one: two fillers may share a placer's number."""
        pairs = ((self.placer, other.placer), (self.filler, other.filler))
        return any(a.text and b.text and not a.is_same(b) for a, b in pairs)

    def with_those_of(self, other: OrderNumbers) -> OrderNumbers:
        """These, and what they lack from another's."""
        return OrderNumbers(
            _fuller(self.placer, other.placer),
            _fuller(self.filler, other.filler),
            self.procedure or other.procedure,
        )


def _fuller(first: Number, second: Number) -> Number:
    return Number(first.text or second.text, first.authority or second.authority)


@dataclass(frozen=True, slots=True)
class OrderedItem:
    """An item as an order asks for it.

    Args:
        given: identifiers for it when it is new and its dataset has none.
    """

    numbers: OrderNumbers
    dataset: Tree
    given: Tree


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an item."""

    change: Change
    dataset: Tree


class OrderedItems:
    """The items of one source. Any thread may call any method; errors are those of Worklist."""

    def __init__(self, index: Index, source: str) -> None:
        self._index = index
        self._source = source

    def change(
        self, cancelled: Sequence[OrderNumbers], items: Sequence[OrderedItem]
    ) -> tuple[list[Done], bool]:
        """Cancel orders, then add items, or replace those of the same orders; all or nothing.

        Of a cancelled order go the steps that no device has begun, and items without any left. A
        step that has begun keeps its status when its item is replaced.

        Returns:
            What was done, and whether a step of a cancelled order had begun.
        """

        def work(connection: Connection) -> tuple[list[Done], bool]:
            done, has_begun = self._cancel(connection, cancelled)
            return [*done, *(self._put(connection, each) for each in items)], has_begun

        return self._transact("change the worklist items of an order", work)

    def _put(self, connection: Connection, wanted: OrderedItem) -> Done:
        before = next(iter(self._find(connection, wanted.numbers)), None)
        if before is None:
            dataset = complete_item(wanted.dataset, wanted.given)
            rows.insert_item(connection, self._source, wanted.numbers.key, dataset, "")
            return Done("created", dataset)
        known = OrderNumbers.of_key(before.source_key) or wanted.numbers
        key = wanted.numbers.with_those_of(known).key
        if key != before.source_key:
            renamed = update(worklist_item).where(_ITEM.id == before.id).values(source_key=key)
            connection.execute(renamed)
        rows.update_item(connection, before, wanted.dataset, keeps_performed=True)
        return Done("changed", complete_item(wanted.dataset, before.dataset))

    def _cancel(
        self, connection: Connection, orders: Iterable[OrderNumbers]
    ) -> tuple[list[Done], bool]:
        done: list[Done] = []
        has_begun = False
        found = {item.id: item for each in orders for item in self._find(connection, each)}
        for item in found.values():
            begun = _begun(connection, item)
            has_begun = has_begun or bool(begun)
            if len(begun) < len(item.dataset.sequence(STEPS)):
                done.append(_keep_only(connection, item, begun))
        return done, has_begun

    def change_patient(self, patient_id: str, issuer: str, changes: Tree) -> list[Done]:
        """Change the patient of items that have a step which no device has begun.

        Items of every source are changed, but for those of folders: their files say what they are.

        Args:
            patient_id: of the patient as the items have it.
            issuer: of this ID; an item fits that has the same, or where one of the two is empty.
            changes: attributes of the patient; an empty one is taken away.
        """

        def work(connection: Connection) -> list[Done]:
            is_patient = _ITEM.patient_id == rows.kept(patient_id)
            wanted = select(_ITEM.id).where(is_patient, _ITEM.source.not_like(f"{OF_FOLDER}%"))
            keys = connection.execute(wanted.order_by(_ITEM.id)).scalars().all()
            found = (rows.find_item(connection, _ITEM.id == key, locks=True) for key in keys)
            fitting = (item for item in found if item is not None and _fits(item, issuer))
            changed = (_change_patient(connection, item, changes) for item in fitting)
            return [each for each in changed if each is not None]

        return self._transact("change a patient in the worklist", work)

    def _find(self, connection: Connection, numbers: OrderNumbers) -> list[WorklistItem]:
        """The items of an order, held against other transactions."""
        texts = [json.dumps(each.text) for each in (numbers.placer, numbers.filler) if each.text]
        holds = [_ITEM.source_key.contains(each, autoescape=True) for each in texts]
        wanted = select(_ITEM.source_key).where(_ITEM.source == self._source, or_(*holds))
        found = []
        for key in connection.execute(wanted.order_by(_ITEM.id)).scalars().all():
            known = OrderNumbers.of_key(key)
            if known is not None and known.is_same(numbers):
                named = rows.named_by_source(self._source, key)
                item = rows.find_item(connection, named, locks=True)
                found += [item] if item is not None else []
        return found

    def _transact(self, operation: str, work: Callable[[Connection], Result]) -> Result:
        with self._index.doing(operation):
            return self._index.transact(work)


def _begun(connection: Connection, item: WorklistItem) -> set[int]:
    """The positions of the steps that a device has begun, or ended."""
    wanted = select(_STEP.position, _STEP.status, _STEP.procedure_step_uid)
    found = connection.execute(wanted.where(_STEP.item_id == item.id)).all()
    return {position for position, status, uid in found if uid or status in _BEGUN}


def _keep_only(connection: Connection, item: WorklistItem, positions: set[int]) -> Done:
    if not positions:
        rows.remove_items(connection, _ITEM.id == item.id)
        return Done("removed", item.dataset)
    steps = [item.dataset.sequence(STEPS)[position] for position in sorted(positions)]
    dataset = Tree({**item.dataset, STEPS: Element(b"SQ", steps)})
    rows.update_item(connection, item, dataset, keeps_performed=True)
    return Done("changed", dataset)


def _fits(item: WorklistItem, issuer: str) -> bool:
    own = item.dataset.text(_ISSUER)
    return own == issuer or not own or not issuer


def _change_patient(connection: Connection, item: WorklistItem, changes: Tree) -> Done | None:
    if len(_begun(connection, item)) == len(item.dataset.sequence(STEPS)):
        return None
    merged = {**item.dataset, **changes}
    kept = {tag: each for tag, each in merged.items() if tag not in changes or each.value}
    dataset = Tree(kept)
    rows.update_item(connection, item, dataset, keeps_performed=True)
    return Done("changed", dataset)
