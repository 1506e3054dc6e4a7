"""Gives each request to the service of its presentation context, or refuses it."""

from __future__ import annotations

from collections.abc import Collection

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO, DimseServiceType
from pynetdicom.service_class import (
    QueryRetrieveServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)

from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.scp import operations
from lfscp.upperlayer.scp.query_retrieve import InlineQueryRetrieve
from lfscp.upperlayer.scp.storage import InlineStorage
from lfscp.upperlayer.scp.verification import InlineVerification


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
        self._services: dict[int, operations.ContextService] = {}
        self._storage = InlineStorage(assoc)
        self._verification = InlineVerification(assoc)

    def dispatch(self, request: DimseServiceType, context_id: int) -> None:
        """Serve one request: the hot services here, the others by pynetdicom."""
        serves = self._services.get(context_id) or self._look_up(context_id)
        refusal = operations.refusal(self._assoc, request, context_id, serves)
        if refusal is not None:
            operations.refuse(self._assoc, request, context_id, refusal)
            return
        service = self._service(request, serves.service)
        if service is None:
            # Relied on: pynetdicom's `_serve_request`, which asks the service class itself.
            Association._serve_request(self._assoc, request, context_id)
        else:
            service.SCP(request, serves.context)

    def _look_up(self, context_id: int) -> operations.ContextService:
        context = self._assoc._accepted_cx[context_id]
        found = self._services[context_id] = operations.service_of(
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
        return None
