"""Counters and histograms that cost a fraction of a microsecond, summed over all processes.

Each process counts in a line of its own, of numbers in memory that all share; a reader sums
the lines. A worker that is replaced goes on in the line of its predecessor, so that no sum ever
goes back. What can be counted is declared once, with every value that a label may have: a peer can
make no new one, and a count is found by its place.

No lock is taken. Relied on: CPython with its global lock changes threads at calls and jumps only,
so that `values[at] += amount`, once `at` is known, is never cut in two; a test holds it to that.

It knows no format, and no name of a metric; see `metrics`.
"""

from __future__ import annotations

import itertools
import mmap
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

OTHER: Final = "other"  # the value of a label for whatever was not declared
_NUMBER: Final = "d"
_BYTES: Final = 8


class Board:
    """The numbers of one node. Any thread may count, any process may read."""

    def __init__(self) -> None:
        self.instruments: list[Counter | Gauge | Histogram] = []
        self._length = 0
        self._lines = 1
        self.values = memoryview(bytearray()).cast(_NUMBER)  # this process's line
        self._all = self.values

    def reserve(self, instrument: Counter | Gauge | Histogram | None, numbers: int) -> int:
        """Place an instrument on the board, before `share`; where its numbers begin.

        Args:
            instrument: None for one that is no metric.
        """
        start = self._length
        if instrument is not None:
            self.instruments.append(instrument)
        self._length += numbers
        self._all = memoryview(bytearray(self._length * _BYTES)).cast(_NUMBER)
        self.values = self._all
        return start

    def share(self, lines: int) -> None:
        """Lay the board out for so many processes; called once, before they are forked."""
        before = self.values
        self._lines = lines
        self._all = memoryview(mmap.mmap(-1, lines * self._length * _BYTES)).cast(_NUMBER)
        self.use(0)
        self.values[:] = before

    def use(self, line: int) -> None:
        """Count in this line from now on; called in the process that owns it."""
        start = line * self._length
        self.values = self._all[start : start + self._length]
        for instrument in self.instruments:
            if isinstance(instrument, Gauge):  # what its predecessor was is over
                instrument.set(0)

    def sums(self) -> list[float]:
        """Every number, summed over all processes."""
        lines = self.lines()
        if len(lines) == 1:
            return lines[0]
        return [sum(each) for each in zip(*lines, strict=True)]

    def lines(self) -> list[list[float]]:
        """The numbers of each process."""
        numbers = [float(each) for each in self._all]
        if self._lines == 1:
            return [numbers]
        return [numbers[at : at + self._length] for at in range(0, len(numbers), self._length)]


class Count:
    """One number that only grows."""

    __slots__ = ("_at", "_board")

    def __init__(self, board: Board, at: int) -> None:
        self._board = board
        self._at = at

    def add(self, amount: float = 1.0) -> None:
        """Count; from any thread."""
        values = self._board.values
        values[self._at] += amount


class Distribution:
    """How many observations fell below each bound, and their sum."""

    __slots__ = ("_at", "_board", "_bounds", "_sum")

    def __init__(self, board: Board, at: int, bounds: Sequence[float]) -> None:
        self._board = board
        self._at = at
        self._bounds = bounds
        self._sum = at + len(bounds) + 1

    def observe(self, value: float) -> None:
        """Count one observation; from any thread."""
        values = self._board.values
        at = self._at + bisect_left(self._bounds, value)
        values[at] += 1.0
        values[self._sum] += value


class _Labelled:
    """An instrument with a place on the board for each combination of its label values."""

    def __init__(
        self, board: Board, name: str, text: str, width: int, labels: Mapping[str, Sequence[str]]
    ) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self._values = tuple(labels.values())
        combinations = list(itertools.product(*self._values))
        start = board.reserve(cast("Counter | Histogram", self), width * len(combinations))
        self._places = {each: start + width * at for at, each in enumerate(combinations)}

    def _declared(self, values: Sequence[str]) -> tuple[str, ...]:
        """The same label values with `other` for those that were not declared."""
        pairs = zip(values, self._values, strict=True)
        return tuple(value if value in declared else OTHER for value, declared in pairs)


class Counter(_Labelled):
    """Counts of one kind, one for each combination of label values.

    Args:
        board: where they stand.
        name: as Prometheus has it, ending in `_total`.
        text: what is counted.
        labels: name of each label, with all its values.
    """

    def __init__(self, board: Board, name: str, text: str, **labels: Sequence[str]) -> None:
        super().__init__(board, name, text, 1, labels)
        self._counts = {each: Count(board, at) for each, at in self._places.items()}

    def of(self, *values: str) -> Count:
        """The count of these label values; one that was not declared is `other`."""
        return self._counts.get(values) or self._counts[self._declared(values)]

    def add(self, amount: float = 1.0) -> None:
        """Count, where there are no labels."""
        self._counts[()].add(amount)

    def samples(self, sums: Sequence[float]) -> Iterator[tuple[tuple[str, ...], float]]:
        """Label values and count of each, from `Board.sums`."""
        return ((values, sums[at]) for values, at in self._places.items())


class Gauge:
    """A number that each process sets, summed over all of them.

    Args:
        board: where it stands.
        name: as Prometheus has it.
        text: what it says.
    """

    def __init__(self, board: Board, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._board = board
        self._at = board.reserve(self, 1)

    def set(self, value: float) -> None:
        """Set this process's number."""
        self._board.values[self._at] = value

    def total(self, sums: Sequence[float]) -> float:
        """The sum over all processes, from `Board.sums`."""
        return sums[self._at]


class Histogram(_Labelled):
    """Distributions of one kind, one for each combination of label values.

    Args:
        bounds: upper ends of the buckets, ascending; one without end is added.
        labels: name of each label, with all its values.
    """

    def __init__(
        self,
        board: Board,
        name: str,
        text: str,
        bounds: Sequence[float],
        **labels: Sequence[str],
    ) -> None:
        self.bounds = tuple(bounds)
        super().__init__(board, name, text, len(self.bounds) + 2, labels)  # the rest, and the sum
        self._distributions = {
            each: Distribution(board, at, self.bounds) for each, at in self._places.items()
        }

    def of(self, *values: str) -> Distribution:
        """The distribution of these label values; one that was not declared is `other`."""
        found = self._distributions.get(values)
        return found or self._distributions[self._declared(values)]

    def observe(self, value: float) -> None:
        """Count one observation, where there are no labels."""
        self._distributions[()].observe(value)

    def samples(
        self, sums: Sequence[float]
    ) -> Iterator[tuple[tuple[str, ...], list[float], float]]:
        """Label values, observations up to each bound and in all, and their sum."""
        for values, at in self._places.items():
            end = at + len(self.bounds) + 1
            yield values, list(itertools.accumulate(sums[at:end])), sums[end]
