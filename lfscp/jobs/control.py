"""Connects a running job with the job service: stop requests go in, progress and end come out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from lfscp.jobs.model import JSON, Job, JobKind, State

PUBLISH_INTERVAL_S: Final = 0.2
SAVE_INTERVAL_S: Final = 2.0
MAX_WORDS: Final = 1000  # characters of one reason, which may quote a peer


def shown(text: str, most: int) -> str:
    """A text that may quote a peer or a file: on one line, and cut to `most` characters."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(
        each if each.isprintable() else " " if each.isspace() else "\ufffd" for each in cut
    )


class StopRequest(StrEnum):
    """Why a running job should stop."""

    CANCEL = "cancel"
    PAUSE = "pause"
    INTERRUPT = "interrupt"  # the node stops; the job runs again after its restart


class JobStoppedError(Exception):
    """The job stopped because a user or the node asked it to."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a run that raised no error: the job is done, failed in part, or goes on later.

    Args:
        state: DONE, FAILED, or SLEEPING to go on.
        reason: a remark for the user.
        logged: the same without the words of peers and files, which could name a patient.
        result: what the job found.
        sleep_s: until it goes on, unless the index wakes it sooner; at most MAX_DELAY_S.
    """

    state: State = State.DONE
    reason: str = ""
    result: JSON = None
    sleep_s: float = 0.0
    logged: str = ""


@dataclass(slots=True)
class Progress:
    """How far a running job is; numbers as in `Job`."""

    done: int = 0
    failed: int = 0
    left: int = 0
    bytes: int = 0
    rate_bytes_s: float = 0.0
    problems: list[dict[str, str]] = field(default_factory=list)


def earlier_progress(job: Job) -> Progress:
    """How far a job has come; nothing of an echo or a query, which begin anew."""
    if job.kind in (JobKind.ECHO, JobKind.FIND):
        return Progress()
    return Progress(done=job.done, left=job.left, bytes=job.bytes)


class Control:
    """One run of one job: the request to stop it, and its progress.

    Any thread may ask it to stop. Only the thread that runs the job reports.

    Args:
        tell: called with the progress, the items done since the last save, and whether to save.
        items: what earlier runs of the job have done.
        is_woken: the job has slept until this run, and goes on where it was; else it begins, was
            interrupted, or somebody wants it to run again.
        earlier: how far earlier runs of the job have come.
    """

    MAX_PROBLEMS: Final = 200  # further ones are only counted

    def __init__(
        self,
        tell: Callable[[Progress, list[str], bool], None],
        items: set[str] | None = None,
        *,
        is_woken: bool = False,
        earlier: Progress | None = None,
    ) -> None:
        self._tell = tell
        self._items = items if items is not None else set()
        self.is_woken = is_woken
        self._new_items: list[str] = []
        self._started = self._published = self._saved = time.monotonic()
        self._earlier = earlier or Progress()
        self._is_counted = False
        self.progress = Progress(bytes=self._earlier.bytes)
        self.stop = threading.Event()
        self.stop_request: StopRequest | None = None
        self.result: Any = None  # what a job has to show even if it does not finish

    def request_stop(self, request: StopRequest) -> None:
        """Ask the job to stop; a cancelled job stays cancelled."""
        if self.stop_request is not StopRequest.CANCEL:
            self.stop_request = request
        self.stop.set()

    def check(self) -> None:
        """Go on, unless the job was asked to stop.

        Raises:
            JobStoppedError: it was.
        """
        if self.stop.is_set() and self.stop_request is not None:
            raise JobStoppedError(self.stop_request)

    def is_behind(self, item: str) -> bool:
        """Whether an earlier run has done this item."""
        return item in self._items

    def put_behind(self, item: str) -> None:
        """Note that this item is done; later runs skip it."""
        if item not in self._items:
            self._items.add(item)
            self._new_items.append(item)

    def problem(self, what: str, reason: str) -> None:
        """Note what could not be done; `what` names it without patient data."""
        if len(self.progress.problems) < self.MAX_PROBLEMS:
            named = {"what": shown(what, MAX_WORDS), "reason": shown(reason, MAX_WORDS)}
            self.progress.problems.append(named)

    def note_counted(self) -> None:
        """Say that the progress has all that was done, and all that is left, from now on."""
        self._is_counted = True

    @property
    def counters(self) -> Progress:
        """The progress as it is shown.

        A run first finds out what is left to do. Meanwhile what earlier runs have done still
        counts: a job that is resumed does not seem to begin anew.
        """
        if self._is_counted:
            return self.progress
        done = max(self.progress.done, self._earlier.done)
        return replace(self.progress, done=done, left=self.progress.left or self._earlier.left)

    def report(self) -> None:
        """Publish the progress a few times a second at most, and save it every two seconds."""
        now = time.monotonic()
        if now - self._published < PUBLISH_INTERVAL_S:
            return
        self._published = now
        self.measure_rate()
        save = now - self._saved >= SAVE_INTERVAL_S
        if save:
            self._saved = now
        self._tell(self.counters, self.take_items() if save else [], save)

    def measure_rate(self) -> None:
        """Work out the rate of this run up to now."""
        elapsed = time.monotonic() - self._started
        came = self.progress.bytes - self._earlier.bytes
        self.progress.rate_bytes_s = round(came / elapsed, 1) if elapsed else 0.0

    def take_items(self) -> list[str]:
        """The items done since the last call."""
        taken, self._new_items = self._new_items, []
        return taken
