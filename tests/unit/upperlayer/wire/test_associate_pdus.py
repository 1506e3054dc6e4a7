"""The hand-written A-ASSOCIATE codec agrees with pynetdicom's."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import SOPClassCommonExtendedNegotiationSubItem
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context

from lfscp.upperlayer.wire.associate_pdus import AssociateError, AssociateRequest, encode_accept
from tests.support.dicom_peer import CONTEXTS, CT, IMPLICIT, VERIFICATION, associate_rq, item, pdu

# As numbers joined, which Hypothesis makes in a tenth of the time of a regular expression.
uids = st.lists(st.integers(1, 999_999).map(str), min_size=2, max_size=9).map(".".join)
titles = st.from_regex(r"[A-Z][A-Z0-9_ ]{0,14}[A-Z0-9]", fullmatch=True)
contexts = st.lists(
    st.tuples(uids, st.lists(uids, min_size=1, max_size=4, unique=True)), min_size=1, max_size=10
).map(lambda pairs: [(2 * n + 1, *pair) for n, pair in enumerate(pairs)])


def by_pynetdicom(encoded):
    decoded = A_ASSOCIATE_RQ()
    decoded.decode(encoded)
    return decoded.to_primitive()


def told(primitive):
    return {
        "called": primitive.called_ae_title,
        "calling": primitive.calling_ae_title,
        "application context": primitive.application_context_name,
        "contexts": [
            (cx.context_id, cx.abstract_syntax, cx.transfer_syntax)
            for cx in primitive.presentation_context_definition_list
        ],
        "user information": primitive.user_information,
    }


CT_FIELD = struct.pack(">H", len(CT)) + CT.encode()
USER_ITEMS = [
    b"",
    item(0x53, struct.pack(">HH", 3, 4)),
    item(0x54, CT_FIELD + b"\1\0"),
    item(0x54, CT_FIELD + b"\0\1"),
    item(0x55, b"VERSION_1"),
    item(0x56, CT_FIELD + b"\1\0\1"),
    item(0x57, CT_FIELD + CT_FIELD + struct.pack(">H", len(CT_FIELD)) + CT_FIELD),
    item(0x57, CT_FIELD + CT_FIELD + struct.pack(">H", 2 * len(CT_FIELD)) + 2 * CT_FIELD),
    item(0x57, CT_FIELD + CT_FIELD + b"\0\0"),
    item(0x58, b"\1\0\0\4name\0\0"),
    item(0x58, b"\2\1\0\4name\0\2pw"),
]


@settings(max_examples=60, deadline=None)
@given(contexts, titles, titles, st.integers(0, 1 << 31), st.sampled_from(USER_ITEMS))
def test_a_request_is_read_as_pynetdicom_reads_it(contexts, called, calling, length, more):
    encoded = associate_rq(
        contexts, called=called, calling=calling, max_length=length, user_items=more
    )
    read = AssociateRequest(encoded)
    assert read.protocol_version == 1
    assert told(read.to_primitive()) == told(by_pynetdicom(encoded))


def accepting(role):
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "PEER", "ANY-SCP"
    primitive.result, primitive.result_source = 0, 1
    results = []
    for number, (uid, result) in enumerate(((VERIFICATION, 0), (CT, 3), ("1.2.3", 4))):
        context = build_context(uid, IMPLICIT)
        context.context_id, context.result = 2 * number + 1, result
        results.append(context)
    primitive.presentation_context_definition_results_list = results
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 131072
    implementation.implementation_class_uid = "1.2.826.0.1"
    name = ImplementationVersionNameNotification()
    name.implementation_version_name = "LFSCP"
    items = [length, implementation, name]
    if role:
        selection = SCP_SCU_RoleSelectionNegotiation()
        selection.sop_class_uid, selection.scu_role, selection.scp_role = CT, True, False
        items.append(selection)
    primitive.user_information = items
    return primitive


@pytest.mark.parametrize("role", [False, True])
def test_an_acceptance_is_read_by_pynetdicom_as_its_own(role):
    primitive = accepting(role)
    own = A_ASSOCIATE_AC()
    own.from_primitive(primitive)
    ours, theirs = A_ASSOCIATE_AC(), A_ASSOCIATE_AC()
    ours.decode(encode_accept(primitive))
    theirs.decode(own.encode())
    assert ours == theirs
    assert len(encode_accept(primitive)) == ours.pdu_length + 6


@pytest.mark.parametrize("cut", range(1, 68, 3))
def test_a_request_shorter_than_its_fixed_fields_is_refused(cut):
    with pytest.raises(AssociateError):
        AssociateRequest(pdu(1, associate_rq()[6 : 6 + cut]))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        CT_FIELD,
        CT_FIELD + CT_FIELD,
        CT_FIELD + CT_FIELD + b"\0\3\0\5A",
        b"\0\0" + CT_FIELD * 2,
    ],
)
def test_a_common_extended_item_that_is_cut_counts_as_not_sent(value):
    request = AssociateRequest(associate_rq(user_items=item(0x57, value))).to_primitive()
    assert len(request.user_information) == 2


@pytest.mark.parametrize("kind", ["contexts", "transfer syntaxes", "user items"])
def test_a_request_of_items_without_number_is_not_read_to_its_end(kind):
    """A megabyte of them costs a quarter of a second, and many may come at the same time."""
    syntaxes = item(0x40, b"1.2") * 1000
    contexts = {
        "contexts": item(0x20, b"\1\0\0\0") * 10_001,
        "transfer syntaxes": item(0x20, b"\1\0\0\0" + syntaxes) * 10,
        "user items": item(0x50, item(0x55, b"V") * 10_001),
    }
    body = associate_rq()[6:74] + contexts[kind]
    with pytest.raises(AssociateError, match="10000 items"):
        AssociateRequest(pdu(1, body))


def test_a_request_with_all_contexts_and_many_syntaxes_is_read():
    syntaxes = b"".join(item(0x40, b"1.2.%d" % number) for number in range(64))
    body = associate_rq()[6:74]
    for context_id in range(1, 256, 2):
        body += item(0x20, bytes((context_id, 0, 0, 0)) + item(0x30, CT.encode()) + syntaxes)
    request = AssociateRequest(pdu(1, body)).to_primitive()
    assert len(request.presentation_context_definition_list) == 128
    assert {len(each.transfer_syntax) for each in request.presentation_context_definition_list} == {
        64
    }


def test_related_classes_without_number_cost_no_checks_of_pynetdicom(monkeypatch):
    """Of 64 KB, each byte of which may be a UID, it makes half a second."""
    monkeypatch.setattr(SOPClassCommonExtendedNegotiationSubItem, "decode", None)
    related = (struct.pack(">H", 1) + b"1") * 20_000
    value = CT_FIELD + CT_FIELD + struct.pack(">H", len(related)) + related
    (*_, read) = (
        AssociateRequest(associate_rq(user_items=item(0x57, value))).to_primitive().user_information
    )
    assert read.related_general_sop_class_identification == ["1"] * 20_000


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_request_with_a_wrong_byte_is_refused_or_read_within_bounds(data):
    whole = bytearray(associate_rq(CONTEXTS))
    at = data.draw(st.integers(6, len(whole) - 45))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        request = AssociateRequest(whole).to_primitive()
    except AssociateError:
        return
    assert len(request.presentation_context_definition_list) <= len(CONTEXTS) + 1
