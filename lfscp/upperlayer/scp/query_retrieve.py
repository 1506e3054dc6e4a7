"""C-FIND, C-MOVE and C-GET, answered with what the handlers give (PS3.4 annex C).

The responses to a C-FIND go out as its handler yields them. A handler of C-MOVE or C-GET performs
the sub-operations itself when it returns `SubOperations`; else pynetdicom performs them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final, cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import (
    BasicWorklistManagementServiceClass,
    QueryRetrieveServiceClass,
)
from pynetdicom.status import code_to_category

from lfscp.upperlayer.connection import loggers
from lfscp.upperlayer.receiving import primitives
from lfscp.upperlayer.scp.encoded import EncodedDataset
from lfscp.upperlayer.scp.find_responses import PendingResponses
from lfscp.upperlayer.scp.own_retrieve import SubOperationResponse, SubOperations
from lfscp.upperlayer.scp.service_classes import InlineService, log_raised
from lfscp.upperlayer.wire import commands

_SUCCESS: Final = 0x0000
_PENDING: Final = "Pending"
_PENDING_CODES: Final = (0xFF00, 0xFF01)
_WARNING: Final = "Warning"
_FAILURE: Final = "Failure"
_CANCEL: Final = "Cancel"
# pynetdicom's own codes for a handler that raises.
_FIND_HANDLER_RAISED: Final = 0xC311
_FIND_NOT_ENCODED: Final = 0xC312
_RETRIEVE_HANDLER_RAISED: Final = {evt.EVT_C_GET: 0xC411, evt.EVT_C_MOVE: 0xC511}
_RESPONSE_FIELD: Final = {
    evt.EVT_C_GET: commands.C_GET_RSP,
    evt.EVT_C_MOVE: commands.C_MOVE_RSP,
}


def _encoded(
    identifier: EncodedDataset | Dataset | None, context: PresentationContext
) -> bytes | None:
    """An identifier in the context's transfer syntax; None when it cannot be encoded."""
    if isinstance(identifier, EncodedDataset):
        return identifier.data
    if identifier is None:
        return None
    syntax = context.transfer_syntax[0]
    return encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)


class InlineQueryRetrieve(InlineService, QueryRetrieveServiceClass):
    """C-FIND, C-MOVE and C-GET (PS3.4 annex C)."""

    _find_responses = 0  # to this request, for the log

    # --- C-FIND ---

    def _c_find_scp(self, req: C_FIND, context: PresentationContext) -> None:
        try:
            results = self.ask(evt.EVT_C_FIND, req, context)
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised("Exception in handler bound to 'evt.EVT_C_FIND'", problem)
            self._send_find(req, context, _FIND_HANDLER_RAISED)
            return
        if not self.assoc.is_established:
            return
        iterator = iter(results if results is not None else ())
        try:
            self._send_results(req, context, iterator)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _send_results(
        self, req: C_FIND, context: PresentationContext, results: Iterator[Any]
    ) -> None:
        pending = PendingResponses(self.assoc.dimse, cast(int, context.context_id), req)
        try:
            for status, identifier in results:
                if type(identifier) is EncodedDataset and status in _PENDING_CODES:
                    if self.assoc.is_over:
                        return
                    pending.add(status, identifier.data)
                    continue
                pending.send()
                if self._is_gone() or not self._send_find(req, context, status, identifier):
                    return
            pending.send()
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised("Exception in handler bound to 'evt.EVT_C_FIND'", problem)
            self._send_find(req, context, _FIND_HANDLER_RAISED)
            return
        if not self._is_gone():
            self._send_find(req, context, _SUCCESS)

    def _is_gone(self) -> bool:
        """Look at the socket: whether an abort or release leaves nobody to answer."""
        self.assoc.dul.look()
        return self.assoc.is_over

    def _send_find(
        self, req: C_FIND, context: PresentationContext, status: Any, identifier: Any = None
    ) -> bool:
        """Send one response. False: it was the last one."""
        dimse, context_id = self.assoc.dimse, cast(int, context.context_id)
        response = None
        if type(status) is not int:
            response = self.validate_status(status, cast(C_FIND, primitives.response_to(req, 0)))
            status = response.Status
        category = code_to_category(status)
        data_set = None
        if category == _PENDING:
            data_set = _encoded(identifier, context)
            if not data_set:
                loggers.SERVICE_CLASS.error("Failed encoding the response 'Identifier' dataset")
                return self._send_find(req, context, _FIND_NOT_ENCODED)
        if loggers.SERVICE_CLASS.isEnabledFor(logging.INFO):
            self._log_find(status, category)
        if response is None:
            dimse.send_response(commands.C_FIND_RSP, req, context_id, status, data_set=data_set)
        else:
            response.Identifier = None if data_set is None else BytesIO(data_set)
            dimse.send_msg(response, context_id)
        return category in (_PENDING, _WARNING)

    def _log_find(self, code: int, category: str) -> None:
        """Write pynetdicom's lines about a response."""
        self._find_responses += 1
        if category == _CANCEL:
            loggers.SERVICE_CLASS.info("Received C-CANCEL-FIND RQ from peer")
        words = category
        if category in (_WARNING, _FAILURE):
            words = f"{category} - {self.statuses[code][1]}" if code in self.statuses else category
        loggers.SERVICE_CLASS.info(
            "Find SCP Response %d: 0x%04X (%s)", self._find_responses, code, words
        )

    # --- C-MOVE and C-GET ---

    def _get_scp(self, req: C_GET, context: PresentationContext) -> None:
        if not self._performed_by_handler(evt.EVT_C_GET, req, context):
            super()._get_scp(req, context)

    def _move_scp(self, req: C_MOVE, context: PresentationContext) -> None:
        if not self._performed_by_handler(evt.EVT_C_MOVE, req, context):
            super()._move_scp(req, context)

    def _performed_by_handler(
        self, event: evt.InterventionEvent, req: C_GET | C_MOVE, context: PresentationContext
    ) -> bool:
        """Ask the handler; True when it performs the sub-operations and all is answered."""
        try:
            result = self.ask(event, req, context)
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised(f"Exception in handler bound to 'evt.{event.name}'", problem)
            failed = SubOperationResponse(_RETRIEVE_HANDLER_RAISED[event])
            self._send_response(event, req, context, failed)
            return True
        if isinstance(result, SubOperations):
            self._send_responses(event, req, context, result)
            return True
        self._answer_once(event, result)
        return False

    def _answer_once(self, event: evt.InterventionEvent, result: Any) -> None:
        """Let pynetdicom, which calls the handler itself, get the result that is there already.

        Relied on: `_handlers` is the table that a handler is looked up in.
        """
        handlers: dict[evt.EventType, Any] = self.assoc._handlers
        bound = handlers[event]

        def answer(_event: evt.Event) -> Any:
            handlers[event] = bound
            return result

        handlers[event] = (answer, None)

    def _send_responses(
        self,
        event: evt.InterventionEvent,
        req: C_GET | C_MOVE,
        context: PresentationContext,
        operations: SubOperations,
    ) -> None:
        response = None
        operations.send_now = lambda pending: self._send_response(event, req, context, pending)
        try:
            for response in operations.responses:
                if not self.assoc.is_established or not self.assoc.dul.is_alive():
                    return
                self._send_response(event, req, context, response)
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised(f"Exception in handler bound to 'evt.{event.name}'", problem)
            response = None
        finally:
            close = getattr(operations.responses, "close", None)
            if close is not None:
                close()
        if response is None or code_to_category(response.status) == _PENDING:
            failed = SubOperationResponse(_RETRIEVE_HANDLER_RAISED[event])
            self._send_response(event, req, context, failed)

    def _send_response(
        self,
        event: evt.InterventionEvent,
        req: C_GET | C_MOVE,
        context: PresentationContext,
        response: SubOperationResponse,
    ) -> None:
        counts = commands.SubOperationCounts(
            response.completed, response.failed, response.warning, response.remaining
        )
        self.assoc.dimse.send_response(
            _RESPONSE_FIELD[event],
            req,
            cast(int, context.context_id),
            response.status,
            data_set=_encoded(response.identifier, context),
            sub_operations=counts,
            error_comment=response.error_comment,
            offending_elements=response.offending_elements,
        )


class InlineWorklist(InlineQueryRetrieve):
    """C-FIND on the worklist (PS3.4 annex K).

    Relied on: QueryRetrieveServiceClass's `SCP`, which serves the SOP classes of `_SUPPORTED_UIDS`.
    """

    _SUPPORTED_UIDS: dict[str, list[str]] = {  # noqa: RUF012 - declared so in pynetdicom
        "C-FIND": BasicWorklistManagementServiceClass._SUPPORTED_UIDS["C-FIND"],
        "C-GET": [],
        "C-MOVE": [],
    }
