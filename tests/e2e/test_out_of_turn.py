"""Peers that send before their turn, or without end, to a real node with default settings."""

from __future__ import annotations

import socket
import struct
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.dicom_peer import (
    ABORT,
    CT,
    DATA_SET,
    IMPLICIT,
    NO_DATA_SET,
    P_DATA,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Peer,
    cancel_rq,
    command,
    data_set,
    echo_rq,
    find_rq,
    item,
    message,
    p_data,
    pdv,
    store_rq,
    uid,
    until,
    us,
)
from tests.support.node_process import NodeProcess

STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
CONTEXTS = [
    (1, VERIFICATION, (IMPLICIT,)),
    (3, CT, (IMPLICIT,)),
    (5, STUDY_ROOT_FIND, (IMPLICIT,)),
    (9, STUDY_ROOT_GET, (IMPLICIT,)),
]
ROLE = item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1")
STUDY_KEYS = b"\x08\0\x52\0\x06\0\0\0STUDY " + b"\x20\0\x0d\0\x06\0\0\x001.2.3\0"
FRAGMENT = p_data(pdv(5, 0, b"\x10\0\x10\0\x92\x86\1\0" + bytes(99_986)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, int]]:
    """A node with three objects, and where its page is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        http_port = probe.getsockname()[1]
    node = NodeProcess(tmp_path_factory.mktemp("served"), flags=["--http-port", http_port])
    try:
        node.start()
        with associated(node) as peer:
            for number in range(3):
                instance = f"1.2.3.4.{number}"
                peer.send(message(3, store_rq(number, instance), data_set(instance)))
                assert peer.status() == 0x0000
            peer.release()
        yield node, http_port
        assert node.stop() == 0
        assert node.complaints() == []
        assert not list(node.data_dir.rglob("*.part"))
    finally:
        node.kill()


def associated(node: NodeProcess) -> Peer:
    peer = Peer(("127.0.0.1", node.port), timeout=30)
    peer.associate(CONTEXTS, called="LFSCP", max_length=131072, user_items=ROLE)
    return peer


def store_rsp(message_id: int) -> bytes:
    return command(
        uid(0x0002, CT),
        us(0x0100, 0x8001),
        us(0x0120, message_id),
        us(0x0800, NO_DATA_SET),
        us(0x0900, 0x0000),
    )


def ask_for_objects(peer: Peer) -> int:
    """A C-GET; its first C-STORE has come when this returns, and is not answered: its ID."""
    request = command(
        uid(0x0002, STUDY_ROOT_GET),
        us(0x0100, 0x0010),
        us(0x0110, 7),
        us(0x0700, 0),
        us(0x0800, DATA_SET),
    )
    peer.send(message(9, request, STUDY_KEYS))
    _, elements, _ = peer.message()
    assert elements[0x0100] == b"\1\0"
    return int.from_bytes(elements[0x0110], "little")


def read_to_abort(peer: Peer) -> None:
    while (answer := peer.pdu()) is not None and answer[0] == P_DATA:
        pass
    assert answer is not None
    assert answer[0] == ABORT


def peak_mb(node: NodeProcess) -> float:
    """The most memory that the node's process has had."""
    status = Path(f"/proc/{node.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def metric(http_port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name + " ")))


def ends(node: NodeProcess, words: str) -> int:
    return sum(words in each["reason"] for each in node.events("association ended"))


def test_requests_behind_an_unanswered_get_are_not_queued(served: tuple[NodeProcess, int]) -> None:
    node, http_port = served
    name = 'lfscp_messages_out_of_turn_total{kind="request"}'
    before, counted = peak_mb(node), metric(http_port, name)
    with associated(node) as peer:
        ask_for_objects(peer)
        with suppress(ConnectionError):
            for _ in range(20):
                peer.send(message(5, find_rq(8)), FRAGMENT * 100)  # 200 MB in all
            read_to_abort(peer)
    assert until(lambda: ends(node, "a second request (0x0020) while one is served") == 1)
    assert metric(http_port, name) == counted + 1
    assert peak_mb(node) - before < 30


def test_an_identifier_without_end_ends_after_a_megabyte(served: tuple[NodeProcess, int]) -> None:
    node, http_port = served
    name = "lfscp_oversize_messages_total"
    before, counted = peak_mb(node), metric(http_port, name)
    with associated(node) as peer:
        peer.send(message(5, find_rq()))
        with suppress(ConnectionError):
            for _ in range(20):
                peer.send(FRAGMENT * 100)
            read_to_abort(peer)
    assert until(lambda: ends(node, "data set of a message larger than 1000000 bytes") == 1)
    assert metric(http_port, name) == counted + 1
    assert peak_mb(node) - before < 30


def test_cancels_without_end_take_nothing(served: tuple[NodeProcess, int]) -> None:
    node, _ = served
    before = peak_mb(node)
    with associated(node) as peer:
        ask_for_objects(peer)
        for first in range(0, 65536, 4096):
            numbers = range(first, first + 4096)
            peer.send(*(message(9, cancel_rq(each)) for each in numbers if each != 7))
        peer.send(message(9, cancel_rq(7)))
    assert peak_mb(node) - before < 30


@pytest.mark.parametrize("how", ["aborts", "closes", "sends an echo"])
@pytest.mark.parametrize("answered", [0, 1], ids=["at the first", "after the first"])
def test_a_get_that_breaks_off_has_one_line(
    served: tuple[NodeProcess, int], answered: int, how: str
) -> None:
    node, _ = served
    before = len(node.events("C-GET"))
    with associated(node) as peer:
        message_id = ask_for_objects(peer)
        if answered:
            peer.send(message(3, store_rsp(message_id)))
        if how == "aborts":
            peer.send(struct.pack(">BxI", ABORT, 4) + bytes(4))
        elif how == "sends an echo":
            peer.send(message(1, echo_rq(9)))
            read_to_abort(peer)
    ended = len(node.events("association ended"))
    assert until(lambda: len(node.events("C-GET")) > before)
    with associated(node) as other:  # what else there is to say has been said by now
        assert other.echo() == 0x0000
        other.release()
    assert until(lambda: len(node.events("association ended")) >= ended)
    (line,) = node.events("C-GET")[before:]
    assert line["status"] == "0xFE00"
    assert line["reason"] == "the association ended"
