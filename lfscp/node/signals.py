"""What wakes the main thread of a process: signals, and messages of other threads, in one pipe.

Rules: no handler runs code of ours. Python writes the number of each signal into the pipe itself,
so no signal is lost between a test and a wait.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from types import FrameType, TracebackType
from typing import Final, Self

HANDED_OVER: Final = signal.SIGUSR1  # another node accepts instead: end, and take your time
NOBODY_LEFT: Final = 0  # a message: of the pool's threads, or of the workers; no signal is 0


class SignalPipe:
    """The signals of a process while it is open, and what other threads put in.

    To be opened in the main thread.
    """

    SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._before = {each: signal.signal(each, _leave_it_to_the_pipe) for each in self.SIGNALS}
        self._wakeup_before = signal.set_wakeup_fd(self._writer)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)  # workers begin with them blocked
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for each, handler in self._before.items():
            signal.signal(each, handler)
        with self._lock:
            os.close(self._writer)
            self._writer = -1
        os.close(self._reader)

    def put(self, message: int) -> None:
        """Leave a message of 0 to 255 for the main thread; from any thread."""
        with self._lock:
            if self._writer >= 0:
                os.write(self._writer, bytes([message]))

    def wait(self, timeout_s: float | None) -> int | None:
        """The next message: a signal's number or what was put; None when the time is over."""
        readable, _, _ = select.select([self._reader], [], [], timeout_s)
        return os.read(self._reader, 1)[0] if readable else None


def _leave_it_to_the_pipe(_number: int, _frame: FrameType | None) -> None:
    """A handler that does nothing; the number is in the pipe already."""
