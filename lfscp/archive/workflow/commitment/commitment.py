"""One storage commitment that a peer asks for: what is known of it, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.tables.workflow_tables import commitment


class State(StrEnum):
    """How far a commitment is."""

    RECEIVED = "received"  # its instances are to be verified
    VERIFIED = "verified"  # its report is to be sent
    REPORTED = "reported"
    FAILED = "failed"  # nothing could be reported, and it is not tried again


OPEN: Final = (State.RECEIVED, State.VERIFIED)


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request for commitment, and what became of it.

    Args:
        called_ae_title: by which the peer called this node.
        peer_address: where the peer called from.
        reason: why it could not be verified or reported the last time; empty when there is none.
        instances: how many it names.
        failed: how many of them the node does not commit to.
        created_at: in ms since 1970, as the other times; 0 while something has not happened.
        report_since: when its report became due, or was asked for once more.
        attempts: how often its report was to be sent.
        next_attempt_at: when it goes on.
    """

    id: int
    transaction_uid: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    state: State
    reason: str
    instances: int
    failed: int
    created_at: int
    verified_at: int
    report_since: int
    reported_at: int
    attempts: int
    next_attempt_at: int


COLUMNS: Final = [commitment.c[name] for name in Commitment.__dataclass_fields__]


class TransactionInUseError(ArchiveError):
    """The peer has named other instances under this Transaction UID, and waits for the report."""

    def __init__(self, transaction_uid: str) -> None:
        super().__init__(
            "take the request", f"Transaction UID {transaction_uid} is in use for other instances"
        )


def commitment_of(row: Any) -> Commitment:
    """The commitment of a row with COLUMNS."""
    values = row._asdict()
    return Commitment(**{**values, "state": State(values["state"])})
