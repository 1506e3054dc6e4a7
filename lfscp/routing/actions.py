"""The actions of routes: what may be done to an object before it is sent, by name.

An action is a table with one key, its name: `{ coerce = "NAME" }`. A kind of action registers a
reader, which makes of the table's value a function from a dataset to a dataset, and says if it
cannot be. The function does no input or output, changes what it is given or gives another, and
does the same each time: an object may be sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset

if TYPE_CHECKING:
    from lfscp.config import Settings

Action = Callable[[Dataset], Dataset]
# Makes an action of a table's value and the settings; raises ValueError with what was expected.
ActionReader = Callable[[Any, "Settings"], Action]

_readers: dict[str, ActionReader] = {}
_new_uids: set[str] = set()


def register(name: str, reader: ActionReader, *, keeps_uids: bool = True) -> None:
    """Add a kind of action.

    Args:
        name: the key of its table.
        keeps_uids: whether an object has the same SOP Instance UID afterwards; else its destination
            cannot be asked to commit to it.
    """
    _readers[name] = reader
    if not keeps_uids:
        _new_uids.add(name)


def keeps_uids(tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether objects have the same SOP Instance UIDs after these actions."""
    return not any(_new_uids.intersection(table) for table in tables)


def known() -> list[str]:
    """The names of the kinds of actions."""
    return sorted(_readers)


def read_actions(tables: Sequence[Mapping[str, Any]], settings: Settings) -> tuple[Action, ...]:
    """Make the actions of a route, in their order.

    Raises:
        ValueError: one cannot be: (position, expected).
    """
    made = []
    for at, table in enumerate(tables):
        if len(table) != 1:
            raise ValueError(at, "a table with one action")
        ((name, value),) = table.items()
        if name not in _readers:
            names = ", ".join(known()) or "none in this version"
            raise ValueError(at, f"an action that is known; these are: {names}")
        try:
            made.append(_readers[name](value, settings))
        except ValueError as error:
            raise ValueError(at, str(error)) from None
    return tuple(made)
