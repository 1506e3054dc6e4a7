"""The service classes of the hot services, sending their answers without the generic codec.

Each does what pynetdicom's own does (pynetdicom.service_class), for the same handlers: echo, store,
C-FIND, and C-MOVE and C-GET when their handler performs the sub-operations itself. A status given
as a Dataset, or a bound EVT_DIMSE_SENT, takes pynetdicom's way.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, cast

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
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import (
    QueryRetrieveServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.status import code_to_category

from lfscp.upperlayer import loggers
from lfscp.upperlayer.receiving.operations import log_refusal
from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.scp.encoded import EncodedDataset
from lfscp.upperlayer.scp.find_responses import PendingResponses
from lfscp.upperlayer.scp.own_retrieve import SubOperationResponse, SubOperations
from lfscp.upperlayer.wire import commands

if TYPE_CHECKING:
    from lfscp.upperlayer.association import InlineAssociation

_SUCCESS: Final = 0x0000
_OUT_OF_RESOURCES: Final = 0xA700
_PENDING: Final = "Pending"
_PENDING_CODES: Final = (0xFF00, 0xFF01)
_WARNING: Final = "Warning"
_FAILURE: Final = "Failure"
_CANCEL: Final = "Cancel"
# pynetdicom's own codes for a handler that raises.
_STORE_HANDLER_RAISED: Final = 0xC211
_FIND_HANDLER_RAISED: Final = 0xC311
_FIND_NOT_ENCODED: Final = 0xC312
_RETRIEVE_HANDLER_RAISED: Final = {evt.EVT_C_GET: 0xC411, evt.EVT_C_MOVE: 0xC511}
_RESPONSE_FIELD: Final = {
    evt.EVT_C_GET: commands.C_GET_RSP,
    evt.EVT_C_MOVE: commands.C_MOVE_RSP,
}
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Inline(ServiceClass):
    """What the service classes below share."""

    assoc: InlineAssociation

    def ask(
        self, event: evt.InterventionEvent, req: DimseServiceType, context: PresentationContext
    ) -> Any:
        """Call the handler, which may abort; what it raises is passed on."""
        assoc = self.assoc
        attrs: dict[str, Any] = {"request": req, "context": assoc.context_tuple(context)}
        if isinstance(req, C_FIND | C_GET | C_MOVE):
            attrs["_is_cancelled"] = self.is_cancelled
        # As pynetdicom: inside a handler abort() must not wait for the association's end.
        setattr(assoc, "abort", assoc._abort_nonblocking)  # noqa: B010 - a method is replaced
        try:
            return evt.trigger(assoc, event, attrs)
        finally:
            setattr(assoc, "abort", assoc._abort_blocking)  # noqa: B010 - and put back

    def is_cancelled(self, msg_id: int) -> bool:
        """Whether to stop: the peer has cancelled the request, or nobody is left to answer.

        Once it says so, it does until the request has ended.
        """
        return msg_id in self.assoc.dimse.cancel_req or self.assoc.is_over

    def encoded(
        self, identifier: EncodedDataset | Dataset | None, context: PresentationContext
    ) -> bytes | None:
        """An identifier in the context's transfer syntax; None when it cannot be encoded."""
        if isinstance(identifier, EncodedDataset):
            return identifier.data
        if identifier is None:
            return None
        syntax = context.transfer_syntax[0]
        return encode(
            identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
        )


class InlineVerification(_Inline, VerificationServiceClass):
    """C-ECHO (PS3.7 section 9.1.5)."""

    def SCP(self, req: C_ECHO, context: PresentationContext) -> None:  # noqa: N802
        """Answer one C-ECHO."""
        dimse = self.assoc.dimse
        handler = self.assoc.get_handlers(evt.EVT_C_ECHO)
        if dimse.is_watched or not handler:
            super().SCP(req, context)
            return
        try:
            status = self.ask(evt.EVT_C_ECHO, req, context)
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            _handler_raised("Exception in the handler bound to 'evt.EVT_C_ECHO'", problem)
            status = _SUCCESS
        if not self.assoc.is_established:
            return
        if type(status) is not int:
            self.assoc.answer_with(evt.EVT_C_ECHO, status)
            super().SCP(req, context)
            return
        response = commands.encode_response(
            commands.C_ECHO_RSP,
            cast(int, req.MessageID),
            status,
            sop_class_uid=req.AffectedSOPClassUID,
        )
        dimse.send_encoded(cast(int, context.context_id), response)


class InlineStorage(_Inline, StorageServiceClass):
    """C-STORE (PS3.7 section 9.1.1)."""

    def SCP(self, req: C_STORE, context: PresentationContext) -> None:  # noqa: N802
        """Answer one C-STORE."""
        if isinstance(req, ReceivedStore) and req.error is not None:
            status: Any = self._spool_failed(req, req.error)
        else:
            try:
                status = self.ask(evt.EVT_C_STORE, req, context)
            except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
                _handler_raised("Exception in handler bound to 'evt.EVT_C_STORE'", problem)
                status = _STORE_HANDLER_RAISED
        if not self.assoc.is_established:
            return
        dimse, context_id = self.assoc.dimse, cast(int, context.context_id)
        if type(status) is not int or dimse.is_watched:
            dimse.send_msg(self.validate_status(status, self._response(req)), context_id)
            return
        response = commands.encode_response(
            commands.C_STORE_RSP,
            cast(int, req.MessageID),
            status,
            sop_class_uid=req.AffectedSOPClassUID,
            sop_instance_uid=req.AffectedSOPInstanceUID,
        )
        dimse.send_encoded(context_id, response)

    def _spool_failed(self, req: ReceivedStore, problem: OSError) -> Dataset:
        """The status of an object that could not be written as it arrived; no handler sees it."""
        reason = problem.strerror or str(problem)
        level = logging.WARNING if problem.errno in _NO_SPACE else logging.ERROR
        log_refusal(self.assoc, req, _OUT_OF_RESOURCES, reason, level)
        status = Dataset()
        status.Status = _OUT_OF_RESOURCES
        status.ErrorComment = f"out of resources: {reason}"[:64]
        return status

    @staticmethod
    def _response(req: C_STORE) -> C_STORE:
        response = C_STORE()
        response.MessageID = req.MessageID
        response.MessageIDBeingRespondedTo = req.MessageID
        response.AffectedSOPInstanceUID = req.AffectedSOPInstanceUID
        response.AffectedSOPClassUID = req.AffectedSOPClassUID
        return response


class InlineQueryRetrieve(_Inline, QueryRetrieveServiceClass):
    """C-FIND, C-MOVE and C-GET (PS3.4 annex C)."""

    _find_responses = 0  # to this request, for the log

    # --- C-FIND ---

    def _c_find_scp(self, req: C_FIND, context: PresentationContext) -> None:
        try:
            results = self.ask(evt.EVT_C_FIND, req, context)
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            _handler_raised("Exception in handler bound to 'evt.EVT_C_FIND'", problem)
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
        dimse = self.assoc.dimse
        pending = PendingResponses(dimse, cast(int, context.context_id), req)
        try:
            for status, identifier in results:
                if type(identifier) is EncodedDataset and status in _PENDING_CODES:
                    if self.assoc.is_over:
                        return
                    if not dimse.is_watched:
                        pending.add(status, identifier.data)
                        continue
                pending.send()
                if self._is_gone() or not self._send_find(req, context, status, identifier):
                    return
            pending.send()
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            _handler_raised("Exception in handler bound to 'evt.EVT_C_FIND'", problem)
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
        code = status if type(status) is int else None
        response = None
        if code is None or dimse.is_watched:
            response = self.validate_status(status, self._find_response(req))
            code = cast(int, response.Status)
        category = code_to_category(code)
        data_set = None
        if category == _PENDING:
            data_set = self.encoded(identifier, context)
            if not data_set:
                loggers.SERVICE_CLASS.error("Failed encoding the response 'Identifier' dataset")
                return self._send_find(req, context, _FIND_NOT_ENCODED)
        if loggers.SERVICE_CLASS.isEnabledFor(logging.INFO):
            self._log_find(code, category)
        if category not in (_PENDING, _WARNING):
            dimse.outstanding.served_id = None
        if response is not None:
            response.Identifier = None if data_set is None else BytesIO(data_set)
            dimse.send_msg(response, context_id)
        else:
            command = commands.encode_response(
                commands.C_FIND_RSP,
                cast(int, req.MessageID),
                code,
                sop_class_uid=req.AffectedSOPClassUID,
                data_set_follows=data_set is not None,
            )
            dimse.send_encoded(context_id, command, data_set)
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

    @staticmethod
    def _find_response(req: C_FIND) -> C_FIND:
        response = C_FIND()
        response.MessageID = req.MessageID
        response.MessageIDBeingRespondedTo = req.MessageID
        response.AffectedSOPClassUID = req.AffectedSOPClassUID
        return response

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
            _handler_raised(f"Exception in handler bound to 'evt.{event.name}'", problem)
            failed = SubOperationResponse(_RETRIEVE_HANDLER_RAISED[event])
            self._send_response(event, req, context, failed)
            return True
        if isinstance(result, SubOperations):
            self._send_responses(event, req, context, result)
            return True
        self.assoc.answer_with(event, result)
        return False

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
            _handler_raised(f"Exception in handler bound to 'evt.{event.name}'", problem)
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
        dimse, context_id = self.assoc.dimse, cast(int, context.context_id)
        data_set = self.encoded(response.identifier, context)
        if response.status not in _PENDING_CODES:
            dimse.outstanding.served_id = None
        if dimse.is_watched:
            dimse.send_msg(_retrieve_primitive(req, response, data_set), context_id)
            return
        command = commands.encode_response(
            _RESPONSE_FIELD[event],
            cast(int, req.MessageID),
            response.status,
            sop_class_uid=req.AffectedSOPClassUID,
            data_set_follows=data_set is not None,
            sub_operations=commands.SubOperationCounts(
                response.completed, response.failed, response.warning, response.remaining
            ),
            error_comment=response.error_comment,
            offending_elements=response.offending_elements,
        )
        dimse.send_encoded(context_id, command, data_set)


def _handler_raised(words: str, problem: Exception) -> None:
    """Write what pynetdicom writes of a handler that raises."""
    loggers.SERVICE_CLASS.error(words)
    loggers.SERVICE_CLASS.exception(problem)


def _retrieve_primitive(
    req: C_GET | C_MOVE, response: SubOperationResponse, data_set: bytes | None
) -> C_GET | C_MOVE:
    """The response for pynetdicom's generic path."""
    primitive = type(req)()
    primitive.MessageID = req.MessageID
    primitive.MessageIDBeingRespondedTo = req.MessageID
    primitive.AffectedSOPClassUID = req.AffectedSOPClassUID
    primitive.Status = response.status
    largest = 0xFFFF
    primitive.NumberOfCompletedSuboperations = min(response.completed, largest)
    primitive.NumberOfFailedSuboperations = min(response.failed, largest)
    primitive.NumberOfWarningSuboperations = min(response.warning, largest)
    if response.remaining is not None:
        primitive.NumberOfRemainingSuboperations = min(response.remaining, largest)
    if response.error_comment:
        primitive.ErrorComment = response.error_comment[:64]  # type: ignore[assignment]
    if response.offending_elements:
        primitive.OffendingElement = response.offending_elements  # type: ignore[assignment]
    if data_set is not None:
        primitive.Identifier = BytesIO(data_set)
    return primitive


def service_class(
    assoc: InlineAssociation, msg: DimseServiceType, service: type[ServiceClass]
) -> ServiceClass | None:
    """What serves a request of a presentation context's service; None leaves it to pynetdicom."""
    if isinstance(msg, ReceivedStore):
        return InlineStorage(assoc) if issubclass(service, StorageServiceClass) else None
    if isinstance(msg, C_ECHO):
        return InlineVerification(assoc) if service is VerificationServiceClass else None
    if service is QueryRetrieveServiceClass and msg.is_valid_request:
        return InlineQueryRetrieve(assoc)
    return None
