"""What a careless or hostile peer sends: each ends in the right word, and the next is served."""

import errno
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from pynetdicom import evt

from tests.support.dicom_peer import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    CT,
    DATA,
    DATA_SET,
    LAST,
    NO_DATA_SET,
    P_DATA,
    RELEASE,
    VERIFICATION,
    Peer,
    associate_rq,
    command,
    data_set,
    echo,
    echo_rq,
    element,
    message,
    nothing_left_behind,
    p_data,
    pdu,
    pdv,
    store_rq,
    uid,
    until,
    us,
)
from tests.support.serving import make_ae, serving

ROOT = Path(__file__).parents[2]
BY_USER, BY_PROVIDER = 0, 2  # sources of an A-ABORT (PS3.8 table 9-26)


class Store:
    """A C-STORE handler that keeps what it was given."""

    def __init__(self):
        self.received = []

    def __call__(self, event):
        self.received.append(
            (str(event.request.AffectedSOPInstanceUID), event.request.DataSet.getvalue())
        )
        return 0x0000

    @property
    def handler(self):
        return evt.EVT_C_STORE, self


def refused(peer):
    """How the server ended it: 'closed', or the source of its A-ABORT."""
    answer = peer.pdu()
    if answer is None:
        return "closed"
    kind, body = answer
    assert kind == ABORT, answer
    return body[2]


def endings(caplog):
    """The lines that say why an association ended, once the server has drained."""
    return [line for line in caplog.messages if " ended: " in line]


# --- before there is an association ---


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", id="an HTTP request"),
        pytest.param(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 40, id="a TLS hello"
        ),
        pytest.param(random.Random(1).randbytes(4096), id="garbage"),
        pytest.param(b"\0" * 64, id="zeros"),
        pytest.param(b"\x01\x00\xff\xff\xff\xff" + b"\0" * 100, id="a request of 4 GB"),
        pytest.param(pdu(1, b"\0" * 4), id="a request cut short by its own length"),
        pytest.param(pdu(1, b""), id="an empty request"),
        pytest.param(
            associate_rq()[:74] + b"\x10\x00\xff\xff" + associate_rq()[78:], id="an item that lies"
        ),
        pytest.param(message(1, echo_rq()), id="data before a request"),
        pytest.param(RELEASE, id="a release before a request"),
        pytest.param(pdu(2, associate_rq()[6:]), id="an acceptance"),
    ],
)
def test_what_is_no_request_is_aborted(sent, caplog):
    with nothing_left_behind(), serving() as server:
        with Peer(server.server_address) as peer:
            peer.send(sent)
            assert refused(peer) == BY_USER, "AA-1, PS3.8 table 9-10, Sta2"
        echo(server.server_address)
    assert len(endings(caplog)) == 1


def test_an_abort_before_a_request_closes_without_a_word():
    with serving() as server:
        with Peer(server.server_address) as peer:
            peer.send(pdu(ABORT, b"\0\0\0\0"))
            assert peer.pdu() is None
        echo(server.server_address)


def test_a_peer_that_says_nothing_is_dropped_after_the_acse_timeout():
    with nothing_left_behind(), serving(ae=make_ae(acse_timeout=0.3)) as server:
        with Peer(server.server_address) as peer:
            assert peer.pdu() is None
        echo(server.server_address)


def test_half_a_request_is_dropped_after_the_acse_timeout_however_slowly_it_comes():
    with nothing_left_behind(), serving(ae=make_ae(acse_timeout=0.5)) as server:
        with Peer(server.server_address, timeout=0.05) as peer:
            request = associate_rq()
            sent = 0

            def is_dropped():
                nonlocal sent
                try:
                    if sent < len(request) - 1:
                        peer.send(request[sent : sent + 1])
                        sent += 1
                    return peer.sock.recv(1) == b""
                except TimeoutError:
                    return False
                except OSError:
                    return True

            assert until(is_dropped)
            assert sent < len(request) - 1
        echo(server.server_address)


def test_a_peer_that_stops_in_mid_pdu_is_aborted_after_the_network_timeout():
    with nothing_left_behind(), serving(ae=make_ae(network_timeout=0.3)) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            peer.send(message(1, echo_rq())[:-5])
            assert refused(peer) == BY_PROVIDER
        echo(server.server_address)


def test_sixty_half_requests_hold_nobody_up():
    with nothing_left_behind(), serving() as server:
        half = associate_rq()[:60]
        peers = [Peer(server.server_address) for _ in range(60)]
        for peer in peers:
            peer.send(half)
        echo(server.server_address)
        assert until(lambda: server.active_associations == [])
        assert server.pool.running + server.pool.waiting < 5  # none of them has a thread
        for peer in peers:
            peer.sock.close()


@pytest.mark.parametrize("version", [0, 2])
def test_a_request_of_another_protocol_version_is_rejected(version):
    with serving() as server:
        with Peer(server.server_address) as peer:
            peer.send(associate_rq(version=version))
            assert peer.pdu() == (ASSOCIATE_RJ, b"\0\1\2\2")
        echo(server.server_address)


def test_a_request_of_another_application_context_is_rejected():
    with serving() as server:
        with Peer(server.server_address) as peer:
            peer.send(associate_rq(application_context="1.2.3"))
            assert peer.pdu() == (ASSOCIATE_RJ, b"\0\1\1\2")
        echo(server.server_address)


# --- in an association ---


def bad_command(*elements):
    return p_data(pdv(1, COMMAND | LAST, b"".join(elements)))


ECHO_FRAGMENT = pdv(1, COMMAND | LAST, echo_rq())


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(associate_rq(), id="a second request"),
        pytest.param(pdu(2, associate_rq()[6:]), id="an acceptance"),
        pytest.param(pdu(3, b"\0\1\1\1"), id="a rejection"),
        pytest.param(pdu(6, b"\0\0\0\0"), id="a release response nobody asked for"),
        pytest.param(pdu(9, b"abcd"), id="an unknown PDU"),
        pytest.param(b"\x04\x00\xff\xff\xff\xff", id="data of 4 GB"),
        pytest.param(b"\x05\x00\xff\xff\xff\xff", id="a release of 4 GB"),
        pytest.param(pdu(P_DATA, b""), id="data without a PDV"),
        pytest.param(pdu(P_DATA, ECHO_FRAGMENT + b"\0\0\0"), id="three bytes too many"),
        pytest.param(pdu(P_DATA, b"\0\0\0\1\1"), id="a PDV without a control byte"),
        pytest.param(pdu(P_DATA, b"\0\0\0\0\1\3"), id="a PDV of nothing"),
        pytest.param(pdu(P_DATA, b"\0\0\0\xff\1\3abcd"), id="a PDV longer than its PDU"),
        pytest.param(pdu(P_DATA, b"\xff\xff\xff\xff\1\3abcd"), id="a PDV of 4 GB"),
        pytest.param(p_data(pdv(99, COMMAND | LAST, echo_rq())), id="an unknown context"),
        pytest.param(p_data(pdv(1, DATA | LAST, b"abcd")), id="a data set without a command"),
        pytest.param(
            p_data(pdv(3, COMMAND | LAST, store_rq())) + p_data(pdv(3, COMMAND | LAST, echo_rq())),
            id="a command where data was announced",
        ),
        pytest.param(
            p_data(pdv(1, COMMAND, echo_rq()[:20]))
            + p_data(pdv(3, COMMAND | LAST, echo_rq()[20:])),
            id="a message that changes its context",
        ),
        pytest.param(bad_command(b"abc"), id="a command of three bytes"),
        pytest.param(bad_command(echo_rq()[:-1]), id="a command cut in a value"),
        pytest.param(bad_command(), id="an empty command"),
        pytest.param(bad_command(b"\x08\x00\x05\x00\2\0\0\0ab"), id="an element of group 8"),
        pytest.param(
            bad_command(command(us(0x0110, 1), us(0x0800, NO_DATA_SET))), id="no Command Field"
        ),
        pytest.param(
            bad_command(command(us(0x0100, 0x7777), us(0x0110, 1), us(0x0800, NO_DATA_SET))),
            id="an unknown Command Field",
        ),
        pytest.param(
            bad_command(command(us(0x0100, 0x30), us(0x0800, NO_DATA_SET))), id="no Message ID"
        ),
        pytest.param(
            b"".join(p_data(pdv(1, COMMAND, element(0x0001, b"x" * 8000))) for _ in range(9)),
            id="a command that never ends",
        ),
    ],
)
def test_what_breaks_the_protocol_is_aborted(sent, caplog):
    with nothing_left_behind(), serving() as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            peer.send(sent)
            assert refused(peer) == BY_PROVIDER
        echo(server.server_address)
    assert len(endings(caplog)) == 1


@pytest.mark.parametrize("broken", ["1" * 65, "", "é.1"], ids=["65 characters", "none", "no ASCII"])
@pytest.mark.parametrize("which", ["class", "instance"])
def test_a_store_with_a_uid_that_is_none_is_answered_and_the_association_goes_on(which, broken):
    store = Store()
    with serving(store.handler) as server, Peer(server.server_address) as peer:
        peer.associate()
        sop_class = broken if which == "class" else CT
        instance = broken if which == "instance" else "1.2.3.4"
        encoded = command(
            element(0x0002, sop_class.encode()),
            us(0x0100, 1),
            us(0x0110, 7),
            us(0x0700, 0),
            us(0x0800, DATA_SET),
            element(0x1000, instance.encode()),
        )
        peer.send(message(3, encoded, data_set()))
        assert peer.status() == 0x0117  # invalid object instance
        assert store.received == []
        assert peer.echo() == 0
        peer.release()


def test_a_response_nobody_waits_for_ends_its_own_association_alone(caplog):
    with serving() as server, Peer(server.server_address) as other:
        other.associate()
        with Peer(server.server_address) as peer:
            peer.associate()
            response = command(
                uid(0x0002, VERIFICATION),
                us(0x0100, 0x8030),
                us(0x0120, 1),
                us(0x0800, NO_DATA_SET),
                us(0x0900, 0),
            )
            peer.send(message(1, response))
            assert refused(peer) == BY_PROVIDER
        assert other.echo() == 0
        other.release()
    (line,) = endings(caplog)
    assert line.endswith("a response (0x8030 to Message ID 1) that nobody awaits")


# --- messages cut in every way give one result ---


def test_a_message_cut_at_every_byte_is_the_same_message():
    store = Store()
    encoded, body = store_rq(), data_set()
    with serving(store.handler) as server, Peer(server.server_address) as peer:
        peer.associate()
        for cut in range(len(encoded) + 1):
            peer.send(p_data(pdv(3, COMMAND, encoded[:cut])))
            peer.send(p_data(pdv(3, COMMAND | LAST, encoded[cut:])))
            peer.send(p_data(pdv(3, DATA | LAST, body)))
            assert peer.status() == 0
        for cut in range(len(body) + 1):
            peer.send(p_data(pdv(3, COMMAND | LAST, encoded)))
            peer.send(p_data(pdv(3, DATA, body[:cut]), pdv(3, DATA | LAST, body[cut:])))
            assert peer.status() == 0
        peer.release()
    assert len(store.received) == len(encoded) + len(body) + 2
    assert set(store.received) == {("1.2.3.4", body)}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("together", [1, 4, 1000])
@pytest.mark.parametrize("watched", [False, True], ids=["straight", "watched"])
def test_a_message_in_tiny_fragments_is_the_same_message(size, together, watched):
    store = Store()
    seen = [(evt.EVT_PDU_RECV, lambda event: None)] if watched else []
    encoded, body = store_rq(), data_set()

    def fragments(data, kind):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        return [
            pdv(3, kind | (LAST if at + 1 == len(pieces) else 0), p) for at, p in enumerate(pieces)
        ]

    with serving(store.handler, *seen) as server, Peer(server.server_address) as peer:
        peer.associate()
        pdvs = fragments(encoded, COMMAND) + fragments(body, DATA)
        for at in range(0, len(pdvs), together):
            peer.send(p_data(*pdvs[at : at + together]))
        assert peer.status() == 0
        peer.release()
    assert store.received == [("1.2.3.4", body)]


@pytest.mark.parametrize("watched", [False, True], ids=["straight", "watched"])
def test_several_requests_in_one_pdu_are_out_of_turn(watched, caplog):
    """The second one comes before the answer to the first, whatever the timing."""
    store = Store()
    seen = [(evt.EVT_PDU_RECV, lambda event: None)] if watched else []
    with nothing_left_behind(), serving(store.handler, *seen) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            pdvs = []
            for number in (1, 2, 3):
                instance = f"1.2.{number}"
                pdvs.append(pdv(3, COMMAND | LAST, store_rq(number, instance)))
                pdvs.append(pdv(3, LAST, data_set(instance)))
            peer.send(p_data(*pdvs))
            assert refused(peer) == BY_PROVIDER
        assert until(lambda: not server.active_associations)
    assert store.received == []
    (line,) = endings(caplog)
    assert "a second request (0x0001) while one is served" in line


def test_the_stream_may_come_byte_by_byte():
    store = Store()
    with serving(store.handler) as server, Peer(server.server_address, nagle=False) as peer:
        for byte in associate_rq():
            peer.send(bytes((byte,)))
        assert peer.pdu()[0] == ASSOCIATE_AC
        for byte in message(3, store_rq(), data_set()):
            peer.send(bytes((byte,)))
        assert peer.status() == 0
        peer.release()
    assert store.received == [("1.2.3.4", data_set())]


@pytest.mark.parametrize("nagle", [True, False])
def test_many_stores_in_flight_are_answered_in_order(nagle):
    store = Store()
    with serving(store.handler) as server, Peer(server.server_address, nagle=nagle) as peer:
        peer.associate()
        for number in range(1, 101):
            peer.send(message(3, store_rq(number, f"1.{number}"), data_set(f"1.{number}")))
        answers = [int.from_bytes(peer.message()[1][0x0120], "little") for _ in range(100)]
        assert answers == list(range(1, 101))
        peer.release()
    assert [name for name, _ in store.received] == [f"1.{number}" for number in range(1, 101)]


# --- the maximum PDU length ---


@pytest.mark.parametrize("largest", [8, 16, 17, 4096, 0], ids=lambda size: f"peer takes {size}")
def test_answers_keep_to_the_peers_maximum_pdu_length(largest):
    with serving() as server, Peer(server.server_address) as peer:
        peer.associate(max_length=largest)
        peer.send(message(1, echo_rq()))
        encoded, lengths = b"", []
        while True:
            kind, body = peer.pdu()
            assert kind == P_DATA
            lengths.append(len(body))
            encoded += body[6:]
            if body[5] & LAST:
                break
        assert encoded.endswith(us(0x0900, 0))
        if largest:
            assert max(lengths) <= largest
        peer.release()


def test_a_peer_whose_maximum_leaves_no_room_is_aborted_and_others_are_served():
    with nothing_left_behind(), serving() as server:
        with Peer(server.server_address) as peer:
            peer.send(associate_rq(max_length=7))
            answer = peer.pdu()
            if answer[0] == ASSOCIATE_AC:
                peer.send(message(1, echo_rq()))
                answer = peer.pdu()
            assert answer is None or answer[0] in (ABORT, ASSOCIATE_RJ)
        echo(server.server_address)


def test_a_server_without_a_limit_takes_a_pdu_of_8_mb():
    store = Store()
    body = data_set(padding=8 << 20)
    with (
        serving(store.handler, ae=make_ae(maximum_pdu_size=0)) as server,
        Peer(server.server_address) as peer,
    ):
        accepted = peer.associate()
        assert b"\x51\x00\x00\x04\x00\x00\x00\x00" in accepted
        peer.send(message(3, store_rq(), body))
        assert peer.status() == 0
        peer.release()
    assert store.received == [("1.2.3.4", body)]


def test_a_pdu_larger_than_announced_is_aborted():
    with serving(ae=make_ae(maximum_pdu_size=16384)) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            peer.send(p_data(pdv(3, COMMAND | LAST, store_rq())), b"\x04\x00\x00\x00\x80\x00")
            assert refused(peer) == BY_PROVIDER
        echo(server.server_address)


# --- large objects and their spool ---

LARGE = 6 << 20


def begin_store(peer, size=LARGE):
    """Send a C-STORE but for its last fragment; returns the data set and what is still to come."""
    body = data_set(padding=size)
    peer.send(p_data(pdv(3, COMMAND | LAST, store_rq())))
    step = 64 << 10
    at = 0
    while at + step < len(body):
        peer.send(p_data(pdv(3, DATA, body[at : at + step])))
        at += step
    return body, p_data(pdv(3, DATA | LAST, body[at:]))


@pytest.mark.parametrize("how", ["close", "reset", "abort", "stall"])
def test_an_object_that_breaks_off_leaves_nothing(tmp_path, how):
    store = Store()
    with (
        nothing_left_behind(),
        serving(
            store.handler, ae=make_ae(network_timeout=1, acse_timeout=1), spool_dir=tmp_path
        ) as server,
    ):
        with Peer(server.server_address) as peer:
            peer.associate()
            begin_store(peer)
            assert until(lambda: list(tmp_path.iterdir())), "it never went to the spool"
            if how == "reset":
                peer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of 0 s: close resets
            if how in ("close", "reset"):
                peer.sock.close()
            if how == "abort":
                peer.send(pdu(ABORT, b"\0\0\0\0"))
            assert until(lambda: not server.active_associations)
        assert list(tmp_path.iterdir()) == []
        echo(server.server_address)
    assert store.received == []


def test_a_large_object_goes_through_the_spool_unchanged(tmp_path):
    seen = []

    def handle(event):
        seen.append((event.request.dataset, event.request.spooled, event.dataset_path))
        seen.append(event.request.DataSet.getvalue())
        seen.append(event.dataset.PatientName)
        return 0

    with (
        serving((evt.EVT_C_STORE, handle), spool_dir=tmp_path) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        body, rest = begin_store(peer)
        peer.send(rest)
        assert peer.status() == 0
        peer.release()
    (dataset, spooled, path), received, name = seen
    assert dataset is None
    assert spooled.path == path
    assert spooled.size == len(body)
    assert received == body
    assert name == "Doe^John"
    assert list(tmp_path.iterdir()) == [], "what the handler left is deleted"


def test_a_handler_may_take_the_spooled_file_away(tmp_path):
    kept = tmp_path / "kept.dcm"
    (spool := tmp_path / "spool").mkdir()

    def handle(event):
        event.request.spooled.path.rename(kept)
        return 0

    with (
        serving((evt.EVT_C_STORE, handle), spool_dir=spool) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        body, rest = begin_store(peer)
        peer.send(rest)
        assert peer.status() == 0
        peer.release()
    assert kept.read_bytes()[128:132] == b"DICM"
    assert kept.read_bytes().endswith(body)
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EIO])
def test_a_full_or_failing_disk_is_out_of_resources_and_the_association_goes_on(
    tmp_path, monkeypatch, problem
):
    store = Store()
    write = os.write

    def failing(fd, data):
        if str(tmp_path) in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(problem, os.strerror(problem))
        return write(fd, data)

    with serving(store.handler, spool_dir=tmp_path) as server, Peer(server.server_address) as peer:
        peer.associate()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing)
            _, rest = begin_store(peer)
            peer.send(rest)
            _, response, _ = peer.message()
        assert response[0x0900] == b"\x00\xa7"
        assert os.strerror(problem).encode() in response[0x0902]
        assert list(tmp_path.iterdir()) == []
        peer.send(message(3, store_rq(2), data_set()))
        assert peer.status() == 0
        peer.release()
    assert [name for name, _ in store.received] == ["1.2.3.4"]


def test_a_disk_that_is_really_full_is_out_of_resources(tmp_path):
    """With a limit on file sizes, which the kernel enforces, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["0xa700", "0x0"], done.stderr
    assert list(tmp_path.iterdir()) == []


def _with_a_limit_on_file_sizes(spool):
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))
    with serving(Store().handler, spool_dir=spool) as server, Peer(server.server_address) as peer:
        peer.associate()
        _, rest = begin_store(peer, 12 << 20)
        peer.send(rest)
        print(hex(peer.status()))  # noqa: T201 - this is what the test reads
        print(hex(peer.echo()))  # noqa: T201 - the same
        peer.release()


def test_names_of_control_characters_reach_the_handler_as_they_were_sent():
    store = Store()
    body = data_set().replace(b"Doe^John", b"Do\0\x1b^\r\n\x07")
    with serving(store.handler) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(message(3, store_rq(), body))
        assert peer.status() == 0
        peer.release()
    assert store.received == [("1.2.3.4", body)]


if __name__ == "__main__":
    _with_a_limit_on_file_sizes(Path(sys.argv[1]))
