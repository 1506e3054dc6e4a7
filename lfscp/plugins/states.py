"""What each plug-in has done since the node started, in all its processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lfscp.observe import metrics
from lfscp.plugins.loading import Loaded


@dataclass(frozen=True, slots=True)
class PluginState:
    """One plug-in as it is now.

    Args:
        source: its file, or its package and version.
        hooks: that it has.
        calls: how often it was called and answered; `refused` of them were refusals.
        failed: calls that raised; `overdue` those that took too long to decide.
        waiting: events that it is still to be told.
        lost: events that it was not told, since too many waited.
    """

    name: str
    source: str
    hooks: tuple[str, ...]
    calls: int
    refused: int
    failed: int
    overdue: int
    waiting: int
    lost: int


def plugin_states(loaded: Iterable[Loaded]) -> list[PluginState]:
    """The state of each plug-in, in their order."""
    return [_state(each) for each in loaded]


def _state(loaded: Loaded) -> PluginState:
    counts = metrics.CALLS_OF_PLUGINS.of(loaded.name)
    return PluginState(
        loaded.name,
        loaded.source,
        loaded.hooks,
        counts["done"] + counts["refused"],
        counts["refused"],
        counts["failed"],
        counts["overdue"],
        counts["waiting"],
        counts["lost"],
    )
