"""What this node asks peers to commit to, and what they have reported.

Rules:
- a request is in the index before the peer is asked, since its report may come before its answer;
- a report is in the index before the peer learns that we have it;
- the report wakes the job that waits for it, on whichever node that sleeps;
- what a report leaves out is not committed to.
Source: PS3.4 annex J.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydicom.uid import generate_uid
from sqlalchemy import Connection, delete, exists, insert, select, update

from lfscp.archive.index.tables.dialects import now_ms
from lfscp.archive.index.tables.job_tables import job
from lfscp.archive.index.tables.workflow_tables import commitment_request as request
from lfscp.archive.workflow.commitment.failure_reasons import NOT_IN_REPORT
from lfscp.archive.workflow.commitment.references import Failure, Reference

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_SLEEPING: Final = "sleeping"
Result = TypeVar("Result")


class RequestState(StrEnum):
    """How far a request is."""

    ASKING = "asking"  # the peer may have it, or not
    WAITING = "waiting"  # the peer has it, and owes the report
    REPORTED = "reported"
    SETTLED = "settled"  # nobody waits for its report any more, which may have come or not


class Taken(StrEnum):
    """What became of a report."""

    KEPT = "kept"
    KNOWN = "known"  # it came before
    UNKNOWN_TRANSACTION = "unknown transaction"
    OTHER_PEER = "other peer"  # not the one that was asked


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """One request.

    Args:
        references: what the peer was asked to commit to.
        failures: what it has not committed to; None while there is no report.
        waited_s: since the peer was asked, in seconds.
    """

    transaction_uid: str
    ae_title: str
    job_id: str
    state: RequestState
    references: tuple[Reference, ...]
    failures: tuple[Failure, ...] | None
    waited_s: float

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for its report, or has not looked at it."""
        return self.state is not RequestState.SETTLED

    @property
    def committed(self) -> list[str]:
        """The SOP Instance UIDs that the peer has committed to."""
        if self.failures is None:
            return []
        failed = {each.sop_instance_uid for each in self.failures}
        uids = (each.sop_instance_uid for each in self.references)
        return [uid for uid in uids if uid not in failed]


class CommitmentRequests:
    """The requests of all nodes that share an index. Any thread may call any method.

    All methods raise ArchiveError when the index cannot be used.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    # --- asking ---

    def add(
        self, ae_title: str, portions: Iterable[Sequence[Reference]], job_id: str = ""
    ) -> list[str]:
        """Note that a peer is about to be asked, once for each portion; the Transaction UIDs."""
        rows = [
            {
                "transaction_uid": str(generate_uid(prefix=None)),
                "ae_title": ae_title,
                "job_id": job_id,
                "state": str(RequestState.ASKING),
                "asked": json.dumps(portion),
                "instances": len(portion),
                "created_at": now_ms(),
            }
            for portion in portions
        ]

        def work(connection: Connection) -> None:
            for row in rows:
                connection.execute(insert(request).values(**row))

        self._transact("note what a peer is asked to commit to", work)
        return [str(row["transaction_uid"]) for row in rows]

    def renew(self, transaction_uid: str) -> str:
        """Ask anew what may have been asked already, under a new Transaction UID; that UID.

        The request of before is settled: a peer that has taken it will report on it.
        """
        new = str(generate_uid(prefix=None))

        def work(connection: Connection) -> None:
            this = request.c.transaction_uid == transaction_uid
            row = connection.execute(select(request).where(this).with_for_update()).one()
            again = {"transaction_uid": new, "result": "", "ended_at": 0, "created_at": now_ms()}
            connection.execute(insert(request).values(**{**row._asdict(), **again}))
            settled = update(request).where(this).values(state=str(RequestState.SETTLED))
            connection.execute(settled)

        self._transact("note what a peer is asked to commit to", work)
        return new

    def asked(self, transaction_uid: str) -> None:
        """Note that the peer has taken a request."""
        self._change(transaction_uid, {"state": str(RequestState.WAITING)})

    def _change(self, transaction_uid: str, values: dict[str, Any]) -> None:
        this = update(request).where(
            request.c.transaction_uid == transaction_uid,
            request.c.state == str(RequestState.ASKING),
        )
        changed = this.values({**values, "created_at": now_ms()})
        self._transact(
            "note what a peer was asked to commit to",
            lambda connection: connection.execute(changed),
        )

    def settle(self, job_id: str) -> None:
        """Wait no longer for the reports to a job; one that comes nevertheless is kept."""
        this = update(request).where(request.c.job_id == job_id)
        changed = this.values(state=str(RequestState.SETTLED))
        self._transact("settle a commitment", lambda connection: connection.execute(changed))

    def forget_before(self, moment_ms: int) -> None:
        """Drop what was asked before a time, unless its job is still there."""
        known = exists().where(job.c.id == request.c.job_id)
        old = delete(request).where(request.c.created_at < moment_ms, ~known)
        self._transact("forget old commitments", lambda connection: connection.execute(old))

    # --- reports ---

    def report(
        self,
        transaction_uid: str,
        ae_title: str,
        committed: Collection[str],
        failures: Sequence[Failure],
    ) -> Taken:
        """Keep a report, and wake the job that waits for it; on return it is in the index.

        Args:
            ae_title: of the peer that reports.
            committed: the SOP Instance UIDs that it has committed to.
        """

        def work(connection: Connection) -> Taken:
            row = connection.execute(
                select(request)
                .where(request.c.transaction_uid == transaction_uid)
                .with_for_update()
            ).first()
            if row is None:
                return Taken.UNKNOWN_TRANSACTION
            if row.ae_title != ae_title:
                return Taken.OTHER_PEER
            if row.result:
                return Taken.KNOWN
            result = not_committed(_references(row.asked), committed, failures)
            is_settled = row.state == str(RequestState.SETTLED)
            values = {
                "result": json.dumps(result),
                "ended_at": now_ms(),
                "state": row.state if is_settled else str(RequestState.REPORTED),
            }
            this = update(request).where(request.c.transaction_uid == transaction_uid)
            connection.execute(this.values(**values))
            if row.job_id and not is_settled:
                _wake(connection, row.job_id)
            return Taken.KEPT

        return self._transact("keep a commitment report", work)

    def wake(self, job_id: str) -> None:
        """Wake a sleeping job if a report to it has come that it has not looked at."""
        reported = exists().where(
            request.c.job_id == job_id, request.c.state == str(RequestState.REPORTED)
        )

        def work(connection: Connection) -> None:
            if connection.execute(select(reported)).scalar_one():
                _wake(connection, job_id)

        self._transact("look for commitment reports", work)

    # --- reading ---

    def get(self, transaction_uid: str) -> CommitmentRequest | None:
        """One request; None when there is none with this Transaction UID."""
        return next(iter(self._read(request.c.transaction_uid == transaction_uid)), None)

    def of_job(self, job_id: str) -> list[CommitmentRequest]:
        """The requests of a job, the oldest first."""
        return self._read(request.c.job_id == job_id)

    def is_reported(self, transaction_uid: str) -> bool:
        """Whether the report to a request has come."""
        wanted = select(request.c.result).where(request.c.transaction_uid == transaction_uid)
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            return bool(connection.execute(wanted).scalar())

    def _read(self, which: Any) -> list[CommitmentRequest]:
        waited = (now_ms() - request.c.created_at).label("waited_ms")
        wanted = select(request, waited).where(which).order_by(request.c.created_at)
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            return [_request_of(row) for row in connection.execute(wanted)]

    def _transact(self, operation: str, work: Callable[[Connection], Result]) -> Result:
        with self._index.doing(operation):
            return self._index.transact(work)


def _wake(connection: Connection, job_id: str) -> None:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sleeping = update(job).where(job.c.id == job_id, job.c.state == _SLEEPING)
    connection.execute(sleeping.values(next_attempt_at=moment))


def _references(asked: str) -> tuple[Reference, ...]:
    return tuple(Reference(*each) for each in json.loads(asked))


def not_committed(
    references: Iterable[Reference], committed: Collection[str], failures: Iterable[Failure]
) -> list[Failure]:
    """What a peer was asked for and has not committed to, by what it reports."""
    named = set(committed)
    reasons = {each.sop_instance_uid: each.reason for each in failures}
    return [
        Failure(*each, reasons.get(each.sop_instance_uid, NOT_IN_REPORT))
        for each in references
        if each.sop_instance_uid in reasons or each.sop_instance_uid not in named
    ]


def _request_of(row: Any) -> CommitmentRequest:
    failures = tuple(Failure(*each) for each in json.loads(row.result)) if row.result else None
    return CommitmentRequest(
        row.transaction_uid,
        row.ae_title,
        row.job_id,
        RequestState(row.state),
        _references(row.asked),
        failures,
        row.waited_ms / 1000,
    )
