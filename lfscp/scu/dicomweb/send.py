"""Sends objects to a DICOMweb server by STOW-RS (PS3.18 section 10.5).

Rules: a request has several objects, up to a number and a size. If the server refuses a request as
a whole, or breaks off, each of its objects is sent once more in a request of its own, since one
alone may be what it does not take. An object counts as sent when the server says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lfscp.archive.store.received_objects import StoredInstance, is_as_selected
from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.dicomweb.answer import Answer
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.session import Session
from lfscp.scu.dicomweb.store_body import StoreBody, UnreadableFileError
from lfscp.scu.dicomweb.store_response import Fate, StoreResponse
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind
from lfscp.scu.send import CANCEL_PATIENCE_S, OnSent, SendResult
from lfscp.services.sending.sub_operations import SubOperationOutcome
from lfscp.upperlayer.connection.errors import CalledOffError

MAX_OBJECTS: Final = 100  # of one request
MAX_BYTES: Final = 64_000_000  # of one request that has several objects
MAX_ANSWER_BYTES: Final = 2_000_000  # 20 kB for each object, and not too much once it is read
_MAX_FRUITLESS: Final = 3  # requests in a row that the server broke off
_ANSWERED: Final = frozenset({200, 202, 409})
# Refusals that do not depend on the objects: of us, of the URL, or of anything for now.
_OF_ALL: Final = frozenset({401, 403, 404, 405, 407, 429, 501, 502, 503, 504, 507})
_ACCEPT: Final = "application/dicom+json, application/dicom+xml;q=0.5"


def send(
    peer: DICOMwebPeer,
    instances: Sequence[StoredInstance],
    *,
    on_sent: OnSent = lambda _instance, _outcome, _reason: None,
    cancel: Flag = NEVER,
    locate: Callable[[StoredInstance], StoredInstance | None] = lambda _instance: None,
) -> SendResult:
    """Send objects as they are; if one fails, the others are sent all the same.

    Args:
        instances: from an archive or from `scu.send.objects_in`.
        on_sent: called once for each, when the server has answered; an error that it raises ends
            the send.
        cancel: once set, no further object is sent; the request on its way has a second.
        locate: gives the place of an instance whose file has moved.
    Raises:
        GivenUpError: it was cancelled before there was a connection.
        PeerError: the server cannot be reached, refuses us, or broke several times in a row.
    """
    sending = _Sending(peer, on_sent, cancel, locate)
    with Session(peer, cancel, sending.look) as session:
        sending.send_all(session, instances)
    return sending.result


class KeptConnection:
    """Sends objects over a connection that stays open for those to come; for one thread.

    Args:
        cancel, locate: as `send` takes them.
    """

    def __init__(
        self,
        peer: DICOMwebPeer,
        *,
        cancel: Flag = NEVER,
        locate: Callable[[StoredInstance], StoredInstance | None] = lambda _instance: None,
    ) -> None:
        self.peer = peer
        self._cancel = cancel
        self._locate = locate
        self._session: Session | None = None
        self._sending: _Sending | None = None

    def send(self, instances: Sequence[StoredInstance], on_sent: OnSent) -> None:
        """Send objects; errors are those of the function `send`."""
        sending = self._sending = _Sending(self.peer, on_sent, self._cancel, self._locate)
        if self._session is None:
            self._session = Session(self.peer, self._cancel, self._look)
        try:
            sending.send_all(self._session, instances)
        except PeerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _look(self) -> None:
        if self._sending is not None:
            self._sending.look()


class _Sending:
    def __init__(
        self,
        peer: DICOMwebPeer,
        on_sent: OnSent,
        cancel: Flag,
        locate: Callable[[StoredInstance], StoredInstance | None],
    ) -> None:
        self._peer = peer
        self._on_sent = on_sent
        self._cancel = cancel
        self._locate = locate
        self._patience_ends = float("inf")
        self._fruitless = 0
        self._has_begun = False
        self._is_one = False  # object that is sent
        self.result = SendResult()

    def look(self) -> None:
        """Called several times a second while the server takes a request, or answers."""
        if not self._cancel.is_set():
            return
        now = time.monotonic()
        patience_s = CANCEL_PATIENCE_S if self._has_begun else 0
        self._patience_ends = min(self._patience_ends, now + patience_s)
        if now >= self._patience_ends:
            raise CalledOffError("called off")

    def send_all(self, session: Session, instances: Sequence[StoredInstance]) -> None:
        """Send request after request until all are tried, or it is cancelled."""
        left = len(instances)
        self._is_one = left == 1
        for batch in batches_of(instances):
            try:
                self._send(session, batch)
            except GivenUpError:
                if not self._has_begun:
                    raise
            if self._cancel.is_set():
                break
        done = self.result.completed + self.result.warning + len(self.result.failed)
        self.result.left = left - done

    def _send(self, session: Session, batch: Sequence[StoredInstance]) -> None:
        """Send one batch; object by object if that fails."""
        there = [self._located(each) for each in batch]
        try:
            fates = self._attempt(session, there)
        except UnreadableFileError as error:
            self._count(error.instance, (SubOperationOutcome.FAILED, str(error)))
            rest = [each for each in there if each is not error.instance]
            if rest:
                self._send(session, rest)
            return
        if fates is not None:
            for instance, fate in zip(there, fates, strict=True):
                self._count(instance, fate)
            return
        for instance in there:
            if not self._cancel.is_set():
                self._send_alone(session, instance)

    def _send_alone(self, session: Session, instance: StoredInstance) -> None:
        try:
            fates = self._attempt(session, [instance], is_last=True)
        except UnreadableFileError as error:
            fates = [(SubOperationOutcome.FAILED, str(error))]
        assert fates is not None  # noqa: S101 - the last attempt has an outcome
        self._count(instance, fates[0])

    def _attempt(
        self, session: Session, batch: Sequence[StoredInstance], *, is_last: bool = False
    ) -> list[Fate] | None:
        """Send a request; what became of its objects, or None if they are to be sent one by one.

        Raises:
            UnreadableFileError: of one of the files; nothing is known of the others.
            PeerError: further requests would fare alike.
        """
        body = StoreBody(batch)
        headers = {
            "Accept": _ACCEPT,
            "Content-Type": body.content_type,
            "Content-Length": str(body.length),
        }
        try:
            with session.ask("POST", "/studies", headers, self._blocks(body)) as answer:
                self._fruitless = 0
                return self._read(answer, batch, is_last=is_last)
        except PeerError as error:
            if error.kind is not PeerErrorKind.ABORTED or isinstance(error, GivenUpError):
                raise
            self._fruitless += 1
            if self._fruitless == _MAX_FRUITLESS or (is_last and self._is_one):
                raise  # nothing says that it is the object's fault and not the server's
            return [(SubOperationOutcome.FAILED, error.reason)] if is_last else None

    def _read(
        self, answer: Answer, batch: Sequence[StoredInstance], *, is_last: bool
    ) -> list[Fate] | None:
        answer.log_warnings()
        if answer.status in _ANSWERED:
            content = answer.read(MAX_ANSWER_BYTES)
            response = StoreResponse(answer.status, answer.content_type.media_type, content)
            return [response.fate_of(each.sop_instance_uid) for each in batch]
        if answer.status in _OF_ALL:
            answer.require("the objects", 200)
        if not is_last and len(batch) > 1:
            return None
        told = answer.words()
        reason = f"the server refused it (HTTP {answer.status})"
        fate = SubOperationOutcome.FAILED, f"{reason}: {told}" if told else reason
        return [fate for _ in batch]

    def _blocks(self, body: StoreBody) -> Iterator[bytes]:
        for block in body.blocks():
            self._has_begun = True  # there is a connection
            yield block

    def _located(self, instance: StoredInstance) -> StoredInstance:
        """The instance; if its file has gone, the place where it is now, if there is one."""
        if is_as_selected(instance):
            return instance
        return self._locate(instance) or instance

    def _count(self, instance: StoredInstance, fate: Fate) -> None:
        outcome, reason = fate
        self.result.count(instance, outcome, reason)
        self._on_sent(instance, outcome, reason)


def batches_of(instances: Sequence[StoredInstance]) -> Iterator[Sequence[StoredInstance]]:
    """The instances in requests; one that is larger than a request may be has its own."""
    batch: list[StoredInstance] = []
    size = 0
    for instance in instances:
        if batch and (size + instance.size > MAX_BYTES or len(batch) == MAX_OBJECTS):
            yield batch
            batch, size = [], 0
        batch.append(instance)
        size += instance.size
    if batch:
        yield batch
