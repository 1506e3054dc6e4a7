"""Tells objects of a fork, for as long as they live. It starts no process: see `forking`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

Method = Callable[[], object]


def follow_forks(
    *,
    before: Method | None = None,
    after_in_parent: Method | None = None,
    after_in_child: Method | None = None,
) -> None:
    """Call methods at each fork, as `os.register_at_fork` does. It keeps no object alive.

    Args:
        before: bound methods, as the other two.
    """
    given = {
        "before": before,
        "after_in_parent": after_in_parent,
        "after_in_child": after_in_child,
    }
    calls: dict[str, Any] = {when: _weak(each) for when, each in given.items() if each is not None}
    os.register_at_fork(**calls)


def _weak(method: Method) -> Callable[[], None]:
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
