"""Workloads that store by STOW-RS: one request with all objects, streamed from their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from .bench import Bench, Invalid, verify_stored
from .dataset import Instance, total_bytes
from .http_client import Client
from .procstat import PeakMemory, memory
from .server import Server
from .targets import Target
from .web_requests import JSON, RELATED, ROOT, measured, sets_of
from .workload import Values

_BOUNDARY: Final = "peerbench-boundary"
_STOWN: Final = {"Content-Type": f"{RELATED.format('application/dicom')}; boundary={_BOUNDARY}"}
_PIECE: Final = 1 << 20


def _body(files: Sequence[Instance]) -> Iterator[bytes]:
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    for each in files:
        yield head
        with Path(each.path).open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece
        yield b"\r\n"
    yield f"--{_BOUNDARY}--\r\n".encode()


def _stow(server: Server, files: Sequence[Instance]) -> None:
    """Store them with one request.

    Raises:
        Invalid: not all were stored.
    """
    size = str(sum(map(len, _body(files[:0]))) + total_bytes(files) + _framing(files))
    with Client(server.http_port) as client:
        answer = client.ask(
            f"{ROOT}/studies",
            JSON,
            method="POST",
            body=_body(files),
            headers={**_STOWN, "Content-Length": size},
        )
        if answer.status != 200:
            raise Invalid(f"STOW: HTTP {answer.status} {client.body[:200]!r}")


def _framing(files: Sequence[Instance]) -> int:
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n"
    return len(files) * (len(head) + 2)


def stow_each(server: Server, files: Sequence[Instance]) -> None:
    for each in files:
        _stow(server, [each])


def store(name: str, bench: Bench, target: Target) -> Values:
    sets = sets_of(bench)
    files = sets.study if name == "stow" else sets.series
    figures: Values = {}
    with bench.fresh(target) as server:
        _stow(server, sets.study[:1] if name != "stow" else sets.series[:1])
        bench.warm_memory(total_bytes(files))
        before = memory(server.pid).pss_kb
        with (
            PeakMemory(server.pid, pss_interval_s=0.05) as peak,
            measured(name, server, figures) as count,
        ):
            _stow(server, files)
            count(len(files))
        verify_stored(server, files)
    return figures | {f"{name} memory": max(0, peak.pss_kb - before) / 1024}
