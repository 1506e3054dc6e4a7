"""Outbound associations: a pynetdicom requestor driven by the calling thread."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from copy import copy

from pynetdicom import evt
from pynetdicom._globals import MODE_REQUESTOR
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu_primitives import (
    _UI,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from lfscp.upperlayer.connection.limits import NO_LIMITS, ReceiveLimits
from lfscp.upperlayer.connection.transport import InlineSocket
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.engine.bindings import Bindings
from lfscp.upperlayer.scp.dispatch import Dispatcher

_USER, _USER_AND_PASSCODE = 1, 2  # types of user identity (PS3.7 table D.3-14)
MAX_CONTEXTS = 128  # context IDs are odd and at most 255 (PS3.8 section 9.3.2.2)


def associate(
    address: tuple[str, int],
    *,
    calling_ae_title: str,
    called_ae_title: str,
    contexts: Sequence[PresentationContext],
    ssl_context: ssl.SSLContext | None = None,
    acse_timeout_s: float | None = 30,
    dimse_timeout_s: float | None = 30,
    network_timeout_s: float | None = 60,
    connection_timeout_s: float | None = 10,
    max_pdu_bytes: int = 131072,
    ext_neg: Sequence[_UI] = (),
    user: str = "",
    passcode: str = "",
    evt_handlers: Sequence[evt.EventHandlerType] = (),
    while_waiting: Callable[[], None] | None = None,
    look_every_s: float = 1.0,
    limits: ReceiveLimits = NO_LIMITS,
) -> InlineAssociation:
    """Request an association; whether it came about is its `is_established`.

    Args:
        address: host and port of the peer.
        contexts: 1 to 128 proposed contexts; their IDs are given here.
        ssl_context: for TLS, verified against the host.
        ext_neg: further negotiation items.
        user: to name to the peer (PS3.7 section D.3.3.7); "" names nobody.
        passcode: of this user; "" if none is asked for.
        while_waiting: called about every `look_every_s` while the peer is waited for, and while it
            sends or takes what is long; when it raises `CalledOffError` the association is aborted.
        limits: of what the peer sends.
    Returns:
        A pynetdicom association; `is_rejected` or `is_aborted` when it is not established, with
        `end_reason` where one is known.
    Raises:
        ValueError: a context too many or none, or an AE title that is none.
        OSError: the host's name cannot be resolved.
    """
    if not 1 <= len(contexts) <= MAX_CONTEXTS:
        raise ValueError(f"{len(contexts)} presentation contexts, expected 1 to {MAX_CONTEXTS}")
    ae = ApplicationEntity(ae_title=calling_ae_title)
    ae.acse_timeout = acse_timeout_s
    ae.dimse_timeout = dimse_timeout_s
    ae.network_timeout = network_timeout_s
    ae.connection_timeout = connection_timeout_s
    ae.maximum_pdu_size = max_pdu_bytes
    remote = AddressInformation.from_addr_port(*address)
    local = AddressInformation.from_tuple(("", 0) if remote.is_ipv4 else ("::0", 0))

    association = InlineAssociation(ae, MODE_REQUESTOR, limits=limits)
    connection = InlineSocket(association, association.record, address=local)
    connection.while_waiting = while_waiting
    connection.look_every_s = look_every_s
    if ssl_context is not None:
        connection.tls_args = (ssl_context, address[0])
    association.set_socket(connection)
    association.acceptor.ae_title = called_ae_title
    association.acceptor.address_info = remote
    association.requestor.address_info = local
    association.requestor.ae_title = ae.ae_title
    association.requestor.maximum_length = max_pdu_bytes
    association.requestor.implementation_class_uid = ae.implementation_class_uid
    association.requestor.implementation_version_name = ae.implementation_version_name
    for item in ext_neg:
        association.requestor.add_negotiation_item(item)
    if user:
        association.requestor.add_negotiation_item(_user_identity(user, passcode))
    # Whoever proposes to be the SCP of a SOP class, beside a C-GET, takes its objects for storage.
    storage_classes = frozenset(
        str(item.sop_class_uid)
        for item in ext_neg
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.scp_role
    )
    association.dispatch = Dispatcher(association, storage_classes).dispatch
    association.requestor.requested_contexts = _numbered(contexts)
    association.take_handlers(Bindings(evt_handlers))
    association.request()
    if not association.is_established:
        association.dul.close()  # pynetdicom leaves that to its thread
    if (error := connection.connect_error) is not None:
        association.end_reason = f"cannot connect: {error.strerror or error}"
    return association


def _numbered(contexts: Sequence[PresentationContext]) -> list[PresentationContext]:
    numbered = []
    for number, context in enumerate(contexts):
        context = copy(context)
        context.context_id = 2 * number + 1
        numbered.append(context)
    return numbered


def _user_identity(user: str, passcode: str) -> UserIdentityNegotiation:
    """The user and passcode in UTF-8. No answer is asked for: a wrong user is rejected."""
    item = UserIdentityNegotiation()
    item.user_identity_type = _USER_AND_PASSCODE if passcode else _USER
    item.primary_field = user.encode()
    if passcode:
        item.secondary_field = passcode.encode()
    item.positive_response_requested = False
    return item
