"""What handlers may do with their event and its association, as with pynetdicom's server."""

import ssl
import subprocess
import threading

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from tests.support.dicom_peer import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    CONTEXTS,
    CT,
    DATA_SET,
    EXPLICIT,
    IMPLICIT,
    LAST,
    NO_DATA_SET,
    RELEASE_RP,
    RELEASE_RQ,
    VERIFICATION,
    Peer,
    associate_rq,
    cancel_rq,
    command,
    data_set,
    echo,
    find_rq,
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

STUDY_LEVEL = b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY "
COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"


def storing(handle):
    return evt.EVT_C_STORE, handle


def store(peer, number, body=None):
    instance = f"1.2.3.{number}"
    peer.send(message(3, store_rq(number, instance), body or data_set(instance)))
    return peer.status()


# --- what an event gives ---


def test_events_that_are_kept_keep_their_own_data():
    """The receive buffer is used again for the next object."""
    kept, requests = [], []

    def handle(event):
        (kept if event.request.MessageID % 2 else requests).append(
            event if event.request.MessageID % 2 else event.request
        )
        return 0x0000

    with serving(storing(handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        for number in range(1, 9):
            assert store(peer, number) == 0
        peer.release()
    assert [event.dataset.SOPInstanceUID for event in kept] == [f"1.2.3.{n}" for n in (1, 3, 5, 7)]
    assert [event.encoded_dataset(include_meta=False) for event in kept] == [
        data_set(f"1.2.3.{n}") for n in (1, 3, 5, 7)
    ]
    assert [request.DataSet.getvalue() for request in requests] == [
        data_set(f"1.2.3.{n}") for n in (2, 4, 6, 8)
    ]


def test_views_that_are_kept_keep_their_own_data():
    views = []

    def handle(event):
        views.append(event.request.dataset[:])
        return 0x0000

    with serving(storing(handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        for number in (1, 2, 3):
            assert store(peer, number) == 0
        peer.release()
    assert [bytes(view) for view in views] == [data_set(f"1.2.3.{n}") for n in (1, 2, 3)]


def test_an_event_can_be_read_later_by_another_thread():
    names, done = [], threading.Event()

    def read(event):
        done.wait(5)
        names.append(event.dataset.SOPInstanceUID)

    readers = []

    def handle(event):
        readers.append(threading.Thread(target=read, args=(event,)))
        readers[-1].start()
        return 0x0000

    with serving(storing(handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        for number in (1, 2, 3):
            assert store(peer, number) == 0
        done.set()
        for reader in readers:
            reader.join(5)
        peer.release()
    assert sorted(names) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


def test_file_meta_and_encoded_data_set_are_those_of_the_object(tmp_path):
    seen = {}

    def handle(event):
        seen["meta"] = event.file_meta
        seen["part 10"] = event.encoded_dataset()
        seen["context"] = event.context
        return 0x0000

    with serving(storing(handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        assert store(peer, 1) == 0
        peer.release()
    assert seen["meta"].MediaStorageSOPInstanceUID == "1.2.3.1"
    assert seen["meta"].MediaStorageSOPClassUID == CT
    assert seen["meta"].TransferSyntaxUID == IMPLICIT
    assert seen["part 10"][128:132] == b"DICM"
    assert seen["part 10"].endswith(data_set("1.2.3.1"))
    assert seen["context"].transfer_syntax == IMPLICIT
    assert seen["context"].context_id == 3


# --- handlers that fail ---


def raising(event):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (0xA700, 0xA700),
        (0x9999, 0x9999),
        ("no status", 0xC002),
        (None, 0xC002),
        (Dataset(), 0xC001),
        (raising, 0xC211),
    ],
    ids=["A700", "unknown", "text", "nothing", "a Dataset without one", "raises"],
)
def test_the_status_of_a_store_is_what_pynetdicom_makes_of_the_handlers(answer, status):
    handle = answer if callable(answer) else lambda event: answer
    with serving(storing(handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        assert store(peer, 1) == status
        assert peer.echo() == 0
        peer.release()


def test_a_status_data_set_brings_its_elements():
    def handle(event):
        status = Dataset()
        status.Status, status.ErrorComment = 0xA900, "not today"
        return status

    with serving(storing(handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(message(3, store_rq(), data_set()))
        _, elements, _ = peer.message()
        assert elements[0x0900] == b"\x00\xa9"
        assert elements[0x0902].rstrip() == b"not today"
        peer.release()


def find(peer, message_id=1):
    peer.send(message(5, find_rq(message_id), STUDY_LEVEL))


def answers(peer):
    statuses = [peer.status()]
    while statuses[-1] in (0xFF00, 0xFF01):
        statuses.append(peer.status())
    return statuses


def one_match():
    match = Dataset()
    match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", "1.2.3"
    return match


def test_a_find_handler_that_raises_after_a_match_ends_in_a_failure():
    def handle(event):
        yield 0xFF00, one_match()
        raise RuntimeError("on purpose")

    with serving((evt.EVT_C_FIND, handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        find(peer)
        assert answers(peer) == [0xFF00, 0xC311]
        assert peer.echo() == 0
        peer.release()


# --- cancelling ---


def test_a_handler_that_only_polls_sees_the_cancel():
    def handle(event):
        while not event.is_cancelled:
            yield 0xFF00, one_match()
        yield 0xFE00, None

    with serving((evt.EVT_C_FIND, handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        find(peer, 7)
        assert peer.status() == 0xFF00
        peer.send(message(5, cancel_rq(7)))
        assert answers(peer)[-1] == 0xFE00
        assert peer.echo() == 0
        peer.release()


def test_a_cancel_that_comes_too_late_does_not_cancel_the_next():
    def handle(event):
        yield (0xFE00, None) if event.is_cancelled else (0xFF00, one_match())

    with serving((evt.EVT_C_FIND, handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        for _ in range(3):
            find(peer, 1)
            assert answers(peer) == [0xFF00, 0x0000]
            peer.send(message(5, cancel_rq(1)))
        peer.release()


def test_a_cancel_right_behind_its_request_is_seen():
    def handle(event):
        yield (0xFE00, None) if event.is_cancelled else (0xFF00, one_match())

    request = p_data(
        pdv(5, COMMAND | LAST, find_rq(4)),
        pdv(5, LAST, STUDY_LEVEL),
        pdv(5, COMMAND | LAST, cancel_rq(4)),
    )
    with serving((evt.EVT_C_FIND, handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(request)
        assert answers(peer) == [0xFE00]
        peer.release()


# --- sending on the same association ---


def action_rq(message_id):
    return command(
        uid(0x0003, COMMITMENT),
        us(0x0100, 0x0130),
        us(0x0110, message_id),
        us(0x0800, DATA_SET),
        uid(0x1001, COMMITMENT_INSTANCE),
        us(0x1008, 1),
    )


def event_report_rsp(message_id):
    return command(
        uid(0x0002, COMMITMENT),
        us(0x0100, 0x8100),
        us(0x0120, message_id),
        us(0x0800, NO_DATA_SET),
        us(0x0900, 0),
        uid(0x1000, COMMITMENT_INSTANCE),
        us(0x1002, 1),
    )


def report(assoc):
    information = Dataset()
    information.TransactionUID = "1.2.3"
    status, _ = assoc.send_n_event_report(information, 1, COMMITMENT, COMMITMENT_INSTANCE)
    return status


def answer_report(peer):
    context_id, elements, information = peer.message()
    assert elements[0x0100] == b"\x00\x01"
    assert b"1.2.3" in information
    peer.send(message(context_id, event_report_rsp(int.from_bytes(elements[0x0110], "little"))))


def commitment_ae():
    ae = make_ae()
    ae.add_supported_context(COMMITMENT)
    return ae


@pytest.mark.parametrize("when", ["in the handler", "afterwards, from another thread"])
def test_an_event_report_follows_an_action_on_the_same_association(when):
    statuses, threads = [], []

    def handle(event):
        def send():
            statuses.append(report(event.assoc).Status)

        if when == "in the handler":
            send()
        else:
            threads.append(threading.Timer(0.05, send))
            threads[0].start()
        return 0x0000, None

    contexts = (*CONTEXTS, (7, COMMITMENT, (IMPLICIT,)))
    bound = (evt.EVT_N_ACTION, handle)
    with serving(bound, ae=commitment_ae()) as server, Peer(server.server_address) as peer:
        peer.associate(contexts)
        peer.send(message(7, action_rq(1), STUDY_LEVEL))
        if when == "in the handler":
            answer_report(peer)
            assert peer.status() == 0
        else:
            assert peer.status() == 0
            answer_report(peer)
            threads[0].join(5)
        assert statuses == [0x0000]
        assert peer.echo() == 0
        peer.release()


def test_several_threads_may_send_on_one_association():
    """Each message arrives whole, whatever the others send meanwhile."""
    contexts = (*CONTEXTS, (7, COMMITMENT, (IMPLICIT,)))
    with serving(ae=commitment_ae()) as server, Peer(server.server_address) as peer:
        peer.associate(contexts)
        assert peer.echo() == 0
        (assoc,) = server.active_associations
        statuses = []
        sender = threading.Thread(target=lambda: statuses.append(report(assoc).Status))
        sender.start()
        answer_report(peer)
        for number in range(50):
            assert peer.echo(number + 1) == 0
        sender.join(5)
        assert statuses == [0x0000]
        peer.release()


# --- ending it from a handler, or from another thread ---


@pytest.mark.parametrize("event", [evt.EVT_C_STORE, evt.EVT_C_ECHO, evt.EVT_C_FIND])
def test_a_handler_may_abort(event):
    def handle(event):
        event.assoc.abort()
        return 0x0000

    def handle_find(event):
        event.assoc.abort()
        yield 0xFF00, one_match()

    handler = handle_find if event is evt.EVT_C_FIND else handle
    noted = []
    bound = [(event, handler), (evt.EVT_ABORTED, lambda event: noted.append("aborted"))]
    with nothing_left_behind(), serving(*bound) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            if event is evt.EVT_C_STORE:
                peer.send(message(3, store_rq(), data_set()))
            elif event is evt.EVT_C_FIND:
                find(peer)
            else:
                peer.send(
                    message(
                        1,
                        command(
                            uid(2, VERIFICATION), us(0x100, 0x30), us(0x110, 1), us(0x800, 0x101)
                        ),
                    )
                )
            kind, body = peer.pdu()
            assert (kind, body[2]) == (ABORT, 0)
        assert until(lambda: not server.active_associations)
        assert noted == ["aborted"]


@pytest.mark.parametrize("from_thread", [False, True], ids=["in the handler", "by a thread"])
def test_a_handler_may_release(from_thread):
    released = []

    def handle(event):
        if from_thread:
            return 0x0000
        event.assoc.release()
        return 0x0000

    bound = [storing(handle), (evt.EVT_RELEASED, lambda event: released.append(1))]
    with nothing_left_behind(), serving(*bound) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            peer.send(message(3, store_rq(), data_set()))
            releasing = None
            if from_thread:
                assert peer.status() == 0
                (assoc,) = server.active_associations
                releasing = threading.Thread(target=assoc.release)
                releasing.start()
            assert peer.pdu() == (RELEASE_RQ, b"\0\0\0\0")
            peer.send(pdu(RELEASE_RP, b"\0\0\0\0"))
            assert peer.pdu() is None
            if releasing:
                releasing.join(5)
        assert until(lambda: not server.active_associations)
        assert released == [1]


@pytest.mark.parametrize("how", ["abort", "kill"])
@pytest.mark.parametrize("state", ["idle", "receiving"])
def test_another_thread_may_end_an_association(how, state):
    with nothing_left_behind(), serving() as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            assert peer.echo() == 0
            if state == "receiving":
                peer.send(p_data(pdv(3, COMMAND | LAST, store_rq()))[:-3])
            (assoc,) = server.active_associations
            ending = threading.Thread(target=getattr(assoc, how))
            ending.start()
            answer = peer.pdu()
            assert answer is None if how == "kill" else answer[0] == ABORT
        ending.join(5)
        assert until(lambda: not server.active_associations)
        echo(server.server_address)


def test_ae_shutdown_ends_servers_and_associations():
    ae = make_ae()
    with nothing_left_behind(), serving(ae=ae) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            assert peer.echo() == 0
            assert len(ae.active_associations) == 1
            ending = threading.Thread(target=ae.shutdown)
            ending.start()
            assert peer.pdu()[0] == ABORT
        ending.join(5)
        with pytest.raises(ConnectionRefusedError):
            Peer(server.server_address)
        assert ae.active_associations == []


# --- negotiation ---


def negotiated(server, **options):
    with Peer(server.server_address) as peer:
        peer.send(associate_rq(**options))
        kind, body = peer.pdu()
        if kind == ASSOCIATE_AC:
            peer.release()
        return kind, body


@pytest.mark.parametrize(
    ("attributes", "options", "reason"),
    [
        ({"require_called_aet": True}, {"called": "OTHER"}, b"\0\1\1\7"),
        ({"require_calling_aet": ["FRIEND"]}, {"calling": "FOE"}, b"\0\1\1\3"),
        ({}, {"application_context": "1.2.3"}, b"\0\1\1\2"),
    ],
)
@pytest.mark.parametrize("full", [False, True], ids=["with room", "full"])
def test_a_rejection_names_its_reason_also_when_the_server_is_full(
    attributes, options, reason, full
):
    ae = make_ae(maximum_associations=1, **attributes)
    with serving(ae=ae) as server, Peer(server.server_address) as other:
        if full:
            other.associate(calling="FRIEND")
        else:
            other.sock.close()
            assert until(lambda: not server.active_associations)
        assert negotiated(server, **options) == (ASSOCIATE_RJ, reason)
        if full:
            assert negotiated(server, calling="FRIEND") == (ASSOCIATE_RJ, b"\0\2\3\2")


@pytest.mark.parametrize(
    ("attributes", "options"),
    [
        ({"require_called_aet": True}, {"called": "ANY-SCP"}),
        ({"require_called_aet": True}, {"called": "  ANY-SCP "}),
        ({"require_calling_aet": ["FRIEND"]}, {"calling": " FRIEND"}),
    ],
)
def test_a_title_is_compared_without_its_padding(attributes, options):
    with serving(ae=make_ae(**attributes)) as server:
        assert negotiated(server, **options)[0] == ASSOCIATE_AC


def test_the_limit_counts_associations_that_last():
    with serving(ae=make_ae(maximum_associations=2)) as server:
        peers = [Peer(server.server_address) for _ in range(2)]
        for peer in peers:
            peer.associate()
        assert negotiated(server) == (ASSOCIATE_RJ, b"\0\2\3\2")
        peers[0].release()
        assert until(lambda: len(server.active_associations) == 1)
        assert negotiated(server)[0] == ASSOCIATE_AC
        peers[1].release()


def test_a_handler_of_the_request_may_change_the_supported_contexts():
    def handle(event):
        assert len(event.assoc.acceptor.supported_contexts) == 3
        event.assoc.acceptor.supported_contexts = [build_context(VERIFICATION, EXPLICIT)]

    bound = (evt.EVT_REQUESTED, handle)
    with serving(bound) as server, Peer(server.server_address) as peer:
        peer.associate(((1, VERIFICATION, (IMPLICIT, EXPLICIT)), (3, CT, (IMPLICIT,))))
        (assoc,) = server.active_associations
        assert [cx.abstract_syntax for cx in assoc.accepted_contexts] == [VERIFICATION]
        assert assoc.accepted_contexts[0].transfer_syntax == [EXPLICIT]
        assert [cx.abstract_syntax for cx in assoc.rejected_contexts] == [CT]
        peer.release()


def test_extended_negotiation_asks_its_handlers():
    asked = []

    def asynchronous(event):
        asked.append((event.nr_invoked, event.nr_performed))
        return 3, 4

    def identity(event):
        asked.append((event.user_id_type, event.primary_field, event.secondary_field or b""))
        return True, b"welcome"

    def extended(event):
        asked.append(dict(event.app_info))
        return {CT: b"\1\2"}

    def common(event):
        asked.append(sorted(event.items))
        return event.items

    bound = [
        (evt.EVT_ASYNC_OPS, asynchronous),
        (evt.EVT_USER_ID, identity),
        (evt.EVT_SOP_EXTENDED, extended),
        (evt.EVT_SOP_COMMON, common),
    ]
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 5
    window.maximum_number_operations_performed = 6
    user = UserIdentityNegotiation()
    user.user_identity_type, user.positive_response_requested = 3, True
    user.primary_field = b"ticket"
    application = SOPClassExtendedNegotiation()
    application.sop_class_uid, application.service_class_application_information = CT, b"\0\1"
    related = SOPClassCommonExtendedNegotiation()
    related.sop_class_uid, related.service_class_uid = "1.2.3", "1.2.840.10008.4.2"

    ae = AE()
    ae.add_requested_context(CT)
    with serving(*bound) as server:
        assoc = ae.associate(
            *server.server_address[:2], ext_neg=[window, user, application, related]
        )
        assert assoc.is_established
        assert assoc.acceptor.asynchronous_operations == (1, 1), "as pynetdicom, whatever is said"
        assert assoc.acceptor.user_identity.server_response == b"welcome"
        assert assoc.acceptor.sop_class_extended == {CT: b"\1\2"}
        (served,) = server.active_associations
        assert served.acceptor.accepted_common_extended == {"1.2.3": ("1.2.840.10008.4.2", [])}
        assoc.release()
    assert sorted(asked, key=repr) == sorted(
        [(5, 6), (3, b"ticket", b""), {CT: b"\0\1"}, ["1.2.3"]], key=repr
    )


def test_a_user_who_is_not_verified_is_rejected():
    user = b"\x58\0\0\x0a\1\0\0\4name\0\0"
    with serving((evt.EVT_USER_ID, lambda event: (False, None))) as server:
        assert negotiated(server, user_items=user) == (ASSOCIATE_RJ, b"\0\2\2\1")


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", cert, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


@pytest.fixture
def tls(certificate):
    key, cert = certificate
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=str(cert))
    return server, client


def test_a_tls_server_serves_and_its_association_can_be_aborted_by_a_thread(tls):
    received = []

    def handle(event):
        received.append(event.request.DataSet.getvalue())
        return 0x0000

    server_context, client_context = tls
    body = data_set("1.2.3.1", padding=3 << 20)
    with (
        nothing_left_behind(),
        serving(storing(handle), ssl_context=server_context) as server,
        Peer(server.server_address) as peer,
    ):
        peer.sock = client_context.wrap_socket(peer.sock, server_hostname="127.0.0.1")
        peer.associate()
        encoded = message(3, store_rq(1, "1.2.3.1"))
        for at in range(0, len(body), 100_000):
            last = LAST if at + 100_000 >= len(body) else 0
            encoded += p_data(pdv(3, last, body[at : at + 100_000]))
        peer.send(encoded)
        assert peer.status() == 0
        (assoc,) = server.active_associations
        assoc.abort(block=False)
        assert peer.pdu()[0] == ABORT
    assert received == [body]


def test_a_peer_without_tls_or_silent_holds_no_tls_server_up(tls):
    server_context, client_context = tls
    ae = make_ae(acse_timeout=0.5)
    with (
        nothing_left_behind(),
        serving(ae=ae, ssl_context=server_context) as server,
        Peer(server.server_address) as silent,
        Peer(server.server_address) as plain,
    ):
        plain.send(associate_rq())
        answer = plain.pdu()
        assert answer is None or answer[0] != ASSOCIATE_AC
        with Peer(server.server_address) as peer:
            peer.sock = client_context.wrap_socket(peer.sock, server_hostname="127.0.0.1")
            peer.associate()
            assert peer.echo() == 0
            peer.release()
        assert silent.pdu() is None
