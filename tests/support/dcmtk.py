"""DCMTK's clients, and its storage SCP, run as its users run them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

TOOLS = (
    *("echoscu", "storescu", "findscu", "movescu", "getscu", "storescp", "dcmsend", "dcmconv"),
    "dump2dcm",
)
LIMIT_S = 60
# Debian's; the virtual environment has others' tools of the same names.
PLACES = os.pathsep.join(("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"))
MODELS = {"patient": "-P", "study": "-S", "patient-study": "-O"}

Keys = dict[str, str]
Options = tuple[object, ...]


def missing() -> list[str]:
    """The tools that are not installed."""
    return [tool for tool in TOOLS if shutil.which(tool, path=PLACES) is None]


def command(tool: str, *arguments: object) -> list[str]:
    """A command line of one tool."""
    return [shutil.which(tool, path=PLACES) or tool, *map(str, arguments)]


@dataclass(frozen=True)
class Result:
    """How a tool ended, and all it said."""

    code: int
    output: str

    @property
    def status(self) -> int:
        """The status of the last response, as the tool prints it with -d."""
        return int(self.field("DIMSE Status").partition(":")[0], 16)

    @property
    def counters(self) -> tuple[str, ...]:
        """Remaining, completed, failed and warnings of the last response ("none": absent)."""
        names = ("Remaining", "Completed", "Failed", "Warning")
        return tuple(self.field(f"{name} Suboperations") for name in names)

    def field(self, name: str) -> str:
        """The last value of a field of a response, as the tool prints it with -d."""
        found = re.findall(rf"^D: {name}\s*: (.*)", self.output, re.MULTILINE)
        assert found, f"no {name} in\n{self.output}"
        return str(found[-1]).strip()


def run(tool: str, *arguments: object) -> Result:
    """Run one tool to its end."""
    done = subprocess.run(
        command(tool, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT_S,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"))


def done(result: Result) -> Result:
    """The result of a tool that must have succeeded."""
    assert result.code == 0, result.output
    return result


def echo(port: int, *options: object) -> Result:
    """C-ECHO."""
    return run("echoscu", "-v", *options, "127.0.0.1", port)


def store(port: int, *files: Path, propose: str = "-x=", options: Options = ()) -> Result:
    """C-STORE; `propose` says which transfer syntax storescu offers first."""
    return run("storescu", "-v", propose, *options, "127.0.0.1", port, *files)


def find(
    port: int, level: str, keys: Keys, *, model: str = "study", options: Options = ()
) -> list[Dataset]:
    """C-FIND: the identifiers of the matches."""
    with tempfile.TemporaryDirectory() as folder:
        extract = ("-X", "-od", folder)
        done(find_raw(port, level, keys, model=model, options=(*extract, *options)))
        return read_all(Path(folder))


def find_raw(
    port: int, level: str, keys: Keys, *, model: str = "study", options: Options = ()
) -> Result:
    """C-FIND: all that findscu prints."""
    arguments = _keys(level, keys)
    return run("findscu", "-d", MODELS[model], *options, *arguments, "127.0.0.1", port)


def move(
    port: int,
    level: str,
    keys: Keys,
    *,
    to: str,
    model: str = "study",
    options: Options = (),
) -> Result:
    """C-MOVE to the AE title `to`."""
    arguments = _keys(level, keys)
    return run(
        *("movescu", "-d", MODELS[model], "-aem", to, *options, *arguments, "127.0.0.1", port)
    )


def get(
    port: int,
    level: str,
    keys: Keys,
    folder: Path,
    *,
    model: str = "study",
    options: Options = (),
) -> Result:
    """C-GET into a folder, bit for bit."""
    folder.mkdir(exist_ok=True)
    arguments = (*options, *_keys(level, keys))
    return run(*("getscu", "-d", MODELS[model], "+B", "-od", folder, *arguments, "127.0.0.1", port))


def offered(result: Result, sop_class: UID) -> list[str]:
    """The transfer syntaxes that a tool has offered with a class, by DCMTK's names, in order."""
    context = rf"Abstract Syntax: ={sop_class.keyword}\n(?:D: +Proposed .*\n)+((?:D: +=.*\n)+)"
    found = re.search(context, result.output, re.IGNORECASE)
    assert found, f"no {sop_class.keyword} in\n{result.output}"
    return re.findall("=(.*)", found[1])


def _keys(level: str, keys: Keys) -> list[str]:
    pairs = {"QueryRetrieveLevel": level, **keys}
    return [part for name, text in pairs.items() for part in ("-k", f"{name}={text}")]


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def storescp(
    folder: Path, *options: object, port: int | None = None, answers_echo: bool = True
) -> Iterator[int]:
    """DCMTK's storage SCP, which keeps what it gets bit for bit; gives its port."""
    folder.mkdir(exist_ok=True)

    def arguments(chosen: int) -> list[str]:
        return command("storescp", "+B", "-od", folder, *options, port or chosen)

    def asks(chosen: int) -> bool:
        result = run("echoscu", "127.0.0.1", port or chosen)
        refused = not answers_echo and "Connection refused" not in result.output
        return result.code == 0 or refused

    with listening(arguments, asks) as chosen:
        yield port or chosen


@contextmanager
def listening(
    arguments: Callable[[int], list[str]], answers: Callable[[int], bool]
) -> Iterator[int]:
    """A tool that listens at a port, which it gives; at another one if somebody took the first.

    Args:
        arguments: its command line for a port.
        answers: whether something answers there.
    """
    for left in reversed(range(5)):
        port = free_port()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(arguments(port), stdout=said, stderr=said)
            try:
                if _listens(process, port, answers):
                    yield port
                    return
            finally:
                process.kill()
                process.wait()
            said.seek(0)
            words = said.read().decode("utf-8", "replace")
        assert left, f"{process.args!r} ended with {process.returncode}: {words}"


def _listens(process: subprocess.Popen[bytes], port: int, answers: Callable[[int], bool]) -> bool:
    """Wait until it does; False when it has ended."""
    for _ in range(200):
        if process.poll() is not None:
            return False
        if answers(port):
            return process.poll() is None  # else it was somebody else who answered
    raise AssertionError(f"{process.args!r} does not listen")


def dataset_bytes(path: Path) -> bytes:
    """The bytes of a DICOM file after its file meta information."""
    content = path.read_bytes()
    assert content[128:136] == b"DICM\x02\x00\x00\x00", "no file meta group length"
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def contents(folder: Path) -> dict[str, tuple[str, bytes]]:
    """What DICOM files lie in a folder: by SOP Instance UID, transfer syntax and dataset bytes."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        meta = dcmread(path, stop_before_pixels=True).file_meta
        found[str(meta.MediaStorageSOPInstanceUID)] = (
            str(meta.TransferSyntaxUID),
            dataset_bytes(path),
        )
    return found


def read_all(folder: Path) -> list[Dataset]:
    """The datasets that findscu has written, in the order of the responses."""
    return [dcmread(path, force=True) for path in sorted(folder.iterdir())]
