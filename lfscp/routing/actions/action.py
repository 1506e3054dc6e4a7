"""An action of a route: as the configuration declares it, and as it is done to one object.

Rules: an action is done when an object is delivered, never while it is stored. It makes another
file of the object, piece by piece, and does the same each time: an object may be sent twice. One
that cannot be done raises `ActionError`, and the object does not go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lfscp.errors import OperationError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.archive.store.received_objects import StoredInstance
    from lfscp.rules.coercion.coercion import Coercion


class ActionError(OperationError):
    """An action could not be done to an object.

    Args:
        is_temporary: it may go well later. Else the object is put aside until somebody decides.
    """

    def __init__(self, reason: str, *, is_temporary: bool = False) -> None:
        super().__init__("do the actions of the route", reason)
        self.is_temporary = is_temporary


class ActionSettingError(ValueError):
    """An action that cannot be.

    Args:
        path: the keys that lead to it, from the list of actions on.
        value: what stands there.
        expected: what was expected.
    """

    def __init__(self, path: tuple[str, ...], value: object, expected: str) -> None:
        super().__init__(expected)
        self.path = path
        self.value = value
        self.expected = expected


class ActionPlugins(Protocol):
    """The plug-ins, as a route asks them."""

    def apply_action(self, name: str, dataset: Dataset) -> Dataset:
        """See `plugins.Plugins.apply_action`."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What actions of a node need to be done.

    Args:
        ae_title: of the node, which changed objects name.
        coercions: by name.
        plugins: None where they are not asked.
    """

    ae_title: str
    coercions: Mapping[str, Coercion] = field(default_factory=dict)
    plugins: ActionPlugins | None = None


def _nothing() -> None:
    """Look for no reason to stop."""


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """The delivery of one object.

    Args:
        folder: where changed objects are written for a while.
        origin: AE title of the object's sender; may be empty.
        queued_at: when it came into its queue, which is when the object says it was changed.
        look: called now and then; an error that it raises ends the work.
    """

    folder: Path
    origin: str
    queued_at: datetime
    look: Callable[[], None] = _nothing


# Gives an object as it is after the action, valid inside.
ReadyAction = Callable[["StoredInstance", OnTheWay], AbstractContextManager["StoredInstance"]]


class Action(Protocol):
    """An action as a route declares it."""

    @property
    def words(self) -> str:
        """What it does, for users."""
        ...

    def ready(self, means: Means) -> ReadyAction:
        """Make it ready to be done; reads the files that it names.

        Raises:
            ActionSettingError: a file cannot be used; the path begins with the action's own key.
        """
        ...
