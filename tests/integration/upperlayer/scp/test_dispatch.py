"""Requests that do not fit their presentation context reach no handler, and are told why."""

import logging
import struct

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation

from tests.support.dicom_peer import (
    ABORT,
    CT,
    DATA_SET,
    IMPLICIT,
    NO_DATA_SET,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Peer,
    command,
    data_set,
    element,
    item,
    message,
    store_rq,
    uid,
    until,
    us,
)
from tests.support.pynetdicom_reactor import paused
from tests.support.serving import make_ae, serving

MR = "1.2.840.10008.5.1.4.1.1.4"
STUDY_ROOT_MOVE, STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
FILM_SESSION, PRINT_META = "1.2.840.10008.5.1.1.1", "1.2.840.10008.5.1.1.9"
UPS_PUSH, UPS_PULL = "1.2.840.10008.5.1.4.34.6.1", "1.2.840.10008.5.1.4.34.6.3"
PRIVATE = "1.2.826.0.1.3680043.9.9.9"

C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030
N_EVENT_REPORT, N_GET, N_SET, N_ACTION, N_CREATE, N_DELETE = range(0x0100, 0x0160, 0x10)
NAMES_REQUESTED = (N_GET, N_SET, N_ACTION, N_DELETE)
KEYS = b"\x08\0\x52\0\x06\0\0\0STUDY "
SOP_CLASS_NOT_SUPPORTED, UNRECOGNISED_OPERATION = 0x0122, 0x0211


def any_request(field, sop_class):
    """A request of any kind, as (command set, data set or None)."""
    requested = field in NAMES_REQUESTED
    elements = [
        uid(0x0003 if requested else 0x0002, sop_class),
        us(0x0100, field),
        us(0x0110, 7),
    ]
    has_data = field in (C_STORE, C_GET, C_FIND, C_MOVE)
    if field == C_MOVE:
        elements.append(element(0x0600, b"DEST"))
    if has_data:
        elements.append(us(0x0700, 0))
    elements.append(us(0x0800, DATA_SET if has_data else NO_DATA_SET))
    if field == C_STORE or (field >= N_EVENT_REPORT and not requested):
        elements.append(uid(0x1000, "1.2.3.4"))
    if requested:
        elements.append(uid(0x1001, "1.2.3.4"))
    if field == N_EVENT_REPORT:
        elements.append(us(0x1002, 1))
    if field == N_ACTION:
        elements.append(us(0x1008, 1))
    data = data_set() if field == C_STORE else KEYS
    return command(*elements), data if has_data else None


class Called:
    """Handlers of every request, and which of them were called."""

    def __init__(self):
        self.events = []
        served = (each for each in evt._INTERVENTION_EVENTS if each.name[4:6] in ("C_", "N_"))
        self.handlers = [(each, self._note) for each in served]

    def _note(self, event):
        name = event.event.name
        self.events.append(name)
        if name == "EVT_C_FIND":
            return iter(())
        return (0x0000, None) if name[4:6] == "N_" and name != "EVT_N_DELETE" else 0x0000


def ae_for(*sop_classes):
    ae = AE(ae_title="ANY-SCP")
    for each in sop_classes:
        ae.add_supported_context(each)
    return ae


@pytest.fixture(params=["straight", "watched"])
def seen(request):
    return [] if request.param == "straight" else [(evt.EVT_PDU_RECV, lambda event: None)]


def refusals(caplog):
    return [line for line in caplog.messages if ", answered 0x" in line]


MISFITS = [
    (VERIFICATION, C_STORE, CT, SOP_CLASS_NOT_SUPPORTED),
    (STUDY_ROOT_FIND, C_STORE, CT, SOP_CLASS_NOT_SUPPORTED),
    (CT, C_STORE, MR, SOP_CLASS_NOT_SUPPORTED),
    (CT, C_STORE, "31", SOP_CLASS_NOT_SUPPORTED),
    (CT, C_STORE, PRIVATE, SOP_CLASS_NOT_SUPPORTED),
    (CT, C_STORE, VERIFICATION, SOP_CLASS_NOT_SUPPORTED),
    (CT, C_ECHO, VERIFICATION, SOP_CLASS_NOT_SUPPORTED),
    (STUDY_ROOT_FIND, C_FIND, VERIFICATION, SOP_CLASS_NOT_SUPPORTED),
    (STUDY_ROOT_FIND, C_FIND, PATIENT_ROOT_FIND, SOP_CLASS_NOT_SUPPORTED),
    (STUDY_ROOT_FIND, C_MOVE, STUDY_ROOT_MOVE, SOP_CLASS_NOT_SUPPORTED),
    (STUDY_ROOT_FIND, C_GET, STUDY_ROOT_GET, SOP_CLASS_NOT_SUPPORTED),
    (VERIFICATION, N_ACTION, COMMITMENT, SOP_CLASS_NOT_SUPPORTED),
    (CT, N_CREATE, FILM_SESSION, SOP_CLASS_NOT_SUPPORTED),
    (COMMITMENT, N_EVENT_REPORT, FILM_SESSION, SOP_CLASS_NOT_SUPPORTED),
    (PRINT_META, C_STORE, CT, SOP_CLASS_NOT_SUPPORTED),
    (VERIFICATION, C_STORE, VERIFICATION, UNRECOGNISED_OPERATION),
    (VERIFICATION, C_FIND, VERIFICATION, UNRECOGNISED_OPERATION),
    (VERIFICATION, N_CREATE, VERIFICATION, UNRECOGNISED_OPERATION),
    (VERIFICATION, N_GET, VERIFICATION, UNRECOGNISED_OPERATION),
    (CT, C_ECHO, CT, UNRECOGNISED_OPERATION),
    (CT, C_MOVE, CT, UNRECOGNISED_OPERATION),
    (CT, N_SET, CT, UNRECOGNISED_OPERATION),
    (CT, N_ACTION, CT, UNRECOGNISED_OPERATION),
    (STUDY_ROOT_FIND, C_STORE, STUDY_ROOT_FIND, UNRECOGNISED_OPERATION),
    (STUDY_ROOT_FIND, C_GET, STUDY_ROOT_FIND, UNRECOGNISED_OPERATION),
    (STUDY_ROOT_MOVE, C_FIND, STUDY_ROOT_MOVE, UNRECOGNISED_OPERATION),
    (STUDY_ROOT_FIND, N_DELETE, STUDY_ROOT_FIND, UNRECOGNISED_OPERATION),
]


@pytest.mark.parametrize(("negotiated", "field", "named", "status"), MISFITS)
def test_a_request_that_does_not_fit_is_refused_and_the_association_goes_on(
    negotiated, field, named, status, seen, caplog
):
    called = Called()
    contexts = [(1, VERIFICATION, (IMPLICIT,)), (3, negotiated, (IMPLICIT,))]
    ae = ae_for(VERIFICATION, negotiated)
    with (
        serving(*called.handlers, *seen, ae=ae) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate(contexts)
        peer.send(message(3, *any_request(field, named)))
        context_id, response, data = peer.message()
        assert peer.echo(2) == 0x0000
        peer.release()
    assert (context_id, data) == (3, None)
    assert struct.unpack("<H", response[0x0100]) == (field | 0x8000,)
    assert struct.unpack("<H", response[0x0120]) == (7,)
    assert struct.unpack("<H", response[0x0900]) == (status,)
    assert response[0x0002].rstrip(b"\0").decode() == named
    if field == C_STORE:
        assert response[0x1000] == b"1.2.3.4\0"
    assert called.events == ["EVT_C_ECHO"], "the last one, which fits"
    (line,) = refusals(caplog)
    assert f"answered 0x{status:04X}" in line
    assert negotiated in line


@pytest.mark.parametrize(
    ("negotiated", "field", "words"),
    [
        (COMMITMENT, C_STORE, "has no operation C-STORE"),
        (COMMITMENT, N_CREATE, "has no operation N-CREATE"),
        (UPS_PUSH, N_DELETE, "has no operation N-DELETE"),
        (PRIVATE, C_FIND, "no service class is known"),
        (PRIVATE, N_DELETE, "no service class is known"),
    ],
)
def test_where_pynetdicom_aborts_the_reason_is_logged(negotiated, field, words, seen, caplog):
    called = Called()
    with serving(*called.handlers, *seen, ae=ae_for(negotiated)) as server:
        with Peer(server.server_address) as peer:
            peer.associate([(3, negotiated, (IMPLICIT,))])
            peer.send(message(3, *any_request(field, negotiated)))
            assert peer.pdu()[0] == ABORT
        assert until(lambda: not server.active_associations)
    assert called.events == []
    (line,) = [each for each in caplog.messages if " ended: " in each]
    assert words in line


def test_an_object_of_another_class_leaves_nothing_in_the_spool(tmp_path, seen):
    called = Called()
    with (
        serving(*called.handlers, *seen, spool_dir=tmp_path) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        large = data_set(padding=5 << 20)
        pieces = [large[at : at + 65536] for at in range(0, len(large), 65536)]
        peer.send(message(3, store_rq(sop_class=MR)))
        for number, piece in enumerate(pieces):
            control = 2 if number + 1 == len(pieces) else 0
            fragment = struct.pack(">IBB", len(piece) + 2, 3, control) + piece
            peer.send(struct.pack(">BxI", 4, len(fragment)) + fragment)
        assert peer.status() == SOP_CLASS_NOT_SUPPORTED
        peer.send(message(3, store_rq(), data_set()))
        assert peer.status() == 0x0000
        peer.release()
    assert called.events == ["EVT_C_STORE"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["class", "instance"])
def test_a_store_without_its_uids_has_a_line(which, caplog):
    sop_class, instance = ("", "1.2.3.4") if which == "class" else (CT, "")
    with serving() as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(message(3, store_rq(instance=instance, sop_class=sop_class), data_set()))
        assert peer.status() == 0x0117
        peer.release()
    (line,) = refusals(caplog)
    assert "answered 0x0117: Affected SOP Class or Instance UID missing or invalid" in line


def roles(sop_class, scu, scp):
    """A role selection item (PS3.7 table D.3-9)."""
    value = struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes((scu, scp))
    return item(0x54, value)


@pytest.mark.parametrize(
    ("scu", "scp", "status"),
    [(0, 1, UNRECOGNISED_OPERATION), (1, 0, 0x0000), (1, 1, 0x0000)],
    ids=["SCP alone", "SCU alone", "both"],
)
def test_a_request_for_the_scp_that_we_are_not_is_refused(scu, scp, status, seen, caplog):
    """Who proposed to be the SCP alone gets objects sent, and may send none."""
    called = Called()
    with (
        serving(*called.handlers, *seen, ae=make_ae()) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate(user_items=roles(CT, scu, scp))
        peer.send(message(3, *any_request(C_STORE, CT)))
        assert peer.status() == status
        assert peer.echo(2) == 0x0000
        peer.release()
    assert called.events == ["EVT_C_STORE"] * (status == 0) + ["EVT_C_ECHO"]
    if status:
        (line,) = refusals(caplog)
        assert line.endswith(
            f"SOP class {CT} has no operation C-STORE for the SCU that we are in its context"
        )


def test_the_scp_of_a_class_reports_its_events_to_the_scu_that_we_are():
    called = Called()
    ae = AE(ae_title="ANY-SCP")
    ae.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    with (
        serving(*called.handlers, ae=ae) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate([(3, COMMITMENT, (IMPLICIT,))], user_items=roles(COMMITMENT, 0, 1))
        peer.send(message(3, *any_request(N_EVENT_REPORT, COMMITMENT)))
        assert peer.status() == 0x0000
        peer.send(message(3, *any_request(N_ACTION, COMMITMENT)))
        assert peer.status() == UNRECOGNISED_OPERATION
    assert called.events == ["EVT_N_EVENT_REPORT"]


# --- what may differ ---


@pytest.mark.parametrize(
    ("negotiated", "field", "named"),
    [
        (PRINT_META, N_CREATE, FILM_SESSION),
        (PRINT_META, N_DELETE, FILM_SESSION),
        (UPS_PULL, N_GET, UPS_PUSH),
        (UPS_PULL, C_FIND, UPS_PUSH),
    ],
)
def test_a_class_of_a_meta_sop_class_and_ups_push_fit(negotiated, field, named, seen):
    called = Called()
    with (
        serving(*called.handlers, *seen, ae=ae_for(negotiated)) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate([(3, negotiated, (IMPLICIT,))])
        peer.send(message(3, *any_request(field, named)))
        assert peer.status() == 0x0000
    assert len(called.events) == 1


@pytest.mark.parametrize("related", [True, False])
def test_a_related_general_sop_class_that_was_agreed_on_fits(related):
    """A private class, sent in a context of the CT class that it specialises."""
    stored = []

    def store(event):
        stored.append(event.request.AffectedSOPClassUID)
        return 0x0000

    specialised = SOPClassCommonExtendedNegotiation()
    specialised.sop_class_uid = PRIVATE
    specialised.service_class_uid = CT
    specialised.related_general_sop_class_identification = [CT if related else MR]
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_SOP_COMMON, lambda event: event.items)]
    with serving(*handlers) as server:
        ae = AE()
        ae.add_requested_context(CT, IMPLICIT)
        association = ae.associate(*server.server_address, ext_neg=[specialised])
        assert association.is_established
        request = Dataset()
        request.SOPClassUID, request.SOPInstanceUID = PRIVATE, "1.2.3.4"
        status = _store(association, request)
        association.release()
    assert status == (0x0000 if related else SOP_CLASS_NOT_SUPPORTED)
    assert stored == ([PRIVATE] if related else [])


def _store(association, dataset):
    """Send a data set in the first context, whatever its class; pynetdicom would look for one."""
    encoded = message(1, store_rq(instance=dataset.SOPInstanceUID, sop_class=PRIVATE), data_set())
    with paused(association):
        association.dul.socket.send(encoded)
        _, response = association.dimse.get_msg(block=True)
    return response.Status


def test_private_classes_taken_for_storage_are_stored_in_their_own_context(caplog):
    called = Called()
    with (
        serving(*called.handlers, accept_unknown_storage=True) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate([(1, PRIVATE, (IMPLICIT,)), (3, CT, (IMPLICIT,))])
        peer.send(message(1, store_rq(sop_class=PRIVATE), data_set()))
        assert peer.status() == 0x0000
        peer.send(message(3, store_rq(sop_class=PRIVATE), data_set()))
        assert peer.status() == SOP_CLASS_NOT_SUPPORTED
        peer.release()
    assert called.events == ["EVT_C_STORE"]
    assert len(refusals(caplog)) == 1


def test_a_refusal_is_written_as_a_warning(caplog):
    with serving(ae=make_ae()) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(message(3, store_rq(sop_class=MR), data_set()))
        assert peer.status() == SOP_CLASS_NOT_SUPPORTED
        peer.release()
    (record,) = [each for each in caplog.records if ", answered 0x" in each.getMessage()]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("C-STORE of 1.2.3.4, association ")
    assert record.getMessage().endswith(f"SOP class {MR!r} in presentation context 3 of {CT}")


@pytest.mark.parametrize("priority", [us(0x0700, 9), us(0x0700, 0xFFFF), element(0x0700, b"")])
def test_a_priority_that_is_none_ends_nothing(priority):
    called = Called()
    with (
        serving(*called.handlers, ae=ae_for(STUDY_ROOT_FIND)) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate([(3, STUDY_ROOT_FIND, (IMPLICIT,))])
        asked = (uid(0x0002, STUDY_ROOT_FIND), us(0x0100, C_FIND), us(0x0110, 7))
        peer.send(message(3, command(*asked, priority, us(0x0800, DATA_SET)), KEYS))
        assert peer.status() == 0x0000
        peer.release()
    assert called.events == ["EVT_C_FIND"]


def test_a_message_that_does_not_say_what_it_is_ends_the_association_in_plain_words(caplog):
    with serving(ae=ae_for(VERIFICATION)) as server:
        with Peer(server.server_address) as peer:
            peer.associate([(1, VERIFICATION, (IMPLICIT,))])
            asked = (uid(0x0002, VERIFICATION), us(0x0110, 7), us(0x0800, NO_DATA_SET))
            peer.send(message(1, command(*asked)))
            assert peer.pdu()[0] == ABORT
        assert until(lambda: not server.active_associations)
    (line,) = [each for each in caplog.messages if " ended: " in each]
    assert line.endswith("command set without a Command Field (0000,0100)")
