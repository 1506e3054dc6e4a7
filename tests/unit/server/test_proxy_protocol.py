"""PROXY protocol version 2: whom a proxy speaks for, and who is not believed."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfscp.server.proxy_protocol import InvalidProxyHeaderError, ProbeOnlyError, TrustedProxies

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ADDRESSES = bytes([10, 1, 2, 3, 10, 9, 9, 9]) + b"\x1f\x90\x2b\x68"  # 8080 and 11112
PROXY_TCP4 = SIGNATURE + b"\x21\x11\x00\x0c" + ADDRESSES
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
PROXY_ADDRESS = ("192.0.2.1", 50000)
REQUEST = b"\x01\x00 the association request"


def header(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def peer_of(here: socket.socket, timeout_s: float = 5.0) -> tuple[object, ...]:
    return TrustedProxies(["192.0.2.0/24", "2001:db8::/32"], timeout_s).peer_of(here, PROXY_ADDRESS)


def test_the_peer_is_who_the_proxy_says_and_what_follows_is_left(ends):
    here, there = ends
    there.sendall(PROXY_TCP4 + REQUEST)
    assert peer_of(here) == ("10.1.2.3", 8080)
    assert here.recv(100) == REQUEST
    assert here.gettimeout() is None


def test_an_ipv6_peer(ends):
    here, there = ends
    source = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    there.sendall(header(0x21, 0x21, source * 2 + b"\x00\x68\x00\x68") + REQUEST)
    assert peer_of(here) == ("2001:db8::7", 104, 0, 0)
    assert here.recv(100) == REQUEST


def test_further_fields_are_passed_over(ends):
    here, there = ends
    body = ADDRESSES + b"\x04\x00\x05extra"
    there.sendall(header(0x21, 0x11, body) + REQUEST)
    assert peer_of(here) == ("10.1.2.3", 8080)
    assert here.recv(100) == REQUEST


def test_a_header_may_come_byte_by_byte(ends):
    here, there = ends

    def send() -> None:
        for at in range(len(PROXY_TCP4)):
            there.sendall(PROXY_TCP4[at : at + 1])

    sender = threading.Thread(target=send)
    sender.start()
    assert peer_of(here) == ("10.1.2.3", 8080)
    sender.join()


def test_a_proxy_that_does_not_know_its_peer_is_the_peer(ends):
    here, there = ends
    there.sendall(header(0x21, 0x00, b"") + REQUEST)
    assert peer_of(here) == PROXY_ADDRESS


def test_a_proxy_may_speak_for_itself(ends):
    here, there = ends
    there.sendall(LOCAL + REQUEST)
    assert peer_of(here) == PROXY_ADDRESS
    assert here.recv(100) == REQUEST


@pytest.mark.parametrize("sent", [b"", LOCAL])
def test_a_proxy_that_only_looks_asks_nothing(ends, sent):
    here, there = ends
    there.sendall(sent)
    there.shutdown(socket.SHUT_WR)
    with pytest.raises(ProbeOnlyError):
        peer_of(here)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (REQUEST + bytes(100), "no PROXY protocol header"),
        (b"PROXY TCP4 10.1.2.3 10.9.9.9 1 2\r\n", "version 1"),
        (PROXY_TCP4[:20], "closed within"),
        (header(0x31, 0x11, bytes(12)), "version and command 0x31"),
        (header(0x22, 0x11, bytes(12)), "version and command 0x22"),
        (header(0x21, 0x12, bytes(12)), "not TCP"),
        (header(0x21, 0x31, bytes(216)), "not TCP"),
        (header(0x21, 0x11, bytes(11)), "cut off"),
        (SIGNATURE + b"\x21\x11\xff\xff", "65535 bytes"),
    ],
)
def test_a_header_that_is_wrong_is_not_believed(ends, sent, reason):
    here, there = ends
    there.sendall(sent)
    there.shutdown(socket.SHUT_WR)
    with pytest.raises(InvalidProxyHeaderError, match=reason):
        peer_of(here)


def test_a_header_that_does_not_come_is_not_waited_for_longer_than_allowed(ends):
    here, there = ends
    there.sendall(PROXY_TCP4[:14])
    with pytest.raises(InvalidProxyHeaderError, match="in time"):
        peer_of(here, timeout_s=0.05)


@pytest.mark.parametrize("address", ["198.51.100.1", "::ffff:198.51.100.1", "2001:db9::1"])
def test_a_header_of_whoever_is_no_proxy_is_not_even_read(ends, address):
    here, there = ends
    there.sendall(PROXY_TCP4)
    with pytest.raises(InvalidProxyHeaderError, match=r"server\.proxy_protocol"):
        TrustedProxies(["192.0.2.0/24"], 5.0).peer_of(here, (address, 1))
    assert here.recv(100) == PROXY_TCP4


def test_a_proxy_is_known_on_an_ipv6_socket_too(ends):
    here, there = ends
    there.sendall(PROXY_TCP4)
    proxies = TrustedProxies(["192.0.2.0/24"], 5.0)
    assert proxies.peer_of(here, ("::ffff:192.0.2.9", 1, 0, 0)) == ("10.1.2.3", 8080)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_end_in_a_decision(junk, with_signature):
    here, there = socket.socketpair()
    with here, there:
        there.sendall((SIGNATURE if with_signature else b"") + junk)
        there.shutdown(socket.SHUT_WR)
        try:
            address = peer_of(here)
        except (InvalidProxyHeaderError, ProbeOnlyError):
            return
        assert len(address) in (2, 4)
