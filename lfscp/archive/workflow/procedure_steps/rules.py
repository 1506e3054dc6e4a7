"""Checks the requests that make and change a performed procedure step; no I/O.

Rules: all attributes that are wrong in one way are named at once; what is missing comes before
what is empty, and that before what is wrong. A value is wrong if the state machine cannot use it,
or if it is no sequence where one belongs. Other values are kept as they come.
Source: PS3.4 section F.7.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lfscp.archive.workflow.procedure_steps.errors import (
    AttributesError,
    EmptyAttributeError,
    InvalidValueError,
    MissingAttributeError,
    NotChangeableError,
    Place,
)
from lfscp.archive.workflow.procedure_steps.table import (
    NOT_ALLOWED,
    STATUS,
    TABLE,
    Column,
    Requirement,
)
from lfscp.dicom.models.element_tree import Element, Tree

IN_PROGRESS: Final = "IN PROGRESS"
COMPLETED: Final = "COMPLETED"
DISCONTINUED: Final = "DISCONTINUED"
FINAL: Final = frozenset({COMPLETED, DISCONTINUED})

_SETTABLE: Final = tuple(each for each in TABLE.values() if each.setting != NOT_ALLOWED)
_Path = tuple[tuple[int, int], ...]


def check_creation(dataset: Tree) -> None:
    """Check the Attribute List of an N-CREATE.

    Raises:
        AttributesError: it is not as the standard wants it; of the kind that is answered.
    """
    _check(dataset, Column.CREATION)
    if dataset.text(STATUS) != IN_PROGRESS:
        raise InvalidValueError([Place(STATUS)])


def fault_of(changes: Tree) -> AttributesError | None:
    """What is wrong with the Modification List of an N-SET, whatever step it is for."""
    try:
        _check(changes, Column.SETTING, _SETTABLE)
        if STATUS in changes:
            _check_status(changes)
    except AttributesError as error:
        return error
    return None


def changed(dataset: Tree, changes: Tree) -> Tree:
    """A step's dataset with the changes of an N-SET; each element is replaced as a whole.

    An attribute that may not be set may come again with the value that it has.

    Args:
        changes: `fault_of` has found none.
    Raises:
        AttributesError: a change is not allowed, or the step in its final state is not as the
            standard wants it.
    """
    fixed = [
        Place(tag)
        for tag, element in changes.items()
        if tag in TABLE and TABLE[tag].setting == NOT_ALLOWED and dataset.get(tag) != element
    ]
    if fixed:
        raise NotChangeableError(fixed)
    merged = Tree({**dataset, **changes})
    if merged.text(STATUS) in FINAL:
        _check(merged, Column.FINAL)
    return merged


def _check_status(changes: Tree) -> None:
    status = changes.text(STATUS)
    if not status:
        raise EmptyAttributeError([Place(STATUS)])
    if status not in FINAL | {IN_PROGRESS}:
        raise InvalidValueError([Place(STATUS)])


def _check(
    dataset: Tree, column: Column, table: Iterable[Requirement] = tuple(TABLE.values())
) -> None:
    faults = _Faults(column)
    faults.look(dataset, table, ())
    for error, places in faults.found.items():
        if places:
            raise error(places)


class _Faults:
    """What is wrong with a dataset by one column of the table."""

    def __init__(self, column: Column) -> None:
        self._column = column
        # In the order in which they are answered.
        self.found: dict[type[AttributesError], list[Place]] = {
            MissingAttributeError: [],
            EmptyAttributeError: [],
            InvalidValueError: [],
        }

    def look(self, dataset: Tree, table: Iterable[Requirement], path: _Path) -> None:
        """Compare a dataset, or an item, with its lines of the table."""
        for line in table:
            element = dataset.get(line.tag)
            if element is None:
                if self._is_required(line, dataset):
                    self.found[MissingAttributeError].append(Place(line.tag, path))
            else:
                self._look_at(element, line, dataset, path)

    def _is_required(self, line: Requirement, dataset: Tree, types: str = "12") -> bool:
        if line.type_in(self._column) not in types:
            return False
        if line.if_any:
            return any(_has_value(dataset.get(tag)) for tag in line.if_any)
        return not any(_has_value(dataset.get(tag)) for tag in line.if_none)

    def _look_at(self, element: Element, line: Requirement, dataset: Tree, path: _Path) -> None:
        if not element.value:
            if self._is_required(line, dataset, "1"):
                self.found[EmptyAttributeError].append(Place(line.tag, path))
        elif line.is_sequence != isinstance(element.value, list):
            self.found[InvalidValueError].append(Place(line.tag, path))
        elif isinstance(element.value, list):
            for number, item in enumerate(element.value, start=1):
                self.look(item, line.items, (*path, (line.tag, number)))


def _has_value(element: Element | None) -> bool:
    return element is not None and bool(element.value)
