"""What the service classes here share: asking the handler, and answering as it says.

Each service class does what pynetdicom's own does (pynetdicom.service_class), for the same
handlers; its answers are encoded by hand.
"""

from __future__ import annotations

from typing import Any, cast

from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE, DimseServiceType
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass

from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.receiving import primitives


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


def log_raised(words: str, problem: Exception) -> None:
    """Write what pynetdicom writes of a handler that raises."""
    loggers.SERVICE_CLASS.error(words)
    loggers.SERVICE_CLASS.exception(problem)
