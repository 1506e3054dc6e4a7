"""Remembers what a command asks a peer to commit to, where there is no index to keep it in."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from pydicom.uid import generate_uid

from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.archive.workflow.commitment.requests import (
    CommitmentRequest,
    RequestState,
    Taken,
    not_committed,
)


class InMemoryRequests:
    """As `CommitmentRequests`, in memory. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[str, CommitmentRequest] = {}

    def add(self, ae_title: str, portions: Iterable[Sequence[Reference]]) -> list[str]:
        """Note that a peer is about to be asked, once for each portion; the Transaction UIDs."""
        made = [
            CommitmentRequest(
                str(generate_uid(prefix=None)),
                ae_title,
                "",
                RequestState.ASKING,
                tuple(portion),
                None,
                0.0,
            )
            for portion in portions
        ]
        with self._lock:
            self._requests.update((each.transaction_uid, each) for each in made)
        return [each.transaction_uid for each in made]

    def asked(self, transaction_uid: str) -> None:
        """Note that the peer has taken a request."""
        with self._lock:
            found = self._requests[transaction_uid]
            if found.state is RequestState.ASKING:
                self._requests[transaction_uid] = replace(found, state=RequestState.WAITING)

    def report(
        self,
        transaction_uid: str,
        ae_title: str,
        committed: Collection[str],
        failures: Sequence[Failure],
    ) -> Taken:
        """Keep a report."""
        with self._lock:
            found = self._requests.get(transaction_uid)
            if found is None:
                return Taken.UNKNOWN_TRANSACTION
            if found.ae_title != ae_title:
                return Taken.OTHER_PEER
            if found.failures is not None:
                return Taken.KNOWN
            failed = tuple(not_committed(found.references, committed, failures))
            self._requests[transaction_uid] = replace(
                found, state=RequestState.REPORTED, failures=failed
            )
            return Taken.KEPT

    def get(self, transaction_uid: str) -> CommitmentRequest | None:
        """One request; None when there is none with this Transaction UID."""
        with self._lock:
            return self._requests.get(transaction_uid)

    def is_reported(self, transaction_uid: str) -> bool:
        """Whether the report to a request has come."""
        found = self.get(transaction_uid)
        return found is not None and found.failures is not None
