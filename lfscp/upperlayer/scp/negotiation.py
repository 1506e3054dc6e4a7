"""The acceptor's side of association negotiation: the decision, and the presentation contexts.

The supported contexts are prepared once for all associations: 180 SOP classes by 40 transfer
syntaxes are neither copied nor searched again. Results are pynetdicom's, which a test holds it to;
where pynetdicom departs, the standard's: an unknown application context is rejected, a full server
does not hide that an AE title is wrong, and what cannot be served is refused with a reason where
pynetdicom aborts. Of a request with strange names the rules are:
- a UID that can be none costs its presentation context (results 3 and 4);
- a calling AE title must be one (it is kept with each object, and sent on);
- a called AE title counts where it is checked, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import is_
from typing import TYPE_CHECKING, Final, cast

from pydicom.uid import UID, UID_dictionary  # type: ignore[attr-defined]  # not re-exported
from pynetdicom import _config, evt
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.acse import ACSE
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import (
    SCP_SCU_ROLES,
    PresentationContext,
    negotiate_unrestricted,
)
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    ServiceClass,
    StorageServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class

from lfscp.upperlayer import loggers
from lfscp.upperlayer.wire.names import fault_of_ae_title
from lfscp.upperlayer.wire.pdata import SMALLEST_MAXIMUM_LENGTH

if TYPE_CHECKING:
    from lfscp.upperlayer.association import InlineAssociation

ACCEPTED: Final = 0x00
USER_REJECTION: Final = 0x01
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 0x03
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 0x04
# A refused context must name a transfer syntax; it means nothing (PS3.8 table 9-18).
_ANY_TRANSFER_SYNTAX: Final = UID("1.2.840.10008.1.2")

_SOP_CLASS: Final = "SOP Class"  # the kind of a UID in the data dictionary
_APPLICATION_CONTEXT: Final = UID(APPLICATION_CONTEXT_NAME)
_BY_SERVICE_USER: Final = 0x01  # the source of the result

Roles = tuple[bool | None, bool | None]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ: result, source and reason (PS3.8 table 9-21), and words for the log."""

    result: int
    source: int
    diagnostic: int
    reason: str


APPLICATION_CONTEXT_NOT_SUPPORTED: Final = Rejection(1, 1, 2, "application context not supported")
CALLING_AE_TITLE_NOT_RECOGNISED: Final = Rejection(1, 1, 3, "calling AE title not recognised")
CALLED_AE_TITLE_NOT_RECOGNISED: Final = Rejection(1, 1, 7, "called AE title not recognised")
PROTOCOL_VERSION_NOT_SUPPORTED: Final = Rejection(1, 2, 2, "protocol version not supported")
USER_IDENTITY_FAILED: Final = Rejection(2, 2, 1, "user identity not verified")
USER_IDENTITY_UNREADABLE: Final = Rejection(1, 2, 1, "user identity not verified")
LOCAL_LIMIT_EXCEEDED: Final = Rejection(2, 3, 2, "local limit of associations exceeded")


def _rejected(rejection: Rejection, why: str) -> Rejection:
    """The same rejection with more to say."""
    return replace(rejection, reason=f"{rejection.reason}: {why}") if why else rejection


@dataclass(frozen=True, slots=True)
class _Supported:
    """One supported abstract syntax, ready to be matched."""

    transfer_syntaxes: tuple[UID, ...]
    scu_role: bool | None
    scp_role: bool | None


class SupportedContexts:
    """The presentation contexts a server supports, prepared for negotiation.

    Args:
        contexts: pynetdicom's supported contexts; of two with one abstract syntax the last counts.
        accept_unknown_storage: take private and unknown SOP classes for storage, each in the first
            transfer syntax proposed.
        storage_classes: those of `contexts` that are storage though pynetdicom does not know them.
    """

    def __init__(
        self,
        contexts: Iterable[PresentationContext],
        *,
        accept_unknown_storage: bool = False,
        storage_classes: Iterable[str] = (),
    ) -> None:
        self.contexts = tuple(contexts)
        self._supported: Mapping[str, _Supported] = {
            cast(str, context.abstract_syntax): _Supported(
                tuple(context.transfer_syntax), context.scu_role, context.scp_role
            )
            for context in self.contexts
        }
        self.takes_unknown_storage = accept_unknown_storage
        self.storage_classes = frozenset(storage_classes)

    @property
    def is_nothing(self) -> bool:
        """Whether no context at all would be accepted."""
        return not self.contexts and not _config.UNRESTRICTED_STORAGE_SERVICE

    def are(self, contexts: Sequence[PresentationContext]) -> bool:
        """Whether these are the contexts that were prepared."""
        return len(contexts) == len(self.contexts) and all(map(is_, contexts, self.contexts))

    def negotiate(
        self, proposed: Iterable[PresentationContext], roles: Mapping[UID, Roles]
    ) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
        """Decide on each proposed context.

        Args:
            proposed: as received, with context ID, abstract syntax and transfer syntaxes.
            roles: the requestor's proposed (SCU, SCP) roles by abstract syntax.
        Returns:
            One result per context, by context ID; the role selection items to answer with.
        Source: PS3.7 section D.3.3.4, PS3.8 section 9.3.3.2.
        """
        results: list[PresentationContext] = []
        answered: dict[str, SCP_SCU_RoleSelectionNegotiation] = {}
        for context in proposed:
            abstract_syntax = cast(UID, context.abstract_syntax)
            supported = self._supported.get(abstract_syntax) or self._unknown(context)
            result = _result(context)
            results.append(result)
            if supported is None:
                result.result = ABSTRACT_SYNTAX_NOT_SUPPORTED
                continue
            role = _decide(result, context, supported, roles.get(abstract_syntax))
            if role is not None:
                answered[abstract_syntax] = role
        results.sort(key=lambda result: cast(int, result.context_id))
        return results, [answered[uid] for uid in sorted(answered)]

    def _unknown(self, context: PresentationContext) -> _Supported | None:
        """A private or unknown SOP class, when those are taken for storage."""
        abstract_syntax = cast(UID, context.abstract_syntax)
        if not (self.takes_unknown_storage and abstract_syntax and may_be_storage(abstract_syntax)):
            return None
        return _Supported(tuple(context.transfer_syntax), True, True)


@lru_cache(maxsize=1024)
def may_be_storage(sop_class_uid: UID) -> bool:
    """Whether a SOP class is storage, or one that neither the standard nor pynetdicom knows.

    What the standard knows and pynetdicom does not, such as the retired services, is something
    else; objects without a patient belong to no study.
    """
    name, kind, *_ = UID_dictionary.get(sop_class_uid, ("", _SOP_CLASS))
    if kind != _SOP_CLASS:  # such as the Storage Service Class, which pynetdicom takes for one
        return False
    if not sop_class_uid.replace(".", "").isdecimal():  # no UID: such an object is never stored
        return False
    service = uid_to_service_class(sop_class_uid)
    if service is ServiceClass:
        return not name  # the standard has retired a few SOP classes with their names
    is_of_a_patient = not issubclass(service, NonPatientObjectStorageServiceClass)
    return is_of_a_patient and issubclass(service, StorageServiceClass)


def _result(proposed: PresentationContext) -> PresentationContext:
    result = PresentationContext()
    # Relied on: PresentationContext's underscore attributes; its setters would check the values.
    result._context_id = proposed.context_id
    result._abstract_syntax = proposed.abstract_syntax
    result._transfer_syntax = list(proposed.transfer_syntax[:1]) or [_ANY_TRANSFER_SYNTAX]
    result._as_scu = False
    result._as_scp = False
    return result


def _decide(
    result: PresentationContext,
    proposed: PresentationContext,
    supported: _Supported,
    roles: Roles | None,
) -> SCP_SCU_RoleSelectionNegotiation | None:
    offered = set(proposed.transfer_syntax)
    chosen = next((uid for uid in supported.transfer_syntaxes if uid in offered), None)
    if chosen is None:
        result.result = TRANSFER_SYNTAXES_NOT_SUPPORTED
        return None
    result._transfer_syntax = [chosen]
    result.result = ACCEPTED
    if supported.scu_role is None or supported.scp_role is None:
        result._as_scp = True
        return None
    # Relied on: pynetdicom's table of role outcomes: (requestor's SCU, SCP, acceptor's SCU, SCP).
    outcome = SCP_SCU_ROLES[roles or (None, None)][(supported.scu_role, supported.scp_role)]
    result._as_scu, result._as_scp = outcome[2], outcome[3]
    if not result._as_scu and not result._as_scp:
        result.result = USER_REJECTION
        return None
    if roles is None:
        return None
    answer = SCP_SCU_RoleSelectionNegotiation()
    answer.sop_class_uid = result.abstract_syntax
    # A role that was not proposed cannot be granted (PS3.7 table D.3-9).
    answer.scu_role = False if roles[0] is False else supported.scu_role
    answer.scp_role = False if roles[1] is False else supported.scp_role
    return answer


def _negotiate_unrestricted(
    proposed: Iterable[PresentationContext],
    own: list[PresentationContext],
    roles: dict[UID, Roles],
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """pynetdicom's own, which takes what it does not know for storage, a missing UID too."""
    whole: list[PresentationContext] = []
    lacking: list[PresentationContext] = []
    for context in proposed:
        has_both = context.abstract_syntax and context.transfer_syntax
        (whole if has_both else lacking).append(context)
    refused, _ = SupportedContexts(own).negotiate(lacking, {})
    results, role_items = negotiate_unrestricted(whole, own, roles)
    return results + refused, role_items


class InlineACSE(ACSE):
    """pynetdicom's ACSE with the acceptor's negotiation above.

    Relied on in ACSE: `_negotiate_as_acceptor` is the acceptor's whole negotiation, `send_accept`
    its last step, and the `_check_*` methods ask the handlers of user identity and extended
    negotiation.

    Args:
        assoc: the association it serves.
        supported: its server's contexts; None for a requestor.
        admit: the server's own policy: a Rejection, or None to admit the requestor.
    """

    def __init__(
        self,
        assoc: InlineAssociation,
        supported: SupportedContexts | None,
        admit: Callable[[InlineAssociation], Rejection | None] | None,
    ) -> None:
        super().__init__(assoc)
        self._inline = assoc
        self._supported = supported
        self._admit = admit

    def _negotiate_as_acceptor(self) -> None:
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        # Relied on: `_ae_title`, which the setter would fill with an AE title only.
        self.requestor._ae_title = request.calling_ae_title
        rejection = self._rejection(request)
        self._answer_extended()
        if rejection is None and not self._answer_user_identity():
            loggers.ACSE.info("User identity failed verification")
            rejection = USER_IDENTITY_FAILED
        if rejection is None:
            rejection = self._inline.limit_rejection()
        if rejection is None:
            self._accept(request)
        else:
            self._reject(rejection)

    def _rejection(self, request: A_ASSOCIATE) -> Rejection | None:
        """What the request alone decides (PS3.8 section 9.3.4), and then the server's policy."""
        if request.application_context_name != APPLICATION_CONTEXT_NAME:
            return APPLICATION_CONTEXT_NOT_SUPPORTED
        rejection = self._title_rejection(request)
        if rejection is not None:
            return rejection
        fault = self._fault(request)
        if fault:
            return Rejection(1, 1, 1, fault)
        received = self._inline.dul.request
        if received is not None and received.user_identity_fault:
            return _rejected(USER_IDENTITY_UNREADABLE, received.user_identity_fault)
        return self._admit(self._inline) if self._admit is not None else None

    def _title_rejection(self, request: A_ASSOCIATE) -> Rejection | None:
        ae = self.assoc.ae
        called = (request.called_ae_title or "").strip()
        calling = (request.calling_ae_title or "").strip()
        if ae.require_called_aet and called != self.acceptor.ae_title.strip():
            fault = fault_of_ae_title(called)
            return _rejected(CALLED_AE_TITLE_NOT_RECOGNISED, fault and f"it {fault}")
        known = [title.strip() for title in ae.require_calling_aet]
        fault = fault_of_ae_title(calling)
        if fault or (known and calling not in known):
            return _rejected(CALLING_AE_TITLE_NOT_RECOGNISED, fault and f"it {fault}")
        return None

    def _fault(self, request: A_ASSOCIATE) -> str:
        """Why no association can be held with what was proposed; empty when one can."""
        largest = self.requestor.maximum_length
        if largest and largest < SMALLEST_MAXIMUM_LENGTH:
            return f"a Maximum Length of {largest} bytes leaves no room for a fragment"
        ids = [context.context_id for context in request.presentation_context_definition_list]
        even = next((each for each in ids if each is None or not each % 2), None)
        if even is not None:
            return f"presentation context ID {even} is even"
        if len(set(ids)) != len(ids):
            return "a presentation context ID comes twice"
        return ""

    def _answer_user_identity(self) -> bool:
        if not self.requestor.user_identity:
            return True
        is_valid, response = self._check_user_identity()
        if response:
            self.acceptor.add_negotiation_item(response)
        return is_valid

    def _answer_extended(self) -> None:
        for item in self._check_sop_class_extended():
            self.acceptor.add_negotiation_item(item)
        self.acceptor._common_ext = self._check_sop_class_common_extended()
        if self.requestor.asynchronous_operations != (1, 1):
            window = self._check_async_ops()
            if window:
                self.acceptor.add_negotiation_item(window)

    def _reject(self, rejection: Rejection) -> None:
        loggers.ACSE.info("Rejecting Association")
        self._inline.end_reason = rejection.reason
        self._inline.rejection = rejection
        self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()

    def _negotiate(
        self, request: A_ASSOCIATE, roles: dict[UID, Roles]
    ) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
        proposed = request.presentation_context_definition_list
        supported = cast(SupportedContexts, self._supported)
        # Relied on: `_contexts` is what `supported_contexts` gives and sets. A handler of
        # EVT_REQUESTED may have set others for this association.
        own = self.acceptor._contexts
        if _config.UNRESTRICTED_STORAGE_SERVICE:
            return _negotiate_unrestricted(proposed, own, roles)
        if not supported.are(own):
            supported = SupportedContexts(own)
        return supported.negotiate(proposed, roles)

    def _accept(self, request: A_ASSOCIATE) -> None:
        roles = {
            uid: (item.scu_role, item.scp_role)
            for uid, item in self.requestor.role_selection.items()
        }
        results, role_items = self._negotiate(request, roles)
        self._inline.set_contexts(results)
        for item in role_items:
            self.acceptor.add_negotiation_item(item)
        loggers.ACSE.info("Accepting Association")
        # The peer may act, and another thread release, as soon as the acceptance is out.
        with self._inline.dul.sending():
            self.assoc.is_established = self._inline.was_established = True
            self.send_accept()
        evt.trigger(self.assoc, evt.EVT_ACCEPTED, {})
        evt.trigger(self.assoc, evt.EVT_ESTABLISHED, {})

    def send_accept(self) -> None:
        """Send the A-ASSOCIATE-AC; its AE titles are the request's, whatever they look like."""
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        primitive = A_ASSOCIATE()
        # Relied on: A_ASSOCIATE's underscore attributes; their setters would refuse such titles.
        primitive._application_context_name = _APPLICATION_CONTEXT
        primitive._calling_ae_title = request.calling_ae_title
        primitive._called_ae_title = request.called_ae_title
        primitive.result, primitive.result_source = ACCEPTED, _BY_SERVICE_USER
        primitive._presentation_context_definition_results_list = (
            self.assoc.accepted_contexts + self.assoc.rejected_contexts
        )
        primitive.user_information = self.acceptor.user_information
        self.acceptor.primitive = primitive
        self.dul.send_pdu(primitive)
