"""How fast frames are decoded for a receiver, by one process and by several, beside other decoders.

    python scripts/bench/decoding.py
    python scripts/bench/decoding.py --codecs jpeg-2000 --opj-decompress /opt/bin/opj_decompress

The objects have frames of 512 x 512 and 2048 x 2048 pixels of 12 bits. lfscp decodes them as it
does for a C-MOVE: an object of many frames, and a study of objects with one frame. dcmdjpls and
dcmdrle (DCMTK) read the same object; opj_decompress (OpenJPEG) reads one frame of it. Given are
decoded megabytes for each second of processor time, of all processes, and for each second: the most
of all repetitions, which are made in turn. On a busy machine, compare processor time only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from large_object import CODECS
from peers.procstat import own_cpu_seconds, tree
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from tables import number, table

from lfscp.services.transcoding import parallel_codecs
from lfscp.services.transcoding.ahead import Ahead, Wanted
from lfscp.services.transcoding.decoding import converted

_EXPLICIT = "1.2.840.10008.1.2.1"
_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
_PIXELS_AT_ONCE = 24 << 20  # of one object
Spent = tuple[float, float]  # processor time, time


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--codecs", default="jpeg-ls,jpeg-2000,rle")
    parser.add_argument("--opj-decompress", default=shutil.which("opj_decompress") or "")
    parser.add_argument("--folder", type=Path, help="where the files go; removed at the end")
    options = parser.parse_args()
    for name in options.codecs.split(","):
        for side in (512, 2048):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                measured = Objects(Path(folder), name, side, options.opj_decompress)
                rows = compared(measured, options.repetitions)
                columns = [measured.name, "MB per CPU s", "MB/s"]
                print(table(columns, rows), end="\n\n", flush=True)


class Objects:
    """An object of many frames, and as many objects of one."""

    def __init__(self, folder: Path, codec: str, side: int, opj: str) -> None:
        self.name = f"{codec}, {side} x {side}"
        self.syntax = CODECS[codec].syntax
        self._folder, self._opj, self._codec = folder, opj, codec
        pixels = _pixels(side)
        self._frame = bytes(CODECS[codec].encode(pixels))
        self.count = max(4, _PIXELS_AT_ONCE // pixels.size)
        self.decoded_bytes = self.count * pixels.nbytes
        self._frame_bytes = pixels.nbytes
        self.many = self._saved(side, self.count, "many")
        self.single = [self._saved(side, 1, f"single{each}") for each in range(self.count)]

    def _saved(self, side: int, frames: int, name: str) -> Path:
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = UID(self.syntax)
        made.SOPClassUID, made.SOPInstanceUID = _MULTI_FRAME, "2.25.317459200184655.8"
        made.Rows = made.Columns = side
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
        made.PixelRepresentation, made.NumberOfFrames = 0, frames
        made.PixelData = encapsulate([self._frame] * frames)
        made["PixelData"].VR = "OB"
        path = self._folder / f"{name}.dcm"
        made.save_as(path, enforce_file_format=True)
        return path

    def ways(self) -> dict[str, Callable[[], float]]:
        """What decodes them: each gives the megabytes that it has decoded."""
        processors = len(os.sched_getaffinity(0))
        found: dict[str, Callable[[], float]] = {
            "lfscp, one process": lambda: self._by_lfscp(1),
            f"lfscp, {processors} processes": lambda: self._by_lfscp(processors),
            "lfscp, single objects, one by one": self._one_by_one,
            "lfscp, single objects, ahead": self._with_ahead,
        }
        if self._codec == "jpeg-ls":
            found["dcmdjpls"] = lambda: self._by_dcmtk("dcmdjpls")
        if self._codec == "rle":
            found["dcmdrle"] = lambda: self._by_dcmtk("dcmdrle")
        if self._codec == "jpeg-2000" and self._opj:
            found["opj_decompress"] = self._by_openjpeg
        return found

    def _by_lfscp(self, processors: int) -> float:
        parallel_codecs.PROCESSORS = parallel_codecs.Processors(processors)
        with converted(self.many, self.syntax, _EXPLICIT, owner=self):
            return self.decoded_bytes / 1e6

    def _wanted(self) -> list[Wanted]:
        size = self.single[0].stat().st_size
        content = self.single[0].read_bytes()
        offset = content.index(b"\x08\0\x16\0UI")
        return [Wanted(path, self.syntax, _EXPLICIT, offset, size) for path in self.single]

    def _one_by_one(self) -> float:
        for path in self.single:
            with converted(path, self.syntax, _EXPLICIT, owner=self):
                pass
        return self.decoded_bytes / 1e6

    def _with_ahead(self) -> float:
        objects = self._wanted()
        ahead = Ahead(self)
        for place, each in enumerate(objects):
            ahead.prepare(objects[place : place + 1 + len(objects)])
            with ahead.converted(each, lambda: None):
                pass
        ahead.close()
        return self.decoded_bytes / 1e6

    def _by_dcmtk(self, command: str) -> float:
        _run(command, self.many, self._folder / "out.dcm")
        return self.decoded_bytes / 1e6

    def _by_openjpeg(self) -> float:
        frame = self._folder / "frame.j2k"
        frame.write_bytes(self._frame)
        _run(self._opj, "-i", frame, "-o", self._folder / "out.raw")
        return self._frame_bytes / 1e6


def _pixels(side: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    body = 400 * ((x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 3) ** 2)
    noise = np.random.default_rng(0).normal(0, 12, (side, side))
    shape = 1000 + 600 * np.sin(x / 37) * np.cos(y / 29) + body
    return np.clip(shape + noise, 0, 4095).astype("<u2")


def _run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)


def compared(objects: Objects, repetitions: int) -> list[list[str]]:
    """A row for each way."""
    most: dict[str, Spent] = {}
    for _ in range(repetitions):
        for name, way in objects.ways().items():
            way()  # its processes run then
            with _spent() as spent:
                megabytes = way()
            cpu_s, seconds = spent()
            before = most.get(name, (0.0, 0.0))
            most[name] = max(before[0], megabytes / cpu_s), max(before[1], megabytes / seconds)
    return [[name, *map(number, rates)] for name, rates in most.items()]


@contextmanager
def _spent() -> Iterator[Callable[[], Spent]]:
    """Processor time of this process and all below it, those that have ended too; and time."""
    cpu, began, stop = _cpu_seconds(), time.monotonic(), threading.Event()
    after = dict(cpu)
    found: list[Spent] = []

    def sample() -> None:
        while not stop.wait(0.05):
            after.update(_cpu_seconds())

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield lambda: found[0]
    finally:
        seconds = time.monotonic() - began
        stop.set()
        sampling.join()
    after.update(_cpu_seconds())
    spent = {pid: each - cpu.get(pid, 0.0) for pid, each in after.items()}
    waited_for = spent.pop(0) + spent[os.getpid()]  # exact, of a command
    found.append((max(waited_for, sum(spent.values())), seconds))


def _cpu_seconds() -> dict[int, float]:
    """By process; that of children that have ended at 0."""
    ended = os.times()
    found = {0: ended.children_user + ended.children_system}
    for pid in tree(os.getpid()):
        with suppress(OSError):  # it has just ended
            found[pid] = own_cpu_seconds(pid)
    return found


if __name__ == "__main__":
    main()
