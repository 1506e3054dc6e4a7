"""The presentation contexts that a server supports, and the decision on those proposed.

The supported contexts are prepared once for all associations: 180 SOP classes by 40 transfer
syntaxes are neither copied nor searched again. Results are pynetdicom's, which a test holds it to.
If a UID is invalid, only its presentation context is rejected (results 3 and 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self, cast

from pydicom.uid import UID, UID_dictionary  # type: ignore[attr-defined]  # not re-exported
from pynetdicom import _config
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import SCP_SCU_ROLES, PresentationContext, negotiate_unrestricted
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    ServiceClass,
    StorageServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class

ACCEPTED: Final = 0x00
USER_REJECTION: Final = 0x01
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 0x03
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 0x04
# A refused context must name a transfer syntax; it means nothing (PS3.8 table 9-18).
_ANY_TRANSFER_SYNTAX: Final = UID("1.2.840.10008.1.2")

_SOP_CLASS: Final = "SOP Class"  # the kind of a UID in the data dictionary

Roles = tuple[bool | None, bool | None]


@dataclass(frozen=True, slots=True)
class _Supported:
    """One supported abstract syntax, ready to be matched."""

    transfer_syntaxes: tuple[UID, ...]
    scu_role: bool | None
    scp_role: bool | None
    places: Mapping[str, int]  # of the transfer syntaxes, the one that is preferred first

    @classmethod
    def of(cls, syntaxes: Iterable[UID], scu_role: bool | None, scp_role: bool | None) -> Self:
        """Make one of transfer syntaxes in the order of preference."""
        in_order = tuple(syntaxes)
        places = {str(uid): at for at, uid in reversed(list(enumerate(in_order)))}
        return cls(in_order, scu_role, scp_role, places)

    def choose(self, proposed: Iterable[UID]) -> UID | None:
        """The one that is preferred of those proposed; None when none is supported."""
        places = [self.places[uid] for uid in proposed if uid in self.places]
        return self.transfer_syntaxes[min(places)] if places else None


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
        self._prepared = list(self.contexts)
        self._supported: Mapping[str, _Supported] = {
            cast(str, context.abstract_syntax): _Supported.of(
                context.transfer_syntax, context.scu_role, context.scp_role
            )
            for context in self.contexts
        }
        self.takes_unknown_storage = accept_unknown_storage
        self.storage_classes = frozenset(storage_classes)

    @property
    def is_nothing(self) -> bool:
        """Whether no context at all would be accepted."""
        return not self.contexts and not _config.UNRESTRICTED_STORAGE_SERVICE

    def are(self, contexts: list[PresentationContext]) -> bool:
        """Whether these are the contexts that were prepared, or equal to them in all."""
        return contexts == self._prepared

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
            abstract_syntax = cast(UID, context._abstract_syntax)
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
        return _Supported.of(context.transfer_syntax, True, True)


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
    result._context_id = proposed._context_id
    result._abstract_syntax = proposed._abstract_syntax
    result._transfer_syntax = proposed._transfer_syntax[:1] or [_ANY_TRANSFER_SYNTAX]
    result._as_scu = False
    result._as_scp = False
    return result


def _decide(
    result: PresentationContext,
    proposed: PresentationContext,
    supported: _Supported,
    roles: Roles | None,
) -> SCP_SCU_RoleSelectionNegotiation | None:
    chosen = supported.choose(proposed._transfer_syntax)
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


def negotiate_unrestrictedly(
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
