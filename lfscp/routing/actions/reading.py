"""Makes the actions of a route of its settings, and says what cannot be.

Rules: this opens no file; it is done for each look at the routes. The files that actions name are
read when they are made ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lfscp.routing.actions import coercing, deidentifying, plugged_in, transcoding
from lfscp.routing.actions.action import Action, ActionSettingError, Means, ReadyAction

if TYPE_CHECKING:
    from lfscp.config import Settings

KINDS: Final[Mapping[str, Callable[[Any, Settings], Action]]] = {
    "coerce": coercing.read,
    "deidentify": deidentifying.read,
    "plugin": plugged_in.read,
    "transfer_syntax": transcoding.read,
}


def read_actions(tables: Sequence[Mapping[str, Any]], settings: Settings) -> tuple[Action, ...]:
    """The actions of a route, in their order.

    Raises:
        ActionSettingError: one cannot be; its path begins with the position.
    """
    return tuple(_read(str(at), table, settings) for at, table in enumerate(tables))


def _read(at: str, table: Mapping[str, Any], settings: Settings) -> Action:
    names = ", ".join(KINDS)
    if len(table) != 1:
        raise ActionSettingError((at,), table, f"a table with one action: {names}")
    ((kind, value),) = table.items()
    if kind not in KINDS:
        raise ActionSettingError((at,), table, f"an action that is known; these are: {names}")
    try:
        return KINDS[kind](value, settings)
    except ActionSettingError as error:
        raise ActionSettingError((at, kind, *error.path), error.value, error.expected) from None


def read_transfer_syntax(value: Any, settings: Settings) -> transcoding.TransferSyntaxAction:
    """The action of the key `transfer_syntax` of a route.

    Raises:
        ActionSettingError: it cannot be.
    """
    return transcoding.read(value, settings)


def made_ready(actions: Iterable[Action], means: Means) -> tuple[ReadyAction, ...]:
    """Actions that can be done; the files that they name are read.

    Raises:
        ActionSettingError: as `read_actions`.
    """
    ready = []
    for at, action in enumerate(actions):
        try:
            ready.append(action.ready(means))
        except ActionSettingError as error:
            kind = _kind_of(action)
            path = (str(at), kind, *error.path)
            raise ActionSettingError(path, error.value, error.expected) from None
    return tuple(ready)


def _kind_of(action: Action) -> str:
    kinds = {
        coercing.CoerceAction: "coerce",
        deidentifying.DeidentifyAction: "deidentify",
        plugged_in.PluginAction: "plugin",
        transcoding.TransferSyntaxAction: "transfer_syntax",
    }
    return kinds[type(action)]
