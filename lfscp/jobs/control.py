"""What a running job and the service say to each other: wishes one way, progress the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

PUBLISH_INTERVAL_S: Final = 0.2
SAVE_INTERVAL_S: Final = 2.0
MAX_WORDS: Final = 1000  # characters of one reason, in which a peer may have its say


def shown(text: str, most: int) -> str:
    """A text that others had a part in, on one line, and not without end."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return cut if cut.isprintable() else "".join(_shown(each) for each in cut)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\ufffd"


class Wish(StrEnum):
    """Why a running job should stop."""

    CANCEL = "cancel"
    PAUSE = "pause"
    INTERRUPT = "interrupt"  # the node stops; the job runs again after its restart


class JobStoppedError(Exception):
    """The job stopped since somebody wished so."""

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish)
        self.wish = wish


@dataclass(slots=True)
class Progress:
    """How far a running job is; numbers as in `Job`."""

    done: int = 0
    failed: int = 0
    left: int = 0
    bytes: int = 0
    rate_bytes_s: float = 0.0
    problems: list[dict[str, str]] = field(default_factory=list)


class Control:
    """One run of one job: the wish to stop it, and its progress.

    Any thread may wish; only the one that runs the job reports.

    Args:
        tell: called with the progress and the items that are newly done: `save` says that they
            should be kept, else subscribers only are told.
        items: what earlier runs have behind them.
    """

    MAX_PROBLEMS: Final = 200  # kept word by word; more are counted

    def __init__(
        self, tell: Callable[[Progress, list[str], bool], None], items: set[str] | None = None
    ) -> None:
        self._tell = tell
        self._items = items if items is not None else set()
        self._new_items: list[str] = []
        self._started = self._published = self._saved = time.monotonic()
        self.progress = Progress()
        self.stop = threading.Event()
        self.wish: Wish | None = None
        self.result: Any = None  # what a job has to show even when it does not come to its end

    def wish_for(self, wish: Wish) -> None:
        """Ask the job to stop."""
        if self.wish is not Wish.CANCEL:  # a cancelled one is not paused after all
            self.wish = wish
        self.stop.set()

    def check(self) -> None:
        """Go on, unless somebody wished otherwise.

        Raises:
            JobStoppedError: with the wish.
        """
        if self.stop.is_set() and self.wish is not None:
            raise JobStoppedError(self.wish)

    def is_behind(self, item: str) -> bool:
        """Whether an earlier run has done this."""
        return item in self._items

    def put_behind(self, item: str) -> None:
        """This is done, and need not be again."""
        if item not in self._items:
            self._items.add(item)
            self._new_items.append(item)

    def problem(self, what: str, reason: str) -> None:
        """Something could not be done; `what` names it without patient data."""
        if len(self.progress.problems) < self.MAX_PROBLEMS:
            named = {"what": shown(what, MAX_WORDS), "reason": shown(reason, MAX_WORDS)}
            self.progress.problems.append(named)

    def report(self) -> None:
        """The progress has changed: tell, but not more often than somebody can look."""
        now = time.monotonic()
        if now - self._published < PUBLISH_INTERVAL_S:
            return
        self._published = now
        elapsed = now - self._started
        self.progress.rate_bytes_s = round(self.progress.bytes / elapsed, 1) if elapsed else 0.0
        save = now - self._saved >= SAVE_INTERVAL_S
        if save:
            self._saved = now
        self._tell(self.progress, self.take_items() if save else [], save)

    def finish(self) -> None:
        """The run has ended: work out its rate."""
        elapsed = time.monotonic() - self._started
        self.progress.rate_bytes_s = round(self.progress.bytes / elapsed, 1) if elapsed else 0.0

    def take_items(self) -> list[str]:
        """What is newly done and not yet kept."""
        taken, self._new_items = self._new_items, []
        return taken
