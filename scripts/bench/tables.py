"""Repeated measurements, and tables of them that read as text and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Samples:
    """Repetitions of one measurement, in microseconds.

    On a machine that others use too, the least of many is the nearest to what the work costs.
    """

    values: list[float] = field(default_factory=list)

    def add_seconds(self, seconds: float) -> None:
        """Add one repetition."""
        self.values.append(seconds * 1e6)

    @property
    def least(self) -> float:
        """The quickest repetition."""
        return min(self.values)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def quantile(self, part: float) -> float:
        """The value that this part of the repetitions does not exceed; 0.99 for p99."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def number(value: float) -> str:
    """Three digits, as many as mean anything here."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rules = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), "|" + "|".join(rules) + "|", *map(line, rows)])
