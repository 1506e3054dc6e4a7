"""Whether a request fits its presentation context: its SOP class, and its operation.

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

import logging
from collections.abc import Collection
from typing import Any, Final, NamedTuple, cast

from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import (
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    N_ACTION,
    N_CREATE,
    N_DELETE,
    N_EVENT_REPORT,
    N_GET,
    N_SET,
    DimseServiceType,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    QueryRetrieveServiceClass,
    RelevantPatientInformationQueryServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.service_class_n import (
    ApplicationEventLoggingServiceClass,
    DisplaySystemManagementServiceClass,
    InstanceAvailabilityNotificationServiceClass,
    MediaCreationManagementServiceClass,
    PrintManagementServiceClass,
    ProcedureStepServiceClass,
    RTMachineVerificationServiceClass,
    StorageCommitmentServiceClass,
    StorageManagementServiceClass,
    UnifiedProcedureStepServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class

from lfscp.observe.log_budget import REQUESTS
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.receiving.primitives import kind_of, response_to
from lfscp.upperlayer.receiving.received import ReceivedStore

LOGGER = logging.getLogger(__name__)

_INVALID_SOP_INSTANCE: Final = 0x0117
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_UNRECOGNISED_OPERATION: Final = 0x0211
_META_SOP_CLASS: Final = "Meta SOP Class"  # as pydicom's dictionary calls the type
_EVERY_N: Final = (N_ACTION, N_CREATE, N_DELETE, N_EVENT_REPORT, N_GET, N_SET)

Operations = tuple[type[Any], ...]
_NOTHING: Final[Operations] = ()
_AS_SCU: Final = (_NOTHING, (N_EVENT_REPORT,))  # no service class has so few

# These answer what they do not have; the others are pynetdicom's and abort.
_ANSWERING: Final = (
    VerificationServiceClass,
    StorageServiceClass,
    QueryRetrieveServiceClass,
    RelevantPatientInformationQueryServiceClass,
)
# PS3.4; of the query/retrieve classes, each SOP class has one operation: pynetdicom's own table.
_OPERATIONS: Final[dict[type[ServiceClass], Operations]] = {
    VerificationServiceClass: (C_ECHO,),
    StorageServiceClass: (C_STORE,),
    NonPatientObjectStorageServiceClass: (C_STORE,),
    RelevantPatientInformationQueryServiceClass: (C_FIND,),
    ApplicationEventLoggingServiceClass: (N_ACTION,),
    DisplaySystemManagementServiceClass: (N_GET,),
    InstanceAvailabilityNotificationServiceClass: (N_CREATE,),
    MediaCreationManagementServiceClass: (N_CREATE, N_GET, N_ACTION),
    PrintManagementServiceClass: _EVERY_N,
    ProcedureStepServiceClass: (N_CREATE, N_EVENT_REPORT, N_GET, N_SET),
    RTMachineVerificationServiceClass: _EVERY_N,
    StorageCommitmentServiceClass: (N_EVENT_REPORT, N_ACTION),
    StorageManagementServiceClass: (N_EVENT_REPORT, N_ACTION),
    UnifiedProcedureStepServiceClass: (N_CREATE, N_EVENT_REPORT, N_GET, N_SET, N_ACTION, C_FIND),
}
_QUERIES: Final = {"C-FIND": C_FIND, "C-GET": C_GET, "C-MOVE": C_MOVE}


class ContextService(NamedTuple):
    """What a presentation context serves; `operations` is None when nobody knows them."""

    context: PresentationContext
    sop_class_uid: UID
    service: type[ServiceClass]
    operations: Operations | None


class Refusal(NamedTuple):
    """Why a request is not served: words for the log, and a status with words for the peer.

    No status: the association is aborted.
    """

    status: int | None
    comment: str
    reason: str


_NO_UIDS: Final = "Affected SOP Class or Instance UID missing or invalid"
_NAMES_NO_OBJECT: Final = Refusal(_INVALID_SOP_INSTANCE, _NO_UIDS, _NO_UIDS)


def service_of(
    association: InlineAssociation,
    context: PresentationContext,
    storage_classes: Collection[str],
    takes_unknown_storage: bool,
) -> ContextService:
    """The service class of a presentation context, and its operations; see `Dispatcher`."""
    sop_class_uid = cast(UID, context.abstract_syntax)
    is_storage = sop_class_uid in storage_classes
    found: type[ServiceClass] = StorageServiceClass
    if not is_storage:
        found = _service_class(association, sop_class_uid, takes_unknown_storage)
    operations = _OPERATIONS.get(found, ())
    # Relied on: `_SUPPORTED_UIDS`, from operation to the SOP classes that have it.
    supported = getattr(found, "_SUPPORTED_UIDS", None)
    if issubclass(found, QueryRetrieveServiceClass) and supported is not None:
        operations = tuple(
            operation
            for name, operation in _QUERIES.items()
            if sop_class_uid in supported.get(name, ())
        )
    takes = association.is_requestor and is_storage
    return ContextService(context, sop_class_uid, found, _performed(context, operations, takes))


def _performed(
    context: PresentationContext, operations: Operations, takes: bool
) -> Operations | None:
    """Those of a service's operations that the peer may ask of us; None when nobody knows them.

    Args:
        takes: of a peer that leaves our proposal to be the SCP unanswered, and sends objects
            nevertheless, the objects are taken.
    Source: PS3.7 section D.3.3.4.
    """
    if not operations or context.as_scp or takes:
        return operations or None
    return (N_EVENT_REPORT,) if N_EVENT_REPORT in operations else _NOTHING


def _service_class(
    association: InlineAssociation, sop_class_uid: UID, takes_unknown_storage: bool
) -> type[ServiceClass]:
    common = association.acceptor.accepted_common_extended.get(sop_class_uid)
    found = uid_to_service_class(common[0] if common else sop_class_uid)
    # Unknown ones only got a presentation context where they are taken for storage.
    takes_unknown = _config.UNRESTRICTED_STORAGE_SERVICE or takes_unknown_storage
    return StorageServiceClass if found is ServiceClass and takes_unknown else found


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


def refusal(
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
        answers = issubclass(serves.service, _ANSWERING) or serves.operations in _AS_SCU
        return Refusal(
            _UNRECOGNISED_OPERATION if answers else None,
            "the SOP class has no such operation",
            f"SOP class {negotiated} has no operation {operation}{_of_our_role(serves)}",
        )
    if serves.service is ServiceClass:
        return Refusal(None, "", f"no service class is known for SOP class {negotiated}")
    return None


def _of_our_role(serves: ContextService) -> str:
    """Words about our role, when it is that of the SCU alone."""
    return "" if serves.operations not in _AS_SCU else " for the SCU that we are in its context"


def _is_related(
    association: InlineAssociation, request: DimseServiceType, named: UID, negotiated: UID
) -> bool:
    # PS3.7 section D.3.3.6: related general SOP classes.
    common = association.acceptor.accepted_common_extended.get(named)
    if common is not None and negotiated in common[1]:
        return True
    if negotiated.type == _META_SOP_CLASS:  # PS3.4 annex H
        return isinstance(request, _EVERY_N)
    services = {uid_to_service_class(named), uid_to_service_class(negotiated)}
    return services == {UnifiedProcedureStepServiceClass}  # PS3.4 section CC.2


def refuse(
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


def log_refusal(
    association: InlineAssociation,
    request: DimseServiceType,
    status: int,
    reason: str,
    level: int = logging.WARNING,
) -> None:
    """Write the line of a request that was answered before any handler saw it; of a flood, some."""
    requestor = association.requestor
    if not REQUESTS.allows(requestor.address or ""):
        return
    instance = getattr(request, "AffectedSOPInstanceUID", None)
    LOGGER.log(
        level,
        "%s%s, association %d of %s at %s, answered 0x%04X: %s",
        kind_of(request).__name__.replace("_", "-"),
        f" of {instance}" if instance else "",
        association.serial,
        requestor.ae_title.strip(),
        requestor.address,
        status,
        reason,
    )
