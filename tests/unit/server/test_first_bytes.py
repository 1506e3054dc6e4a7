"""How much a connection must have sent before it is worth a thread."""

import struct

import pytest

from lfscp.server.first_bytes import LOOKED_AT, bytes_wanted
from tests.support.dicom_peer import associate_rq

REQUEST = associate_rq()
CLIENT_HELLO = b"\x16\x03\x01\x02\x00"  # a TLS record of 512 bytes begins
PROXY = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([10, 1, 2, 3, 10, 9, 9, 9, 1, 1, 2, 2])


def is_worth_a_thread(seen, *, is_tls=False, has_proxy_header=False):
    return bytes_wanted(seen, is_tls=is_tls, has_proxy_header=has_proxy_header) <= len(seen)


@pytest.mark.parametrize("before", [b"", PROXY], ids=["directly", "through a proxy"])
def test_a_request_is_awaited_to_its_last_byte(before):
    whole = before + REQUEST
    for length in range(1, len(whole)):
        assert not is_worth_a_thread(whole[:length], has_proxy_header=bool(before)), length
    assert is_worth_a_thread(whole, has_proxy_header=bool(before))
    assert is_worth_a_thread(whole + b"more", has_proxy_header=bool(before))


@pytest.mark.parametrize("before", [b"", PROXY], ids=["directly", "through a proxy"])
def test_the_first_record_of_a_handshake_is_awaited(before):
    whole = before + CLIENT_HELLO + bytes(512)
    for length in (*range(1, len(before) + 6), len(whole) - 1):
        assert not is_worth_a_thread(whole[:length], is_tls=True, has_proxy_header=bool(before))
    assert is_worth_a_thread(whole, is_tls=True, has_proxy_header=bool(before))


@pytest.mark.parametrize("seen", [b"G", b"GET / HTTP/1.1\r\n", b"\x16", b"\x07\0\0\0\0\4\0\0\0\0"])
def test_what_is_no_request_is_answered_at_once(seen):
    assert is_worth_a_thread(seen)


@pytest.mark.parametrize("seen", [b"\x01", REQUEST, b"SSH-2.0-x"])
def test_what_is_no_handshake_is_answered_at_once(seen):
    assert is_worth_a_thread(seen, is_tls=True)


@pytest.mark.parametrize(
    "seen", [REQUEST, b"PROXY TCP4 10.0.0.1", PROXY[:12] + b"\x21\x11\xff\xff"]
)
def test_what_is_no_proxy_header_is_answered_at_once(seen):
    assert is_worth_a_thread(seen, has_proxy_header=True)


def test_a_request_that_is_too_long_is_answered_at_once():
    assert is_worth_a_thread(struct.pack(">BxI", 1, 0xFFFFFFFF))


def test_a_large_request_is_served_after_its_beginning():
    head = struct.pack(">BxI", 1, 900_000)
    assert not is_worth_a_thread(head + bytes(1000))
    assert is_worth_a_thread(head + bytes(LOOKED_AT - 6))
