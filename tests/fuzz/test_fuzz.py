"""Each fuzz target for a moment: its seeds, and a short run of atheris, the same each time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from targets import TARGETS

RUN_TARGET = Path(__file__).with_name("run_target.py")


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what it is given
@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_understood(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert len(seeds) > 4
    for seed in seeds:
        TARGETS[name].run(seed)
        TARGETS[name].run(seed[: len(seed) // 2])


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
        (pytest.fail if in_ci else pytest.skip)("atheris is not installed: the extra `fuzz`")
    command = [sys.executable, RUN_TARGET, name, "corpus"]
    result = subprocess.run(
        [*command, "-seed=1", f"-runs={TARGETS[name].runs}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=100,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "DONE" in result.stderr
    kept = list((tmp_path / "corpus").glob("[!s]*"))  # besides the seeds
    assert kept, "no input reached new code: nothing guides the fuzzer"
