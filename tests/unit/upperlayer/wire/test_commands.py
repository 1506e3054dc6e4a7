"""The codec of command sets agrees with pynetdicom's generic one, in both directions."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_ECHO_RSP,
    C_FIND_RSP,
    C_GET_RSP,
    C_MOVE_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
)
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, C_FIND, C_GET, C_MOVE, C_STORE
from pynetdicom.dsutils import decode, encode

from lfscp.upperlayer.wire import commands

numbers = st.integers(0, 0xFFFF)
uids = st.from_regex(r"[1-9](\.[1-9][0-9]{0,5}){1,8}", fullmatch=True)
titles = st.from_regex(r"[A-Z][A-Z0-9]{0,15}", fullmatch=True)
comments = st.from_regex(r"[A-Za-z][A-Za-z ]{0,60}[a-z]", fullmatch=True)
CASES = settings(max_examples=60, deadline=None)


def encoded_by_pynetdicom(message_class, primitive):
    message = message_class()
    message.primitive_to_message(primitive)
    return encode(message.command_set, True, True)


def decoded_by_pynetdicom(message_class, encoded):
    message = message_class()
    message.command_set = decode(BytesIO(encoded), True, True)
    return message.message_to_primitive()


@CASES
@given(numbers, uids)
def test_an_echo_request_is_read_as_pynetdicom_writes_it(message_id, sop_class_uid):
    primitive = C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = message_id, sop_class_uid
    elements = commands.split_command(encoded_by_pynetdicom(C_ECHO_RQ, primitive))
    assert commands.command_field(elements) == commands.C_ECHO_RQ
    assert not commands.has_data_set(elements)
    assert commands.read_echo_request(elements) == commands.EchoRequest(message_id, sop_class_uid)


def store_primitive(request):
    primitive = C_STORE()
    primitive.MessageID = request.message_id
    primitive.AffectedSOPClassUID = request.sop_class_uid
    primitive.AffectedSOPInstanceUID = request.sop_instance_uid
    primitive.Priority = request.priority
    primitive.MoveOriginatorApplicationEntityTitle = request.move_originator_ae_title
    primitive.MoveOriginatorMessageID = request.move_originator_message_id
    primitive.DataSet = BytesIO(b"data")
    return primitive


store_requests = st.builds(
    commands.StoreRequest,
    numbers,
    uids,
    uids,
    st.sampled_from((0, 1, 2)),
    st.none() | titles,
    st.none() | numbers,
)


@CASES
@given(store_requests)
def test_a_store_request_is_read_and_written_as_pynetdicom_writes_it(request):
    encoded = encoded_by_pynetdicom(C_STORE_RQ, store_primitive(request))
    elements = commands.split_command(encoded)
    assert commands.command_field(elements) == commands.C_STORE_RQ
    assert commands.has_data_set(elements)
    assert commands.read_store_request(elements) == request
    assert commands.split_command(commands.encode_store_request(request)) == elements


@CASES
@given(numbers, numbers, st.none() | uids, st.none() | uids, st.none() | comments)
def test_a_store_response_is_read_and_written_as_pynetdicom_does(
    message_id, status, sop_class_uid, sop_instance_uid, comment
):
    encoded = commands.encode_response(
        commands.C_STORE_RSP,
        message_id,
        status,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        error_comment=comment,
    )
    primitive = decoded_by_pynetdicom(C_STORE_RSP, encoded)
    assert primitive.MessageIDBeingRespondedTo == message_id
    assert primitive.Status == status
    assert primitive.AffectedSOPClassUID == sop_class_uid
    assert primitive.AffectedSOPInstanceUID == sop_instance_uid
    assert primitive.ErrorComment == comment
    written = encoded_by_pynetdicom(C_STORE_RSP, primitive)
    assert commands.read_store_response(commands.split_command(written)) == commands.StoreResponse(
        message_id, status, sop_class_uid, sop_instance_uid, comment
    )
    assert commands.split_command(written) == commands.split_command(encoded)


@CASES
@given(numbers, numbers, uids)
def test_an_echo_response_is_what_pynetdicom_writes(message_id, status, sop_class_uid):
    primitive = C_ECHO()
    primitive.MessageIDBeingRespondedTo = message_id
    primitive.Status, primitive.AffectedSOPClassUID = status, sop_class_uid
    assert commands.encode_response(
        commands.C_ECHO_RSP, message_id, status, sop_class_uid=sop_class_uid
    ) == encoded_by_pynetdicom(C_ECHO_RSP, primitive)


@pytest.mark.parametrize(
    ("field", "message_class", "primitive_class"),
    [
        (commands.C_MOVE_RSP, C_MOVE_RSP, C_MOVE),
        (commands.C_GET_RSP, C_GET_RSP, C_GET),
    ],
)
@CASES
@given(
    counts=st.builds(
        commands.SubOperationCounts, numbers, numbers, numbers, remaining=st.none() | numbers
    ),
    status=numbers,
    follows=st.booleans(),
)
def test_a_retrieve_response_is_what_pynetdicom_writes(
    field, message_class, primitive_class, counts, status, follows
):
    primitive = primitive_class()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, status
    primitive.AffectedSOPClassUID = UID("1.2.3")
    primitive.NumberOfRemainingSuboperations = counts.remaining
    primitive.NumberOfCompletedSuboperations = counts.completed
    primitive.NumberOfFailedSuboperations = counts.failed
    primitive.NumberOfWarningSuboperations = counts.warning
    primitive.Identifier = BytesIO(b"data") if follows else None
    encoded = commands.encode_response(
        field,
        7,
        status,
        sop_class_uid="1.2.3",
        data_set_follows=follows,
        sub_operations=counts,
    )
    assert encoded == encoded_by_pynetdicom(message_class, primitive)


def test_counters_saturate():
    encoded = commands.encode_response(
        commands.C_MOVE_RSP,
        1,
        0,
        sub_operations=commands.SubOperationCounts(70000, 65536, 65535, 99999),
    )
    primitive = decoded_by_pynetdicom(C_MOVE_RSP, encoded)
    assert primitive.NumberOfCompletedSuboperations == 0xFFFF
    assert primitive.NumberOfFailedSuboperations == 0xFFFF
    assert primitive.NumberOfRemainingSuboperations == 0xFFFF


def test_a_find_response_carries_its_offending_elements():
    encoded = commands.encode_response(
        commands.C_FIND_RSP, 1, 0xA900, offending_elements=[0x00080052, 0x0020000D]
    )
    primitive = decoded_by_pynetdicom(C_FIND_RSP, encoded)
    assert primitive.Status == 0xA900
    assert [int(tag) for tag in primitive.OffendingElement] == [0x00080052, 0x0020000D]
    assert isinstance(primitive, C_FIND)


def test_a_cancel_names_its_operation():
    primitive = C_CANCEL()
    primitive.MessageIDBeingRespondedTo = 321
    elements = commands.split_command(encoded_by_pynetdicom(C_CANCEL_RQ, primitive))
    assert commands.cancelled_message_id(elements) == 321
    assert commands.cancelled_message_id({0x0100: b"\x01\x00", 0x0120: b"\x01\x00"}) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_bytes_are_split_wholly_or_refused(encoded):
    try:
        elements = commands.split_command(encoded)
    except commands.CommandSetError:
        return
    assert sum(8 + len(value) for value in elements.values()) <= len(encoded)


def test_a_command_set_must_say_whether_a_data_set_follows():
    with pytest.raises(commands.CommandSetError, match="0000,0800"):
        commands.has_data_set({})


def test_a_store_request_without_its_uids_is_not_written():
    with pytest.raises(ValueError, match="UIDs"):
        commands.encode_store_request(commands.StoreRequest(1, None, None, 0, None, None))
