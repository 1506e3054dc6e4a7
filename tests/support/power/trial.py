"""A trial: objects are stored on a disk that records, the power is cut at random instants, and each
disk that is left is mounted and judged.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lfscp.archive.errors import ArchiveError
from tests.support.power.cuts import cut_disks, random_instants, read_record
from tests.support.power.file_systems import FileSystem, make, mounted, recorded
from tests.support.power.promises import judge

ROOT: Final = Path(__file__).parents[3]
_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.support.power.promises"])
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


def try_cuts(
    kind: FileSystem, folder: Path, writer: list[str], count: int, chance: random.Random
) -> Outcome:
    """Run a writer on a file system of this kind, and cut the power so many times.

    Args:
        folder: empty; best in memory.
        writer: a program and its arguments; it gets the data folder, and the file for what it says.
    Raises:
        UnavailableError: such a file system cannot be made or mounted here.
    """
    base, disk, said = folder / "base", folder / "disk", folder / "said"
    make(kind, base)
    subprocess.run(["cp", "--sparse=always", str(base), str(disk)], check=True)
    said.touch()
    with recorded(kind, disk, folder) as at:
        subprocess.run([*writer, str(at / "data"), str(said)], check=True, env=_ENVIRONMENT)
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
    """Mount what the power cut left, open the archive that is there, and hold it to what was said."""
    answer, asked = _PROCESSES.Pipe(duplex=False)
    with mounted(kind, disk, at), answer:
        judging = _PROCESSES.Process(target=_judge, args=(at / "data", said, asked))
        judging.start()
        asked.close()
        try:
            faults: list[str] = answer.recv()
        except EOFError:
            faults = ["the archive's process died"]
        judging.join()
    return faults


def _judge(data: Path, said: bytes, asked: Any) -> None:
    """Judge in a process of its own, which leaves nothing open."""
    try:
        asked.send(judge(data, said))
    except (ArchiveError, OSError) as error:
        asked.send([f"the archive cannot be opened: {error}"])
