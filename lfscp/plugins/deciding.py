"""Calls a function in a thread of its own, and waits for a limited time.

Rules: the threads are kept for the next calls. A call that is overdue keeps its thread until it
returns, whenever that is; nobody waits for it any more. If all threads are taken by overdue calls,
a further call is overdue at once: a plug-in that hangs costs each request the time limit only as
long as there are threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from lfscp.plugins.errors import DecisionOverdueError

MOST_AT_ONCE: Final = 16


class TimedCalls:
    """The threads that call one plug-in. Any thread may call it.

    Args:
        name: of the plug-in, which its threads have too.
        most: how many calls may run at once; further ones wait.
    """

    def __init__(self, name: str, most: int = MOST_AT_ONCE) -> None:
        self._name = name
        self._most = most
        self._free = threading.Semaphore(most)
        self._lock = threading.Lock()
        self._idle: list[_Caller] = []
        self._overdue = 0

    def call(self, function: Callable[[], Any], timeout_s: float) -> Any:
        """What the function returns, or the exception that it raises.

        Raises:
            DecisionOverdueError: it did not return in time.
        """
        deadline = time.monotonic() + timeout_s
        if self._overdue >= self._most or not self._free.acquire(timeout=timeout_s):
            raise DecisionOverdueError
        with self._lock:
            caller = self._idle.pop() if self._idle else None
        if caller is None:
            caller = _Caller(self._name, self._is_back)
        call = _Call(function)
        caller.begin(call)
        if not call.done.acquire(timeout=max(0.0, deadline - time.monotonic())):
            with self._lock:
                if not call.has_ended:
                    call.is_overdue = True
                    self._overdue += 1
                    raise DecisionOverdueError
        if call.error is not None:
            raise call.error
        return call.result

    def _is_back(self, caller: _Caller, call: _Call) -> None:
        with self._lock:
            call.has_ended = True
            self._overdue -= call.is_overdue
            self._idle.append(caller)
        self._free.release()
        call.done.release()


class _Call:
    __slots__ = ("done", "error", "function", "has_ended", "is_overdue", "result")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_overdue = False
        self.has_ended = False
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self.result = self.function()
        except KeyboardInterrupt as error:  # no user's, in this thread
            self.error = RuntimeError("it raised KeyboardInterrupt")
            self.error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - the waiting thread gets it, SystemExit too
            self.error = error


class _Caller:
    """One thread, which waits for calls; a daemon, so that no plug-in keeps a process alive."""

    def __init__(self, name: str, is_back: Callable[[_Caller, _Call], None]) -> None:
        self._is_back = is_back
        self._call: _Call | None = None
        self._wake = threading.Semaphore(0)
        threading.Thread(target=self._run, name=f"lfscp-plugin-{name}", daemon=True).start()

    def begin(self, call: _Call) -> None:
        self._call = call
        self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            call, self._call = self._call, None
            if call is not None:
                call.run()
                self._is_back(self, call)
                del call  # an idle thread keeps no object alive
