"""Gives each request to the service of its presentation context, or refuses it.

A request names a SOP class of its own, besides the one its context was negotiated for. The rules:
- they are the same; or the context's is a Meta SOP Class, whose requests name one of its classes,
  or a related general SOP class that was agreed on; UPS requests always name UPS Push. Else: SOP
  class not supported.
- a C-STORE names its object.
- the operation is one that the context's service class has, and that we are to perform: without the
  SCP role only events are reported to us. Else: unrecognised operation, or an abort where
  pynetdicom's service class aborts.
What is refused reaches no handler.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO, DimseServiceType
from pynetdicom.service_class import (
    BasicWorklistManagementServiceClass,
    QueryRetrieveServiceClass,
    RelevantPatientInformationQueryServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.service_class_n import (
    ProcedureStepServiceClass,
    UnifiedProcedureStepServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class

from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.receiving.primitives import kind_of, response_to
from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.scp.operations import AS_SCU, EVERY_N, ContextService, service_of
from lfscp.upperlayer.scp.procedure_step import InlineProcedureStep
from lfscp.upperlayer.scp.query_retrieve import InlineQueryRetrieve, InlineWorklist
from lfscp.upperlayer.scp.service_classes import InlineStorage, InlineVerification, log_refusal

_INVALID_SOP_INSTANCE: Final = 0x0117
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_UNRECOGNISED_OPERATION: Final = 0x0211
_RESOURCE_LIMITATION: Final = 0x0213
_META_SOP_CLASS: Final = "Meta SOP Class"  # as pydicom's dictionary calls the type
# These answer what they do not have; the others are pynetdicom's and abort.
_ANSWERING: Final = (
    VerificationServiceClass,
    StorageServiceClass,
    QueryRetrieveServiceClass,
    RelevantPatientInformationQueryServiceClass,
)


class Refusal(NamedTuple):
    """Why a request is not served: words for the log, and a status with words for the peer.

    No status: the association is aborted.
    """

    status: int | None
    comment: str
    reason: str


_NO_UIDS: Final = "Affected SOP Class or Instance UID missing or invalid"
_NAMES_NO_OBJECT: Final = Refusal(_INVALID_SOP_INSTANCE, _NO_UIDS, _NO_UIDS)


class Dispatcher:
    """Of one association; its `dispatch` is the association's.

    Args:
        assoc: the association.
        storage_classes: SOP classes that are storage though pynetdicom does not know them.
        takes_unknown_storage: whether private and unknown SOP classes are taken for storage.
    """

    def __init__(
        self,
        assoc: InlineAssociation,
        storage_classes: Collection[str] = (),
        *,
        takes_unknown_storage: bool = False,
    ) -> None:
        self._assoc = assoc
        self._storage_classes = storage_classes
        self._takes_unknown_storage = takes_unknown_storage
        self._services: dict[int, ContextService] = {}
        self._storage = InlineStorage(assoc)
        self._verification = InlineVerification(assoc)

    def dispatch(self, request: DimseServiceType, context_id: int) -> None:
        """Serve one request: the hot services here, the others by pynetdicom."""
        serves = self._services.get(context_id) or self._look_up(context_id)
        refusal = _refusal(self._assoc, request, context_id, serves) or _loss(request)
        if refusal is not None:
            _refuse(self._assoc, request, context_id, refusal)
            return
        service = self._service(request, serves.service)
        if service is None:
            # Relied on: pynetdicom's `_serve_request`, which asks the service class itself.
            Association._serve_request(self._assoc, request, context_id)
        else:
            service.SCP(request, serves.context)

    def _look_up(self, context_id: int) -> ContextService:
        context = self._assoc._accepted_cx[context_id]
        found = self._services[context_id] = service_of(
            self._assoc, context, self._storage_classes, self._takes_unknown_storage
        )
        return found

    def _service(
        self, request: DimseServiceType, service: type[ServiceClass]
    ) -> ServiceClass | None:
        """What serves a request of this service class; None leaves it to pynetdicom."""
        if isinstance(request, ReceivedStore):
            return self._storage if issubclass(service, StorageServiceClass) else None
        if isinstance(request, C_ECHO):
            return self._verification if service is VerificationServiceClass else None
        if service is QueryRetrieveServiceClass and request.is_valid_request:
            return InlineQueryRetrieve(self._assoc)
        if service is BasicWorklistManagementServiceClass and request.is_valid_request:
            return InlineWorklist(self._assoc)
        if service is ProcedureStepServiceClass and request.is_valid_request:
            return InlineProcedureStep(self._assoc)
        return None


def _fits(request: DimseServiceType, serves: ContextService) -> bool:
    """Whether a request plainly fits.

    Relied on: DIMSEPrimitive's `_affected_sop_class_uid`.
    """
    operations = serves.operations
    return (
        request._affected_sop_class_uid == serves.sop_class_uid
        and operations is not None
        and isinstance(request, operations)
    )


def _refusal(
    association: InlineAssociation,
    request: DimseServiceType,
    context_id: int,
    serves: ContextService,
) -> Refusal | None:
    """Why a request does not fit its presentation context; None when it does.

    Source: PS3.7 annex C.
    """
    if isinstance(request, ReceivedStore) and not request.is_valid_request:
        return _NAMES_NO_OBJECT
    if _fits(request, serves):
        return None
    named: Any = getattr(request, "AffectedSOPClassUID", None)
    if named is None:
        named = getattr(request, "RequestedSOPClassUID", None)
    negotiated = serves.sop_class_uid
    if named != negotiated and not _is_related(association, request, named, negotiated):
        return Refusal(
            _SOP_CLASS_NOT_SUPPORTED,
            "SOP class is not the one of its presentation context",
            f"SOP class {named!a} in presentation context {context_id} of {negotiated}",
        )
    if serves.operations is not None and not isinstance(request, serves.operations):
        operation = kind_of(request).__name__.replace("_", "-")
        answers = issubclass(serves.service, _ANSWERING) or serves.operations in AS_SCU
        return Refusal(
            _UNRECOGNISED_OPERATION if answers else None,
            "the SOP class has no such operation",
            f"SOP class {negotiated} has no operation {operation}{_of_our_role(serves)}",
        )
    if serves.service is ServiceClass:
        return Refusal(None, "", f"no service class is known for SOP class {negotiated}")
    return None


def _loss(request: DimseServiceType) -> Refusal | None:
    """Why the long data set of a request could not be kept: a handler would see an empty one."""
    received: Any = getattr(request, "received", None)
    if isinstance(request, ReceivedStore) or received is None or received.error is None:
        return None
    reason = received.error.strerror or str(received.error)
    return Refusal(_RESOURCE_LIMITATION, f"out of resources: {reason}", reason)


def _of_our_role(serves: ContextService) -> str:
    """Words about our role, when it is that of the SCU alone."""
    return "" if serves.operations not in AS_SCU else " for the SCU that we are in its context"


def _is_related(
    association: InlineAssociation, request: DimseServiceType, named: UID, negotiated: UID
) -> bool:
    # PS3.7 section D.3.3.6: related general SOP classes.
    common = association.acceptor.accepted_common_extended.get(named)
    if common is not None and negotiated in common[1]:
        return True
    if negotiated.type == _META_SOP_CLASS:  # PS3.4 annex H
        return isinstance(request, EVERY_N)
    services = {uid_to_service_class(named), uid_to_service_class(negotiated)}
    return services == {UnifiedProcedureStepServiceClass}  # PS3.4 section CC.2


def _refuse(
    association: InlineAssociation, request: DimseServiceType, context_id: int, why: Refusal
) -> None:
    """Answer a request that does not fit, with a line in the log."""
    if why.status is not None:
        log_refusal(association, request, why.status, why.reason)
        response = response_to(request, why.status, error_comment=why.comment)
        association.dimse.send_msg(response, context_id)
        return
    association.end_reason = why.reason
    # pynetdicom's own aborts, with the words that it logs.
    Association._serve_request(association, request, context_id)
