"""Who the visitor is behind a reverse proxy, and who only says to be somebody."""

from __future__ import annotations

import ipaddress

import pytest

from lfscp.config.passwords import hash_password
from lfscp.services.access.attempts import MAX_FAILURES
from lfscp.web.security.forwarded import visitor_address
from tests.support.web_app import serving

pytestmark = pytest.mark.usefixtures("quick_passwords")
PROXIES = [ipaddress.ip_network(each) for each in ("10.0.0.0/24", "fd00::/64")]
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("headers", "visitor"),
    [
        ([], PROXY),
        (["X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: 1.2.3.4, 192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: 192.0.2.7, 10.0.0.9"], "192.0.2.7"),
        (["X-Forwarded-For: 10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        (["X-Forwarded-For: 192.0.2.7:4711"], "192.0.2.7"),
        (["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
        (["X-Forwarded-For: [2001:db8::1]:4711"], "2001:db8::1"),
        (["X-Forwarded-For: ::ffff:192.0.2.7"], "192.0.2.7"),
        (["X-Forwarded-For: 192.0.2.7, unknown"], PROXY),
        (["X-Forwarded-For: 192.0.2.7, unknown, 10.0.0.9"], "10.0.0.9"),
        (["X-Forwarded-For: "], PROXY),
        (["X-Forwarded-For: <script>"], PROXY),
        (["Forwarded: for=192.0.2.7"], "192.0.2.7"),
        (['Forwarded: for=1.2.3.4, proto=https; For="192.0.2.7:99";by=10.0.0.1'], "192.0.2.7"),
        (['Forwarded: for="[2001:db8::1]:4711"'], "2001:db8::1"),
        (['Forwarded: for="', "Forwarded: for=192.0.2.7"], "192.0.2.7"),
        (["Forwarded: for=_hidden"], PROXY),
        (["Forwarded: proto=https"], PROXY),
        # A proxy writes one of them; the other may be the visitor's own.
        (["Forwarded: for=1.2.3.4", "X-Forwarded-For: 192.0.2.7"], PROXY),
        (["Forwarded: for=192.0.2.7", "X-Forwarded-For: 192.0.2.7"], "192.0.2.7"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_s_is_the_visitor_s(headers, visitor):
    pairs = [each.split(": ", 1) for each in headers]
    encoded = [(name.lower().encode(), value.encode()) for name, value in pairs]

    assert visitor_address(PROXY, encoded, PROXIES) == visitor
    assert visitor_address("192.0.2.99", encoded, PROXIES) == "192.0.2.99", "is no proxy"
    assert visitor_address(PROXY, encoded, []) == PROXY


def test_a_list_of_any_length_is_read_from_its_end():
    hops = b",".join([b"10.0.0.5"] * 5000)
    assert visitor_address(PROXY, [(b"x-forwarded-for", hops)], PROXIES) == "10.0.0.5"


@pytest.mark.parametrize(("trusted", "status"), [(["192.0.2.1"], 303), ([], 429)])
def test_a_guesser_behind_a_trusted_proxy_locks_nobody_else_out(tmp_path, trusted, status):
    web = {"users": [f"anna:{hash_password('right')}"], "trusted_proxies": trusted}
    with serving(tmp_path, web=web) as client:
        client._transport.client = ("192.0.2.1", 5000)

        def log_in(password, address):
            return client.post(
                "/login",
                data={"name": "anna", "password": password},
                headers={"X-Forwarded-For": address},
                follow_redirects=False,
            ).status_code

        for _ in range(MAX_FAILURES):
            assert log_in("wrong", "198.51.100.1") == 401
        assert log_in("right", "198.51.100.1") == 429
        assert log_in("right", "198.51.100.2") == status
