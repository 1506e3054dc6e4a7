"""Successors take a node's place while clients come and go: none is refused, nothing is lost."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.support.dcmtk import contents
from tests.support.dicom_peer import Peer, data_set, message, store_rq, until
from tests.support.node_process import StartNode, run_lfscp

RESTARTS = 10
CLIENTS = 3


class Clients:
    """Peers that associate, store and echo, again and again; what was acknowledged to them."""

    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)
        self.acknowledged: list[str] = []
        self.problems: list[str] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._loop, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join(60)

    def go_on(self) -> None:
        """Wait until each has had the time for another association."""
        enough = len(self.acknowledged) + 2 * CLIENTS
        assert until(lambda: len(self.acknowledged) >= enough, 30)

    def _loop(self, number: int) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            uid = f"1.2.826.0.1.{number + 1}.{count}"
            try:
                self._associate(uid)
            except Exception as problem:  # noqa: BLE001 - whatever went wrong is what is looked for
                self.problems.append(f"{uid}: {problem!r}")

    def _associate(self, uid: str) -> None:
        with Peer(self.address, timeout=60) as peer:
            peer.associate(called="LFSCP")
            peer.send(message(3, store_rq(1, uid), data_set(uid)))
            assert peer.status() == 0
            self.acknowledged.append(uid)
            assert peer.echo(2) == 0
            peer.release()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_client_notices_that_nodes_follow_each_other(
    start_node: StartNode, workers: int
) -> None:
    restarts = RESTARTS if workers == 1 else 2
    flags = ["--workers", workers, "--take-over"]
    first = start_node(flags=flags)  # there is nobody to take over from
    nodes = [first]
    with Clients(first.port) as clients:
        for _ in range(restarts):
            successor = start_node(flags=flags)
            assert successor.port == first.port
            assert nodes[-1].wait() == 0
            nodes.append(successor)
            clients.go_on()
    assert clients.problems == []
    assert set(clients.acknowledged) == set(contents(first.objects))
    assert len(nodes) == restarts + 1
    check = run_lfscp("check", "--data-dir", first.data_dir) if nodes[-1].stop() == 0 else None
    assert check is not None
    assert check.returncode == 0, check.stdout


def test_what_has_begun_goes_on_while_the_successor_serves(start_node: StartNode) -> None:
    old = start_node()
    with Peer(("127.0.0.1", old.port), timeout=30) as running:
        running.associate(called="LFSCP")
        new = start_node(flags=["--take-over"])
        old.wait_for("stopping", signal="SIGUSR1")
        with Peer(("127.0.0.1", old.port), timeout=30) as another:
            another.associate(called="LFSCP")
            assert another.echo() == 0
            assert until(lambda: new.is_running and old.is_running)
            assert running.echo() == 0, "an association that runs stays with the old node"
            running.release()
            assert old.wait() == 0
            assert another.echo(2) == 0
            another.release()


def test_a_successor_that_cannot_start_changes_nothing(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node()
    wrong = ("--config", tmp_path / "wrong.toml")
    (tmp_path / "wrong.toml").write_text(
        '[tls]\nenabled = true\nport = 0\ncertificate_file = "/nowhere.pem"\n'
    )
    where = ("--host", "127.0.0.1", "--port", node.port, "--data-dir", node.data_dir)
    failed = run_lfscp("serve", *wrong, *where, "--no-http", "--take-over")
    assert failed.returncode == 2
    assert "/nowhere.pem" in failed.stderr
    node.wait_for("the successor did not start, this node goes on")
    with Peer(("127.0.0.1", node.port)) as peer:
        peer.associate(called="LFSCP")
        assert peer.echo() == 0
        peer.release()
    start_node(flags=["--take-over"])
    assert node.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_starts_its_own_successor_at_a_signal(
    start_node: StartNode, tmp_path: Path, workers: int
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        node = start_node(flags=["--workers", workers], env=environment)
        node.signal(signal.SIGUSR2)
        begun = node.wait_for("starting a successor")["successor"]
        ended = os.pidfd_open(begun)
        try:
            node.wait_for("listening", count=2)
            node.wait_for("stopped")
            assert node._process is not None
            assert node._process.wait(30) == 0
            told = b""
            while b"MAINPID" not in told:
                told = systemd.recv(4096)
            assert f"MAINPID={begun}" in told.decode().splitlines()
            with Peer(("127.0.0.1", node.port)) as peer:
                peer.associate(called="LFSCP")
                assert peer.echo() == 0
                peer.release()
        finally:
            with suppress(ProcessLookupError):
                os.kill(begun, signal.SIGTERM)
            select.select([ended], [], [], 30)
            os.close(ended)
        node.wait_for("stopped", count=2)


def test_without_the_option_the_folder_stays_taken(start_node: StartNode) -> None:
    node = start_node()
    refused = run_lfscp("serve", "--data-dir", node.data_dir, "--no-http", "--port", 0)
    assert refused.returncode == 1
    assert "another node uses" in refused.stderr


def test_page_and_jobs_are_handed_over(start_node: StartNode) -> None:
    flags = ["--http-port", 0]
    old = start_node(flags=flags)
    page = old.wait_for("page")["url"]
    new = start_node(flags=[*flags, "--take-over"])
    assert old.wait() == 0
    import httpx2

    with httpx2.Client(trust_env=False, timeout=30) as browser:
        assert browser.get(page + "healthz").status_code == 200
    assert new.stop() == 0
    for name in ("handover.sock", "handover.sock.*"):
        assert list(new.data_dir.glob(name)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_page_that_the_successor_has_not_leaves_no_port_that_nobody_answers(
    start_node: StartNode, workers: int
) -> None:
    flags = ["--workers", workers]
    old = start_node(flags=[*flags, "--http-port", 0])
    port = int(old.wait_for("page")["url"].rstrip("/").rpartition(":")[2])
    start_node(flags=[*flags, "--no-http", "--take-over"])
    assert old.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
