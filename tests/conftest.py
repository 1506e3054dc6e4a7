"""Makes what several tests share importable: pytest puts this file's folder on the path.

And keeps a test that waits for ever from holding up the others.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from typing import Any

import pytest

AFTER_THE_FIRST_S = 20


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
    """Let the alarm of a test's time limit ring again and again.

    Rung once, it ends what the test waits for, and not what its clean-up waits for afterwards.
    """
    answer = yield
    if settings.method == "signal" and threading.current_thread() is threading.main_thread():
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        if left:
            signal.setitimer(signal.ITIMER_REAL, left, AFTER_THE_FIRST_S)
    return answer
