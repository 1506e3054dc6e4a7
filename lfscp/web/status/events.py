"""Sends changes of jobs and of the node to open pages, as server-sent events.

Rules: one thread reads the changes for all pages, and runs only while a page is open. A page that
does not read loses old events, and never holds up other pages. The node's state is sampled once a
second, and sent if it has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from lfscp.observe.logging import get_logger
from lfscp.web.status.state import NodeState

if TYPE_CHECKING:
    from lfscp.jobs.feed import Subscription
    from lfscp.jobs.service import JobService

LOG: Final = get_logger("lfscp.web")
MAX_WAITING: Final = 500  # events per page
MAX_RECENT: Final = 50  # jobs that a page is told of when it begins to listen
SAMPLE_S: Final = 1.0
KEEP_ALIVE_S: Final = 15.0
_END: Final = None

Event = tuple[str, dict[str, Any]]


class EventHub:
    """Sends events from the node's threads to the pages; one for each application."""

    def __init__(self, jobs: JobService, node_state: Callable[[], NodeState]) -> None:
        self._jobs = jobs
        self._node_state = node_state
        self._lock = threading.Lock()
        self._pages: dict[asyncio.Queue[Event | None], asyncio.AbstractEventLoop] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    async def stream(self) -> AsyncIterator[str]:
        """Events for one page, until it closes or the node stops."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(MAX_WAITING)
        self._join(queue)
        try:
            yield _encoded("node", self._node())
            # A page is rendered before it listens: here it learns what changed in between.
            for job in await asyncio.to_thread(self._jobs.jobs, None, MAX_RECENT):
                yield _encoded("job", job.to_json(with_changes=False))
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is _END:
                    return
                yield _encoded(*event)
        finally:
            self._leave(queue)

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        self._stopping.set()
        self.begin_anew()

    def begin_anew(self) -> None:
        """End the streams; browsers connect again, with the login they have now."""
        with self._lock:
            pages = dict(self._pages)
        for queue, loop in pages.items():
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(_put, queue, _END)

    def _join(self, queue: asyncio.Queue[Event | None]) -> None:
        with self._lock:
            self._pages[queue] = asyncio.get_running_loop()
            if self._stopping.is_set():
                _put(queue, _END)
            elif self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch,
                    args=(self._jobs.subscribe(),),
                    name="lfscp-web-events",
                    daemon=True,
                )
                self._thread.start()

    def _leave(self, queue: asyncio.Queue[Event | None]) -> None:
        with self._lock:
            self._pages.pop(queue, None)

    def _watch(self, subscription: Subscription) -> None:
        """Read changes as long as a page is open; runs in a thread of its own."""
        last: dict[str, Any] = {}
        with subscription as news:
            while not self._stopping.is_set() and not news.is_closed:
                job = news.next(SAMPLE_S)
                if job is not None:
                    self._spread(("job", job.to_json(with_changes=False)))
                    continue
                state = self._node()
                if state != last:
                    last = state
                    self._spread(("node", state))
                with self._lock:
                    if not self._pages:
                        self._thread = None
                        return
        with self._lock:
            self._thread = None

    def _node(self) -> dict[str, Any]:
        return asdict(self._node_state())

    def _spread(self, event: Event) -> None:
        with self._lock:
            pages = dict(self._pages)
        for queue, loop in pages.items():
            try:
                loop.call_soon_threadsafe(_put, queue, event)
            except RuntimeError:  # its loop has ended
                self._leave(queue)


def _put(queue: asyncio.Queue[Event | None], event: Event | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(event)


def _encoded(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
