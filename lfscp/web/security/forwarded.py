"""Finds the visitor's address when a reverse proxy forwards a request.

Rules: only the proxies in `web.trusted_proxies` are believed. The visitor is the last address in
the header that is not a trusted proxy's. A proxy writes one of the two headers and passes the other
on as the visitor sent it; if both are there and disagree, neither is believed.

Source: RFC 7239; X-Forwarded-For has no standard.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

_MAX: Final = 32  # hops that are looked at
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;\s]*)', re.IGNORECASE)


class ReverseProxies:
    """The trusted proxies, as the settings say now. Any thread may ask.

    Args:
        networks: the setting `web.trusted_proxies`.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self.networks: Networks = ()
        self.renew(networks)

    def renew(self, networks: Iterable[str]) -> None:
        """Take over a setting that was read again."""
        self.networks = tuple(map(ipaddress.ip_network, networks))


def is_in(address: str, networks: Networks) -> bool:
    """Whether an address is in one of some networks; a text that is no address is in none."""
    found = _address(address)
    return found is not None and any(found in network for network in networks)


def visitor_address(peer: str, headers: Iterable[tuple[bytes, bytes]], proxies: Networks) -> str:
    """The address of the visitor.

    Args:
        peer: address at the other end of the connection.
        headers: of the request, with names in lower case.
        proxies: the trusted ones.
    """
    if not is_in(peer, proxies):
        return peer
    named: dict[bytes, list[str]] = {b"forwarded": [], b"x-forwarded-for": []}
    for name, value in headers:
        if name in named:
            named[name] += value.decode("latin-1").split(",")
    lists = ([_node_of(each) for each in named[b"forwarded"]], named[b"x-forwarded-for"])
    found = {_rightmost(peer, hops, proxies) for hops in lists if hops}
    return found.pop() if len(found) == 1 else peer


def is_forwarded(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request says that a proxy forwarded it."""
    return any(name in (b"forwarded", b"x-forwarded-for") for name, _ in headers)


def _rightmost(peer: str, hops: list[str], proxies: Networks) -> str:
    """The last address that is not a trusted proxy's; if all are trusted, the first."""
    known = peer
    for hop in hops[: -_MAX - 1 : -1]:
        found = _address(_without_port(hop))
        if found is None:  # "unknown", or a name that hides it: nothing before it can be believed
            break
        known = str(found)
        if not any(found in network for network in proxies):
            break
    return known


def _node_of(element: str) -> str:
    """The `for` of one element of the header Forwarded (RFC 7239 section 4)."""
    found = _FOR.search(element)
    return found[1].strip('"') if found else ""


def _without_port(node: str) -> str:
    node = node.strip()
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
