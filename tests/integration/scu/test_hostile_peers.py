"""Our client and peers that send what is wrong, too much, or without end."""

from __future__ import annotations

import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.store.received_objects import Received, StoredInstance
from lfscp.scu.echo import echo
from lfscp.scu.errors import PeerError, PeerErrorKind, TooManyMatchesError
from lfscp.scu.find import find
from lfscp.scu.identifiers import MAX_ELEMENTS, identifier
from lfscp.scu.parts import RetrieveResult
from lfscp.scu.peer import Peer
from lfscp.scu.retrieve import get, move
from lfscp.scu.send import send
from tests.support import dicom_peer as peer
from tests.support.scripted_peer import (
    ACCEPTED,
    C_FIND_RSP,
    C_GET_RSP,
    C_MOVE_RSP,
    C_STORE_RSP,
    GET,
    MATCH,
    MOVE,
    PENDING,
    REFUSED,
    RELEASED,
    STUDY,
    SUCCESS,
    TAKING,
    accepted,
    brought,
    counters,
    found,
    got,
    response,
    scripted,
    value,
)

QUERY = peer.STUDY_ROOT_FIND
KEYS = identifier({"StudyInstanceUID": STUDY}, "STUDY")
LAST = peer.message(1, response(C_FIND_RSP, QUERY, SUCCESS)) + RELEASED


def ask(asked: Peer, **options: Any) -> list[str]:
    """The studies that a peer finds."""
    return [str(each.StudyInstanceUID) for each in find(asked, KEYS, **options)]


def refusal(script: bytes, asking: Callable[[Peer], object] = ask) -> str:
    """Why our client gives up."""
    with scripted(script) as asked, pytest.raises(PeerError) as error:
        asking(asked)
    return error.value.reason


class Folder:
    """Takes objects, and keeps what it was told of others."""

    def __init__(self, spool: Path | None = None, status: int = SUCCESS) -> None:
        self.taken: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self._spool = spool
        self._status = status

    def _take(self, received: Received) -> int:
        self.taken.append(received.sop_instance_uid)
        return self._status

    def get(self, asked: Peer, **options: Any) -> RetrieveResult:
        """What a C-GET of one study brings."""
        return get(
            asked,
            KEYS,
            on_object=self._take,
            sop_classes=(peer.CT,),
            spool_dir=self._spool,
            on_refused=lambda uid, reason: self.refused.append((uid, reason)),
            **options,
        )


# --- how much ---


def test_a_match_without_end_costs_no_memory() -> None:
    piece = peer.p_data(peer.pdv(1, 0, b"A" * 16000))

    def script(connection: socket.socket) -> None:
        head = found()[: -len(peer.p_data(peer.pdv(1, peer.LAST, MATCH)))]
        connection.sendall(ACCEPTED + head)
        while True:
            connection.sendall(piece)

    with scripted(script) as asked:
        tracemalloc.start()
        try:
            with pytest.raises(PeerError, match="data set of a message larger than 1048576 bytes"):
                ask(asked)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20


def test_an_honest_large_match_is_given() -> None:
    text = b"x" * 900_000
    script = ACCEPTED + found(MATCH + value(0x40, 0xA160, text)) + LAST
    with scripted(script) as asked:
        (match,) = find(asked, KEYS)
    assert len(match.TextValue) == len(text)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (value(0x10, 0x1000, b"") * (MAX_ELEMENTS + 1), "more than 10000 elements"),
        (value(0x10, 0x1000, b"\\" * (MAX_ELEMENTS + 2)), "more than 10000 values"),
        (
            value(0x8, 0x1140, value(0xFFFE, 0xE000, value(8, 0x1155, b"1.") * 10) * 1000),
            "more than 10000 elements",
        ),
    ],
    ids=["elements", "values", "in items"],
)
def test_a_match_of_many_small_parts_is_refused_before_it_is_decoded(
    data: bytes, expected: str
) -> None:
    assert expected in refusal(ACCEPTED + found(data) + LAST)


def test_who_keeps_of_each_match_gets_no_more_than_agreed() -> None:
    script = ACCEPTED + found() * 20 + LAST
    with scripted(script) as asked:
        assert ask(asked, max_bytes=20 * 400) == ["1.2.3"] * 20
    with scripted(script) as asked, pytest.raises(TooManyMatchesError, match="ask for less"):
        ask(asked, max_bytes=10 * 300)


def test_the_list_of_what_failed_has_valid_uids_only() -> None:
    uids = value(8, 0x58, b"1.2.3.4\\\x1b[2J\\" + b"1" * 80 + b"\\1.2.3.5\0")
    script = ACCEPTED + peer.message(
        1, response(C_MOVE_RSP, MOVE, 0xB000, counters(0, 4), data=True), uids
    )
    with scripted(script + RELEASED) as asked:
        result = move(asked, KEYS, "THERE")
    assert (result.failed, result.failed_uids) == (4, ("1.2.3.4", "1.2.3.5"))


# --- what was not asked for ---


def test_an_object_of_another_study_is_refused_and_named() -> None:
    folder = Folder()
    with scripted(TAKING + brought("9.9.9.9", "9.9") + brought() + got(2) + RELEASED) as asked:
        result = folder.get(asked)
    assert folder.taken == ["1.2.3.4"]
    assert folder.refused == [("9.9.9.9", "is of study 9.9, which was not requested")]
    assert (result.completed, result.failed) == (1, 1)


def test_the_peer_hears_that_it_was_not_asked_for() -> None:
    heard: list[int] = []

    def script(connection: socket.socket) -> None:
        honest = object.__new__(peer.Peer)
        honest.sock = connection
        honest.pdu()
        connection.sendall(TAKING)
        honest.message()
        connection.sendall(brought("9.9.9.9", "9.9"))
        heard.append(honest.status())
        connection.sendall(got(0, 1, 0xA702) + RELEASED)

    with scripted(script) as asked:
        assert Folder().get(asked).failed == 1
    assert heard == [0xA900]


def test_a_peer_that_goes_on_with_what_was_not_asked_for_is_left() -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(TAKING)
        while True:
            connection.sendall(brought("9.9.9.9", "9.9"))

    folder = Folder()
    with (
        scripted(script) as asked,
        pytest.raises(PeerError, match="keeps sending objects that were not requested"),
    ):
        folder.get(asked)
    assert folder.taken == []


def test_an_object_whose_header_names_another_instance_is_refused() -> None:
    other = brought().replace(b"1.2.3.4\0", b"1.2.3.7\0", 1)  # in the command only
    folder = Folder()
    with scripted(TAKING + other + got(1) + RELEASED) as asked:
        assert folder.get(asked).completed == 0
    assert [uid for uid, _ in folder.refused] == ["1.2.3.7"]


# --- what is counted ---


def test_what_was_stored_is_counted_not_what_the_peer_says() -> None:
    with scripted(TAKING + brought() + got(65535) + RELEASED) as asked:
        result = Folder().get(asked)
    assert (result.completed, result.failed) == (1, 65534)
    assert result.comment == "the peer reports 65535 objects sent, 1 arrived"


def test_a_peer_that_does_not_count_is_no_liar() -> None:
    with scripted(TAKING + brought() + got(0) + RELEASED) as asked:
        result = Folder().get(asked)
    assert (result.completed, result.failed, result.comment) == (1, 0, "")


def test_an_object_that_comes_twice_is_one() -> None:
    with scripted(TAKING + brought() + brought(message_id=2) + got(2) + RELEASED) as asked:
        result = Folder().get(asked)
    assert (result.completed, result.failed) == (1, 0)


def test_what_we_could_not_store_has_failed_whatever_the_peer_says() -> None:
    with scripted(TAKING + brought() + got(1) + RELEASED) as asked:
        result = Folder(status=REFUSED).get(asked)
    assert (result.completed, result.failed) == (0, 1)


def test_a_retrieve_that_the_peer_gives_up_has_failed_though_objects_came() -> None:
    with scripted(TAKING + brought() + got(1, status=0xC123) + RELEASED) as asked:
        result = Folder().get(asked)
    assert (result.completed, result.failed) == (1, 1)
    assert result.comment == "it ended with status 0xC123"


def moved(status: int, *counts: bytes) -> RetrieveResult:
    """What becomes of a C-MOVE with this last response."""
    last = peer.message(1, response(C_MOVE_RSP, MOVE, status, *counts))
    with scripted(ACCEPTED + last + RELEASED) as asked:
        return move(asked, identifier({"StudyInstanceUID": STUDY}, "STUDY"), "DEST")


def test_a_move_that_ends_with_a_warning_and_no_counters_has_failed() -> None:
    result = moved(0xB000)
    assert (result.completed, result.failed) == (0, 1)
    assert result.comment == "the peer does not report how many"


def test_a_warning_whose_counters_name_no_failure_is_none() -> None:
    assert moved(0xB000, counters(2)).failed == 0


def test_a_move_without_counters_says_so() -> None:
    result = moved(SUCCESS)
    assert (result.completed, result.failed) == (0, 0)
    assert result.comment == "the peer does not report how many"
    assert not moved(SUCCESS, counters(0)).comment


def test_what_came_before_the_end_is_said(tmp_path: Path) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(TAKING + brought())
        connection.shutdown(socket.SHUT_WR)

    with scripted(script) as asked, pytest.raises(PeerError, match="after 1 objects"):
        Folder(tmp_path).get(asked)


def test_half_an_object_leaves_no_file(tmp_path: Path) -> None:
    piece = peer.p_data(peer.pdv(5, 0, b"A" * 16000))

    def script(connection: socket.socket) -> None:
        connection.sendall(TAKING + peer.p_data(peer.pdv(5, 3, peer.store_rq())) + piece * 500)
        connection.shutdown(socket.SHUT_WR)

    with scripted(script) as asked, pytest.raises(PeerError):
        Folder(tmp_path).get(asked)
    assert list(tmp_path.iterdir()) == []


def test_an_object_larger_than_allowed_is_not_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with scripted(TAKING + brought() + got(1) + RELEASED) as asked:
        result = folder.get(asked, max_object_bytes=50)
    assert (folder.taken, result.completed, result.failed) == ([], 0, 1)


def test_a_large_object_does_not_grow_into_the_reserve_of_the_disk(tmp_path: Path) -> None:
    piece = peer.p_data(peer.pdv(5, 0, b"A" * 16000))
    large = peer.p_data(peer.pdv(5, 3, peer.store_rq())) + piece * 1000
    large += peer.p_data(peer.pdv(5, 2, b"A" * 16000))
    folder = Folder(tmp_path)
    asked_for_room: list[int] = []
    with scripted(TAKING + large + got(1) + RELEASED) as asked:
        result = folder.get(asked, shortage=lambda: asked_for_room.append(1) or "1 MB is free")
    assert (folder.taken, result.completed, result.failed) == ([], 0, 1)
    assert (folder.refused, len(asked_for_room)) == ([], 1)  # nothing of it was looked at
    assert list(tmp_path.iterdir()) == []


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (accepted((1, "1.2.3.4")), "transfer syntax 1.2.3.4, which was not proposed"),
        (accepted((1, peer.IMPLICIT), (1, peer.EXPLICIT)), "context 1 is answered twice"),
        (accepted((1, peer.IMPLICIT), max_length=3), "leaves no room for a fragment"),
        (accepted((7, peer.IMPLICIT)), "does not support queries"),
        (accepted(), "does not support queries"),
        (found(), "ended the connection before the association"),
        (RELEASED, "ended the connection before the association"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unknown PDU type 0x48"),
    ],
)
def test_an_acceptance_that_is_none_ends_the_association(answer: bytes, expected: str) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)

    with scripted(script) as asked, pytest.raises(PeerError) as error:
        ask(asked)
    assert expected in error.value.reason


@pytest.mark.parametrize(
    "answer",
    [
        peer.message(1, response(C_FIND_RSP, QUERY, SUCCESS, message_id=7)),
        peer.message(1, response(C_MOVE_RSP, MOVE, SUCCESS)),
        peer.message(1, response(C_GET_RSP, GET, PENDING)),
        peer.message(1, peer.store_rq(), peer.data_set()),
        peer.message(1, peer.find_rq(), MATCH),
        peer.message(1, peer.echo_rq()),
    ],
    ids=["message ID", "C-MOVE", "C-GET", "C-STORE", "C-FIND request", "C-ECHO request"],
)
def test_an_answer_to_what_nobody_asked_ends_the_association(answer: bytes) -> None:
    assert re.search("what nobody asked for|nobody awaits", refusal(ACCEPTED + answer))


def test_an_answer_without_a_status_is_none() -> None:
    without = peer.command(
        peer.uid(0x0002, QUERY),
        peer.us(0x0100, C_FIND_RSP),
        peer.us(0x0120, 1),
        peer.us(0x0800, peer.NO_DATA_SET),
    )
    assert refusal(ACCEPTED + peer.message(1, without))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, of the escape sequences
def test_what_a_peer_says_of_its_refusal_steers_no_terminal() -> None:
    comment = peer.element(0x0902, b"\x1b]0;owned\x07\x1b[2J\r\nok: 3 ")
    reason = refusal(ACCEPTED + peer.message(1, response(C_FIND_RSP, QUERY, REFUSED, comment)))
    assert "owned" in reason
    assert reason.isprintable()
    assert len(reason) < 150


def test_a_peer_that_leaves_in_the_middle_of_an_echo_was_not_silent() -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(ACCEPTED)
        connection.shutdown(socket.SHUT_WR)

    with scripted(script) as asked, pytest.raises(PeerError) as error:
        echo(asked)
    assert error.value.kind is PeerErrorKind.ABORTED


# --- when nobody wants to wait any longer ---


def _for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(found())


def _half(connection: socket.socket) -> None:
    connection.sendall(found()[:-10])


def _byte_by_byte(connection: socket.socket) -> None:
    for byte in found(MATCH * 1000):
        connection.sendall(bytes((byte,)))
        time.sleep(0.01)


def _silent(connection: socket.socket) -> None:
    connection.sendall(b"")


@pytest.mark.parametrize("script", [_for_ever, _half, _byte_by_byte, _silent])
def test_a_query_that_is_cancelled_ends_whatever_the_peer_does(
    script: Callable[[socket.socket], None],
) -> None:
    """The peer is waited for ten minutes, but for the cancel."""
    cancel = threading.Event()

    def run(connection: socket.socket) -> None:
        connection.sendall(ACCEPTED)
        threading.Timer(0.2, cancel.set).start()
        script(connection)

    with scripted(run) as asked, pytest.raises(PeerError, match="after a C-CANCEL"):
        assert set(ask(asked, cancel=cancel)) <= {"1.2.3"}


def test_a_retrieve_of_an_object_without_end_is_cancelled(tmp_path: Path) -> None:
    cancel = threading.Event()
    piece = peer.p_data(peer.pdv(5, 0, b"A" * 16000))

    def script(connection: socket.socket) -> None:
        connection.sendall(TAKING + peer.p_data(peer.pdv(5, 3, peer.store_rq())))
        threading.Timer(0.2, cancel.set).start()
        while True:
            connection.sendall(piece)
            time.sleep(0.001)

    with scripted(script) as asked, pytest.raises(PeerError, match="after a C-CANCEL"):
        Folder(tmp_path).get(asked, cancel=cancel)
    assert list(tmp_path.iterdir()) == []


def test_a_send_to_a_peer_that_takes_nothing_is_cancelled(tmp_path: Path) -> None:
    cancel = threading.Event()
    gone = threading.Event()

    def script(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(accepted((1, peer.IMPLICIT), max_length=0))
        threading.Timer(0.2, cancel.set).start()
        gone.wait(60)
        raise OSError("enough")

    file = tmp_path / "object"
    file.write_bytes(peer.data_set(padding=32 << 20))
    size = file.stat().st_size
    instance = StoredInstance(peer.CT, "1.2.3.4", peer.IMPLICIT, file, 0, size, "", "")
    try:
        with scripted(script) as asked:
            result = send(asked, [instance], cancel=cancel)
    finally:
        gone.set()
    assert (result.completed, result.left + len(result.failed)) == (0, 1)


def test_a_peer_that_takes_its_time_gets_its_object(tmp_path: Path) -> None:
    """It takes nothing for longer than we look whether somebody wants to stop."""
    stored = response(C_STORE_RSP, peer.CT, SUCCESS, peer.uid(0x1000, "1.2.3.4"))
    file = tmp_path / "object"
    file.write_bytes(peer.data_set(padding=16 << 20))
    size = file.stat().st_size
    taken: list[int] = []

    def script(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(accepted((1, peer.IMPLICIT), max_length=0))
        time.sleep(0.8)
        count = 0
        while count < size:
            count += len(connection.recv(1 << 20))
        taken.append(count)
        connection.sendall(peer.message(1, stored) + RELEASED)

    instance = StoredInstance(peer.CT, "1.2.3.4", peer.IMPLICIT, file, 0, size, "", "")
    with scripted(script) as asked:
        result = send(asked, [instance])
    assert (result.completed, result.failed) == (1, [])
    assert taken[0] >= size


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for each in set(threading.enumerate()) - before:
        each.join(10)
