"""SIGHUP: peers, users, limits and levels change in a node that runs; nobody is cut off."""

from __future__ import annotations

import struct
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import ExitStack
from typing import Any

import pytest

from lfscp.config.passwords import hash_password
from tests.support.dicom_peer import ASSOCIATE_RJ, Peer, associate_rq, item
from tests.support.node_process import StartNode

PASSCODE = "correct horse battery"
NOT_AUTHORISED = 0x0124
KNOWN = "[server]\nrequire_known_peers = true\n"
PEER = '[peers.{}]\nhost = "127.0.0.1"\nport = 104\nmay = {}\n'


def answer(port: int, calling: str) -> tuple[int, ...]:
    """The reason of an A-ASSOCIATE-RJ; empty when it is accepted."""
    with Peer(("127.0.0.1", port)) as peer:
        peer.send(associate_rq(called="LFSCP", calling=calling))
        kind, body = peer.pdu()
        return tuple(body[1:]) if kind == ASSOCIATE_RJ else ()


@pytest.mark.parametrize("workers", [1, 2])
def test_peers_and_what_they_may_do_change_without_a_restart(
    start_node: StartNode, workers: int
) -> None:
    debug = '[logging]\nlevel = "debug"\n'
    node = start_node(
        configuration=debug + KNOWN + PEER.format("FIRST", '["echo"]'),
        flags=["--workers", workers],
        errors_expected=True,
    )
    assert answer(node.port, "FIRST") == ()
    assert answer(node.port, "SECOND") == (1, 1, 3)
    with Peer(("127.0.0.1", node.port)) as running:
        running.associate(called="LFSCP", calling="FIRST")
        changed = debug + KNOWN + PEER.format("SECOND", '["query"]') + "[tls]\nport = 2763\n"
        said = node.reload(changed)
        assert said["changed"] == "peers"
        assert said["after_a_restart"] == "tls.port"
        # Workers read it each for themselves, a moment later.
        node.wait_for("settings taken over", count=workers)
        assert answer(node.port, "FIRST") == (1, 1, 3)
        with Peer(("127.0.0.1", node.port)) as second:
            second.associate(called="LFSCP", calling="SECOND")
            assert second.echo() == NOT_AUTHORISED
            second.release()
        said = node.reload(
            "[server]\nbacklog = 'no'", says="configuration not reloaded, the old one stays"
        )
        assert "server.backlog" in said["reason"]
        assert answer(node.port, "SECOND") == ()
        assert running.echo() == 0
        running.release()
    complaints = node.complaints()
    assert len(complaints) == 1, complaints


def test_limits_and_the_log_s_level_change_without_a_restart(start_node: StartNode) -> None:
    no_limit = "[server]\nmax_associations_per_address = 0\n"
    node = start_node(configuration=no_limit, flags=["--workers", 1])
    with Peer(("127.0.0.1", node.port)) as running:
        running.associate(called="LFSCP")
        node.reload('[server]\nmax_associations_per_address = 1\n[logging]\nlevel = "debug"\n')
        with Peer(("127.0.0.1", node.port)) as counted:
            counted.associate(called="LFSCP")
            assert answer(node.port, "X") == (2, 3, 2)
        node.reload("[server]\nmax_associations = 1\n")
        assert answer(node.port, "X") == (2, 3, 2)
        running.release()
    node.wait_for(level="debug")


def identity(kind: int, name: str, passcode: str = "") -> bytes:
    """A user identity item (PS3.7 table D.3-14), with a positive response asked for."""
    fields = b"".join(struct.pack(">H", len(each)) + each.encode() for each in (name, passcode))
    return item(0x58, bytes((kind, 1)) + fields)


def test_users_are_verified_and_their_passcodes_never_logged(start_node: StartNode) -> None:
    users = f'[identity]\nusers = ["anna:{hash_password(PASSCODE)}"]\n'
    node = start_node(configuration=users, flags=["--workers", 1, "--log-level", "debug"])

    def outcome(items: bytes) -> Any:
        with Peer(("127.0.0.1", node.port)) as peer:
            peer.send(associate_rq(called="LFSCP", user_items=items))
            kind, body = peer.pdu()
            return tuple(body[1:]) if kind == ASSOCIATE_RJ else item(0x59, b"\0\0") in body

    assert outcome(b"") is False
    assert outcome(identity(2, "anna", PASSCODE)) is True
    assert outcome(identity(2, "anna", "wrong " + PASSCODE)) == (1, 2, 1)
    assert outcome(identity(3, "ticket")) == (1, 2, 1)
    node.reload(users + "required = true\n")
    assert outcome(b"") == (1, 2, 1)
    assert outcome(identity(2, "anna", PASSCODE)) is True
    assert node.stop() == 0
    reasons = [each["reason"] for each in node.events("association ended")]
    assert any("Kerberos" in reason for reason in reasons)
    assert PASSCODE not in node.log


@pytest.mark.parametrize("limit", ["max_associations", "max_associations_per_address"])
def test_worker_processes_count_associations_together(start_node: StartNode, limit: str) -> None:
    node = start_node(configuration=f"[server]\n{limit} = 3\n", flags=["--workers", 2])
    with ExitStack() as running:
        for _ in range(3):
            peer = running.enter_context(Peer(("127.0.0.1", node.port)))
            peer.associate(called="LFSCP")
        for _ in range(4):  # whichever of them it meets
            assert answer(node.port, "X") == (2, 3, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_users_of_the_page_change_without_a_restart(start_node: StartNode, workers: int) -> None:
    users = {name: f"{name}:{hash_password(PASSCODE)}" for name in ("anna", "berta")}
    page = '[web]\nusers = ["{}"]\n'
    node = start_node(
        configuration=page.format(users["anna"]),
        flags=["--workers", workers, "--http-port", "0"],
    )
    url = node.wait_for("page")["url"]

    def ask(path: str, name: str) -> Any:
        basic = b64encode(f"{name}:{PASSCODE}".encode()).decode()
        asked = urllib.request.Request(  # noqa: S310 - of the log
            url + path, headers={"Authorization": f"Basic {basic}"}
        )
        try:
            return urllib.request.urlopen(asked, timeout=60)  # noqa: S310
        except urllib.error.HTTPError as refusal:
            return refusal

    with ask("api/events", "anna") as live_view:
        assert live_view.status == 200
        said = node.reload(page.format(users["berta"]))
        assert said["changed"] == "web.users"
        assert "after_a_restart" not in said
        live_view.read()  # until the node ends it
    assert ask("api/studies", "anna").status == 401
    assert ask("api/studies", "berta").status == 200
