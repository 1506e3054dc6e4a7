"""Clocks around named functions of lfscp: how much of the time is each one's own.

A probed function's time goes to its stage, without the time of the probed functions it calls. A
probe costs about half a microsecond per call, most of it outside the time it measures; what has no
probe stays with its caller. A name that is not there any more is reported, not an error: the
benchmark should not fail because the code under it has changed.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

_clock = time.perf_counter


@dataclass(frozen=True)
class Probe:
    """A function to time.

    Args:
        stage: what its time is called in the table.
        where: its module, and its class if it has one: "lfscp.archive.store.files:ObjectFiles".
        name: of the function there.
        gives: what the function returns, when that is to be timed instead: "iterator", "function".
    """

    stage: str
    where: str
    name: str
    gives: str = ""


class Probes:
    """The time of each stage, added up until `take`."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self._totals: dict[str, float] = {}
        self._inner: list[float] = []  # of each probed call under way: time of probed calls in it

    @contextmanager
    def around(self, probes: Sequence[Probe]) -> Iterator[Probes]:
        """Probe these functions inside the `with` block; the originals come back after it."""
        replaced: list[tuple[Any, str, Any]] = []
        try:
            for probe in probes:
                owner = _owner(probe.where)
                original = vars(owner).get(probe.name) if owner is not None else None
                if original is None:
                    self.missing.append(f"{probe.where}.{probe.name}")
                    continue
                setattr(owner, probe.name, self._probed(original, probe))
                replaced.append((owner, probe.name, original))
            yield self
        finally:
            for owner, name, original in reversed(replaced):
                setattr(owner, name, original)

    def take(self) -> dict[str, float]:
        """Seconds per stage since the last call."""
        totals, self._totals = self._totals, {}
        return totals

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """`function`, with its own time going to `stage`."""
        inner_of = self._inner

        def probed(*args: Any, **kwargs: Any) -> Any:
            inner_of.append(0.0)
            began = _clock()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = _clock() - began
                own = elapsed - inner_of.pop()
                self._totals[stage] = self._totals.get(stage, 0.0) + own
                if inner_of:
                    inner_of[-1] += elapsed

        return probed

    def _probed(self, original: Any, probe: Probe) -> Any:
        if isinstance(original, property):
            assert original.fget is not None  # noqa: S101 - a readable one
            return property(self.timed(original.fget, probe.stage), original.fset)
        if probe.gives == "iterator":
            return wraps(original)(lambda *a, **k: self._iterator(original(*a, **k), probe.stage))
        if probe.gives == "function":
            return wraps(original)(lambda *a, **k: self.timed(original(*a, **k), probe.stage))
        timed = self.timed(original, probe.stage)
        return wraps(original)(timed) if hasattr(original, "__name__") else timed

    def _iterator(self, items: Any, stage: str) -> Iterator[Any]:
        following = self.timed(lambda: next(items, _clock), stage)  # any object no iterator gives
        while (item := following()) is not _clock:
            yield item


def _owner(where: str) -> Any:
    module, _, name = where.partition(":")
    try:
        owner = importlib.import_module(module)
    except ImportError:
        return None
    return getattr(owner, name, None) if name else owner
