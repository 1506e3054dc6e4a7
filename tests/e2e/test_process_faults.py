"""What happens to a node's process: its log cannot be written, its descriptors or threads run out.

It says why in one line, does not spin, serves again when the cause is gone, and loses nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.dicom_peer import Peer, data_set, echo, message, store_rq, until
from tests.support.node_process import LFSCP, NodeProcess, StartNode, environment, run_lfscp

NOBODY = 65534


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    try:
        echo(("127.0.0.1", port), timeout=5)
    except (OSError, AssertionError, TypeError):
        return False
    return True


def store(port: int, instance: str) -> int:
    with Peer(("127.0.0.1", port)) as peer:
        peer.associate()
        peer.send(message(3, store_rq(1, instance), data_set(instance)))
        status: int = peer.status()
        peer.release()
        return status


def cpu_s(pid: int) -> float:
    """CPU time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sockets(pid: int) -> int:
    links = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # just closed
            links.append(str(each.readlink()))
    return sum(link.startswith("socket:") for link in links)


# --- a log that cannot be written ---


@contextmanager
def a_node_that_logs_to(how: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A node whose standard error is of no use; `how` is put into a shell's command."""
    port = free_port()
    command = [str(LFSCP), "serve", "--host", "127.0.0.1", "--port", str(port), "--no-http"]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {how}', "sh", *command, "--data-dir", str(folder / "data")],
        env=environment(),
        start_new_session=True,
    )
    try:
        yield process, port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.mark.parametrize(
    "how",
    ["2>&-", "2>/dev/full", "a pipe"],
    ids=["closed", "a full disk", "nobody reads it"],
)
def test_a_log_that_cannot_be_written_stops_nothing(how: str, tmp_path: Path) -> None:
    if how == "a pipe":
        fifo = tmp_path / "log"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        how = f"2>{fifo}"
    else:
        reader = os.open(os.devnull, os.O_RDONLY)
    try:
        with a_node_that_logs_to(how, tmp_path) as (process, port):
            assert until(lambda: answers(port), 60)
            os.close(reader)
            reader = -1
            for number in range(5):
                assert store(port, f"1.2.3.{number}") == 0x0000
            target = str(Path(f"/proc/{process.pid}/fd/2").readlink())
            assert "lfscp.lock" not in target
            assert "index" not in target
            process.terminate()
            assert process.wait(30) == 0
    finally:
        if reader >= 0:
            os.close(reader)
    checked = run_lfscp("check", "--data-dir", tmp_path / "data")
    assert (checked.returncode, checked.stdout) == (0, "index and objects agree\n")


# --- descriptors and threads that run out ---


def connect(port: int, number: int, stack: ExitStack) -> None:
    """Connections that say nothing."""
    for _ in range(number):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))


def test_silent_connections_take_no_descriptor_that_others_need(start_node: StartNode) -> None:
    node = start_node(errors_expected=True, wrapper=["prlimit", "--nofile=64:64"])
    assert store(node.port, "1.2.3.1") == 0x0000
    with ExitStack() as stack:
        connect(node.port, 100, stack)
        node.wait_for(
            "Closed a connection of 127.0.0.1: it had waited the longest, and too many waited"
        )
        before = cpu_s(node.pid)
        time.sleep(1)
        assert cpu_s(node.pid) - before < 0.5, "it spins"
        assert store(node.port, "1.2.3.3") == 0x0000
    assert until(lambda: answers(node.port), 40)
    assert store(node.port, "1.2.3.2") == 0x0000
    assert until(lambda: sockets(node.pid) <= 2)


def test_a_store_without_a_descriptor_left_is_refused_and_can_be_tried_again(
    start_node: StartNode,
) -> None:
    node = start_node(errors_expected=True)
    with Peer(("127.0.0.1", node.port)) as peer:
        peer.associate()

        def status_of(instance: str) -> int:
            peer.send(message(3, store_rq(1, instance), data_set(instance)))
            answered: int = peer.status()
            return answered

        assert status_of("1.2.3.1") == 0x0000
        limit = ["prlimit", "--pid", str(node.pid)]
        subprocess.run([*limit, "--nofile=4:1024"], check=True)
        assert status_of("1.2.3.2") == 0xA700
        subprocess.run([*limit, "--nofile=1024:1024"], check=True)
        assert status_of("1.2.3.2") == 0x0000
        peer.release()
    assert len(list(node.objects.glob("*/*/*.dcm"))) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's limit is set, which takes root")
def test_threads_that_run_out_are_said_and_waited_for(tmp_path: Path) -> None:
    """Who gets no thread of its own waits in the backlog, and is served when one is free."""
    folder = tmp_path / "node"
    folder.mkdir()
    for each in (folder, *folder.parents[:4]):  # pytest's own, that no other user may enter
        each.chmod(each.stat().st_mode | 0o711)
    os.chown(folder, NOBODY, NOBODY)
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    usable = subprocess.run([*as_nobody, str(LFSCP), "version"], capture_output=True, check=False)
    if usable.returncode != 0:
        pytest.skip("another user cannot run lfscp here")
    node = NodeProcess(folder, wrapper=["prlimit", "--nproc=16:16", *as_nobody])
    try:
        node.start()
        with ExitStack() as stack:
            connect(node.port, 20, stack)
            assert until(lambda: any("thread" in line for line in node.lines), 10), node.tail
            before = cpu_s(node.pid)
            time.sleep(1)
            assert cpu_s(node.pid) - before < 0.5, "it spins"
            assert len(node.complaints()) < 10
        assert until(lambda: answers(node.port), 40)
        assert store(node.port, "1.2.3.9") == 0x0000
        assert node.stop() == 0
    finally:
        node.kill()
