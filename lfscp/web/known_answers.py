"""Remembers of which bytes of which file an answer was made, for when the same is asked again.

Rules: nothing of the bytes is kept, and what is kept is a note, no promise: who uses it looks first
whether the index and the file still say the same. Bounded memory; any thread may call any method.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

MAX_KEPT: Final = 4096  # answers, of some 2 kB each
MAX_SPANS: Final = 16  # of one
MAX_QUESTION: Final = 1000  # bytes

Question = tuple[str, bytes]  # path, and what is accepted


class Span(NamedTuple):
    """Some bytes of the file, and what is sent before them."""

    offset: int
    size: int
    before: bytes


class KnownAnswer(NamedTuple):
    """What one answer was made of.

    Args:
        row: of the instance, as the index had it.
        path: of the file.
        state: what tells that the file is the same, see `state_of`.
        end: what is sent behind the last span.
        headers: of the answer, with its length.
        tag: its ETag.
        study_key: of the study's row.
    """

    row: Sequence[Any]
    path: str
    state: tuple[int, ...]
    spans: Sequence[Span]
    end: bytes
    headers: Sequence[tuple[bytes, bytes]]
    tag: str
    study_key: int


class KnownAnswers:
    """The answers that were given last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Question, KnownAnswer] = OrderedDict()

    def get(self, question: Question) -> KnownAnswer | None:
        """What this was answered with; None if it is not known."""
        with self._lock:
            found = self._kept.get(question)
            if found is not None:
                self._kept.move_to_end(question)
            return found

    def keep(self, question: Question, answer: KnownAnswer) -> None:
        """Keep an answer, and forget the one that was not asked for the longest."""
        if len(answer.spans) > MAX_SPANS or sum(map(len, question)) > MAX_QUESTION:
            return
        with self._lock:
            self._kept[question] = answer
            self._kept.move_to_end(question)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
