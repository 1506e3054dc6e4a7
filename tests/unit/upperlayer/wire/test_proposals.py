"""What a peer proposes is decoded once; each association has its own of it."""

import struct

import pytest
from pynetdicom.pdu_primitives import A_ASSOCIATE

from lfscp.upperlayer.wire import proposals
from lfscp.upperlayer.wire.associate_pdus import AssociateRequest
from lfscp.upperlayer.wire.proposals import Proposals


def item(kind, value):
    return struct.pack(">BxH", kind, len(value)) + value


CONTEXT = item(
    0x20,
    b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"),
)
LENGTH = item(0x51, struct.pack(">I", 16384))
ROLE = item(0x54, struct.pack(">H", 17) + b"1.2.840.10008.1.1" + b"\0\1")


def request(*user_items, calling=b"MODALITY"):
    proposal = item(0x10, b"1.2.840.10008.3.1.1.1") + CONTEXT + item(0x50, b"".join(user_items))
    fixed = struct.pack(">HH16s16s32x", 1, 0, b"LFSCP".ljust(16), calling.ljust(16))
    pdu = struct.pack(">BxI", 1, len(fixed + proposal)) + fixed + proposal
    return AssociateRequest(pdu)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """A memory of the test's own."""
    fresh = Proposals()
    monkeypatch.setattr("lfscp.upperlayer.wire.associate_pdus.PROPOSALS", fresh)
    return fresh


def said(primitive):
    contexts = [vars(each) for each in primitive.presentation_context_definition_list]
    items = [(type(each), vars(each)) for each in primitive.user_information]
    return primitive.application_context_name, contexts, items


def test_a_request_that_comes_again_means_the_same(known):
    first, second = (request(LENGTH, ROLE).to_primitive() for _ in range(2))
    assert len(known) == 1
    assert said(first) == said(second)
    assert len(said(second)[2]) == 2


def test_ae_titles_are_those_of_each_request():
    request(LENGTH, calling=b"CT1")
    assert request(LENGTH, calling=b"CT2").to_primitive()._calling_ae_title.strip() == "CT2"


def test_what_a_handler_changes_is_changed_for_its_association_only():
    for _ in range(2):
        primitive = request(LENGTH).to_primitive()
        (context,) = primitive.presentation_context_definition_list
        assert context.transfer_syntax == ["1.2.840.10008.1.2"]
        assert primitive.maximum_length_received == 16384
        context.transfer_syntax.append("1.2.840.10008.1.2.1")
        context._context_id = 9
        primitive.user_information[0].maximum_length_received = 1
        primitive.presentation_context_definition_list.clear()


@pytest.mark.parametrize(
    "identity",
    [b"\1\0\0\5alice\0\0", b"\2\0\0\5alice\0\6secret", b"\1\0\0\x63alice"],
    ids=["user", "passcode", "unreadable"],
)
def test_a_request_that_names_a_user_is_not_remembered(known, identity):
    faults = [request(LENGTH, item(0x58, identity)).user_identity_fault for _ in range(2)]
    assert len(known) == 0
    assert faults[0] == faults[1]
    assert bool(faults[0]) == identity.startswith(b"\1\0\0\x63")


def test_the_memory_has_a_limit(known):
    for length in range(proposals._MOST + 1):
        request(item(0x51, struct.pack(">I", length)))
    assert len(known) <= proposals._MOST
    known.keep(bytes(proposals._MOST_BYTES + 1), A_ASSOCIATE())
    assert not known.put_into(A_ASSOCIATE(), bytes(proposals._MOST_BYTES + 1))
