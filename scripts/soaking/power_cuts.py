"""Cuts the power of a simulated disk at random instants of stores, and compares what is left.

    scripts/soak powercuts [--cuts 200] [--file-systems ext4,xfs,btrfs] [--node]
    scripts/soak powercuts --file-systems ext4-nojournal    # with e2fsck before each mount
    scripts/soak powercuts --durability os      # must find losses
    scripts/soak powercuts --without folder     # as must this: a part of the syncs is left out

Needs root, FUSE, loop devices, and the programs that make the file systems: on Debian apt-get
install fuse3 e2fsprogs xfsprogs btrfs-progs. Every disk is mounted and its archive opened: each
object that was acknowledged must be there byte for byte, and nothing else. Exits 1 on any failure.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.power.file_systems import FILE_SYSTEMS, WITHOUT_JOURNAL, MountError
from tests.support.power.trial import Outcome, try_cuts

CUTS_EACH = 50  # of one run of the writer
SHOWN = 20


def soak(name: str, options: argparse.Namespace, chance: random.Random) -> Outcome:
    """All cuts of one kind of file system, in several runs of the writer."""
    total = Outcome()
    while total.cuts < options.cuts:
        with tempfile.TemporaryDirectory(prefix="lfscp-power-", dir=options.folder) as made:
            folder = Path(made)
            count = min(CUTS_EACH, options.cuts - total.cuts)
            kind = {**FILE_SYSTEMS, **WITHOUT_JOURNAL}[name]
            total += try_cuts(
                kind, folder / "trial", writer_options(options, folder), count, chance
            )
    return total


def writer_options(options: argparse.Namespace, folder: Path) -> list[str]:
    """How the writer is to write."""
    chosen = ["--seconds", str(options.seconds), "--durability", options.durability]
    if options.without:
        chosen += ["--without", options.without]
    if options.node:
        chosen += ["--node", str(folder / "node")]
    return chosen


def main() -> int:
    """Run it as the arguments say: the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak powercuts", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--cuts", type=int, default=200, help="of each kind of file system")
    parser.add_argument("--file-systems", default=",".join(FILE_SYSTEMS))
    parser.add_argument("--seconds", type=float, default=3.0, help=f"in which {CUTS_EACH} cuts are")
    parser.add_argument("--node", action="store_true", help="send to a node, by C-STORE")
    parser.add_argument("--durability", default="full", choices=["full", "os"])
    parser.add_argument(
        "--without",
        choices=["file", "folder", "index", "late"],
        help="sync none of these, or not what is synced late; not with --node",
    )
    parser.add_argument("--folder", type=Path, help="where the disks are for the time")
    options = parser.parse_args()
    chance, failures = random.Random(), []
    print(
        "| file system | power cuts | requests of the disk | acknowledged | faulty cuts | minutes |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name in options.file_systems.split(","):
        began = time.monotonic()
        try:
            outcome = soak(name, options, chance)
        except MountError as error:
            failures.append(f"{name}: {error}")
            continue
        failures += outcome.faults
        minutes = (time.monotonic() - began) / 60
        row = (outcome.cuts, outcome.requests, outcome.acknowledged, outcome.faulty_cuts)
        print(f"| {name} | {' | '.join(f'{each:,}' for each in row)} | {minutes:.1f} |", flush=True)
    for failure in failures[:SHOWN]:
        print(f"FAILED: {failure}", file=sys.stderr)
    if len(failures) > SHOWN:
        print(f"and {len(failures) - SHOWN} more failures", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
