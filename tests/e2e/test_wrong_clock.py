"""A node that deletes by age, and starts with a wrong clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.node_process import NodeProcess, environment, proper_end, run_lfscp
from tests.support.sample_objects import made

RETENTION = "[retention]\nmax_age_days = 7\ninterval_s = 0.1\nquiet_s = 0.1\n"
AHEAD = """
import time

AHEAD_S = 30 * 86400
of_day, of_day_ns = time.time, time.time_ns
time.time = lambda: of_day() + AHEAD_S
time.time_ns = lambda: of_day_ns() + AHEAD_S * 10**9
"""


def test_a_node_that_starts_with_its_clock_ahead_deletes_nothing_until_told_that_it_is_right(
    dcmtk: Any, tmp_path: Path
) -> None:
    (tmp_path / "ahead").mkdir()
    (tmp_path / "ahead/sitecustomize.py").write_text(AHEAD)
    ahead = {"PYTHONPATH": str(tmp_path / "ahead")}
    node = NodeProcess(tmp_path / "node", configuration=RETENTION)
    with proper_end(node):
        node.start()
        dcmtk.done(dcmtk.store(node.port, made(tmp_path), made(tmp_path)))
        node.restart()
        assert node.stop() == 0
        node.environment = environment(ahead)
        node.start()
        doubted = node.wait_for("the clock has jumped and is not trusted")
        assert abs(doubted["by_s"] - 30 * 86_400) < 3600
        shown = run_lfscp("retention", "--dry-run", *of(node), env=ahead)
        assert "0 studies" in shown.stdout
        assert "the clock is not trusted" in shown.stdout
        assert len(list(node.objects.glob("*/*/*.dcm"))) == 2
        assert run_lfscp("retention", "--clock-is-right", *of(node), env=ahead).returncode == 0
        node.wait_for("study recycled", count=2)


def of(node: NodeProcess) -> tuple[object, ...]:
    return "--config", node.data_dir.parent / "lfscp.toml", "--data-dir", node.data_dir
