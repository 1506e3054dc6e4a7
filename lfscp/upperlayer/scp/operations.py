"""What a presentation context serves: its service class, and the operations that it has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple, cast

from pydicom.uid import UID
from pynetdicom import _config
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

from lfscp.upperlayer.engine.association import InlineAssociation

EVERY_N: Final = (N_ACTION, N_CREATE, N_DELETE, N_EVENT_REPORT, N_GET, N_SET)

Operations = tuple[type[Any], ...]
_NOTHING: Final[Operations] = ()
AS_SCU: Final = (_NOTHING, (N_EVENT_REPORT,))  # no service class has so few

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
    PrintManagementServiceClass: EVERY_N,
    ProcedureStepServiceClass: (N_CREATE, N_EVENT_REPORT, N_GET, N_SET),
    RTMachineVerificationServiceClass: EVERY_N,
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
