"""The service classes: what they share, and C-ECHO and C-STORE.

Each does what pynetdicom's own does (pynetdicom.service_class), for the same handlers; its answers
are encoded by hand. C-FIND, C-MOVE and C-GET are in `query_retrieve`.
"""

from __future__ import annotations

import errno
import logging
from typing import Any, Final, cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import (
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    DimseServiceType,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import (
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)

from lfscp.observe.log_budget import REQUESTS
from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.receiving import primitives
from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.wire import commands

LOGGER = logging.getLogger(__name__)

_SUCCESS: Final = 0x0000
_OUT_OF_RESOURCES: Final = 0xA700
_STORE_HANDLER_RAISED: Final = 0xC211  # pynetdicom's own code
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ECHO_HANDLER_RAISED: Final = (
    "Exception in the handler bound to 'evt.EVT_C_ECHO', "
    "responding with a default 'Status' value of 0x0000 (Success)"
)


class InlineService(ServiceClass):
    """A service class whose handler is called, and answered for, without the generic codec."""

    assoc: InlineAssociation

    def ask(
        self, event: evt.InterventionEvent, req: DimseServiceType, context: PresentationContext
    ) -> Any:
        """Call the handler; what it raises is passed on."""
        attrs: dict[str, Any] = {"request": req, "context": self.assoc.context_tuple(context)}
        if isinstance(req, C_FIND | C_GET | C_MOVE):
            attrs["_is_cancelled"] = self.is_cancelled
        return evt.trigger(self.assoc, event, attrs)

    def is_cancelled(self, msg_id: int) -> bool:
        """Whether to stop: the peer has cancelled the request, or nobody is left to answer.

        Once it says so, it does until the request has ended.
        """
        return msg_id in self.assoc.dimse.cancel_req or self.assoc.is_over

    def answer(
        self, field: int, req: DimseServiceType, context: PresentationContext, status: Any
    ) -> None:
        """Answer with the status that a handler gave: a number, or a Dataset with more to say.

        Args:
            field: the Command Field of the response.
        """
        dimse, context_id = self.assoc.dimse, cast(int, context.context_id)
        if type(status) is int:
            dimse.send_response(field, req, context_id, status)
        else:
            response = self.validate_status(status, primitives.response_to(req, 0))
            dimse.send_msg(response, context_id)


class InlineVerification(InlineService, VerificationServiceClass):
    """C-ECHO (PS3.7 section 9.1.5)."""

    def SCP(self, req: C_ECHO, context: PresentationContext) -> None:  # noqa: N802
        """Answer one C-ECHO."""
        status: Any = _SUCCESS
        try:
            status = self._required(self.ask(evt.EVT_C_ECHO, req, context))
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised(_ECHO_HANDLER_RAISED, problem)
        if self.assoc.is_established:
            self.answer(commands.C_ECHO_RSP, req, context, status)

    @staticmethod
    def _required(status: Any) -> Any:
        """The status, which must be one: of any other pynetdicom makes a success."""
        if isinstance(status, int) or (isinstance(status, Dataset) and "Status" in status):
            return status
        raise TypeError("Invalid 'status' returned by the handler bound to 'evt.EVT_C_ECHO'")


class InlineStorage(InlineService, StorageServiceClass):
    """C-STORE (PS3.7 section 9.1.1)."""

    def SCP(self, req: C_STORE, context: PresentationContext) -> None:  # noqa: N802
        """Answer one C-STORE."""
        error = cast(ReceivedStore, req).received.error
        if error is not None:
            self._refuse(req, context, error)
            return
        try:
            status: Any = self.ask(evt.EVT_C_STORE, req, context)
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised("Exception in handler bound to 'evt.EVT_C_STORE'", problem)
            status = _STORE_HANDLER_RAISED
        if self.assoc.is_established:
            self.answer(commands.C_STORE_RSP, req, context, status)

    def _refuse(self, req: C_STORE, context: PresentationContext, problem: OSError) -> None:
        """Answer for an object that could not be kept as it arrived; no handler sees it."""
        reason = problem.strerror or str(problem)
        level = logging.WARNING if problem.errno in _NO_SPACE else logging.ERROR
        log_refusal(self.assoc, req, _OUT_OF_RESOURCES, reason, level)
        self.assoc.dimse.send_response(
            commands.C_STORE_RSP,
            req,
            cast(int, context.context_id),
            _OUT_OF_RESOURCES,
            error_comment=f"out of resources: {reason}",
        )


def log_raised(words: str, problem: Exception) -> None:
    """Write what pynetdicom writes of a handler that raises."""
    loggers.SERVICE_CLASS.error(words)
    loggers.SERVICE_CLASS.exception(problem)


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
        primitives.kind_of(request).__name__.replace("_", "-"),
        f" of {instance}" if instance else "",
        association.serial,
        requestor.ae_title.strip(),
        requestor.address,
        status,
        reason,
    )
