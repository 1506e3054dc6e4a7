"""What others decide about the archive's objects and queries, and hear of them: plug-ins do.

The archive and the services ask `Archive.interceptor` where there is one, and know nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import Received, Stored, StoredInstance
    from lfscp.dicom.reading.header import Header


class AskedQuery(NamedTuple):
    """A query as it came.

    Args:
        caller: AE title of the peer, or the name of a login.
        address: of the peer.
        sop_class_uid: of the information model.
        identifier: its keys, encoded in `transfer_syntax_uid`.
    """

    caller: str
    address: str
    sop_class_uid: str
    identifier: bytes
    transfer_syntax_uid: str


class Withheld(NamedTuple):
    """Why an object is not sent.

    Args:
        is_temporary: it may be sent later.
    """

    reason: str
    is_temporary: bool = False


class Interceptor(Protocol):
    """Asked before something happens, and told afterwards. Any thread may call it."""

    def before_store(self, received: Received, header: Header) -> None:
        """Raise StoreRefusedError if an object may not be stored."""

    def after_store(self, received: Received, stored: Stored) -> None:
        """Hear of an object that is stored; never waits and never raises."""

    def before_send(self, instance: StoredInstance, destination: str) -> Withheld | None:
        """Why an object may not be sent; None if it may."""

    def before_query(self, asked: AskedQuery) -> str:
        """Why a query may not be answered; empty if it may."""

    def after_query(self, asked: AskedQuery, matches: int) -> None:
        """Hear of a query that was answered; never waits and never raises."""
