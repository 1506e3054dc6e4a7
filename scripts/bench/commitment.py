"""How fast a node verifies what it commits to, beside plain reading of the same files.

    python scripts/bench/commitment.py
    python scripts/bench/commitment.py --instances 500 --kilobytes 512 --folder /data/bench

Objects are stored in an archive. Then each repetition reads all their files, by as many threads as
the node has for it, and verifies all of them by their digests, in turn. Before a cold repetition
the files are dropped from the system's cache. Given are seconds and megabytes per second of the
quickest repetition, and the processor time of one; then what an N-ACTION costs until its answer.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from objects import Objects
from tables import number, table

from lfscp.archive.archive import Archive, Received
from lfscp.archive.workflow.commitment import verification
from lfscp.archive.workflow.commitment.references import Reference, tree_of_references
from lfscp.archive.workflow.commitment.verification import Verification, Verify
from lfscp.dicom.models.element_tree import encode_tree
from lfscp.services.commitment.request import read_request

_EXPLICIT = "1.2.840.10008.1.2.1"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_CHUNK = 1 << 20


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=2000)
    parser.add_argument("--kilobytes", type=int, default=512, help="of one object")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the objects go; removed at the end")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        Archive.open(Path(folder), durability="os") as archive,
    ):
        references = fill(archive, options.instances, options.kilobytes)
        os.sync()
        print(compared(archive, references, options.repetitions), end="\n\n")
    print(requests((2_000, 10_000)))


def fill(archive: Archive, instances: int, kilobytes: int) -> list[Reference]:
    """Store objects; gives their names."""
    objects = Objects(kilobytes * 1024, 1)
    named = []
    for _ in range(instances):
        uid, data = objects.following()
        archive.store(Received(_CT, uid, _EXPLICIT, dataset=memoryview(data)))
        named.append(Reference(_CT, uid))
    return named


def compared(archive: Archive, references: Sequence[Reference], repetitions: int) -> str:
    """A table of reading and verifying, from the system's cache and from the disk."""
    files = sorted(archive.files.root.glob("*/*/*.dcm"))
    size = sum(file.stat().st_size for file in files)
    ways: dict[str, Callable[[], object]] = {
        "read by 1 thread": lambda: read_all(files, 1),
        "read by 4 threads": lambda: read_all(files, verification.THREADS),
        **{f"verified by {how}": verifying(archive, references, how) for how in ("digest", "size")},
    }
    rows = []
    for is_cold in (False, True):
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(repetitions):
            for name, way in ways.items():
                if is_cold:
                    drop_cached(files)
                spent[name].append(timed(way))
        for name, times in spent.items():
            seconds, cpu_s = min(times)
            rate = number(size / 1e6 / seconds) if "size" not in name else "-"
            state = "cold" if is_cold else "warm"
            rows.append([f"{name}, {state}", number(seconds), rate, number(cpu_s)])
    return table([f"{len(files)} objects", "s", "MB/s", "CPU s"], rows)


def verifying(archive: Archive, references: Sequence[Reference], how: Verify) -> Callable[[], None]:
    """Verify them all; none may fail."""

    def verify() -> None:
        failures = Verification(archive, how, print, lambda: None).failures(references)
        if failures:
            raise SystemExit(f"{len(failures)} objects failed, the first: {failures[0]}")

    return verify


def read_all(files: Sequence[Path], threads: int) -> None:
    """Read files and do nothing with what they hold."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_read, files))


def _read(file: Path) -> None:
    buffer = bytearray(_CHUNK)
    with open(file, "rb", buffering=0) as opened:
        while opened.readinto(buffer):
            pass


def drop_cached(files: Sequence[Path]) -> None:
    """Have the next read of files come from the disk."""
    for file in files:
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(way: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    before, began = _cpu_s(), time.perf_counter()
    way()
    return time.perf_counter() - began, _cpu_s() - before


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def requests(counts: Sequence[int]) -> str:
    """A table of what reading a request costs."""
    rows = []
    for count in counts:
        named = [
            Reference("1.2.840.10008.5.1.4.1.1.2", f"1.2.826.0.1.3680043.8.498.{10**30 + each}")
            for each in range(count)
        ]
        for syntax, name in ((_EXPLICIT, "explicit"), ("1.2.840.10008.1.2", "implicit")):
            encoded = encode_tree(tree_of_references("1.2.3", named), syntax)
            read = partial(read_request, encoded, syntax)
            seconds = min(timed(read)[0] for _ in range(3))
            rows.append([f"{count:,} references, {name}", number(1000 * seconds)])
    return table(["reading a request", "ms"], rows)


if __name__ == "__main__":
    main()
