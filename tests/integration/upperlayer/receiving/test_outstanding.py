"""One operation at a time: what comes out of turn, or without end, ends the association."""

import struct
import threading
import tracemalloc
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt

from lfscp.observe import metrics
from lfscp.upperlayer.connection.limits import ReceiveLimits
from tests.support.dicom_peer import (
    ABORT,
    C_FIND,
    CT,
    DATA_SET,
    IMPLICIT,
    LAST,
    NO_DATA_SET,
    P_DATA,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Peer,
    cancel_rq,
    command,
    data_set,
    echo,
    echo_rq,
    element,
    find_rq,
    item,
    message,
    p_data,
    pdv,
    read_command,
    store_rq,
    uid,
    until,
    us,
)
from tests.support.serving import make_ae, serving

STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
C_ECHO_RSP, C_STORE_RSP, C_FIND_RSP, C_GET_RSP, N_GET_RSP = 0x8030, 0x8001, 0x8020, 0x8010, 0x8110
KEYS = b"\x08\0\x52\0\x06\0\0\0STUDY "
MANY = 1000


def match():
    found = Dataset()
    found.QueryRetrieveLevel, found.StudyInstanceUID = "STUDY", "1.2.3"
    return found


def find_until_cancelled(event):
    while not event.is_cancelled:
        yield 0xFF00, match()
    yield 0xFE00, None


def get_one(_event):
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = CT, "1.2.3.4"
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    yield 1
    yield 0xFF00, found


def response(field, message_id, status=0x0000, data=NO_DATA_SET):
    return command(
        uid(0x0002, CT),
        us(0x0100, field),
        us(0x0120, message_id),
        us(0x0800, data),
        us(0x0900, status),
    )


def get_rq(message_id=1):
    return command(
        uid(0x0002, STUDY_ROOT_GET),
        us(0x0100, 0x0010),
        us(0x0110, message_id),
        us(0x0700, 0),
        us(0x0800, DATA_SET),
    )


@pytest.fixture(params=["straight", "watched"])
def seen(request):
    return [] if request.param == "straight" else [(evt.EVT_PDU_RECV, lambda event: None)]


@contextmanager
def asked(handlers, contexts=None, user_items=b"", **options):
    """A server, and a peer associated with it that the server is rid of at the end."""
    ae = make_ae()
    ae.add_supported_context(STUDY_ROOT_GET)
    with serving(*handlers, ae=ae, **options) as server:
        with Peer(server.server_address) as peer:
            peer.associate(*([contexts] if contexts else []), user_items=user_items)
            yield server, peer
        assert until(lambda: not server.active_associations)
        echo(server.server_address)


@contextmanager
def finding(seen, **options):
    """The same, while a C-FIND is served that only a C-CANCEL ends."""
    with asked([(evt.EVT_C_FIND, find_until_cancelled), *seen], **options) as (server, peer):
        peer.send(message(5, find_rq(7), KEYS))
        assert peer.status() == 0xFF00
        yield server, peer


@contextmanager
def getting(seen, **options):
    """The same, while a C-GET waits for the answer to its C-STORE, whose Message ID it gives."""
    contexts = [(1, VERIFICATION, (IMPLICIT,)), (3, CT, (IMPLICIT,))]
    contexts += [(5, STUDY_ROOT_FIND, (IMPLICIT,)), (9, STUDY_ROOT_GET, (IMPLICIT,))]
    role = item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1")
    handlers = [(evt.EVT_C_GET, get_one), *seen]
    with asked(handlers, contexts, role, **options) as (server, peer):
        peer.send(message(9, get_rq(7), KEYS))
        _, elements, _ = peer.message()
        assert elements[0x0100] == b"\1\0"
        yield server, peer, int.from_bytes(elements[0x0110], "little")


def read_to_abort(peer):
    while (answer := peer.pdu()) is not None and answer[0] == P_DATA:
        pass
    assert answer is not None
    assert answer[0] == ABORT


def reasons(caplog):
    return [line for line in caplog.messages if " ended: " in line]


def counted(count):
    return metrics.BOARD.values[count._at]


def out_of_turn(kind):
    return counted(metrics.OUT_OF_TURN.of(kind))


# --- requests ---

SECOND = [
    pytest.param(message(1, echo_rq(8)), id="echo"),
    pytest.param(message(5, find_rq(8), KEYS), id="find"),
    pytest.param(message(5, find_rq(7), KEYS), id="find of the same Message ID"),
    pytest.param(message(3, store_rq(8)), id="store, its data set not yet sent"),
]


@pytest.mark.parametrize("second", SECOND)
def test_a_second_request_while_one_is_served_ends_the_association(second, seen, caplog):
    before = out_of_turn("request")
    with finding(seen) as (_, peer):
        peer.send(second)
        read_to_abort(peer)
    (line,) = reasons(caplog)
    assert "while one is served, and no asynchronous operations window was negotiated" in line
    assert out_of_turn("request") == before + 1


@pytest.mark.parametrize("second", SECOND)
def test_a_second_request_while_a_sub_operation_is_answered_ends_it_too(second, seen, caplog):
    with getting(seen) as (_, peer, _):
        peer.send(second)
        read_to_abort(peer)
    (line,) = reasons(caplog)
    assert "a second request" in line


def test_requests_without_end_while_one_is_served_take_no_memory():
    """20 MB of queries behind a C-GET whose C-STORE is never answered."""
    with getting([]) as (_, peer, _):
        query = message(5, find_rq(8)) + b"".join(
            p_data(pdv(5, 0, bytes(50_000))) for _ in range(20)
        )
        tracemalloc.start()
        try:
            for _ in range(20):
                peer.send(query)
            read_to_abort(peer)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 5_000_000


def test_a_request_right_behind_the_final_response_is_served():
    """A handler that looks at the socket after its last answer takes nobody by surprise."""

    def find(event):
        try:
            yield 0xFF00, match()
            yield 0x0000, None
        finally:
            until(lambda: event.is_cancelled, timeout=0.05)

    with asked([(evt.EVT_C_FIND, find)]) as (_, peer):
        for number in range(3):
            peer.send(message(5, find_rq(number), KEYS))
            assert peer.status() == 0xFF00
            assert peer.status() == 0x0000
            assert peer.echo(number) == 0x0000
        peer.release()


def test_a_store_that_was_answered_early_is_followed_by_the_next(seen):
    handlers = [(evt.EVT_C_STORE, lambda event: 0x0000), *seen]
    with asked(handlers) as (_, peer):
        for number in range(20):
            peer.send(message(3, store_rq(number, f"1.2.{number + 1}"), data_set()))
            assert peer.status() == 0x0000
        peer.release()


# --- responses ---

UNASKED = [
    pytest.param(1, C_ECHO_RSP, 1, id="echo"),
    pytest.param(3, C_STORE_RSP, 7, id="store"),
    pytest.param(5, C_FIND_RSP, 7, id="find, to the Message ID that is served"),
    pytest.param(3, N_GET_RSP, 1, id="get"),
]


@pytest.mark.parametrize(("context", "field", "message_id"), UNASKED)
@pytest.mark.parametrize("while_serving", [False, True])
def test_a_response_that_nobody_awaits_ends_the_association(
    context, field, message_id, while_serving, seen, caplog
):
    before = out_of_turn("response")
    with finding(seen) if while_serving else asked(seen) as (_, peer):
        peer.send(message(context, response(field, message_id)))
        read_to_abort(peer)
    (line,) = reasons(caplog)
    assert f"a response (0x{field:04X} to Message ID {message_id}) that nobody awaits" in line
    assert out_of_turn("response") == before + 1


@pytest.mark.parametrize("wrong", ["Message ID", "Command Field", "none"])
def test_only_the_response_that_is_awaited_is_taken(wrong, seen):
    with getting(seen) as (_, peer, message_id):
        field = C_ECHO_RSP if wrong == "Command Field" else C_STORE_RSP
        other = message_id + 1 if wrong == "Message ID" else message_id
        peer.send(message(3, response(field, other)))
        if wrong != "none":
            read_to_abort(peer)
            return
        assert peer.status() == 0xFF00
        assert peer.status() == 0x0000
        peer.send(message(3, response(C_STORE_RSP, message_id)))  # a second time
        read_to_abort(peer)


def test_a_data_set_behind_a_response_nobody_awaits_is_not_read(seen):
    with asked(seen) as (_, peer):
        peer.send(message(5, response(C_FIND_RSP, 1, data=DATA_SET)))
        read_to_abort(peer)


# --- C-CANCEL ---


def test_cancels_of_other_operations_neither_stay_nor_hide_the_right_one(seen):
    kept = []

    def find(event):
        while not event.is_cancelled:
            kept.append(len(event.assoc.dimse.outstanding.cancels))
            yield 0xFF00, match()
        yield 0xFE00, None

    with asked([(evt.EVT_C_FIND, find), *seen]) as (_, peer):
        peer.send(*(message(5, cancel_rq(number)) for number in range(MANY)))
        peer.send(message(5, find_rq(7), KEYS))
        assert peer.status() == 0xFF00
        others = (number for number in range(MANY) if number != 7)
        peer.send(*(message(5, cancel_rq(number)) for number in others))
        peer.send(message(5, cancel_rq(7)))
        while (status := peer.status()) == 0xFF00:
            pass
        assert status == 0xFE00
        assert peer.echo() == 0x0000
        peer.release()
    assert max(kept) == 0


def test_cancels_without_end_do_not_keep_the_operation_from_going_on(seen):
    """Each look takes a few, however many have come."""
    matches = 100

    def find(event):
        for _ in range(matches):
            assert not event.is_cancelled
            yield 0xFF00, match()

    flood = message(5, cancel_rq(9)) * 5000
    with asked([(evt.EVT_C_FIND, find), *seen]) as (_, peer):
        peer.send(message(5, find_rq(7), KEYS), flood)
        statuses = [peer.status() for _ in range(matches + 1)]
    assert statuses == [0xFF00] * matches + [0x0000]


def test_a_cancel_is_told_as_often_as_it_is_asked_for():
    told = []

    def find(event):
        assert until(lambda: event.is_cancelled)
        told.extend(event.is_cancelled for _ in range(3))
        yield 0xFE00, None

    with asked([(evt.EVT_C_FIND, find)]) as (_, peer):
        peer.send(message(5, find_rq(7), KEYS), message(5, cancel_rq(7)))
        assert peer.status() == 0xFE00
        peer.release()
    assert told == [True] * 3


@pytest.mark.parametrize("how", ["abort", "close", "release", "aborted here"])
def test_the_end_of_the_association_cancels_what_runs(how, seen):
    noticed = []

    def find(event):
        began.set()
        noticed.append(until(lambda: event.is_cancelled))
        yield 0x0000, None

    began = threading.Event()
    with asked([(evt.EVT_C_FIND, find), *seen]) as (server, peer):
        peer.send(message(5, find_rq(7), KEYS))
        if how == "abort":
            peer.send(struct.pack(">BxI", ABORT, 4) + bytes(4))
        elif how == "close":
            peer.sock.close()
        elif how == "release":
            peer.send(struct.pack(">BxI", 5, 4) + bytes(4))
        else:
            assert began.wait(10)
            (association,) = server.active_associations
            association.abort(block=False)
        assert until(lambda: noticed)
    assert noticed == [True]


# --- what has no end ---

LIMIT = 20_000
LIMITED = {"receive_limits": ReceiveLimits(max_message_bytes=LIMIT)}
FRAGMENT = 1000


def too_large():
    return counted(metrics.OVERSIZE_MESSAGES.of())


def endless(context):
    while True:
        yield p_data(pdv(context, 0, b"\x08\0\x52\0\xe0\x03\0\0" + bytes(FRAGMENT - 8)))


def send_until_aborted(peer, parts):
    """How many were taken before the peer was sent away."""
    peer.sock.settimeout(0.005)
    for number, part in enumerate(parts):
        peer.send(part)
        try:
            answer = peer.pdu()
        except TimeoutError:
            continue
        assert answer is not None
        assert answer[0] == ABORT
        return number + 1
    raise AssertionError("never aborted")


@pytest.mark.parametrize("field", [C_FIND, 0x0010, 0x0021, 0x0120, 0x0130, 0x0140, 0x0100])
def test_a_data_set_without_end_ends_the_association(field, seen, caplog):
    named = command(
        uid(0x0002, STUDY_ROOT_FIND),
        us(0x0100, field),
        us(0x0110, 7),
        us(0x0800, DATA_SET),
    )
    before = too_large()
    with asked(seen, **LIMITED) as (_, peer):
        peer.send(message(5, named))
        assert send_until_aborted(peer, endless(5)) < LIMIT // FRAGMENT + 50
    (line,) = reasons(caplog)
    assert line.endswith(f"data set of a message larger than {LIMIT} bytes")
    assert too_large() == before + 1


def test_a_data_set_of_just_the_limit_is_served(seen):
    got = []

    def find(event):
        got.append(len(event.request.Identifier.getvalue()))
        return iter(())

    filler = LIMIT - len(KEYS) - 8
    keys = KEYS + struct.pack("<HHI", 0x0009, 0x1001, filler) + bytes(filler)
    with asked([(evt.EVT_C_FIND, find), *seen], **LIMITED) as (_, peer):
        half = LIMIT // 2
        peer.send(message(5, find_rq(7)))
        peer.send(p_data(pdv(5, 0, keys[:half])), p_data(pdv(5, LAST, keys[half:])))
        assert peer.status() == 0x0000
        peer.release()
    assert got == [LIMIT]


def test_a_store_is_not_bounded_by_it(seen):
    got = []

    def store(event):
        got.append(len(event.request.DataSet.getvalue()))
        return 0x0000

    body = data_set(padding=3 * LIMIT)
    with asked([(evt.EVT_C_STORE, store), *seen], **LIMITED) as (_, peer):
        peer.send(message(3, store_rq(), body))
        assert peer.status() == 0x0000
        peer.release()
    assert got == [len(body)]


def test_a_command_set_without_end_ends_the_association(seen, caplog):
    def commands():
        while True:
            yield p_data(pdv(1, 1, element(0x0003, bytes(8000))))

    with asked(seen) as (_, peer):
        assert send_until_aborted(peer, commands()) < 65536 // 8000 + 50
    (line,) = reasons(caplog)
    assert line.endswith("command set larger than 65536 bytes")


@pytest.mark.parametrize("control", [0, 1], ids=["data set", "command set"])
def test_fragments_without_a_byte_and_without_end_end_the_association(control, seen, caplog):
    with asked(seen) as (_, peer):
        if control == 0:
            peer.send(message(5, find_rq()))
        peer.send(p_data(*[pdv(5, control, b"")] * 150))
        read_to_abort(peer)
    (line,) = reasons(caplog)
    assert line.endswith("more than 100 empty fragments in a message")


def test_a_few_fragments_without_a_byte_are_forgiven(seen):
    with asked(seen) as (_, peer):
        peer.send(p_data(*[pdv(1, 1, b"")] * 3, pdv(1, 3, echo_rq(4))))
        _, elements, _ = peer.message()
        peer.release()
    assert elements[0x0900] == b"\0\0"


def test_numbers_that_lie_about_lengths_are_refused_before_anything_is_kept(seen):
    lies = [
        struct.pack(">BxI", P_DATA, 0xFFFFFFF0),
        struct.pack(">BxIIBB", P_DATA, 100, 0xFFFFFFF0, 1, 3) + bytes(94),
        p_data(pdv(1, 3, struct.pack("<HHI", 0, 2, 0xFFFFFFF0) + b"1.2")),
    ]
    for lie in lies:
        tracemalloc.start()
        try:
            with asked(seen) as (_, peer):
                peer.send(lie)
                read_to_abort(peer)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3_000_000


def test_read_command_reads_what_these_tests_send():
    assert read_command(response(C_GET_RSP, 5))[0x0120] == b"\5\0"
