"""Decides who may associate, by calling AE title, address and user.

Every association passes here once, in the thread that serves it. Cheap checks come first. The hash
of a passcode comes last, and only if there is room for the association at all.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.pdu_primitives import UserIdentityNegotiation

from lfscp.config.access import Identity, PeerSettings
from lfscp.config.current import CurrentSettings
from lfscp.observe import audit
from lfscp.services.access.attempts import TooManyAttemptsError
from lfscp.services.access.permissions import calling_peer
from lfscp.services.access.user_identity import UserIdentities
from lfscp.upperlayer.wire.rejections import (
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    Rejection,
)

if TYPE_CHECKING:
    from lfscp.config.server import ServerSection
    from lfscp.upperlayer.scp.association import AcceptorAssociation

Resolve = Callable[[str], Iterable[str]]

_USER: Final = 1  # types of user identity (PS3.7 table D.3-14)
_USER_AND_PASSCODE: Final = 2
_OTHER_TYPES: Final = {3: "a Kerberos ticket", 4: "a SAML assertion", 5: "a JSON web token"}
_NAME_LASTS_S: Final = 60.0  # after which a host's name is looked up again

# PS3.8 table 9-21: transient, by the presentation related part, temporary congestion.
AUDIT_TRAIL_FAILS: Final = Rejection(2, 3, 1, "the audit trail cannot be written")


def called_ae_title_rejected(server: ServerSection) -> Rejection:
    """The rejection of an AE title that is none of the node's; the log says which are."""
    titles = " or ".join((server.ae_title, *server.ae_titles))
    return CALLED_AE_TITLE_NOT_RECOGNISED.because(f"this is {titles}")


def user_rejected(reason: str) -> Rejection:
    """The rejection of a user (PS3.7 section D.3.3.7: permanent, by the ACSE)."""
    return Rejection(1, 2, 1, f"user identity not verified: {reason}")


def too_many_wrong(wait_s: float) -> Rejection:
    """The rejection after too many wrong passcodes: transient, by the ACSE (PS3.8 table 9-21)."""
    return Rejection(2, 2, 1, f"too many wrong passcodes; wait {int(wait_s) + 1} seconds")


class Admission:
    """Decides on the admission of associations; given to the server as `admit`.

    Args:
        current: the settings, read at each association.
        resolve: gives the addresses of a host's name.
    """

    def __init__(self, current: CurrentSettings, resolve: Resolve | None = None) -> None:
        self._current = current
        self._names = _Names(resolve or _look_up)
        self._users = UserIdentities()

    def __call__(self, association: AcceptorAssociation) -> Rejection | None:
        """A Rejection, or None to admit it."""
        if audit.must_stop():
            return AUDIT_TRAIL_FAILS
        settings = self._current.settings
        if not _is_called(association, settings.server):
            return called_ae_title_rejected(settings.server)
        title = association.requestor.ae_title.strip(" ")
        peer = calling_peer(settings.peers, title)
        if peer is None and settings.server.require_known_peers:
            return CALLING_AE_TITLE_NOT_RECOGNISED.because("it is not in [peers]")
        is_bound = settings.server.require_peer_addresses or (peer is not None and peer.addresses)
        if peer is not None and is_bound and not self._comes_from(peer, association):
            return CALLING_AE_TITLE_NOT_RECOGNISED.because(
                "it calls from an address that is not its own"
            )

        def known_as() -> str:
            return title if peer is not None and self._comes_from(peer, association) else ""

        rejection = association.limit_rejection(known_as)
        return rejection or _identify(settings.identity, self._users, association)

    def _comes_from(self, peer: PeerSettings, association: AcceptorAssociation) -> bool:
        address = plain_address(association.requestor.address or "")
        if address is None:
            return False
        networks = (ipaddress.ip_network(each) for each in peer.addresses)
        if any(address in network for network in networks):
            return True
        return address in self._names.addresses(peer.host)


def plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address; one of IPv4 that an IPv6 socket shows (::ffff:10.0.0.7) becomes plain."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_called(association: AcceptorAssociation, server: ServerSection) -> bool:
    """Whether the called AE title is one of the node's, where that is asked for."""
    if not server.require_called_ae_title:
        return True
    request: Any = association.requestor.primitive
    called = str(request.called_ae_title or "").strip(" ")
    return called in (server.ae_title, *server.ae_titles)


class _Names:
    """The addresses of hosts, asked for again after a minute."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._known: dict[str, tuple[float, frozenset[object]]] = {}

    def addresses(self, host: str) -> frozenset[object]:
        literal = plain_address(host.strip("[]"))
        if literal is not None:
            return frozenset({literal})
        now = time.monotonic()
        at, found = self._known.get(host, (-_NAME_LASTS_S, frozenset()))
        if now - at >= _NAME_LASTS_S:
            found = frozenset(filter(None, map(plain_address, self._resolve(host))))
            self._known[host] = (now, found)
        return found


def _look_up(host: str) -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
    except OSError:
        return []


def _identify(
    identity: Identity, users: UserIdentities, association: AcceptorAssociation
) -> Rejection | None:
    """Check the user that the requestor names (PS3.7 section D.3.3.7)."""
    if not identity.users:
        return None
    item: Any = association.requestor.user_identity
    if item is None:
        return user_rejected("none is named") if identity.required else None
    kind = item.user_identity_type
    if kind not in (_USER, _USER_AND_PASSCODE):
        what = _OTHER_TYPES.get(kind, f"type {kind}")
        return user_rejected(f"{what} is not supported, a user name with passcode is")
    passcode = item.secondary_field or b"" if kind == _USER_AND_PASSCODE else None
    address = association.requestor.address or ""
    try:
        if not users.is_user(identity, item.primary_field or b"", passcode, address):
            return user_rejected("wrong user name or passcode")
    except TooManyAttemptsError as reason:
        return too_many_wrong(reason.wait_s)
    if item.positive_response_requested:
        response = UserIdentityNegotiation()
        response.server_response = b""  # for these two types it is empty
        association.acceptor.add_negotiation_item(response)
    return None
