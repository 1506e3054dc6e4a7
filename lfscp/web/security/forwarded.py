"""Finds the visitor's address, and the one that he asked for, when a proxy forwards a request.

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
_PAIR: Final = re.compile(r'(?:^|;)\s*(for|host|proto)\s*=\s*("[^"]*"|[^;\s]*)', re.IGNORECASE)
_X_FORWARDED: Final = {b"x-forwarded-proto": "proto", b"x-forwarded-host": "host"}


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
    found = _address(address) if networks else None
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


def asked_address(
    peer: str, headers: Iterable[tuple[bytes, bytes]], proxies: Networks
) -> tuple[str, str]:
    """Scheme and host that the visitor asked for; each is empty if no trusted proxy says it.

    Args:
        peer: address at the other end of the connection.
        headers: of the request, with names in lower case.
        proxies: the trusted ones.
    """
    if not is_in(peer, proxies):
        return "", ""
    elements: list[str] = []
    single: dict[str, str] = {}
    for name, value in headers:
        if name == b"forwarded":
            elements += value.decode("latin-1").split(",")
        elif name in _X_FORWARDED:
            single[_X_FORWARDED[name]] = value.decode("latin-1").rpartition(",")[2].strip()
    standard = _outermost(elements, proxies)
    if standard and single and any(standard.get(key) != single[key] for key in single):
        return "", ""
    said = standard or single
    return said.get("proto", "").lower(), said.get("host", "")


def _outermost(elements: list[str], proxies: Networks) -> dict[str, str]:
    """What the trusted proxy says that is nearest to the visitor."""
    said: dict[str, str] = {}
    for element in elements[: -_MAX - 1 : -1]:
        said = _pairs(element)
        if not is_in(_without_port(said.get("for", "")), proxies):
            break
    return {key: value for key, value in said.items() if key != "for"}


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
    return _pairs(element).get("for", "")


def _pairs(element: str) -> dict[str, str]:
    pairs = reversed(_PAIR.findall(element))  # the first of a name counts
    return {name.lower(): value.strip('"') for name, value in pairs}


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
