"""Tells, while a request is served, whether the requestor still waits for the answer."""

from __future__ import annotations

from pynetdicom.events import Event


class Cancellation:
    """Of one request; asked by the thread that serves its association.

    Attributes:
        is_cancelled: the peer has sent a C-CANCEL.
    """

    def __init__(self, event: Event) -> None:
        self._event = event
        self.is_cancelled = False

    def __call__(self) -> bool:
        """Whether to end: the peer has cancelled, or the association has ended."""
        return self.has_ended() or self.has_come()

    def has_come(self) -> bool:
        """Whether the peer has cancelled, as far as it has arrived."""
        # The engine forgets a C-CANCEL once it has told of it, so we remember it.
        if not self.is_cancelled and self._event.is_cancelled and not self.has_ended():
            self.is_cancelled = True
        return self.is_cancelled

    @property
    def reason(self) -> str:
        """Why the request ends, for the log and the peer."""
        return "cancelled by the peer" if self.is_cancelled else "the association ended"

    def has_ended(self) -> bool:
        """Whether the association has ended, as far as is known."""
        association = self._event.assoc
        return not association.is_established or association.acse.is_aborted()
