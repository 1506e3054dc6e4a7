"""Each fuzz target for a moment: its seeds, and a short run of atheris, the same each time."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

RUN_EACH_TARGET = Path(__file__).with_name("run_each_target.py")
_LIMIT_S = 500  # for all of them


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what it is given
@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_understood(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert len(seeds) > 4
    for seed in seeds:
        TARGETS[name].run(seed)
        TARGETS[name].run(seed[: len(seed) // 2])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that fuzzes one target after the other, and its folder."""
    folder = tmp_path_factory.mktemp("fuzz")
    with (folder.with_suffix(".log")).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, RUN_EACH_TARGET, folder],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    yield process, folder
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
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
    name: str, atheris: None, runs: tuple[subprocess.Popen[str], Path]
) -> None:
    process, folder = runs
    code = folder / name / "code"
    give_up = time.monotonic() + _LIMIT_S
    while not code.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.1)
    assert code.exists(), folder.with_suffix(".log").read_text(errors="replace")[-6000:]
    log = (folder / name / "log").read_text(errors="replace")
    assert code.read_text() == "0", log[-6000:]
    assert "DONE" in log
    kept = list((folder / name / "corpus").glob("[!s]*"))  # besides the seeds
    assert kept, "no input reached new code: nothing guides the fuzzer"
