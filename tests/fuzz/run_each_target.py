"""Fuzzes each target for its short run, in a folder of its name with its log and its exit code.

    python tests/fuzz/run_each_target.py FOLDER

Each is a fork of one process that has loaded and instrumented lfscp, which takes longer than a run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from run_target import fuzz

from tests.fuzz.targets import TARGETS

CODE = "code"  # file in a target's folder, there when the target has ended


def start(name: str, folder: Path) -> int:
    """Fuzz one target in a fork; its process number."""
    folder.mkdir()
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT, 0o640)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        fuzz(name, "corpus", ["-seed=1", f"-runs={TARGETS[name].runs}"])
    finally:
        os._exit(1)  # what a finished run does not come to


def main(folder: Path) -> None:
    """Fuzz all, as many at once as there are processors."""
    under_way: dict[int, str] = {}
    waiting = list(TARGETS)
    while waiting or under_way:
        while waiting and len(under_way) < len(os.sched_getaffinity(0)):
            name = waiting.pop(0)
            under_way[start(name, folder / name)] = name
        process, status = os.wait()
        ended = folder / under_way.pop(process)
        (ended / "code.new").write_text(str(os.waitstatus_to_exitcode(status)))
        (ended / "code.new").rename(ended / CODE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
