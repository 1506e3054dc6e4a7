"""Sending a stored object as a C-STORE, from the page cache, a P-DATA header before each piece."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Protocol, cast

from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE

from lfscp.upperlayer.connection.errors import CalledOffError
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.scu.receiver import StoreAnswer, answer_of
from lfscp.upperlayer.wire import commands, pdata

_PROGRESS_S: Final = 1.0
_GATHERED_BYTES: Final = 65_536


class Fetching(Protocol):
    """A file that is still being fetched while it is sent."""

    def fileno(self) -> int:
        """What it is fetched into."""

    def wait_for(self, end: int) -> None:
        """Have its first `end` bytes there; raises OSError when they cannot be had."""


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A data set inside a file.

    Args:
        path: the file.
        offset: where the data set begins, in bytes.
        size: its length in bytes.
        begin: begins to fetch it; gives None when it is at its path already. None: it always is.
        descriptor: of the file, open as long as it is sent, when it has no name; the path is then
            for messages alone.
    """

    path: os.PathLike[str]
    offset: int
    size: int
    begin: Callable[[], Fetching | None] | None = None
    descriptor: int | None = None

    def open(self) -> int:
        """A descriptor of its own, for the caller to close."""
        return (
            os.open(self.path, os.O_RDONLY) if self.descriptor is None else os.dup(self.descriptor)
        )

    def read(self) -> bytes:
        """All of it."""
        with open(self.open(), "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True, slots=True)
class Parts:
    """A data set in parts, one behind the other; files are open as long as it is sent."""

    parts: Sequence[bytes | bytearray | FileSlice]

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return sum(part.size if isinstance(part, FileSlice) else len(part) for part in self.parts)

    def read(self) -> bytes:
        """All of it."""
        return b"".join(part.read() if isinstance(part, FileSlice) else part for part in self.parts)


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One C-STORE sub-operation.

    Args:
        context_id: of the accepted presentation context to send in.
        body: the data set, encoded in that context's transfer syntax.
        priority: 0 medium, 1 high, 2 low.
        move_originator_ae_title: of the C-MOVE that asked for it, with its Message ID.
    Source: PS3.7 section 9.1.1.
    """

    sop_class_uid: str
    sop_instance_uid: str
    context_id: int
    body: FileSlice | Parts | bytes
    priority: int = 2
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None


def send_stored(assoc: InlineAssociation, request: SendRequest) -> StoreAnswer | None:
    """Send one object as a C-STORE sub-operation and wait for its answer.

    Returns:
        What the C-STORE response says; None when there was none, the association then being at its
        end.
    Raises:
        OSError: the file could not be opened, or is shorter than stated; nothing was sent.
    """
    message_id = assoc.next_message_id()
    assoc.dimse.outstanding.await_response(message_id, commands.C_STORE_RSP)
    if assoc.dimse.is_watched:
        _send_watched(assoc, request, message_id)
    elif isinstance(request.body, bytes):
        command = _command(request, message_id)
        assoc.dimse.send_encoded(request.context_id, command, request.body)
    elif isinstance(request.body, Parts):
        if not _send_parts(assoc, request, request.body, message_id):
            return None
    elif not _send_file(assoc, request, request.body, message_id):
        return None
    return answer_of(assoc, message_id, _size(request.body))


def _size(body: FileSlice | Parts | bytes) -> int:
    return len(body) if isinstance(body, bytes) else body.size


def _command(request: SendRequest, message_id: int) -> bytes:
    return commands.encode_store_request(
        commands.StoreRequest(
            message_id,
            request.sop_class_uid,
            request.sop_instance_uid,
            request.priority,
            request.move_originator_ae_title,
            request.move_originator_message_id,
        )
    )


def _send_file(
    assoc: InlineAssociation, request: SendRequest, body: FileSlice, message_id: int
) -> bool:
    """Send from the file. False: it failed half-way, and the association was aborted."""
    fetching = body.begin() if body.begin is not None else None
    if fetching is not None:
        return _send_fetched(assoc, request, body, message_id, fetching)
    fd = body.open()
    try:
        missing = body.offset + body.size - os.fstat(fd).st_size
        if missing > 0:
            raise OSError(f"{body.path} is {missing} bytes shorter than expected")
        command = assoc.dimse.pack(request.context_id, _command(request, message_id))
        return _send_fragments(assoc, fd, request.context_id, body, b"".join(command))
    finally:
        os.close(fd)


def _send_fetched(
    assoc: InlineAssociation,
    request: SendRequest,
    body: FileSlice,
    message_id: int,
    fetching: Fetching,
) -> bool:
    """Send while the file is fetched. What cannot be had at all fails before anything is sent."""
    fetching.wait_for(body.offset + min(body.size, 1))
    command = assoc.dimse.pack(request.context_id, _command(request, message_id))
    descriptor, wait_for = fetching.fileno(), fetching.wait_for
    return _send_fragments(assoc, descriptor, request.context_id, body, b"".join(command), wait_for)


def _send_fragments(
    assoc: InlineAssociation,
    fd: int,
    context_id: int,
    body: FileSlice,
    before: bytes,
    wait_for: Callable[[int], None] | None = None,
) -> bool:
    limit = pdata.fragment_bytes(assoc.dimse.maximum_pdu_size)
    while_waiting = assoc.dul.socket.while_waiting if assoc.dul.socket else None
    told = time.monotonic()
    for offset, length, last in pdata.cut(body.size, limit):
        before += pdata.header(context_id, pdata.LAST if last else 0, length)
        try:
            if wait_for is not None:
                wait_for(body.offset + offset + length)
            assoc.dul.send_p_data_file(fd, body.offset + offset, length, before)
        except OSError as problem:
            return _broke_off(assoc, body, problem)
        before = b""
        if while_waiting is not None and time.monotonic() - told > _PROGRESS_S:
            told = time.monotonic()
            if not _goes_on(assoc, while_waiting):
                return False
    return True


def _broke_off(assoc: InlineAssociation, body: FileSlice, problem: OSError) -> bool:
    """Half a message is on its way: nothing else may follow it on this association."""
    assoc.end_reason = f"{body.path} could not be read to its end: {problem}"
    assoc.abort()
    return False


def _goes_on(assoc: InlineAssociation, while_waiting: Callable[[], None]) -> bool:
    """Let others do what they do meanwhile; False: it was called off."""
    try:
        while_waiting()
    except CalledOffError as problem:
        assoc.dul.called_off(str(problem))
        assoc._handle_no_response()
        return False
    return True


def _send_parts(
    assoc: InlineAssociation, request: SendRequest, body: Parts, message_id: int
) -> bool:
    """Send parts as one data set; False as `_send_file`. Small parts go with what follows."""
    before = bytearray().join(assoc.dimse.pack(request.context_id, _command(request, message_id)))
    while_waiting = assoc.dul.socket.while_waiting if assoc.dul.socket else None
    told = time.monotonic()
    for part, at, length, head in _pieces(assoc, request.context_id, body):
        before += head
        if not isinstance(part, FileSlice):
            before += memoryview(part)[at : at + length]
            if len(before) > _GATHERED_BYTES:
                assoc.dul.send_p_data([bytes(before)])
                before.clear()
        else:
            fd = part.descriptor
            try:
                assoc.dul.send_p_data_file(cast(int, fd), part.offset + at, length, bytes(before))
            except OSError as problem:
                return _broke_off(assoc, part, problem)
            before.clear()
        if while_waiting is not None and time.monotonic() - told > _PROGRESS_S:
            told = time.monotonic()
            if not _goes_on(assoc, while_waiting):
                return False
    if before:
        assoc.dul.send_p_data([bytes(before)])
    return True


def _pieces(
    assoc: InlineAssociation, context_id: int, body: Parts
) -> Iterator[tuple[bytes | bytearray | FileSlice, int, int, bytes]]:
    """Each part's pieces: where one begins, its length, and the P-DATA header before it, if any."""
    limit = pdata.fragment_bytes(assoc.dimse.maximum_pdu_size)
    rest, left = body.size, 0  # of the data set, and of the fragment
    for part in body.parts:
        at, end = 0, part.size if isinstance(part, FileSlice) else len(part)
        while at < end:
            head = b""
            if not left:
                left = min(limit, rest)
                rest -= left
                head = pdata.header(context_id, 0 if rest else pdata.LAST, left)
            length = min(left, end - at)
            yield part, at, length, head
            at += length
            left -= length


def _send_watched(assoc: InlineAssociation, request: SendRequest, message_id: int) -> None:
    """The same by pynetdicom's generic path, when somebody is bound to what passes."""
    primitive = C_STORE()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID = UID(request.sop_class_uid)
    primitive.AffectedSOPInstanceUID = UID(request.sop_instance_uid)
    primitive.Priority = request.priority
    primitive.MoveOriginatorApplicationEntityTitle = request.move_originator_ae_title
    primitive.MoveOriginatorMessageID = request.move_originator_message_id
    data = request.body if isinstance(request.body, bytes) else request.body.read()
    primitive.DataSet = BytesIO(data)
    assoc.dimse.send_msg(primitive, request.context_id)
