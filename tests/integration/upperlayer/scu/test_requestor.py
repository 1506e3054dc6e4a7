"""Outbound associations, driven by the calling thread, to this server and to bare bytes."""

import socket
import struct
import threading
from contextlib import contextmanager

import pytest
from pydicom import Dataset
from pynetdicom import build_context, evt
from pynetdicom.dimse_primitives import C_FIND

from lfscp.upperlayer.connection.limits import ReceiveLimits
from lfscp.upperlayer.requestor import associate
from lfscp.upperlayer.scu.asking import Operation, UnansweredError
from lfscp.upperlayer.scu.sending import FileSlice, Parts, SendRequest, send_stored
from tests.support.dicom_peer import (
    ABORT,
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    CT,
    DATA_SET,
    IMPLICIT,
    NO_DATA_SET,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Peer,
    command,
    data_set,
    find_rq,
    item,
    message,
    nothing_left_behind,
    p_data,
    pdu,
    pdv,
    uid,
    us,
)
from tests.support.serving import make_ae, serving

CONTEXTS = [build_context(VERIFICATION, IMPLICIT), build_context(CT, IMPLICIT)]


def ask(address, contexts=CONTEXTS, **options):
    options = {"acse_timeout_s": 5, "dimse_timeout_s": 5, **options}
    return associate(
        address[:2],
        calling_ae_title="ASKS",
        called_ae_title="ANY-SCP",
        contexts=contexts,
        **options,
    )


@contextmanager
def answering(*answers, keep_open=True):
    """A peer that reads one PDU before each answer, and then reads to the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        heard = []

        def run():
            connection, _ = listening.accept()
            peer = object.__new__(Peer)
            peer.sock = connection
            connection.settimeout(10)
            with connection:
                for answer in answers:
                    heard.append(peer.pdu())
                    connection.sendall(answer)
                while keep_open and (got := peer.pdu()) is not None:
                    heard.append(got)
                    if got[0] == ABORT:
                        break

        thread = threading.Thread(target=run)
        thread.start()
        yield listening.getsockname(), heard
        thread.join(10)


def request(instance, body, assoc):
    (context_id,) = (cx.context_id for cx in assoc.accepted_contexts if cx.abstract_syntax == CT)
    return SendRequest(CT, instance, context_id, body)


@pytest.fixture
def received():
    return {}


@pytest.fixture
def server(received):
    def store(event):
        received[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0x0000

    with serving((evt.EVT_C_STORE, store)) as server:
        yield server


def test_it_echoes_stores_and_releases_without_a_thread_of_its_own(server):
    before = set(threading.enumerate())
    assoc = ask(server.server_address)
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0x0000
    own = [each for each in set(threading.enumerate()) - before if "LF_" not in each.name]
    assert own == []
    assoc.release()
    assert assoc.is_released
    assert not assoc.is_established


@pytest.mark.parametrize("padding", [0, 100, 131072, 3 << 20])
@pytest.mark.parametrize("largest", [16384, 131072, 0])
@pytest.mark.parametrize("watched", [False, True], ids=["straight", "watched"])
def test_an_object_arrives_as_it_was_sent(tmp_path, received, padding, largest, watched):
    body = data_set(padding=padding)
    path = tmp_path / "object"
    path.write_bytes(b"head" + body + b"tail")

    def store(event):
        received[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0xB007, "odd"
        return answer

    handlers = [(evt.EVT_PDU_SENT, lambda event: None)] if watched else []
    with serving((evt.EVT_C_STORE, store), ae=make_ae(maximum_pdu_size=largest)) as server:
        assoc = ask(server.server_address, evt_handlers=handlers)
        from_file = FileSlice(path, 4, len(body))
        assert send_stored(assoc, request("1.2.1", from_file, assoc)) == (0xB007, "odd")
        assert send_stored(assoc, request("1.2.2", body, assoc)) == (0xB007, "odd")
        with path.open("rb") as file:
            middle = FileSlice(path, 4 + 10, len(body) - 21, descriptor=file.fileno())
            parts = Parts([body[:7], bytearray(body[7:10]), middle, b"", body[-11:]])
            assert parts.size == len(body)
            assert send_stored(assoc, request("1.2.3", parts, assoc)) == (0xB007, "odd")
        assoc.release()
    assert received == {"1.2.1": body, "1.2.2": body, "1.2.3": body}


@pytest.mark.parametrize("largest", [16384, 0])
def test_parts_whose_file_is_short_end_the_association(tmp_path, received, largest):
    path = tmp_path / "object"
    path.write_bytes(bytes(300_000))
    with serving(
        (evt.EVT_C_STORE, lambda event: 0x0000), ae=make_ae(maximum_pdu_size=largest)
    ) as server:
        assoc = ask(server.server_address)
        with path.open("rb") as file:
            parts = Parts([bytes(8), FileSlice(path, 0, 300_002, descriptor=file.fileno())])
            assert send_stored(assoc, request("1.2.1", parts, assoc)) is None
        assert not assoc.is_established
        assert "2 bytes shorter" in assoc.end_reason


def test_a_file_that_is_gone_or_short_is_told_before_anything_is_sent(server, received, tmp_path):
    assoc = ask(server.server_address)
    short = tmp_path / "short"
    short.write_bytes(b"1234")
    with pytest.raises(FileNotFoundError):
        send_stored(assoc, request("1.2.1", FileSlice(tmp_path / "none", 0, 10), assoc))
    with pytest.raises(OSError, match="6 bytes shorter"):
        send_stored(assoc, request("1.2.1", FileSlice(short, 0, 10), assoc))
    assert send_stored(assoc, request("1.2.2", data_set(), assoc)) == (0, "")
    assoc.release()
    assert list(received) == ["1.2.2"]


def test_a_refused_connection_says_so():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
    with nothing_left_behind():
        assoc = ask(address)
        assert not assoc.is_established
        assert "refused" in assoc.end_reason


def test_a_rejection_is_one():
    with nothing_left_behind(), answering(pdu(ASSOCIATE_RJ, b"\0\1\1\7")) as (address, _):
        assoc = ask(address)
        assert assoc.is_rejected
        assert not assoc.is_established


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="http"),
        pytest.param(pdu(2, b"abc"), id="half an acceptance"),
        pytest.param(b"\x02\x00\xff\xff\xff\xff", id="an acceptance of 4 GB"),
        pytest.param(pdu(ABORT, b"\0\0\0\0"), id="an abort"),
    ],
)
def test_a_peer_that_answers_nonsense_is_given_up(answer):
    with nothing_left_behind(), answering(answer) as (address, _):
        assoc = ask(address, acse_timeout_s=0.5)
        assert not assoc.is_established
        assert not assoc.is_rejected


REFUSED = item(0x40, b"1.2.3")


def acceptance(*user_items, more=b"", padding=b"", refused=REFUSED):
    """An A-ASSOCIATE-AC for the first of CONTEXTS."""
    body = struct.pack(">Hxx16s16s32x", 1, b"ANY-SCP".ljust(16), b"ASKS".ljust(16))
    body += item(0x10, APPLICATION_CONTEXT.encode() + padding) + more
    body += item(0x21, b"\1\0\0\0" + item(0x40, IMPLICIT.encode() + padding))
    body += item(0x21, b"\3\0\3\0" + refused)
    return pdu(ASSOCIATE_AC, body + item(0x50, b"".join(user_items)))


LENGTH, CLASS_UID = item(0x51, struct.pack(">I", 16384)), item(0x52, b"1.2.3")


@pytest.mark.parametrize(
    ("answer", "version_name"),
    [
        pytest.param(
            acceptance(LENGTH, CLASS_UID, item(0x55, b"A" * 20)), "A" * 16, id="long version name"
        ),
        pytest.param(
            acceptance(LENGTH, CLASS_UID, item(0x55, b"M\xfcnchen")), "M?xfcnchen", id="not ASCII"
        ),
        pytest.param(
            acceptance(LENGTH, CLASS_UID, item(0x55, b"NAME\0\0\1")), "NAME", id="NUL behind it"
        ),
        pytest.param(acceptance(LENGTH, CLASS_UID, item(0x55, b"")), None, id="no version name"),
        pytest.param(acceptance(LENGTH), None, id="no class UID"),
        pytest.param(acceptance(item(0x51, b""), item(0x52, b"")), None, id="items of no length"),
        pytest.param(
            acceptance(LENGTH, CLASS_UID, item(0x7E, b"abc"), more=item(0x7F, b"abc")),
            None,
            id="items nobody knows",
        ),
        pytest.param(acceptance(LENGTH, CLASS_UID, padding=b"\0"), None, id="UIDs with NUL"),
        pytest.param(acceptance(LENGTH, CLASS_UID, padding=b" "), None, id="UIDs with blanks"),
        pytest.param(
            acceptance(LENGTH, CLASS_UID, refused=item(0x40, b"")), None, id="refused, empty syntax"
        ),
        pytest.param(
            acceptance(LENGTH, CLASS_UID, refused=item(0x40, b"\xff" * 70)),
            None,
            id="refused, a syntax that is none",
        ),
        pytest.param(acceptance(LENGTH, CLASS_UID, refused=b""), None, id="refused, no syntax"),
    ],
)
def test_an_acceptance_of_strange_names_is_one(answer, version_name):
    with nothing_left_behind(), answering(answer, pdu(6, b"\0\0\0\0")) as (address, _):
        assoc = ask(address)
        assert assoc.is_established, assoc.end_reason
        assert [cx.context_id for cx in assoc.accepted_contexts] == [1]
        assert assoc.accepted_contexts[0].transfer_syntax == [IMPLICIT]
        assert assoc.acceptor.implementation_version_name == version_name
        assoc.release()
        assert assoc.is_released


def test_a_peer_that_hangs_up_is_given_up():
    with nothing_left_behind(), answering(b"", keep_open=False) as (address, _):
        assert not ask(address).is_established


def test_a_peer_that_never_answers_is_aborted_after_the_acse_timeout_and_waiting_is_told():
    waited = []
    with nothing_left_behind(), answering() as (address, heard):
        assoc = ask(address, acse_timeout_s=1.5, while_waiting=lambda: waited.append(1))
        assert not assoc.is_established
    assert waited
    assert heard[-1][0] == ABORT


def test_a_server_that_aborts_ends_what_is_being_sent(tmp_path):
    def store(event):
        event.assoc.abort()

    with nothing_left_behind(), serving((evt.EVT_C_STORE, store)) as server:
        assoc = ask(server.server_address)
        assert send_stored(assoc, request("1.2.1", data_set(), assoc)) is None
        assert not assoc.is_established


def test_a_server_that_releases_is_answered():
    with nothing_left_behind(), serving() as server:
        assoc = ask(server.server_address)
        (served,) = server.active_associations
        released = threading.Thread(target=served.release)
        released.start()
        assert assoc.send_c_echo() is not None
        released.join(10)


# --- answers nobody asked for ---

ACCEPTED = item(0x40, IMPLICIT.encode())


def accepting(context_id, *answers):
    """A peer that accepts the one context, reads a request, and answers it so."""
    body = struct.pack(">Hxx16s16s32x", 1, b"ANY-SCP".ljust(16), b"ASKS".ljust(16))
    body += item(0x10, APPLICATION_CONTEXT.encode())
    body += item(0x21, bytes((context_id, 0, 0, 0)) + ACCEPTED) + item(0x50, LENGTH + CLASS_UID)
    return answering(pdu(ASSOCIATE_AC, body), b"".join(answers))


def answer(field, message_id, status=0x0000, data=NO_DATA_SET):
    return command(
        uid(0x0002, VERIFICATION),
        us(0x0100, field),
        us(0x0120, message_id),
        us(0x0800, data),
        us(0x0900, status),
    )


FINDS = [build_context(STUDY_ROOT_FIND, IMPLICIT)]
MATCH = b"\x08\0\x52\0\x06\0\0\0STUDY "


def find(assoc):
    return Operation(assoc, C_FIND, assoc.accepted_contexts[0], Dataset()).answers()


@pytest.mark.parametrize(
    ("field", "message_id"), [(0x8030, 7), (0x8020, 1), (0x8001, 1)], ids=["ID", "find", "store"]
)
def test_a_response_to_something_else_is_none(field, message_id):
    wrong = message(1, answer(field, message_id)) * 3
    with nothing_left_behind(), accepting(1, wrong) as (address, heard):
        assoc = ask(address, CONTEXTS[:1])
        assert "Status" not in assoc.send_c_echo()
        assert not assoc.is_established
    what = f"a response (0x{field:04X} to Message ID {message_id})"
    assert assoc.end_reason == f"{what} that nobody awaits"
    assert heard[-1][0] == ABORT


def test_a_response_that_comes_twice_ends_the_association_at_the_next_request():
    with nothing_left_behind(), accepting(1, message(1, answer(0x8030, 1)) * 2) as (address, _):
        assoc = ask(address, CONTEXTS[:1])
        assert assoc.send_c_echo().Status == 0x0000
        assert "Status" not in assoc.send_c_echo(2)
        assert not assoc.is_established


@pytest.mark.parametrize(
    "sent",
    [message(1, answer(0x8020, 9, 0xFF00, DATA_SET), MATCH), message(1, answer(0x8030, 1))],
    ids=["another Message ID", "another kind"],
)
def test_a_query_takes_no_response_but_its_own(sent):
    good = message(1, answer(0x8020, 1, 0xFF00, DATA_SET), MATCH)
    with nothing_left_behind(), accepting(1, good, sent) as (address, heard):
        answers = find(ask(address, FINDS))
        assert next(answers).identifier == MATCH
        with pytest.raises(UnansweredError, match="nobody awaits"):
            next(answers)
    assert heard[-1][0] == ABORT


def test_a_response_without_end_ends_the_association():
    fragments = p_data(pdv(1, 0, bytes(1000))) * 21
    sent = message(1, answer(0x8020, 1, 0xFF00, DATA_SET)) + fragments
    with nothing_left_behind(), accepting(1, sent) as (address, _):
        assoc = ask(address, FINDS)
        assoc.record.limits = ReceiveLimits(max_message_bytes=20_000)
        with pytest.raises(UnansweredError, match="larger than 20000 bytes"):
            next(find(assoc))


def test_a_request_of_the_peer_instead_of_a_response_ends_the_association():
    """It may ask us nothing: we have the SCU role alone."""
    sent = message(1, find_rq(5), MATCH) + message(1, answer(0x8020, 1))
    with (
        nothing_left_behind(),
        accepting(1, sent) as (address, heard),
        pytest.raises(UnansweredError, match="sent what nobody asked for: a C-FIND request"),
    ):
        next(find(ask(address, FINDS)))
    assert heard[-1][0] == ABORT


@pytest.mark.parametrize("count", [0, 129])
def test_too_many_or_no_contexts_are_refused(count):
    with pytest.raises(ValueError, match=f"{count} presentation contexts"):
        ask(("127.0.0.1", 1), contexts=[build_context(CT)] * count)
