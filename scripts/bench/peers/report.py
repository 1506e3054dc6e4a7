"""Medians, ratios and their presentation."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .targets import DCMTK, ORTHANC, Target
from .workload import Figure, Workload


@dataclass
class Cell:
    """What one target did on one workload, over all rounds."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    unsupported: str | None = None
    invalid: list[str] = field(default_factory=list)

    def samples(self, figure: str) -> list[float]:
        return [values[figure] for values in self.rounds if figure in values]

    def median(self, figure: str) -> float | None:
        """Over the valid rounds; None when there is none."""
        samples = self.samples(figure)
        return statistics.median(samples) if samples else None

    def spread(self, figure: str) -> float | None:
        """(highest - lowest) / median of the valid rounds: the noise to compare a ratio with."""
        samples, median = self.samples(figure), self.median(figure)
        return (max(samples) - min(samples)) / median if len(samples) > 1 and median else None


@dataclass
class Results:
    targets: Sequence[Target]
    workloads: Sequence[Workload]
    subject: str | None
    settings: dict[str, Any]
    machine: dict[str, Any]
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)

    def cell(self, workload: str, target: str) -> Cell:
        return self.cells.setdefault((workload, target), Cell())

    def ratio(self, workload: str, figure: Figure, peer: str) -> float | None:
        """How many times better the subject is than the peer (above 1: the subject wins)."""
        if self.subject is None:
            return None
        own = self.cell(workload, self.subject).median(figure.name)
        other = self.cell(workload, peer).median(figure.name)
        if not own or not other or own < 0 or other < 0:
            return None
        return own / other if figure.higher_is_better else other / own


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return (done.stdout or done.stderr).splitlines()[0].strip("$ ")
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "not found"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not found"


def machine_facts() -> dict[str, Any]:
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "pydicom": _package("pydicom"),
        "pynetdicom": _package("pynetdicom"),
        "sqlalchemy": _package("sqlalchemy"),
        "lfscp": _package("lfscp"),
        "dcmtk": _first_line(f"{DCMTK}/storescp", "--version"),
        "orthanc": _first_line(ORTHANC, "--version"),
    }


def _number(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"


def _shown(cell: Cell, figure: Figure) -> str:
    value = cell.median(figure.name)
    if value is None:
        return "invalid" if cell.invalid else "-"
    return _number(value) + ("!" if cell.invalid else "")


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with aligned columns: readable as text too."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(row: list[str]) -> str:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join(
        "-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)
    )
    return [line(header), rule + "|", *map(line, rows)]


def render(results: Results) -> str:
    names = [target.name for target in results.targets]
    rows, ratio_rows, spread_rows = [], [], []
    for workload in results.workloads:
        for figure in workload.figures:
            unit = figure.unit + ("" if figure.higher_is_better else " (low)")
            cells = [_shown(results.cell(workload.name, name), figure) for name in names]
            rows.append([figure.name, unit, *cells])
            spreads = [results.cell(workload.name, name).spread(figure.name) for name in names]
            spread_rows.append([figure.name, *("-" if s is None else f"{s:.0%}" for s in spreads)])
            ratios = [
                results.ratio(workload.name, figure, name)
                for name in names
                if name != results.subject
            ]
            ratio_rows.append([figure.name, *("-" if r is None else f"{r:.2f}" for r in ratios)])
    lines = [
        "Medians. '(low)': lower is better. '-': the server cannot do it. 'invalid': the work was",
        "not really done in any round; '!': in some rounds, the median is of the others.",
        "",
    ]
    lines += _table(["figure", "unit", *names], rows)
    if results.subject and len(names) > 1:
        title = f"Ratios {results.subject}/peer, turned so that above 1 {results.subject} wins:"
        lines += ["", title, ""]
        peers = [name for name in names if name != results.subject]
        lines += _table(["figure", *peers], ratio_rows)
    if any(cell != "-" for row in spread_rows for cell in row[1:]):
        lines += ["", "Spread over the rounds, (highest - lowest) / median:", ""]
        lines += _table(["figure", *names], spread_rows)
    lines += ["", "Workloads:", ""]
    lines += [f"- {w.name}: {w.about}" for w in results.workloads]
    lines += ["", "Targets:", ""]
    for target in results.targets:
        share = f"; does {target.work_share:.0%} of the work" if target.work_share < 1 else ""
        lines.append(f"- {target.name}: {target.note}{share}")
    reasons = [
        f"- {workload.name} / {name}: {text}"
        for workload in results.workloads
        for name in names
        for cell in [results.cell(workload.name, name)]
        for text in ([cell.unsupported] if cell.unsupported else cell.invalid)
    ]
    if reasons:
        lines += ["", "Not done ('-') or invalid:", "", *dict.fromkeys(reasons)]
    facts = {**results.machine, **results.settings}
    lines += ["", "Run:", "", *(f"- {key}: {value}" for key, value in facts.items())]
    return "\n".join([*lines, ""])


def as_json(results: Results) -> dict[str, Any]:
    return {
        "machine": results.machine,
        "settings": results.settings,
        "subject": results.subject,
        "targets": [{"name": t.name, "note": t.note} for t in results.targets],
        "workloads": [
            {
                "name": workload.name,
                "about": workload.about,
                "figures": [asdict(figure) for figure in workload.figures],
                "results": {
                    target.name: {
                        "medians": {f.name: cell.median(f.name) for f in workload.figures},
                        "ratios": {
                            f.name: results.ratio(workload.name, f, target.name)
                            for f in workload.figures
                            if target.name != results.subject
                        },
                        **asdict(cell),
                    }
                    for target in results.targets
                    for cell in [results.cell(workload.name, target.name)]
                },
            }
            for workload in results.workloads
        ],
    }
