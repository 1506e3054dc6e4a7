"""A-ASSOCIATE-RQs of real devices that are not quite right: accepted or rejected, with a reason.

Each goes to a server once as it is and once with somebody watching the PDUs, which takes another
way; the server then serves the next.
"""

import struct

import pytest
from pynetdicom import _config, evt

from lfscp.upperlayer.wire import names
from tests.support.dicom_peer import (
    ABORT,
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    CT,
    IMPLICIT,
    VERIFICATION,
    Peer,
    associate_rq,
    echo,
    echo_rq,
    item,
    message,
    nothing_left_behind,
    pdu,
    until,
)
from tests.support.serving import make_ae, serving

REJECTED = "rejected {} {} {}"
NO_REASON_GIVEN = REJECTED.format(1, 1, 1)
CALLED_NOT_RECOGNISED = REJECTED.format(1, 1, 7)
CALLING_NOT_RECOGNISED = REJECTED.format(1, 1, 3)
USER_NOT_VERIFIED = REJECTED.format(1, 2, 1)
VERSION_NOT_SUPPORTED = REJECTED.format(1, 2, 2)
APPLICATION_CONTEXT_NOT_SUPPORTED = REJECTED.format(1, 1, 2)

MAXIMUM_LENGTH = item(0x51, struct.pack(">I", 16384))
IMPLEMENTATION = item(0x52, b"1.2.826.0.1.99")


ECHO_CLASS, SYNTAX = VERIFICATION.encode(), IMPLICIT.encode()
USUAL_CONTEXT = APPLICATION_CONTEXT.encode()


def context(context_id=1, abstract=ECHO_CLASS, *transfers, item_type=0x40):
    inner = bytes((context_id, 0, 0, 0)) + item(0x30, abstract)
    inner += b"".join(item(item_type, each) for each in transfers or (SYNTAX,))
    return item(0x20, inner)


ECHO = context()


def request(
    called=b"ANY-SCP",
    calling=b"PEER",
    version=1,
    reserved=bytes(32),
    application=USUAL_CONTEXT,
    contexts=ECHO,
    user=MAXIMUM_LENGTH + IMPLEMENTATION,
):
    body = struct.pack(">Hxx", version) + called.ljust(16) + calling.ljust(16) + reserved
    body += b"" if application is None else item(0x10, application)
    return pdu(ASSOCIATE_RQ, body + contexts + item(0x50, user))


def uid_field(uid):
    return struct.pack(">H", len(uid)) + uid


def told(answer):
    """An answer in words: the results of its contexts, or its reason."""
    kind, body = answer
    if kind == ASSOCIATE_RJ:
        return REJECTED.format(*body[1:])
    if kind == ABORT:
        return "aborted"
    assert kind == ASSOCIATE_AC
    position, results = 68, []
    while position < len(body):
        kind, length = struct.unpack_from(">BxH", body, position)
        if kind == 0x21:
            results.append((body[position + 4], body[position + 6]))
        position += 4 + length
    return " ".join(f"{context_id}:{result}" for context_id, result in sorted(results))


@pytest.fixture(params=["straight", "watched"])
def seen(request):
    """What is bound to the server: nothing, or one who watches every PDU."""
    return [] if request.param == "straight" else [(evt.EVT_PDU_RECV, lambda event: None)]


def answer_to(encoded, seen, *, ae=None, **options):
    """What a server answers, and whether it then echoes over that association."""
    with nothing_left_behind(), serving(*seen, ae=ae, **options) as server:
        with Peer(server.server_address) as peer:
            peer.send(encoded)
            answer = peer.pdu()
            if answer[0] == ASSOCIATE_AC and told(answer).startswith("1:0"):
                peer.send(message(1, echo_rq()))
                assert peer.status() == 0x0000
                peer.release()
        assert until(lambda: not server.active_associations)
        echo(server.server_address)
    return answer


LONG_UID = b"1." + b"2" * 63
UNREADABLE = [LONG_UID, b"1.2.\xe9", b"1.2.\x07.3", b"", b"\0\0", b"  "]

ACCEPTED = {
    "protocol version 0x0003": request(version=3),
    "protocol version 0xFFFF": request(version=0xFFFF),
    "called AE title behind blanks": request(called=b"   ANY-SCP"),
    "AE titles padded with NUL": request(called=b"ANY-SCP".ljust(16, b"\0"), calling=b"PEER\0\0"),
    "AE titles in a buffer used before": request(called=b"ANY-SCP\0\xffOLD", calling=b"PEER\0X\1"),
    "called AE title of blanks, unchecked": request(called=b""),
    "called AE title that is not ASCII, unchecked": request(called="MÜNCHEN".encode("latin-1")),
    "UIDs padded with blanks": request(
        application=USUAL_CONTEXT + b" ",
        contexts=context(1, ECHO_CLASS + b" ", SYNTAX + b"  "),
    ),
    "UIDs padded with NUL": request(
        application=USUAL_CONTEXT + b"\0",
        contexts=context(1, ECHO_CLASS + b"\0\0", SYNTAX + b"\0"),
    ),
    "version name of 20 characters": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x55, b"A" * 20)
    ),
    "version name that is not ASCII": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x55, b"M\xfcnchen\x07\\")
    ),
    "no implementation class UID": request(user=MAXIMUM_LENGTH),
    "implementation class UID that is none": request(user=MAXIMUM_LENGTH + item(0x52, LONG_UID)),
    "no user items": request(user=b""),
    "user items of no length": request(
        user=MAXIMUM_LENGTH
        + b"".join(item(kind, b"") for kind in (0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x59))
    ),
    "user items of a type nobody knows": request(
        user=item(0x7E, b"") + MAXIMUM_LENGTH + item(0x60, b"abc") + IMPLEMENTATION
    ),
    "items of a type nobody knows": request(
        contexts=item(0x11, b"abc") + ECHO + item(0x7F, b"") + context(3, b"1.2", item_type=0x41)
    ),
    "a maximum length of no limit": request(user=item(0x51, bytes(4)) + IMPLEMENTATION),
    "an asynchronous operations window": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x53, struct.pack(">HH", 0, 7))
    ),
    "roles for a SOP class not proposed": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x54, uid_field(b"1.2.3.4") + b"\1\1")
    ),
    "a role of 2": request(
        user=MAXIMUM_LENGTH
        + IMPLEMENTATION
        + item(0x54, uid_field(VERIFICATION.encode()) + b"\2\1")
    ),
    "roles whose UID is longer than the item": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x54, b"\0\x40" + VERIFICATION.encode())
    ),
    "extended negotiation of 200 bytes for an unknown SOP class": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x56, uid_field(b"1.2.3") + b"\7" * 200)
    ),
    "extended negotiation of no bytes": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x56, uid_field(VERIFICATION.encode()))
    ),
    "a user identity of a type nobody knows": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x58, b"\x09\0\0\4name\0\0")
    ),
    "a user name without the second field": request(
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x58, b"\1\0" + uid_field(b"name"))
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_does_no_harm_is_accepted(what, seen):
    assert told(answer_to(ACCEPTED[what], seen)).startswith("1:0")


@pytest.mark.parametrize("uid", UNREADABLE, ids=repr)
def test_a_uid_that_is_none_costs_its_context_alone(uid, seen):
    contexts = (
        ECHO + context(3, uid) + context(5, CT.encode(), uid) + context(7, CT.encode(), uid, b"1.2")
    )
    answer = answer_to(request(contexts=contexts), seen, accept_unknown_storage=True)
    assert told(answer) == "1:0 3:3 5:4 7:4"


def test_a_context_without_its_syntaxes_is_refused_alone(seen):
    bare = item(0x20, b"\3\0\0\0")
    without_transfers = item(0x20, b"\5\0\0\0" + item(0x30, CT.encode()))
    assert told(answer_to(request(contexts=ECHO + bare + without_transfers), seen)) == "1:0 3:3 5:4"


TOO_SMALL = item(0x51, struct.pack(">I", 7))
UNREADABLE_IDENTITY = item(0x58, b"\2\1\0\x40name")
REJECTIONS = {
    "protocol version 0x0002": (request(version=2), VERSION_NOT_SUPPORTED, "protocol version"),
    "protocol version 0xFFFE": (request(version=0xFFFE), VERSION_NOT_SUPPORTED, "protocol version"),
    "calling AE title of blanks": (request(calling=b""), CALLING_NOT_RECOGNISED, "is blank"),
    "calling AE title of NULs": (
        request(calling=bytes(16)),
        CALLING_NOT_RECOGNISED,
        "is blank",
    ),
    "calling AE title that is not ASCII": (
        request(calling="MÜNCHEN".encode("latin-1")),
        CALLING_NOT_RECOGNISED,
        "calling AE title not recognised: it must",
    ),
    "calling AE title with a control character": (
        request(calling=b"PE\x1b[2JER"),
        CALLING_NOT_RECOGNISED,
        "calling AE title not recognised: it must",
    ),
    "calling AE title with a backslash": (
        request(calling=b"PE\\ER"),
        CALLING_NOT_RECOGNISED,
        "calling AE title not recognised: it must",
    ),
    "no application context": (
        request(application=None),
        APPLICATION_CONTEXT_NOT_SUPPORTED,
        "application context not supported",
    ),
    **{
        f"application context {uid!r}": (
            request(application=uid),
            APPLICATION_CONTEXT_NOT_SUPPORTED,
            "application context not supported",
        )
        for uid in UNREADABLE
    },
    "an even context ID": (
        request(contexts=ECHO + context(2)),
        NO_REASON_GIVEN,
        "presentation context ID 2 is even",
    ),
    "context ID 0": (
        request(contexts=context(0) + ECHO),
        NO_REASON_GIVEN,
        "presentation context ID 0 is even",
    ),
    "a context ID that comes twice": (
        request(contexts=ECHO + context(3) + context(3, CT.encode())),
        NO_REASON_GIVEN,
        "a presentation context ID comes twice",
    ),
    "more than 128 contexts": (
        request(contexts=b"".join(context((2 * n + 1) % 256) for n in range(130))),
        NO_REASON_GIVEN,
        "a presentation context ID comes twice",
    ),
    "a maximum length that leaves no room": (
        request(user=TOO_SMALL + IMPLEMENTATION),
        NO_REASON_GIVEN,
        "a Maximum Length of 7 bytes leaves no room",
    ),
    "a user identity that cannot be read": (
        request(user=MAXIMUM_LENGTH + IMPLEMENTATION + UNREADABLE_IDENTITY),
        USER_NOT_VERIFIED,
        "user identity not verified: a field is longer than its item",
    ),
    "a user identity of no length": (
        request(user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x58, b"")),
        USER_NOT_VERIFIED,
        "user identity not verified",
    ),
}


@pytest.mark.parametrize("what", REJECTIONS)
def test_what_cannot_be_served_is_rejected_with_a_line_that_says_why(what, seen, caplog):
    encoded, expected, words = REJECTIONS[what]
    assert told(answer_to(encoded, seen)) == expected
    (line,) = [each for each in caplog.messages if " ended: " in each]
    assert words in line
    assert line.isprintable()


@pytest.mark.parametrize(
    ("called", "words"),
    [
        (b"OTHER", "called AE title not recognised: this is ANY-SCP"),
        (b"", "called AE title not recognised: it is blank"),
        ("MÜNCHEN".encode("latin-1"), "called AE title not recognised: it must"),
        (b"ANY-SCP\x01", "called AE title not recognised: it must"),
    ],
    ids=repr,
)
def test_a_called_ae_title_counts_where_it_is_checked(called, words, seen, caplog):
    ae = make_ae(require_called_aet=True)
    assert told(answer_to(request(called=called), seen, ae=ae)) == CALLED_NOT_RECOGNISED
    (line,) = [each for each in caplog.messages if " ended: " in each]
    assert words in line


def test_an_ae_title_that_is_checked_may_be_padded_with_nul(seen):
    ae = make_ae(require_called_aet=True, require_calling_aet=["PEER"])
    padded = request(called=b"ANY-SCP".ljust(16, b"\0"), calling=b" PEER\0")
    assert told(answer_to(padded, seen, ae=ae)) == "1:0"


@pytest.mark.parametrize(
    ("called", "calling", "reserved"),
    [
        (b"ANY-SCP".ljust(16), b"PEER".ljust(16), bytes(32)),
        (b"  ANY-SCP".ljust(16), b" PEER".ljust(16), bytes(range(32))),
        (b"ANY-SCP".ljust(16, b"\0"), b"PEER\0OLD-TITLE\xff\xfe", b"\xff" * 32),
        (b"M\xdcNCHEN".ljust(16), b"PEER".rjust(16), b"X" * 32),
    ],
    ids=["usual", "blanks before", "NUL behind", "not ASCII"],
)
def test_what_an_acceptance_echoes_is_what_was_received(called, calling, reserved, seen):
    kind, body = answer_to(request(called=called, calling=calling, reserved=reserved), seen)
    assert kind == ASSOCIATE_AC
    assert (body[4:20], body[20:36], body[36:68]) == (called, calling, reserved)
    assert body[:4] == b"\0\1\0\0", "protocol version 1, and a reserved field of zeros"


def test_handlers_see_names_without_their_padding():
    seen = []

    def accepted(event):
        requestor = event.assoc.requestor
        seen.append((requestor.ae_title, requestor.primitive.called_ae_title))
        seen.append(requestor.implementation_version_name)

    odd = request(
        called=b" ANY-SCP\0\xff",
        calling=b"PEER\0\0",
        user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x55, b"M\xfcnchen 1234567890"),
    )
    answer_to(odd, [(evt.EVT_ACCEPTED, accepted)])
    assert seen[:2] == [("PEER", "ANY-SCP"), "M\\xfcnchen 12345"]


def test_a_user_identity_that_is_not_looked_at_does_not_matter():
    asked = []

    def verify(event):
        asked.append((event.user_id_type, event.primary_field))
        return True, None

    identity = item(0x58, b"\1\0" + uid_field("Jürgen".encode("latin-1")) + uid_field(b""))
    odd = request(user=MAXIMUM_LENGTH + IMPLEMENTATION + identity)
    assert told(answer_to(odd, [(evt.EVT_USER_ID, verify)])) == "1:0"
    assert asked == [(1, "Jürgen".encode("latin-1"))]


def test_a_codec_that_pynetdicom_is_configured_to_try_is_tried(monkeypatch, seen):
    encoded = request(calling="MÜNCHEN".encode("latin-1"))
    assert told(answer_to(encoded, seen)) == CALLING_NOT_RECOGNISED
    monkeypatch.setattr(_config, "CODECS", ("ascii", "latin-1"))
    titles = []
    accepted = (evt.EVT_ACCEPTED, lambda event: titles.append(event.assoc.requestor.ae_title))
    assert told(answer_to(encoded, [*seen, accepted])) == "1:0"
    assert titles[0] == "MNCHEN", "what pynetdicom makes of it"


def test_names_of_64_kb_are_not_kept():
    before = _kept_names()
    for number in range(20):
        long = b"%d." % number + b"1" * 60000
        encoded = request(contexts=ECHO + context(3, long) + context(5, CT.encode(), long))
        assert told(answer_to(encoded, [])) == "1:0 3:3 5:4"
    assert _kept_names() <= before + 10


def _kept_names():
    return names._uid_of.cache_info().currsize


def test_the_usual_request_is_the_one_of_the_other_tests():
    assert told(answer_to(associate_rq(), [])).startswith("1:0")
