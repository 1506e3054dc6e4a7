"""One plug-in that is in use: its functions, its queue and its threads."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from lfscp.observe import metrics
from lfscp.plugins.deciding import TimedCalls
from lfscp.plugins.errors import DecisionOverdueError
from lfscp.plugins.loading import Loaded
from lfscp.plugins.node import LOG, PluginNode
from lfscp.plugins.telling import Queue

_SAY_EVERY_S: Final = 10.0


class PluginInUse:
    """Calls the hooks of one plug-in, and names it when it fails.

    Args:
        node: what its hooks may use.
        queue_size: the most events that may wait for it.
    """

    def __init__(self, loaded: Loaded, node: PluginNode, queue_size: int) -> None:
        self.loaded = loaded
        self.node = node
        self.functions: dict[str, tuple[Callable[..., Any], frozenset[str]]] = {}
        self.queue = Queue(loaded.name, queue_size, self.say)
        self.calls = TimedCalls(loaded.name)
        self._said: dict[tuple[str, str], tuple[float, int]] = {}
        self._saying = threading.Lock()

    def add(self, hook: str, function: Callable[..., Any]) -> None:
        """Take the function of a hook."""
        self.functions[hook] = function, frozenset(inspect.signature(function).parameters)

    def run(self, hook: str, **arguments: Any) -> Any:
        """Call a hook in this thread, with the arguments that it takes.

        A child that it has forked ends here: it must not go on as this node, nor keep its ports.
        """
        function, taken = self.functions[hook]
        arguments["node"] = self.node
        process = os.getpid()
        try:
            return function(**{name: arguments[name] for name in taken if name in arguments})
        finally:
            if os.getpid() != process:
                os._exit(0)

    def run_told(self, hook: str, **arguments: Any) -> None:
        """Call a hook that nobody waits for."""
        try:
            self.run(hook, **arguments)
        except BaseException as error:  # noqa: BLE001 - the next event is told all the same
            self.failed(hook, error)
        else:
            self.count(hook, "done")

    def count(self, hook: str, outcome: str) -> None:
        """Count a call."""
        metrics.PLUGIN_CALLS.of(hook, outcome).add()
        metrics.CALLS_OF_PLUGINS.add(self.loaded.name, outcome)

    def count_waiting(self) -> int:
        """Say how many events wait."""
        waiting = len(self.queue)
        metrics.CALLS_OF_PLUGINS.set(self.loaded.name, "waiting", waiting)
        return waiting

    def failed(self, hook: str, error: BaseException) -> None:
        """Count and name a call that raised, or was overdue."""
        if isinstance(error, DecisionOverdueError):
            self.count(hook, "overdue")
            self.say("plug-in did not answer in time", hook)
            return
        self.count(hook, "failed")
        # Not the text, which may quote a patient's data.
        self.say("plug-in failed", hook, reason=type(error).__name__, exc_info=error)

    def say(self, event: str, hook: str, **fields: Any) -> None:
        """Write a line, unless the same one was written just before."""
        with self._saying:
            now = time.monotonic()
            at, unsaid = self._said.get((event, hook), (float("-inf"), 0))
            if now - at < _SAY_EVERY_S:
                self._said[event, hook] = at, unsaid + 1
                return
            self._said[event, hook] = now, 0
        if unsaid:
            fields["before"] = unsaid
        LOG.error(event, plugin=self.loaded.name, hook=hook, **fields)
