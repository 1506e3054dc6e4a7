"""A trial: objects are stored on a disk that records, the power is cut at random instants, and each
disk that is left is mounted and judged.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lfscp.archive.errors import ArchiveError
from tests.support.power.cuts import cut_disks, random_instants
from tests.support.power.file_systems import FileSystem, MountError, make, mounted, recorded, repair
from tests.support.power.promises import judge
from tests.support.power.record import read_record

ROOT: Final = Path(__file__).parents[3]
_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.support.power.promises"])
_WRITER: Final = (sys.executable, "-m", "tests.support.power.writer")
_ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass
class Outcome:
    """What became of a trial.

    Args:
        acknowledged: how many steps had been acknowledged at the last cut.
        faulty_cuts: after how many of them something was wrong.
        faults: what was wrong, with the cut after which it was.
    """

    requests: int = 0
    acknowledged: int = 0
    cuts: int = 0
    faulty_cuts: int = 0
    faults: list[str] = field(default_factory=list)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.requests + other.requests,
            self.acknowledged + other.acknowledged,
            self.cuts + other.cuts,
            self.faulty_cuts + other.faulty_cuts,
            self.faults + other.faults,
        )


def try_cuts(
    kind: FileSystem, folder: Path, options: Sequence[str], count: int, chance: random.Random
) -> Outcome:
    """Run the writer on a file system of this kind, and cut the power so many times.

    Args:
        folder: gets disks and record; made when missing.
        options: of the writer.
    Raises:
        MountError: such a file system cannot be made or mounted here.
    """
    folder.mkdir(exist_ok=True)
    base, disk, said = folder / "base", folder / "disk", folder / "said"
    make(kind, base)
    subprocess.run(["cp", "--sparse=always", str(base), str(disk)], check=True)
    said.touch()
    with recorded(kind, disk, folder) as at:
        subprocess.run([*_WRITER, *options, at / "data", said], check=True, env=_ENVIRONMENT)
        text = said.read_bytes()
        with said.open("ab") as file:
            file.write(b"\n")  # what the disk gets from here on is of the unmounting
    disk.unlink()
    entries = read_record(folder / "record")
    while_written = [entry for entry in entries if entry.said <= len(text)]
    outcome = Outcome(requests=len(while_written))
    instants = random_instants(while_written, count, chance)
    after = folder / "after"
    for cut in cut_disks(base, folder / "record", instants, after, chance):
        outcome.cuts += 1
        outcome.acknowledged = text[: cut.said].count(b"done")
        faults = judge_disk(kind, after, folder / "mounted", text[: cut.said])
        outcome.faults += [f"{kind.name}, {cut}: {fault}" for fault in faults]
        outcome.faulty_cuts += bool(faults)
    return outcome


def judge_disk(kind: FileSystem, disk: Path, at: Path, said: bytes) -> list[str]:
    """Repair and mount what a cut left, open the archive there, and hold it to what was said."""
    try:
        repair(kind, disk)
        with mounted(kind, disk, at):
            return _in_a_process(at / "data", said)
    except MountError as error:
        return [str(error)]


def _in_a_process(data: Path, said: bytes) -> list[str]:
    """Judge in a process, which leaves nothing open."""
    answer, asked = _PROCESSES.Pipe(duplex=False)
    judging = _PROCESSES.Process(target=_judge, args=(data, said, asked))
    judging.start()
    asked.close()
    with answer:
        try:
            faults: list[str] = answer.recv()
        except EOFError:
            faults = ["the process that opened the archive died"]
    judging.join()
    return faults


def _judge(data: Path, said: bytes, asked: Any) -> None:
    try:
        asked.send(judge(data, said))
    except (ArchiveError, OSError) as error:
        asked.send([f"the archive cannot be opened: {error}"])
