"""Who filters pynetdicom's log by its names, levels and words finds the same lines.

One conversation after another is held with pynetdicom's own server and with lfscp's, by a client
that logs nothing itself; what both wrote to `pynetdicom.*` is compared. Left out are PDUs and
messages, which the same handlers write in both, and the keys of a query, which name patients.
"""

import logging
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset
from pynetdicom import _config, evt

from tests.support.dicom_peer import (
    ABORT,
    IMPLICIT,
    Peer,
    associate_rq,
    command,
    echo_rq,
    find_rq,
    item,
    message,
    pdu,
    store_rq,
    uid,
    until,
    us,
)
from tests.support.serving import make_ae, serving

PRIVATE = "1.2.826.0.1.3680043.9.9.9"
KEYS = b"\x08\0\x52\0\x06\0\0\0STUDY "
REQUEST, RELEASE = associate_rq(), pdu(5, b"\0\0\0\0")
PRIVATE_REQUEST = associate_rq([(1, PRIVATE, (IMPLICIT,))])
NAMED_REQUEST = associate_rq(user_items=item(0x58, b"\1\0\0\4name\0\0"))
ECHO, STORE = message(1, echo_rq()), message(3, store_rq(), KEYS)
FIND = message(5, find_rq(), KEYS)
DELETE = message(
    1,
    command(
        uid(0x0003, PRIVATE),
        us(0x0100, 0x0150),
        us(0x0110, 1),
        us(0x0800, 0x0101),
        uid(0x1001, "1.2"),
    ),
)


def raises(event):
    raise ValueError("this handler raises")


def refuses(event):
    return False, None


def finds(event):
    match = Dataset()
    match.QueryRetrieveLevel = "STUDY"
    yield 0xFF00, match
    yield 0xFF01, match
    yield 0xA700, None


def finds_nothing(event):
    return iter(())


def is_cancelled(event):
    yield 0xFE00, None


# What the peer says, each with how many PDUs it waits for; handlers; attributes of the AE.
CONVERSATIONS = {
    "released": ([(REQUEST, 1), (ECHO, 1), (RELEASE, 1)], [], {}),
    "aborted": ([(REQUEST, 1), (pdu(ABORT, b"\0\0\0\0"), 0)], [], {}),
    "rejected": ([(REQUEST, 1)], [], {"require_calling_aet": ["OTHER"]}),
    "user identity refused": ([(NAMED_REQUEST, 1)], [(evt.EVT_USER_ID, refuses)], {}),
    "protocol version": ([(associate_rq(version=2), 1)], [], {"acse_timeout": 0.2}),
    "an unknown PDU": ([(REQUEST, 1), (pdu(9, b"abcd"), 1)], [], {}),
    "a context that was not accepted": ([(REQUEST, 1), (message(77, echo_rq()), 1)], [], {}),
    "no service class": ([(PRIVATE_REQUEST, 1), (DELETE, 1)], [], {}),
    "network timeout": ([(REQUEST, 2)], [], {"network_timeout": 0.2}),
    "a C-ECHO handler that raises": (
        [(REQUEST, 1), (ECHO, 1), (RELEASE, 1)],
        [(evt.EVT_C_ECHO, raises)],
        {},
    ),
    "a C-STORE handler that raises": (
        [(REQUEST, 1), (STORE, 1), (RELEASE, 1)],
        [(evt.EVT_C_STORE, raises)],
        {},
    ),
    "a C-FIND handler that raises": (
        [(REQUEST, 1), (FIND, 1), (RELEASE, 1)],
        [(evt.EVT_C_FIND, raises)],
        {},
    ),
    "a C-FIND that ends with a failure": (
        [(REQUEST, 1), (FIND, 5), (RELEASE, 1)],
        [(evt.EVT_C_FIND, finds)],
        {},
    ),
    "a C-FIND without matches": (
        [(REQUEST, 1), (FIND, 1), (RELEASE, 1)],
        [(evt.EVT_C_FIND, finds_nothing)],
        {},
    ),
    "a C-FIND that is cancelled": (
        [(REQUEST, 1), (FIND, 1), (RELEASE, 1)],
        [(evt.EVT_C_FIND, is_cancelled)],
        {},
    ),
}


def ae_of(attributes):
    ae = make_ae(**attributes)
    ae.add_supported_context(PRIVATE)
    return ae


@contextmanager
def pynetdicoms_own(handlers, attributes):
    ae = ae_of(attributes)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server, server.socket.getsockname()
    finally:
        server.shutdown()


@contextmanager
def lfscps(handlers, attributes):
    with serving(*handlers, ae=ae_of(attributes)) as server:
        yield server, server.server_address


def lines_of(serve, conversation, caplog):
    """What is written to pynetdicom's loggers: (name, level, text) of each line."""
    said, handlers, attributes = conversation
    caplog.clear()
    with serve(handlers, attributes) as (server, address):
        with Peer(address) as peer:
            for sent, answers in said:
                peer.send(sent)
                for _ in range(answers):
                    assert peer.pdu() is not None
        assert until(lambda: not server.active_associations)
    return [
        (record.name, record.levelno, record.getMessage())
        for record in caplog.records
        if record.name.startswith("pynetdicom.") and record.name != "pynetdicom._handlers"
    ]


@pytest.mark.parametrize("what", CONVERSATIONS)
def test_each_line_of_pynetdicoms_server_is_written_by_this_one(what, caplog, monkeypatch):
    monkeypatch.setattr(_config, "LOG_REQUEST_IDENTIFIERS", False)
    with caplog.at_level(logging.INFO, logger="pynetdicom"):
        expected = lines_of(pynetdicoms_own, CONVERSATIONS[what], caplog)
        rest = iter(lines_of(lfscps, CONVERSATIONS[what], caplog))
    assert expected
    missing = [line for line in expected if not any(each == line for each in rest)]
    assert missing == []
