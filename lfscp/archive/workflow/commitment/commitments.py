"""The storage commitments that peers ask for: each request, what became of it, and its report.

Rules: a request is committed before it is answered. Whoever works on one holds it for some seconds,
and renews that; when it dies, another process or node goes on. So a report is sent once. Nodes take
the requests that nodes of their AE title were asked. All times are those of the database's clock.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Connection,
    Update,
    and_,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)

from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.tables.dialects import now_ms
from lfscp.archive.index.tables.workflow_tables import commitment
from lfscp.archive.workflow.commitment.commitment import (
    COLUMNS,
    OPEN,
    Commitment,
    State,
    TransactionInUseError,
    commitment_of,
)
from lfscp.archive.workflow.commitment.committed_studies import forget_gone
from lfscp.archive.workflow.commitment.holder import FREE, LEASE_MS, LEASE_S, Holder, is_free
from lfscp.archive.workflow.commitment.references import (
    Failure,
    Reference,
    references_in,
    tree_of_references,
)
from lfscp.dicom.models.element_tree import encode_tree, read_own

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_LONGEST_WAIT_MS: Final = 3_600_000  # a later time of an attempt is that of a clock that was wrong


class Commitments:
    """The commitments of an index. Any thread may call any method.

    All methods raise ArchiveError when the index cannot be read or written to.

    Args:
        ae_title: of the node, whose requests it takes; empty for all, to look at them.
    """

    def __init__(self, index: Index, ae_title: str = "") -> None:
        self._index = index
        self._ae_title = ae_title
        self._holder = Holder()

    # --- taking them ---

    def add(
        self,
        transaction_uid: str,
        references: Sequence[Reference],
        *,
        calling_ae_title: str,
        called_ae_title: str,
        peer_address: str = "",
    ) -> tuple[Commitment, bool]:
        """Keep a request, and hold it; one that was asked before goes on where it is.

        Returns:
            The commitment, and whether the caller holds it: False while another works on it.
        Raises:
            TransactionInUseError: the peer waits for the report of other instances under this UID.
        """
        request = encode_tree(tree_of_references(transaction_uid, references))
        now = now_ms()
        row: dict[str, Any] = {
            "transaction_uid": transaction_uid,
            "request": request,
            "calling_ae_title": calling_ae_title,
            "called_ae_title": called_ae_title,
            "ae_title": self._ae_title,
            "peer_address": peer_address,
            "state": State.RECEIVED,
            "instances": len(references),
            "created_at": now,
            "next_attempt_at": now,
            **self._holder.held(),
        }

        def work(connection: Connection) -> tuple[Commitment, bool]:
            if self._index.is_shared:  # one at a time, or the same would be added twice
                connection.exec_driver_sql("LOCK TABLE commitment IN SHARE ROW EXCLUSIVE MODE")
            known = self._known(connection, transaction_uid, calling_ae_title, request)
            if known is not None:
                return known
            added = insert(commitment).values(row).returning(*COLUMNS)
            return commitment_of(connection.execute(added).one()), True

        with self._index.doing("write to the index"):
            return self._index.transact(work)

    def _known(
        self, connection: Connection, transaction_uid: str, calling_ae_title: str, request: bytes
    ) -> tuple[Commitment, bool] | None:
        """The open commitment of a Transaction UID, if there is one, held when it was free."""
        column = commitment.c
        found = connection.execute(
            select(column.id, column.request).where(
                column.transaction_uid == transaction_uid,
                column.calling_ae_title == calling_ae_title,
                column.ae_title == self._ae_title,
                column.state.in_(OPEN),
            )
        ).first()
        if found is None:
            return None
        if bytes(found.request) != request:
            raise TransactionInUseError(transaction_uid)
        this = update(commitment).where(column.id == found.id)
        free = this.where(is_free() | self._holder.is_mine()).values(self._holder.held())
        taken = connection.execute(free.returning(*COLUMNS)).first()
        if taken is not None:
            return commitment_of(taken), True
        row = connection.execute(select(*COLUMNS).where(column.id == found.id)).one()
        return commitment_of(row), False

    def take_due(self, besides: Collection[str] = ()) -> Commitment | None:
        """Hold the one that has waited the longest and is due now; None when none is.

        Args:
            besides: AE titles of peers whose commitments are left alone.
        """
        wanted = (
            select(commitment.c.id)
            .where(
                commitment.c.state.in_(OPEN),
                commitment.c.ae_title == self._ae_title,
                commitment.c.calling_ae_title.not_in(list(besides)),
                or_(
                    commitment.c.next_attempt_at <= now_ms(),
                    commitment.c.next_attempt_at > now_ms() + 2 * _LONGEST_WAIT_MS,
                ),
                is_free(),
            )
            .order_by(commitment.c.next_attempt_at, commitment.c.id)
            .limit(1)
        )
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            if connection.execute(wanted).first() is None:  # which needs no writer
                return None

        def work(connection: Connection) -> Commitment | None:
            found = connection.execute(wanted.with_for_update(skip_locked=True)).scalar()
            if found is None:
                return None
            taken = update(commitment).where(commitment.c.id == found).values(self._holder.held())
            return commitment_of(connection.execute(taken.returning(*COLUMNS)).one())

        with self._index.doing("write to the index"):
            return self._index.transact(work)

    def keep(self, commitment_id: int, for_s: float = LEASE_S) -> bool:
        """Hold it for so many seconds from now; False when another has it now."""
        return self._change(commitment_id, {"held_until": now_ms() + round(1000 * for_s)})

    def keep_all(self, commitment_ids: Iterable[int]) -> set[int]:
        """Hold several for LEASE_S from now; gives those that no other has now."""

        def work(connection: Connection) -> set[int]:
            kept: set[int] = set()
            for piece in pieces_of(commitment_ids):
                these = and_(commitment.c.id.in_(piece), self._holder.is_mine())
                held = update(commitment).where(these).values(held_until=now_ms() + LEASE_MS)
                kept.update(connection.execute(held.returning(commitment.c.id)).scalars())
            return kept

        with self._index.doing("write to the index"):
            return self._index.transact(work)

    def hold(self, commitment_id: int, for_s: float = LEASE_S) -> Commitment | None:
        """Hold one whose report is to be sent; None when another has it, or it was sent."""
        held = {**self._holder.held(), "held_until": now_ms() + round(1000 * for_s)}
        wanted = (
            update(commitment)
            .where(
                commitment.c.id == commitment_id,
                commitment.c.state == State.VERIFIED,
                is_free() | self._holder.is_mine(),
            )
            .values(held)
            .returning(*COLUMNS)
        )
        with self._index.doing("write to the index"):
            row = self._index.transact(lambda each: each.execute(wanted).first())
        return None if row is None else commitment_of(row)

    def free(self, commitment_id: int) -> bool:
        """Let another go on with it, at once when it is due."""
        return self._change(commitment_id, dict(FREE))

    # --- what became of them ---

    def references(self, commitment_id: int) -> list[Reference]:
        """The instances that a request names, in its order."""
        wanted = select(commitment.c.request).where(commitment.c.id == commitment_id)
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            request = connection.execute(wanted).scalar()
        return [] if request is None else references_in(read_own(bytes(request)))

    def failures(self, commitment_id: int) -> list[Failure]:
        """The instances that the node does not commit to."""
        wanted = select(commitment.c.failures).where(commitment.c.id == commitment_id)
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            text = connection.execute(wanted).scalar()
        return [Failure(*each) for each in json.loads(text)] if text else []

    def verified(self, commitment_id: int, failures: Sequence[Failure]) -> bool:
        """Its instances were looked at; it is held still. False when another has it now."""
        return self._change(
            commitment_id,
            {
                "state": State.VERIFIED,
                "failures": json.dumps(failures) if failures else "",
                "failed": len(failures),
                "verified_at": now_ms(),
                "reason": "",
                "report_since": now_ms(),
                "next_attempt_at": now_ms(),
                "attempts": 0,
                "held_until": now_ms() + LEASE_MS,
            },
        )

    def reported(self, commitment_id: int) -> bool:
        """The peer has taken its report. False when another has it now."""
        return self._change(
            commitment_id,
            {
                "state": State.REPORTED,
                "reason": "",
                "reported_at": now_ms(),
                "attempts": commitment.c.attempts + 1,
                **FREE,
            },
        )

    def put_off(
        self, commitment_id: int, reason: str, again_in_s: float | None, *, of_peer: str = ""
    ) -> bool:
        """It could not be verified, or its report not be sent. False when another has it now.

        Args:
            reason: in words.
            again_in_s: after how many seconds it is tried again; None for not again.
            of_peer: the AE title of a peer that is away; its other reports wait as long.
        """
        values: dict[str, Any] = {"reason": reason, "attempts": commitment.c.attempts + 1, **FREE}
        if again_in_s is None:
            values["state"] = State.FAILED
        else:
            wait_ms = min(round(again_in_s * 1000), _LONGEST_WAIT_MS)
            values["next_attempt_at"] = now_ms() + wait_ms
        if not of_peer or again_in_s is None:
            return self._change(commitment_id, values)
        waiting = and_(
            commitment.c.state == State.VERIFIED,
            commitment.c.ae_title == self._ae_title,
            commitment.c.calling_ae_title == of_peer,
            commitment.c.next_attempt_at < values["next_attempt_at"],
            is_free(),
        )
        later = {"reason": reason, "next_attempt_at": values["next_attempt_at"]}
        others = update(commitment).where(waiting).values(later)
        return self._change(commitment_id, values, others)

    # --- looking at them ---

    def get(self, commitment_id: int) -> Commitment | None:
        """One of them; None when there is none."""
        wanted = select(*COLUMNS).where(commitment.c.id == commitment_id)
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            row = connection.execute(wanted).first()
        return None if row is None else commitment_of(row)

    def commitments(
        self, *, states: Collection[str] = (), after: int = 0, limit: int = 100
    ) -> list[Commitment]:
        """A page of them, the newest first.

        Args:
            states: only those in one of these; none for all.
            after: the id of the last one of the page before; 0 for the first page.
        """
        wanted = select(*COLUMNS).order_by(commitment.c.id.desc()).limit(limit)
        if states:
            wanted = wanted.where(commitment.c.state.in_(list(states)))
        if after:
            wanted = wanted.where(commitment.c.id < after)
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            return [commitment_of(row) for row in connection.execute(wanted)]

    def retry(self, commitment_id: int) -> bool:
        """Send its report now, or once more; False while it is to be verified."""
        column = commitment.c
        now = now_ms()
        state = case((column.verified_at > 0, State.VERIFIED), else_=State.RECEIVED)
        again = (
            update(commitment)
            .where(column.id == commitment_id, column.state != State.RECEIVED)
            .values(state=state, report_since=now, next_attempt_at=now)
        )
        with self._index.doing("write to the index"):
            return self._index.transact(lambda each: each.execute(again).rowcount > 0)

    def forget_ended(self, older_than_ms: int) -> int:
        """Drop those that ended and were asked for longer ago than this; how many.

        What was noted of studies that are gone goes with them.
        """
        before = now_ms() - older_than_ms
        ended = delete(commitment).where(
            commitment.c.created_at < before, commitment.c.state.not_in(OPEN)
        )

        def work(connection: Connection) -> int:
            forget_gone(connection, before)
            return connection.execute(ended).rowcount

        with self._index.doing("write to the index"):
            return self._index.transact(work)

    # --- changing one ---

    def _change(self, commitment_id: int, values: dict[str, Any], *more: Update) -> bool:
        """Change one that is held, and then `more` in the same transaction."""
        this = and_(commitment.c.id == commitment_id, self._holder.is_mine())
        changed = update(commitment).where(this).values(values)

        def work(connection: Connection) -> bool:
            is_held = connection.execute(changed).rowcount > 0
            for each in more if is_held else ():
                connection.execute(each)
            return is_held

        with self._index.doing("write to the index"):
            return self._index.transact(work)
