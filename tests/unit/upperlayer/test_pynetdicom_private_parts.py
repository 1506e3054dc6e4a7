"""Drift guard: every private part of pynetdicom that lfscp.upperlayer builds on is still as it was.

One test a part; when pynetdicom changes it, the failing test names what to look at.
"""

import importlib
import inspect
import socket
import threading

import pytest
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom._globals import APPLICATION_CONTEXT_NAME, MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association, ServiceUser
from pynetdicom.dimse import _RQ_TO_MESSAGE, _RSP_TO_MESSAGE, DIMSEServiceProvider
from pynetdicom.dimse_messages import _MESSAGE_TYPES, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_MOVE, C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import SCP_SCU_ROLES, PresentationContext
from pynetdicom.service_class import (
    BasicWorklistManagementServiceClass,
    QueryRetrieveServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import AddressInformation, AssociationSocket

from lfscp.upperlayer.connection.transport import InlineSocket
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.engine.construction import address_of


def source(thing):
    return inspect.getsource(thing)


@pytest.fixture
def association():
    return Association(AE(), MODE_ACCEPTOR)


def test_an_association_has_the_flags_that_its_reactor_sets(association):
    for flag in ("_kill", "_sent_abort", "_sent_release", "_is_paused", "_started_dul"):
        assert getattr(association, flag) in (True, False), flag
    assert hasattr(association._reactor_checkpoint, "set")
    assert hasattr(association._dul_ready, "set")
    assert association._accepted_cx == {}
    assert association._rejected_cx == []
    assert isinstance(association._handlers, dict)
    assert association._server is None


def test_an_association_runs_its_reactor_in_run_reactor():
    assert "self._run_reactor()" in source(Association.run_reactor)
    for name in ("_serve_request", "_handle_no_response", "_abort_blocking", "_abort_nonblocking"):
        assert callable(getattr(Association, name)), name


def test_release_sets_the_flag_and_waits_with_the_acse():
    release = source(Association.release)
    assert "_reactor_checkpoint" in release
    assert "self.acse.negotiate_release()" in release
    assert "_sent_release = True" in source(ACSE.send_release)


def test_a_service_user_keeps_its_contexts_and_answers_in_underscores(association):
    assert association.acceptor._contexts == []
    assert association.acceptor._common_ext == {}
    assert association.acceptor.supported_contexts is association.acceptor._contexts
    assert callable(ServiceUser.add_negotiation_item)


def test_the_provider_has_the_queues_of_its_state_machine(association):
    provider = association.dul
    for name in ("event_queue", "to_provider_queue", "to_user_queue", "_recv_pdu"):
        assert hasattr(getattr(provider, name), "get_nowait"), name
    assert provider._kill_thread is False
    assert provider.state_machine.current_state == "Sta1"
    assert callable(DULServiceProvider._decode_pdu)


def test_a_primitive_is_turned_into_its_event_without_being_taken_away():
    text = source(DULServiceProvider._process_recv_primitive)
    assert "to_provider_queue.queue[0]" in text
    assert "self.event_queue.put" in text


def test_the_states_have_the_standards_names():
    states = {state for _, state in TRANSITION_TABLE}
    assert states == {f"Sta{number}" for number in range(1, 14)}
    assert set(TRANSITION_TABLE.values()) <= set(ACTIONS)


@pytest.mark.parametrize(
    ("event", "state", "action"),
    [
        ("Evt5", "Sta1", "AE-5"),
        ("Evt6", "Sta2", "AE-6"),
        ("Evt19", "Sta2", "AA-1"),
        ("Evt18", "Sta2", "AA-2"),
        ("Evt10", "Sta6", "DT-2"),
        ("Evt12", "Sta6", "AR-2"),
        ("Evt16", "Sta6", "AA-3"),
        ("Evt17", "Sta6", "AA-4"),
        ("Evt19", "Sta6", "AA-8"),
        ("Evt17", "Sta13", "AR-5"),
    ],
)
def test_the_transitions_that_are_driven_in_line(event, state, action):
    assert TRANSITION_TABLE[event, state] == action


def test_ae_6_reads_the_request_as_the_own_decoder_gives_it():
    text = source(ACTIONS["AE-6"][1])
    assert ".protocol_version" in text
    assert ".to_primitive()" in text


def test_a_closing_socket_puts_its_event_on_the_queue():
    close = source(AssociationSocket.close)
    assert '"Evt17"' in close
    assert "_is_connected" in close
    assert callable(AssociationSocket._shutdown_socket)


def test_an_abort_at_the_end_unblocks_whoever_waits_for_a_message():
    assert "msg_queue.put((None, None))" in source(ACTIONS["AA-3"][1]) + source(ACTIONS["AA-4"][1])


def test_the_acceptors_negotiation_is_one_method():
    assert "_negotiate_as_acceptor" in source(ACSE.negotiate_association)
    for name in (
        "_check_user_identity",
        "_check_sop_class_extended",
        "_check_sop_class_common_extended",
        "_check_async_ops",
    ):
        assert callable(getattr(ACSE, name)), name


def test_an_acceptance_is_sent_by_one_method_and_encoded_in_one():
    assert "self.send_accept()" in source(ACSE._negotiate_as_acceptor)
    assert "self.acceptor.primitive = primitive" in source(ACSE.send_accept)
    assert "dul._send(A_ASSOCIATE_AC(primitive))" in source(ACTIONS["AE-7"][1])
    assert "EVT_PDU_SENT" in source(DULServiceProvider._send)


def test_a_service_user_keeps_its_ae_title_in_an_underscore(association):
    association.requestor._ae_title = "not an AE title: too long"
    assert association.requestor.ae_title == "not an AE title: too long"


def test_user_items_keep_their_values_in_underscores():
    uid, version = ImplementationClassUIDNotification(), ImplementationVersionNameNotification()
    uid._implementation_class_uid, version._implementation_version_name = UID("1.2"), "V"
    assert (uid.implementation_class_uid, version.implementation_version_name) == ("1.2", "V")
    window = AsynchronousOperationsWindowNegotiation()
    window._maximum_number_operations_invoked = window._maximum_number_operations_performed = 0
    assert window.maximum_number_operations_invoked == 0
    assert window.maximum_number_operations_performed == 0
    role = SCP_SCU_RoleSelectionNegotiation()
    role._sop_class_uid, role._scu_role, role._scp_role = UID("1.2"), True, False
    assert (role.sop_class_uid, role.scu_role, role.scp_role) == ("1.2", True, False)
    extended = SOPClassExtendedNegotiation()
    extended._sop_class_uid = UID("1.2")
    extended._service_class_application_information = b"1"
    assert (extended.sop_class_uid, extended.service_class_application_information) == ("1.2", b"1")
    identity = UserIdentityNegotiation()
    identity._user_identity_type, identity._positive_response_requested = 9, True
    identity._primary_field, identity._secondary_field = b"a", b"b"
    assert (identity.user_identity_type, identity.positive_response_requested) == (9, True)
    assert (identity.primary_field, identity.secondary_field) == (b"a", b"b")


def test_the_application_context_and_the_modes():
    assert APPLICATION_CONTEXT_NAME == "1.2.840.10008.3.1.1.1"
    assert (MODE_ACCEPTOR, MODE_REQUESTOR) == ("acceptor", "requestor")


def test_role_outcomes_are_by_requestor_and_acceptor():
    assert SCP_SCU_ROLES[None, None][True, True] == (True, False, False, True)
    assert SCP_SCU_ROLES[True, True][True, True] == (True, True, True, True)


def test_a_presentation_context_keeps_its_values_in_underscores():
    context = PresentationContext()
    context._abstract_syntax, context._transfer_syntax = UID("1.2.3"), [UID("1.2")]
    context._context_id, context._as_scu, context._as_scp, context.result = 3, True, False, 0
    assert (context.abstract_syntax, context.transfer_syntax) == ("1.2.3", ["1.2"])
    assert (context.context_id, context.as_scu, context.as_scp) == (3, True, False)
    assert context.as_tuple.context_id == 3


def test_an_associate_primitive_keeps_its_values_in_underscores():
    primitive = A_ASSOCIATE()
    primitive._called_ae_title, primitive._calling_ae_title = "A", "B"
    primitive._application_context_name = UID("1.2")
    assert primitive._presentation_context_definition_list == []
    assert primitive._presentation_context_definition_results_list == []
    primitive._user_information = []
    assert (primitive.called_ae_title, primitive.calling_ae_title) == ("A", "B")
    assert primitive.application_context_name == "1.2"


def test_dimse_primitives_keep_their_values_in_underscores():
    echo = C_ECHO()
    echo._message_id, echo._context_id = 7, 3
    assert (echo.MessageID, echo._context_id) == (7, 3)
    store = C_STORE()
    store._message_id_being_responded_to, store._status, store._priority = 7, 0xA700, 1
    store._affected_sop_class_uid = store._affected_sop_instance_uid = UID("1.2.3")
    store._move_originator_application_entity_title = "AE"
    store._move_originator_message_id = 9
    assert (store.MessageIDBeingRespondedTo, store.Status, store.Priority) == (7, 0xA700, 1)
    move = C_MOVE()
    move._move_destination = ""
    assert move.MoveDestination == ""
    assert store.AffectedSOPClassUID == store.AffectedSOPInstanceUID == "1.2.3"
    assert store.MoveOriginatorApplicationEntityTitle == "AE"
    assert store.MoveOriginatorMessageID == 9
    assert store._dataset_path is None
    assert store._dataset_file is None


def test_messages_are_found_by_primitive_and_by_command_field():
    assert _RQ_TO_MESSAGE[C_STORE].__name__ == "C_STORE_RQ"
    assert _RSP_TO_MESSAGE[C_STORE].__name__ == "C_STORE_RSP"
    assert _MESSAGE_TYPES[0x0001][1] is _RQ_TO_MESSAGE[C_STORE]
    message = DIMSEMessage()
    message.__class__ = _MESSAGE_TYPES[0x8001][1]
    assert type(message) is _RSP_TO_MESSAGE[C_STORE]


def test_the_dimse_provider_has_its_queue_and_its_cancels(association):
    assert association.dimse.msg_queue.empty()
    assert association.dimse.cancel_req == {}
    assert "self.cancel_req" in source(DIMSEServiceProvider.__init__)


def test_service_classes_look_for_a_cancel_in_cancel_req():
    assert "self.dimse.cancel_req" in source(ServiceClass.is_cancelled)


def test_requests_are_served_by_the_class_of_their_uid():
    assert uid_to_service_class("1.2.840.10008.1.1") is VerificationServiceClass
    assert uid_to_service_class("1.2.840.10008.5.1.4.1.1.2") is StorageServiceClass
    assert uid_to_service_class("1.2.840.10008.5.1.4.1.2.2.1") is QueryRetrieveServiceClass
    assert uid_to_service_class("1.2.3") is ServiceClass
    for name in ("_c_find_scp", "_get_scp", "_move_scp"):
        assert callable(getattr(QueryRetrieveServiceClass, name)), name


def test_each_query_model_has_its_operation_in_a_table():
    supported = QueryRetrieveServiceClass._SUPPORTED_UIDS
    assert set(supported) == {"C-FIND", "C-GET", "C-MOVE"}
    assert "1.2.840.10008.5.1.4.1.2.2.1" in supported["C-FIND"]
    assert "1.2.840.10008.5.1.4.1.2.2.1" not in supported["C-MOVE"]
    assert BasicWorklistManagementServiceClass._SUPPORTED_UIDS["C-FIND"]


def test_loggers_are_named_by_module():
    for name in ("acse", "association", "dimse", "dul", "service_class"):
        module = importlib.import_module(f"pynetdicom.{name}")
        assert module.LOGGER.name == f"pynetdicom.{name}"


def test_handlers_are_kept_by_event():
    table = {}
    evt._add_handler(evt.EVT_C_ECHO, table, (print, None))
    evt._add_handler(evt.EVT_ABORTED, table, (print, [1]))
    assert table == {evt.EVT_C_ECHO: (print, None), evt.EVT_ABORTED: [(print, [1])]}
    evt._remove_handler(evt.EVT_ABORTED, table, print)
    assert evt.EVT_ABORTED not in table
    assert evt.EVT_C_ECHO in evt._INTERVENTION_EVENTS
    assert callable(evt.get_default_handler(evt.EVT_C_ECHO))


def test_an_ae_knows_its_servers_and_shuts_them_down():
    ae = AE()
    assert ae._servers == []
    shutdown = source(ApplicationEntity.shutdown)
    assert "self._servers" in shutdown
    assert "self.active_associations" in shutdown
    assert isinstance(ApplicationEntity.active_associations, property)


def test_the_configuration_that_is_honoured_is_there():
    assert _config.UNRESTRICTED_STORAGE_SERVICE is False
    assert _config.STORE_RECV_CHUNKED_DATASET is False
    assert _config.LOG_HANDLER_LEVEL in ("standard", "none")


def attributes(thing):
    """What a constructor has set, but for what it shares with every thread."""
    of_a_thread = set(vars(threading.Thread()))
    return {name: value for name, value in vars(thing).items() if name not in of_a_thread}


def test_all_that_an_association_sets_is_set_without_its_constructor(association):
    ours = InlineAssociation(AE(), MODE_ACCEPTOR)
    theirs = attributes(association)
    kept_in_the_record = {"_network_timeout"}
    assert set(theirs) - kept_in_the_record <= set(vars(ours))
    for name, value in theirs.items():
        if value is None or isinstance(value, str | int | float | dict | list):
            assert name in (*kept_in_the_record, "_handlers", "_is_paused") or (
                getattr(ours, name) == value
            ), name
    assert ours.network_timeout == association.network_timeout
    assert ours.dul.artim_timer.timeout == association.dul.artim_timer.timeout


def test_all_that_the_providers_set_is_set_without_their_constructors(association):
    ours = InlineAssociation(AE(), MODE_ACCEPTOR)
    assert set(attributes(association.dul)) <= set(vars(ours.dul))
    set_by_dimse = set(attributes(association.dimse))
    assert set_by_dimse == {"_assoc", "cancel_req", "message", "msg_queue"}
    assert all(hasattr(ours.dimse, name) for name in set_by_dimse)


@pytest.mark.parametrize("side", ["acceptor", "requestor"])
def test_both_sides_say_of_themselves_what_pynetdicoms_say(association, side):
    ours = getattr(InlineAssociation(AE(), MODE_ACCEPTOR), side)
    theirs = getattr(association, side)
    assert set(vars(ours)) == set(vars(theirs))
    assert ours.info == theirs.info
    assert ours._ext_neg == theirs._ext_neg
    said = [(type(item), vars(item)) for item in ours.user_information]
    assert said == [(type(item), vars(item)) for item in theirs.user_information]


def test_all_that_a_socket_sets_is_set_without_its_constructor(association):
    here, there = socket.socketpair()
    with here, there:
        ours = InlineAssociation(AE(), MODE_ACCEPTOR)
        mine = InlineSocket(ours, ours.record, client_socket=here)
        association.dul.socket = theirs = AssociationSocket(association, client_socket=there)
        assert set(vars(theirs)) <= set(vars(mine))
        for name in ("_is_connected", "_tls_args", "select_timeout"):
            assert getattr(mine, name) == getattr(theirs, name), name
        assert mine._ready.is_set()
        assert theirs._ready.is_set()
        assert list(ours.dul.event_queue.queue) == list(association.dul.event_queue.queue)


@pytest.mark.parametrize("peer", [("127.0.0.1", 104), ("::1", 104, 0, 0), ("fe80::1", 104, 0, 3)])
def test_the_address_of_a_peer_is_what_pynetdicom_makes_of_it(peer):
    assert vars(address_of(peer)) == vars(AddressInformation.from_tuple(peer))


def test_an_association_has_no_thread_to_start():
    association = InlineAssociation(AE(), MODE_ACCEPTOR)
    association.name = "Acceptor-7"
    assert "Acceptor-7" in repr(association)
    assert association.ident is None
    with pytest.raises(RuntimeError, match="has none of its own"):
        association.start()
