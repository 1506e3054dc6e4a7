"""Messages are cut into the same PDUs as pynetdicom cuts them."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from lfscp.upperlayer.wire import pdata


def pdus_of_pynetdicom(body, maximum_length):
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 1, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = "1.2.3", "1.2.3.4"
    primitive.DataSet = BytesIO(body)
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    pdus = []
    for each in message.encode_msg(5, maximum_length):
        pdu = P_DATA_TF()
        pdu.from_primitive(each)
        pdus.append(pdu.encode())
    return encode(message.command_set, True, True), pdus


@settings(max_examples=80, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.integers(4, 80).map(lambda half: 2 * half))
def test_command_and_data_set_are_cut_as_pynetdicom_cuts_them(body, maximum_length):
    command, expected = pdus_of_pynetdicom(body, maximum_length)
    packed = pdata.pack(5, command, pdata.COMMAND, maximum_length)
    packed += pdata.pack(5, body, 0, maximum_length)
    assert b"".join(packed) == b"".join(expected)


@given(st.integers(8, 70000))
def test_no_pdu_is_longer_than_the_peer_takes_and_fragments_are_even(maximum_length):
    size = pdata.fragment_bytes(maximum_length)
    assert size > 0
    assert size % 2 == 0
    assert size + 6 <= maximum_length


def test_a_peer_without_a_limit_gets_large_pdus():
    assert pdata.fragment_bytes(0) == pdata.UNLIMITED_FRAGMENT_BYTES


def test_a_limit_without_room_is_refused():
    with pytest.raises(ValueError, match="7 leaves no room"):
        pdata.fragment_bytes(7)


def test_an_empty_body_is_one_last_fragment():
    assert list(pdata.cut(0, 10)) == [(0, 0, True)]


def test_a_body_that_ends_with_a_fragment_has_no_empty_one_behind_it():
    assert list(pdata.cut(20, 10)) == [(0, 10, False), (10, 10, True)]
