"""Starting a target, waiting until it answers, and stopping it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import dul
from .http_client import is_served
from .targets import AET, DCMTK, DESTINATION_AET, ClientMode, Launch, Target


class ServerError(Exception):
    """The server did not start, or died."""


_next_port = 21000 + os.getpid() % 4000


def free_port() -> int:
    """A loopback port nobody listens on; never handed out twice in a run."""
    global _next_port
    while True:
        _next_port += 1
        if _next_port > 29999:
            _next_port = 21000
        with socket.socket() as probe:
            try:
                probe.bind(("", _next_port))
            except OSError:
                continue
            return _next_port


@dataclass
class Server:
    target: Target
    port: int
    data: Path
    process: subprocess.Popen[bytes]
    startup_seconds: float
    http_port: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid


def end_when_told() -> None:
    """Let SIGTERM end this program as Ctrl+C does: it stops its servers and removes its folders."""
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, signal.default_int_handler)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process group that this program started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # children that outlived it
    process.wait()


_ECHO_RQ = dul.encode_echo(1)
_ECHO_ASSOCIATE = dul.encode_associate_rq(AET, [dul.ProposedContext(1, dul.VERIFICATION)])


def echo_once(port: int, timeout: float = 30.0, tls: ssl.SSLContext | None = None) -> None:
    association = dul.open_association(port, _ECHO_ASSOCIATE, timeout, tls)
    try:
        association.echo(_ECHO_RQ)
        association.release()
    finally:
        association.close()


def _await_echo(
    process: subprocess.Popen[bytes],
    port: int,
    tls: ssl.SSLContext | None = None,
    limit: float = 60.0,
) -> None:
    deadline = time.monotonic() + limit
    while True:
        try:
            return echo_once(port, 5.0, tls)
        except (OSError, dul.DicomError) as problem:
            if process.poll() is not None:
                raise ServerError(f"exited with status {process.returncode}") from problem
            if time.monotonic() > deadline:
                raise ServerError(f"no echo within {limit:.0f} s: {problem}") from problem
            time.sleep(0.001)


def _await_http(process: subprocess.Popen[bytes], port: int, limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not is_served(port):
        if process.poll() is not None:
            raise ServerError(f"exited with status {process.returncode}")
        if time.monotonic() > deadline:
            raise ServerError(f"no answer to HTTP within {limit:.0f} s")
        time.sleep(0.01)


@contextmanager
def running(
    target: Target, data: Path, dst_port: int, mode: ClientMode, log: Path
) -> Iterator[Server]:
    """The target serving from `data` on free ports, once it has answered an echo, and HTTP."""
    port, http_port = free_port(), free_port()
    data.mkdir(parents=True, exist_ok=True)
    command = target.command(Launch(port, data, dst_port, http_port))
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=mode.environment(),
            cwd=data,
            start_new_session=True,
        )
        try:
            if target.has_dicom:
                _await_echo(process, port, target.tls)
            startup_seconds = time.perf_counter() - started
            if target.has_http:
                _await_http(process, http_port)
            yield Server(target, port, data, process, startup_seconds, http_port)
        finally:
            stop(process)


@contextmanager
def destination(folder: Path, port: int) -> Iterator[Path]:
    """The C-MOVE destination: DCMTK storescp --fork with TCP_NODELAY=1, writing to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [f"{DCMTK}/storescp", "--fork", "-aet", DESTINATION_AET, "--max-pdu", "131072"]
    process = subprocess.Popen(
        [*command, "-od", str(folder), str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ClientMode.NODELAY.environment(),
        start_new_session=True,
    )
    try:
        _await_echo(process, port)
        yield folder
    finally:
        stop(process)
