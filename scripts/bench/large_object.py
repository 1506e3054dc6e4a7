"""What one compressed object of 2 GB costs a node: stored, fetched as it is and decoded, shown.

    python scripts/bench/large_object.py --folder /data/bench
    python scripts/bench/large_object.py --codec jpeg-2000 --table empty --frames 600

The object has frames of 2048 x 2048 pixels of 12 bits with noise, a few distinct ones in turn.
With 480 frames it has about 2 GB, and decoded a little less than the 4 GB that an element can hold;
with 520 it cannot be decoded as a whole. DCMTK's tools store and fetch it, and a plain HTTP client
that gives up after 30 s without a byte. What is fetched is compared byte for byte, decoded pixels
with the frames before their compression. Given are seconds, processor time and peak memory (PSS) of
all processes of the node, and the peak of its files without a name. The folder needs 12 GB; all is
removed at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from peers.procstat import PeakMemory, memory, own_cpu_seconds, tree
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from tables import number, table

_SIDE = 2048
_DISTINCT = 4
_STUDY, _SERIES, _INSTANCE = (f"2.25.317459200184655.9{tail}" for tail in ("", ".1", ".1.1"))
_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
_EXPLICIT = "1.2.840.10008.1.2.1"
_PLACE = f"/dicom-web/studies/{_STUDY}/series/{_SERIES}/instances/{_INSTANCE}"
_KEYS = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={_STUDY}")
_LFSCP = str(Path(sys.executable).with_name("lfscp"))
_PIECE = 1 << 20
_PATIENCE_S = 30  # between two pieces of an answer: what many clients have
_MAX_ELEMENT = 0xFFFFFFFE
_FIRST = "C-STORE"
_BOUNDARY = "large-object"


@dataclass(frozen=True)
class Codec:
    """A codec: its transfer syntax, DCMTK's letter for it, and how one frame is compressed."""

    syntax: str
    letter: str
    encode: Callable[[np.ndarray], bytes]


def _rle(pixels: np.ndarray) -> bytes:
    planes = [(pixels >> 8).astype("u1"), (pixels & 255).astype("u1")]
    parts = [b"".join(imagecodecs.packbits_encode(row) for row in plane) for plane in planes]
    padded = [part + b"\0" * (len(part) % 2) for part in parts]
    begins = [64, 64 + len(padded[0])]
    return struct.pack("<16L", 2, *begins, *[0] * 13) + b"".join(padded)


CODECS = {
    "jpeg-ls": Codec("1.2.840.10008.1.2.4.80", "t", imagecodecs.jpegls_encode),
    "jpeg-2000": Codec(
        "1.2.840.10008.1.2.4.90",
        "v",
        lambda pixels: imagecodecs.jpeg2k_encode(
            pixels, level=0, reversible=True, codecformat="j2k", bitspersample=12
        ),
    ),
    "rle": Codec("1.2.840.10008.1.2.5", "r", _rle),
}


class Object:
    """The object in a file.

    Attributes:
        pixels: of the distinct frames.
        encoded: the same, compressed.
    """

    def __init__(self, path: Path, codec: Codec, frames: int, offset_table: str) -> None:
        self.path, self.codec, self.frames = path, codec, frames
        self.pixels = [_pixels(seed) for seed in range(_DISTINCT)]
        padded = (bytes(codec.encode(each)) for each in self.pixels)
        self.encoded = [each + b"\0" * (len(each) % 2) for each in padded]
        self._write(offset_table)

    @property
    def decoded_bytes(self) -> int:
        """Of all pixels."""
        return self.frames * self.pixels[0].nbytes

    @property
    def fits(self) -> bool:
        """Whether decoded pixels fit one element."""
        return self.decoded_bytes <= _MAX_ELEMENT

    def _write(self, offset_table: str) -> None:
        lengths = [len(self.encoded[each % _DISTINCT]) for each in range(self.frames)]
        offsets = [0]
        for length in lengths[:-1]:
            offsets.append(offsets[-1] + 8 + length)
        with self.path.open("wb") as file:
            dcmwrite(file, self._header(), enforce_file_format=True)
            if offset_table == "extended":
                for tag, numbers in ((0x0001, offsets), (0x0002, lengths)):
                    file.write(struct.pack("<HH2sHL", 0x7FE0, tag, b"OV", 0, 8 * len(numbers)))
                    file.write(struct.pack(f"<{len(numbers)}Q", *numbers))
            file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
            basic = offsets if offset_table == "basic" else []
            file.write(struct.pack(f"<HHL{len(basic)}L", 0xFFFE, 0xE000, 4 * len(basic), *basic))
            for each in range(self.frames):
                file.write(struct.pack("<HHL", 0xFFFE, 0xE000, lengths[each]))
                file.write(self.encoded[each % _DISTINCT])
            file.write(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))

    def _header(self) -> Dataset:
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = UID(self.codec.syntax)
        header.SOPClassUID, header.SOPInstanceUID = _MULTI_FRAME, _INSTANCE
        header.StudyInstanceUID, header.SeriesInstanceUID = _STUDY, _SERIES
        header.PatientID, header.PatientName, header.Modality = "LARGE", "Large^Object", "OT"
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.Rows = header.Columns = _SIDE
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
        header.PixelRepresentation, header.NumberOfFrames = 0, self.frames
        return header

    def digest(self) -> str:
        """Of the dataset, without file meta information."""
        with self.path.open("rb") as file:
            return digest_of(file.read(_PIECE) for _ in iter(lambda: file.peek(1), b""))

    def decoded_digest(self) -> str:
        """Of all decoded pixels."""
        return digest_of(self.pixels[each % _DISTINCT].tobytes() for each in range(self.frames))


def _pixels(seed: int) -> np.ndarray:
    y, x = np.mgrid[:_SIDE, :_SIDE]
    shape = 1500 + 600 * np.sin(x / 37 + seed) * np.cos(y / 29)
    noise = np.random.default_rng(seed).normal(0, 60, (_SIDE, _SIDE))
    return np.clip(shape + noise, 0, 4095).astype("<u2")


def digest_of(pieces: Iterator[bytes], skip: int = 0) -> str:
    """Of all bytes behind the first ones."""
    made = hashlib.blake2b()
    for piece in pieces:
        made.update(piece[skip:])
        skip = max(0, skip - len(piece))
    return made.hexdigest()


class Node:
    """A node in a process of its own."""

    def __init__(self, folder: Path, receiver_port: int) -> None:
        self.port, self.http_port, self.receiver_port = _port(), _port(), receiver_port
        self._process = subprocess.Popen(
            [
                *(_LFSCP, "serve", "--host", "127.0.0.1"),
                *("--port", str(self.port), "--http-port", str(self.http_port)),
                *("--data-dir", str(folder), "--workers", "1"),
                *("--peer", f"RECEIVER=127.0.0.1:{receiver_port}", "--log-level", "warning"),
            ]
        )
        self.pid = self._process.pid
        _wait_until(lambda: _listens(self.port) and _listens(self.http_port))

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def unnamed_bytes(self) -> int:
        """On disk, of its files without a name."""
        found = {}
        for pid in tree(self.pid):
            with suppress(OSError):
                for each in Path(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        state = each.stat()
                        if not state.st_nlink and state.st_size:
                            found[state.st_ino] = 512 * state.st_blocks
        return sum(found.values())

    def cpu_seconds(self) -> dict[int, float]:
        """Of each of its processes."""
        found = {}
        for pid in tree(self.pid):
            with suppress(OSError):
                found[pid] = own_cpu_seconds(pid)
        return found

    @contextmanager
    def asked(self, accept: str, path: str) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            yield connection.getresponse()
        finally:
            connection.close()


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit("it takes too long")
        time.sleep(0.05)


class Measured:
    """Runs steps, and keeps a row for each."""

    def __init__(self, node: Node, only: str) -> None:
        self.node = node
        self.rows: list[list[str]] = []
        self._only = only

    def step(self, name: str, act: Callable[[], str]) -> None:
        """One step, unless it is not wanted; it says in a word how it went."""
        if name != _FIRST and self._only not in name:
            return
        before = self.node.cpu_seconds()
        with PeakMemory(self.node.pid) as peak, _watched(self.node) as watched:
            began = time.monotonic()
            outcome = act()
            seconds = time.monotonic() - began
        time.sleep(0.5)
        cpu_s = sum(spent - before.get(pid, 0.0) for pid, spent in watched.cpu_s.items())
        left = self.node.unnamed_bytes()
        measured = [seconds, cpu_s, peak.pss_kb / 1000, watched.unnamed / 1e6, left / 1e6]
        self.rows.append([name, *map(number, measured), outcome])
        print(*self.rows[-1], sep=" | ", flush=True)


@dataclass
class _Watched:
    unnamed: int
    cpu_s: dict[int, float]  # of processes that have ended, too


@contextmanager
def _watched(node: Node) -> Iterator[_Watched]:
    found, stop = _Watched(0, node.cpu_seconds()), threading.Event()

    def sample() -> None:
        while not stop.wait(0.1):
            found.unnamed = max(found.unnamed, node.unnamed_bytes())
            found.cpu_s |= node.cpu_seconds()

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        found.cpu_s |= node.cpu_seconds()


class Steps:
    """All that is done with the object."""

    def __init__(self, node: Node, sent: Object, folder: Path) -> None:
        self._node, self._sent, self._folder = node, sent, folder
        self._is_right = {
            "as stored": (sent.codec.letter, _tail_digest(sent.path, sent)),
            "decoded": ("e", sent.decoded_digest()),
        }

    def store(self) -> str:
        """By C-STORE."""
        letter = f"-x{self._sent.codec.letter}"
        return self._ran("storescu", letter, "-aec", "LFSCP", *self._at, self._sent.path)

    @property
    def _at(self) -> tuple[str, str]:
        return "127.0.0.1", str(self._node.port)

    def _ran(self, *command: object) -> str:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        return "done" if not done.returncode else f"failed: {done.stderr.strip()[-200:]}"

    def stow(self) -> str:
        """By STOW-RS, after the object was deleted."""
        connection = http.client.HTTPConnection("127.0.0.1", self._node.http_port, timeout=1800)
        connection.request("DELETE", f"/dicom-web/studies/{_STUDY}")
        gone = connection.getresponse()
        gone.read()
        kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()

        def body() -> Iterator[bytes]:
            yield head
            with self._sent.path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
            yield f"\r\n--{_BOUNDARY}--\r\n".encode()

        connection.request("POST", "/dicom-web/studies", body(), {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return f"{gone.status}, {answer.status}"

    def get(self, how: str) -> Callable[[], str]:
        """By C-GET."""

        def act() -> str:
            with self._received() as folder:
                options = ("-S", *_KEYS, "-od", folder)
                if how == "as stored":  # to getscu, which takes both, the node sends it decoded
                    said = self._ran(_LFSCP, "get", *options, f"LFSCP@{':'.join(self._at)}")
                else:
                    said = self._ran("getscu", "-B", "+xe", "-aec", "LFSCP", *options, *self._at)
                return f"{said}, {self._compared(folder, how)}"

        return act

    def move(self, how: str) -> Callable[[], str]:
        """By C-MOVE to DCMTK's storescp."""

        def act() -> str:
            letter, port = self._is_right[how][0], str(self._node.receiver_port)
            with self._received() as folder:
                command = ("storescp", "-B", f"+x{letter}", "-od", str(folder), port)
                with subprocess.Popen(command) as receiver:
                    _wait_until(lambda: _listens(int(port)))
                    titles = ("-S", "-aec", "LFSCP", "-aem", "RECEIVER")
                    said = self._ran("movescu", *titles, *_KEYS, *self._at)
                    receiver.terminate()
                return f"{said}, {self._compared(folder, how)}"

        return act

    @contextmanager
    def _received(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield Path(folder)

    def _compared(self, folder: Path, how: str) -> str:
        files = list(folder.iterdir())
        if not files:
            return "nothing arrived"
        right = _tail_digest(files[0], self._sent, decoded=how == "decoded")
        return "right" if right == self._is_right[how][1] else "WRONG"

    def wado(self, how: str) -> Callable[[], str]:
        """The object by WADO-RS."""

        def act() -> str:
            syntax = "*" if how == "as stored" else _EXPLICIT
            asked_at = time.monotonic()
            with self._node.asked(f"application/dicom; transfer-syntax={syntax}", _PLACE) as answer:
                if answer.status != http.HTTPStatus.OK:
                    return f"{answer.status}, {answer.read()[:200]!r}"
                begun_s = time.monotonic() - asked_at
                with self._received() as folder:
                    with (folder / "object").open("wb") as file:
                        shutil.copyfileobj(answer, file, _PIECE)
                    is_right = self._compared(folder, how)
                return f"{answer.status}, {is_right}, first byte after {begun_s:.1f} s"

        return act

    def half(self) -> str:
        """Begin to fetch it decoded, and stop half-way."""
        with self._node.asked(f"application/dicom; transfer-syntax={_EXPLICIT}", _PLACE) as answer:
            for _ in range(100):
                answer.read(_PIECE)
            return str(answer.status)

    def gone(self) -> str:
        """Ask for it decoded, and go away before the first byte."""
        connection = http.client.HTTPConnection("127.0.0.1", self._node.http_port)
        accept = f"application/dicom; transfer-syntax={_EXPLICIT}"
        connection.request("GET", _PLACE, headers={"Accept": accept})
        time.sleep(3)
        connection.close()
        _wait_until(lambda: not self._node.unnamed_bytes(), 10)
        return "done"

    def frame(self, accept: str, path: str) -> Callable[[], str]:
        """One frame, the last but one."""
        wanted = self._sent.frames - 1

        def act() -> str:
            with self._node.asked(accept, f"{_PLACE}/frames/{wanted}{path}") as answer:
                content, place = answer.read(), (wanted - 1) % _DISTINCT
                right = (self._sent.encoded[place], self._sent.pixels[place].tobytes())
                is_right = "right" if content in right else f"{len(content)} bytes"
                return f"{answer.status}, {is_right}"

        return act


def _tail_digest(path: Path, sent: Object, *, decoded: bool = False) -> str:
    """Of the pixels at the end of a file: fragments, or decoded."""
    size = path.stat().st_size
    fragments = sum(8 + len(sent.encoded[each % _DISTINCT]) for each in range(sent.frames)) + 8
    with path.open("rb") as file:
        file.seek(max(0, size - (sent.decoded_bytes if decoded else fragments)))
        return digest_of(iter(lambda: file.read(_PIECE), b""))


def measure(sent: Object, folder: Path, only: str) -> list[list[str]]:
    """Do all steps with one object."""
    node = Node(folder / "data", _port())
    try:
        steps, measured = Steps(node, sent, folder), Measured(node, only)
        measured.step("nothing, for 2 s", lambda: time.sleep(2) or "")
        measured.step(_FIRST, steps.store)
        measured.step("DELETE, STOW-RS", steps.stow)
        octets = "application/octet-stream"
        measured.step("a frame as stored", steps.frame(f"{octets}; transfer-syntax=*", ""))
        measured.step("the same again", steps.frame(f"{octets}; transfer-syntax=*", ""))
        measured.step("a frame decoded", steps.frame(f"{octets}; transfer-syntax={_EXPLICIT}", ""))
        measured.step("a frame rendered", steps.frame("image/jpeg", "/rendered"))
        for how in ("as stored", "decoded"):
            measured.step(f"C-GET {how}", steps.get(how))
            measured.step(f"C-MOVE {how}", steps.move(how))
            measured.step(f"WADO-RS {how}", steps.wado(how))
        if sent.fits:
            measured.step("WADO-RS decoded, stopped half-way", steps.half)
        measured.step("WADO-RS decoded, gone at once", steps.gone)
        print(f"left: PSS {memory(node.pid).pss_kb / 1000:.0f} MB")
        return measured.rows
    finally:
        node.stop()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", choices=CODECS, default="jpeg-ls")
    parser.add_argument("--table", choices=("extended", "basic", "empty"), default="extended")
    parser.add_argument("--frames", type=int, default=480)
    parser.add_argument("--only", default="", help="steps whose names have this in them")
    parser.add_argument("--folder", type=Path, help="where the files go; removed at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path = folder / "sent.dcm"
        sent = Object(path, CODECS[options.codec], options.frames, options.table)
        size = f"{path.stat().st_size / 1e9:.2f} GB, {sent.decoded_bytes / 1e9:.2f} GB decoded"
        what = f"{options.codec}, {options.frames} frames, {options.table} table: {size}"
        print(what, flush=True)
        rows = measure(sent, folder, options.only)
    columns = ["s", "CPU s", "peak PSS MB", "unnamed MB", "left MB", "outcome"]
    print(table([what, *columns], rows))


if __name__ == "__main__":
    main()
