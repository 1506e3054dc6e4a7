"""Pending C-FIND responses on their way out, several in one send.

Only for identifiers that come encoded: whoever makes those makes them quickly, so that none waits
long for its neighbours. The command set is the same for each, and is encoded once.
"""

from __future__ import annotations

from typing import Final, cast

from pynetdicom.dimse_primitives import C_FIND

from lfscp.upperlayer.engine.messages import InlineMessages
from lfscp.upperlayer.wire import commands, pdata

# Few enough that a C-CANCEL is noticed soon, many enough that the kernel's part becomes small.
_SEND_ABOVE_BYTES: Final = 8192


class PendingResponses:
    """Collects the pending responses to one C-FIND; `send` before anything else is sent.

    Args:
        dimse: the association's DIMSE provider.
        context_id: of the presentation context.
        request: the C-FIND that is answered.
    """

    def __init__(self, dimse: InlineMessages, context_id: int, request: C_FIND) -> None:
        self._dimse = dimse
        self._context_id = context_id
        self._request = request
        self._limit = pdata.fragment_bytes(dimse.maximum_pdu_size)
        self._commands: dict[int, bytes] = {}
        self._waiting: list[bytes | memoryview] = []
        self._size = 0

    def add(self, status: int, identifier: bytes) -> None:
        """Add a response; it may go out now or with those that follow."""
        if self._dimse.is_watched:
            self._dimse.send_response(
                commands.C_FIND_RSP, self._request, self._context_id, status, data_set=identifier
            )
            return
        command = self._commands.get(status)
        if command is None:
            command = self._commands[status] = self._command(status)
        size = len(identifier)
        if size <= self._limit:
            self._waiting += (command, pdata.header(self._context_id, pdata.LAST, size), identifier)
        else:
            self._waiting.append(command)
            limit = self._dimse.maximum_pdu_size
            self._waiting += pdata.pack(self._context_id, identifier, 0, limit)
        self._size += size + len(command)
        if self._size >= _SEND_ABOVE_BYTES:
            self.send()

    def send(self) -> None:
        """Send what waits."""
        if self._waiting:
            self._dimse.send_packed([b"".join(self._waiting)])
            self._waiting.clear()
            self._size = 0

    def _command(self, status: int) -> bytes:
        encoded = commands.encode_response(
            commands.C_FIND_RSP,
            cast(int, self._request.MessageID),
            status,
            sop_class_uid=self._request.AffectedSOPClassUID,
            data_set_follows=True,
        )
        return b"".join(self._dimse.pack(self._context_id, encoded))
