"""Each fuzz target for a moment: its seeds, and a short run of atheris, the same each time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

RUN_TARGET = Path(__file__).with_name("run_target.py")
_LIMIT_S = 500  # all are started at once, and take their time on a machine with few processors


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what it is given
@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_understood(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert len(seeds) > 4
    for seed in seeds:
        TARGETS[name].run(seed)
        TARGETS[name].run(seed[: len(seed) // 2])


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[subprocess.Popen[str], Path]]]:
    """A run of each target, all at once: most of the time goes into their start."""
    runs = {}
    for name, target in TARGETS.items():
        folder = tmp_path_factory.mktemp(name)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, RUN_TARGET, name, "corpus", "-seed=1", f"-runs={target.runs}"],
                cwd=folder,
                env={**os.environ, "PYTHONHASHSEED": "0"},
                stdout=log,
                stderr=log,
                text=True,
            )
        runs[name] = process, folder
    yield runs
    for process, _ in runs.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def atheris() -> None:
    """The fuzzer is installed; in CI it must be."""
    if importlib.util.find_spec("atheris") is None:
        in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
        (pytest.fail if in_ci else pytest.skip)("atheris is not installed: the extra `fuzz`")


@pytest.mark.timeout(_LIMIT_S + 60)
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(
    name: str, atheris: None, running: dict[str, tuple[subprocess.Popen[str], Path]]
) -> None:
    process, folder = running[name]
    code = process.wait(_LIMIT_S)
    log = (folder / "log").read_text(errors="replace")
    assert code == 0, log[-6000:]
    assert "DONE" in log
    kept = list((folder / "corpus").glob("[!s]*"))  # besides the seeds
    assert kept, "no input reached new code: nothing guides the fuzzer"
