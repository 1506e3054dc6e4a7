"""A node under systemd, played by the test: readiness, watchdog, stopping, a socket handed over."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node_process import NodeProcess, StartNode, proper_end, run_lfscp

# systemd sets LISTEN_PID to the process's own number after the fork; so must we.
SET_LISTEN_PID = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(30)
        yield channel


def messages(channel: socket.socket) -> Iterator[dict[str, str]]:
    """What the node tells, one message after the other."""
    while True:
        lines = channel.recv(4096).decode().splitlines()
        yield dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("abstract", [False, True], ids=["file", "abstract"])
def test_systemd_is_told_of_readiness_health_and_stop(
    start_node: StartNode, tmp_path: Path, abstract: bool, workers: int
) -> None:
    name = f"@lfscp-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name[1:] if abstract else name)
        channel.settimeout(30)
        node = start_node(
            env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"}, flags=["--workers", workers]
        )
        told = messages(channel)
        ready = next(told)
        assert ready["READY"] == "1"
        assert str(node.port) in ready["STATUS"]
        alive = next(message for message in told if "WATCHDOG" in message)
        assert alive["WATCHDOG"] == "1"
        assert re.search(r"leader.*waiting \d+, running \d+", alive["STATUS"])
        assert node.stop() == 0
        assert next(message for message in told if "STOPPING" in message)["STOPPING"] == "1"


def test_without_a_watchdog_none_is_fed(
    start_node: StartNode, notified: socket.socket, tmp_path: Path
) -> None:
    node = start_node(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert node.stop() == 0
    notified.setblocking(False)
    told: list[dict[str, str]] = []
    with contextlib.suppress(BlockingIOError):
        told.extend(messages(notified))
    assert "STOPPING" in told[-1]
    assert not any("WATCHDOG" in message for message in told)


def test_readiness_is_told_when_connections_are_accepted(
    start_node: StartNode, notified: socket.socket, tmp_path: Path, dcmtk: Any
) -> None:
    start_node(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    status = next(messages(notified))["STATUS"]
    port = int(status.rpartition(":")[2])
    assert dcmtk.echo(port).code == 0


def test_a_node_that_cannot_start_is_never_ready(notified: socket.socket, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    assert run_lfscp("serve", "--no-http", "--data-dir", tmp_path / "file", env=env).returncode == 1
    notified.setblocking(False)
    with pytest.raises(BlockingIOError):
        notified.recv(4096)


def handed_over(listener: socket.socket) -> dict[str, Any]:
    """How to start a process with the socket as its descriptor 3."""

    def as_third() -> None:
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)

    return {"preexec_fn": as_third, "close_fds": False}


def test_the_socket_of_systemd_is_used(dcmtk: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        node = NodeProcess(
            tmp_path / "node",
            env={"LISTEN_FDS": "1"},
            wrapper=[sys.executable, "-c", SET_LISTEN_PID],
        )
        with proper_end(node):
            node.start(**handed_over(listener))
            assert node.port == port
            assert dcmtk.echo(port).code == 0
            assert node.stop() == 0
        # systemd's socket goes on listening for the next start.
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        with proper_end(node):
            node.start(**handed_over(listener))
            assert dcmtk.echo(port).code == 0


def test_a_socket_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        node = NodeProcess(
            tmp_path / "node",
            env={"LISTEN_FDS": "1"},
            wrapper=[sys.executable, "-c", SET_LISTEN_PID],
        )
        result = subprocess.run(
            node.command,
            env=node.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **handed_over(wrong),
        )
    assert result.returncode == 1
    assert "expected a TCP ListenStream=" in result.stderr
    assert "Traceback" not in result.stderr
