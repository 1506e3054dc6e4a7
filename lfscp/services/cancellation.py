"""Tells whether the requestor of a request still waits for the answer."""

from __future__ import annotations

from pynetdicom.events import Event


class Cancellation:
    """Whether one request is to end; for the thread that serves its association.

    Attributes:
        is_cancelled: the peer has sent a C-CANCEL.
    """

    def __init__(self, event: Event) -> None:
        self._event = event
        self.is_cancelled = False

    def __call__(self) -> bool:
        """Whether to end: the peer has cancelled, or the association has ended."""
        if self.has_ended():
            return True
        # The engine reports a C-CANCEL only once.
        self.is_cancelled = self.is_cancelled or self._event.is_cancelled
        return self.is_cancelled

    @property
    def reason(self) -> str:
        """Why the request ends, for the log and the peer."""
        return "cancelled by the peer" if self.is_cancelled else "the association ended"

    def has_ended(self) -> bool:
        """Whether the association has ended."""
        association = self._event.assoc
        return not association.is_established or association.acse.is_aborted()
