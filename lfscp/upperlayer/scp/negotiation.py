"""The acceptor's side of association negotiation: whom to reject, and with what to accept.

Where pynetdicom departs from the standard, the standard holds: an unknown application context is
rejected, a full server does not hide that an AE title is wrong, and what cannot be served is
refused with a reason where pynetdicom aborts. Of a request with strange names the rules are:
- a calling AE title must be one (it is kept with each object, and sent on);
- a called AE title counts where it is checked, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final, cast

from pydicom.uid import UID
from pynetdicom import _config, evt
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.acse import ACSE
from pynetdicom.pdu_primitives import (
    _UI,
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.scp.association import AcceptorAssociation
from lfscp.upperlayer.scp.contexts import (
    ACCEPTED,
    Roles,
    SupportedContexts,
    negotiate_unrestrictedly,
)
from lfscp.upperlayer.wire.names import fault_of_ae_title
from lfscp.upperlayer.wire.pdata import SMALLEST_MAXIMUM_LENGTH
from lfscp.upperlayer.wire.rejections import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    USER_IDENTITY_FAILED,
    USER_IDENTITY_UNREADABLE,
    Rejection,
)

_APPLICATION_CONTEXT: Final = UID(APPLICATION_CONTEXT_NAME)
_BY_SERVICE_USER: Final = 0x01  # the source of the result


class InlineACSE(ACSE):
    """pynetdicom's ACSE with the acceptor's negotiation above.

    Relied on in ACSE: `_negotiate_as_acceptor` is the acceptor's whole negotiation, `send_accept`
    its last step, and the `_check_*` methods ask the handlers of user identity and extended
    negotiation.

    Args:
        assoc: the association it serves.
        supported: its server's contexts.
        admit: the server's own policy: a Rejection, or None to admit the requestor.
    """

    _assoc: AcceptorAssociation

    def __init__(
        self,
        assoc: AcceptorAssociation,
        supported: SupportedContexts,
        admit: Callable[[AcceptorAssociation], Rejection | None] | None,
    ) -> None:
        super().__init__(assoc)
        self._supported = supported
        self._admit = admit

    def negotiate_association(self) -> None:
        """Accept or reject what the requestor asks."""
        self._negotiate_as_acceptor()

    def _negotiate_as_acceptor(self) -> None:
        association = self._assoc
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        # Relied on: `_ae_title`, which the setter would fill with an AE title only.
        association.requestor._ae_title = request._calling_ae_title
        proposed = {type(item) for item in request._user_information}
        rejection = self._rejection(request)
        self._answer_extended(proposed)
        if rejection is None and not self._answer_user_identity(proposed):
            loggers.ACSE.info("User identity failed verification")
            rejection = USER_IDENTITY_FAILED
        if rejection is None:
            rejection = association.limit_rejection()
        if rejection is None:
            self._accept(request, proposed)
        else:
            self._reject(rejection)

    def _rejection(self, request: A_ASSOCIATE) -> Rejection | None:
        """What the request alone decides (PS3.8 section 9.3.4), and then the server's policy."""
        if request._application_context_name != APPLICATION_CONTEXT_NAME:
            return APPLICATION_CONTEXT_NOT_SUPPORTED
        rejection = self._title_rejection(request)
        if rejection is not None:
            return rejection
        fault = self._fault(request)
        if fault:
            return Rejection(1, 1, 1, fault)
        received = self._assoc.dul.request
        if received is not None and received.user_identity_fault:
            return USER_IDENTITY_UNREADABLE.because(received.user_identity_fault)
        return self._admit(self._assoc) if self._admit is not None else None

    def _title_rejection(self, request: A_ASSOCIATE) -> Rejection | None:
        ae = self._assoc.ae
        called = (request._called_ae_title or "").strip()
        calling = (request._calling_ae_title or "").strip()
        ours = self._assoc.acceptor._ae_title.strip()
        if ae.require_called_aet and called != ours:
            fault = fault_of_ae_title(called)
            return CALLED_AE_TITLE_NOT_RECOGNISED.because(
                f"it {fault}" if fault else f"this is {ours}"
            )
        known = ae.require_calling_aet
        fault = fault_of_ae_title(calling)
        if fault or (known and calling not in [title.strip() for title in known]):
            return CALLING_AE_TITLE_NOT_RECOGNISED.because(fault and f"it {fault}")
        return None

    def _fault(self, request: A_ASSOCIATE) -> str:
        """Why no association can be held with what was proposed; empty when one can."""
        largest = _maximum_length(request)
        if largest and largest < SMALLEST_MAXIMUM_LENGTH:
            return f"a Maximum Length of {largest} bytes leaves no room for a fragment"
        ids = [context._context_id for context in request._presentation_context_definition_list]
        even = [each for each in ids if each is None or not each % 2]
        if even:
            return f"presentation context ID {even[0]} is even"
        if len(set(ids)) != len(ids):
            return "a presentation context ID comes twice"
        return ""

    def _answer_user_identity(self, proposed: Container[type[_UI]]) -> bool:
        if UserIdentityNegotiation not in proposed:
            return True
        is_valid, response = self._check_user_identity()
        if response:
            self.acceptor.add_negotiation_item(response)
        return is_valid

    def _answer_extended(self, proposed: Container[type[_UI]]) -> None:
        """Ask the handlers of what was proposed; they are bound for nothing else."""
        acceptor = self._assoc.acceptor
        if SOPClassExtendedNegotiation in proposed:
            for item in self._check_sop_class_extended():
                acceptor.add_negotiation_item(item)
        if SOPClassCommonExtendedNegotiation in proposed:
            acceptor._common_ext = self._check_sop_class_common_extended()
        if AsynchronousOperationsWindowNegotiation not in proposed:
            return
        if self.requestor.asynchronous_operations != (1, 1):
            window = self._check_async_ops()
            if window:
                acceptor.add_negotiation_item(window)

    def _reject(self, rejection: Rejection) -> None:
        loggers.ACSE.info("Rejecting Association")
        record = self._assoc.record
        record.rejection, record.end_reason = rejection, rejection.reason
        self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()

    def _negotiate(
        self, request: A_ASSOCIATE, roles: dict[UID, Roles]
    ) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
        proposed = request._presentation_context_definition_list
        supported = self._supported
        # Relied on: `_contexts` is what `supported_contexts` gives and sets. A handler of
        # EVT_REQUESTED may have set others for this association.
        own = self._assoc.acceptor._contexts
        if _config.UNRESTRICTED_STORAGE_SERVICE:
            return negotiate_unrestrictedly(proposed, own, roles)
        if not supported.are(own):
            supported = SupportedContexts(own)
        return supported.negotiate(proposed, roles)

    def _accept(self, request: A_ASSOCIATE, proposed: Container[type[_UI]]) -> None:
        association = self._assoc
        roles: dict[UID, Roles] = {}
        if SCP_SCU_RoleSelectionNegotiation in proposed:
            roles = {
                uid: (item.scu_role, item.scp_role)
                for uid, item in self.requestor.role_selection.items()
            }
        results, role_items = self._negotiate(request, roles)
        association.set_contexts(results)
        for item in role_items:
            association.acceptor.add_negotiation_item(item)
        loggers.ACSE.info("Accepting Association")
        # The peer may act, and another thread release, as soon as the acceptance is out.
        with association.dul.lock:
            association.is_established = association.was_established = True
            self.send_accept()
        evt.trigger(association, evt.EVT_ACCEPTED, {})
        evt.trigger(association, evt.EVT_ESTABLISHED, {})

    def send_accept(self) -> None:
        """Send the A-ASSOCIATE-AC; its AE titles are the request's, whatever they look like."""
        association = self._assoc
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        primitive = A_ASSOCIATE()
        # Relied on: A_ASSOCIATE's underscore attributes; their setters would refuse such titles.
        primitive._application_context_name = _APPLICATION_CONTEXT
        primitive._calling_ae_title = request._calling_ae_title
        primitive._called_ae_title = request._called_ae_title
        primitive._result, primitive._result_source = ACCEPTED, _BY_SERVICE_USER
        primitive._presentation_context_definition_results_list = (
            association.accepted_contexts + association._rejected_cx
        )
        primitive._user_information = association.acceptor.user_information
        association.acceptor.primitive = primitive
        association.dul.send_pdu(primitive)


def _maximum_length(request: A_ASSOCIATE) -> int | None:
    """The Maximum Length Received of whoever asks; None when it does not say."""
    for item in request._user_information:
        if isinstance(item, MaximumLengthNotification):
            return item._maximum_length
    return None
