"""The jobs of several nodes in one database: which node runs which, and until when it holds it.

Rules: one node holds a running job, and renews its lease. A node that gives no sign of life loses
its jobs, and another takes them; what a node has lost it can no longer change. Nodes claim with FOR
UPDATE SKIP LOCKED, so none waits for another. Leases go by the database's clock. Nodes run the jobs
of their own AE title; a job that uses files below web.roots runs where it was submitted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, true
from sqlalchemy import update as update_of

from lfscp.archive.index.tables.dialects import insert_if_absent, now_ms
from lfscp.archive.index.tables.job_tables import job, job_item
from lfscp.jobs.control import StopRequest
from lfscp.jobs.model import Job, State, UnknownJobError, longest_wait, now
from lfscp.jobs.store import JobStore, job_of, put_items, row_of

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_LOOKED_AT: Final = 200  # sleeping jobs of one claim, from which those that may run are taken
_CAP_LOCK: Final = 0x6C66736371  # of an advisory lock of PostgreSQL, beside the migrations'
_FREE: Final = {"held_by": "", "held_until": 0, "wish": ""}


class LostJobError(Exception):
    """Another node has taken the job, because this one gave no sign of life for too long."""


class Claims(JobStore):
    """The jobs of all nodes, and this one's hold on those it runs.

    Args:
        node: this one.
        ae_title: its AE title.
        lease_ms: how long it holds a job without renewing that.
    """

    def __init__(self, index: Index, node: str, ae_title: str, lease_ms: int) -> None:
        super().__init__(index, node)
        self._ae_title = ae_title
        self._lease_ms = lease_ms

    @property
    def _of_this_node(self) -> ColumnElement[bool]:
        return true()  # every node shows and forgets all jobs

    def add(self, added: Job) -> None:
        """Save a new job, which no node holds yet."""
        files = added.parameters.get("paths") or added.parameters.get("folder")
        row = {
            **row_of(added),
            "node": self._node,
            "ae_title": self._ae_title,
            "bound_to": self._node if files else "",
        }
        self._index.transact(
            lambda connection: connection.execute(
                insert_if_absent(job, connection.dialect).values(**row)
            )
        )

    def save(self, changed: Job, items: Collection[str] = ()) -> None:
        """Save a job that this node holds, and free it if it no longer runs.

        Raises:
            LostJobError: this node no longer holds the job.
        """
        held = {"held_until": now_ms() + self._lease_ms}
        values = {**row_of(changed), **(held if changed.state is State.ACTIVE else _FREE)}

        def work(connection: Connection) -> None:
            mine = update_of(job).where(job.c.id == changed.id, job.c.held_by == self._node)
            if connection.execute(mine.values(**values)).rowcount == 0:
                raise LostJobError(changed.id)
            put_items(connection, changed, items)

        self._index.transact(work)

    # --- this node's hold ---

    def claim(
        self,
        room: int,
        cap: int,
        groups: Callable[[Job], Collection[Hashable]],
        taken: Counter[Hashable],
        max_per_group: int,
    ) -> list[Job]:
        """Take sleeping jobs, and those of nodes that are gone; the oldest first.

        Args:
            room: how many this node can run now.
            cap: how many may run on all nodes; 0 is no limit.
            groups: of a job; with `taken` and `max_per_group` as the balancer counts them.
        """

        def work(connection: Connection) -> list[Job]:
            found: list[Job] = []
            left = room
            if cap:
                connection.execute(select(func.pg_advisory_xact_lock(_CAP_LOCK)))  # one at a time
                held = select(func.count()).where(job.c.held_by != "", job.c.held_until > now_ms())
                left = min(room, cap - int(connection.execute(held).scalar_one()))
            if left <= 0:
                return found
            in_groups = taken.copy()
            for row in connection.execute(self._claimable()).mappings():
                of_job = groups(job_of(row))
                if max_per_group and any(in_groups[each] >= max_per_group for each in of_job):
                    continue
                in_groups.update(of_job)
                found.append(self._take(connection, row))
                if len(found) == left:
                    break
            return found

        return self._index.transact(work)

    def _claimable(self) -> Any:
        sleeps = and_(
            job.c.state == str(State.SLEEPING),
            or_(
                job.c.next_attempt_at.is_(None),
                job.c.next_attempt_at <= now(),
                job.c.next_attempt_at > longest_wait(),  # by a clock that was wrong
            ),
        )
        return (
            select(job)
            .where(
                or_(sleeps, job.c.state == str(State.ACTIVE)),
                job.c.held_until < now_ms(),
                job.c.ae_title == self._ae_title,
                job.c.bound_to.in_(["", self._node]),
            )
            .order_by(job.c.arrival)
            .limit(_LOOKED_AT)
            .with_for_update(skip_locked=True)
        )

    def _take(self, connection: Connection, row: Any) -> Job:
        changes = {
            "held_by": self._node,
            "held_until": now_ms() + self._lease_ms,
            "state": str(State.SLEEPING),
        }
        if row["state"] == str(State.ACTIVE):
            changes["reason"] = "interrupted, runs again"
        wanted = update_of(job).where(job.c.id == row["id"]).values(**changes).returning(job)
        return job_of(connection.execute(wanted).mappings().one())

    def renew(self, job_ids: Collection[str]) -> dict[str, str]:
        """Renew the leases of these jobs; the stop request for each, without lost jobs."""
        mine = and_(job.c.held_by == self._node, job.c.id.in_(list(job_ids)))

        def work(connection: Connection) -> dict[str, str]:
            requests = select(job.c.id, job.c.wish).where(mine).with_for_update()
            found = {row.id: row.wish for row in connection.execute(requests)}
            held = {"held_until": now_ms() + self._lease_ms, "wish": ""}
            connection.execute(update_of(job).where(mine).values(**held))
            return found

        return self._index.transact(work)

    def release_all(self) -> None:
        """Free all jobs of this node, which is about to stop or has just started."""
        mine = update_of(job).where(job.c.held_by == self._node)
        active = job.c.state == str(State.ACTIVE)
        interrupted = {"state": str(State.SLEEPING), "reason": "interrupted, runs again"}

        def work(connection: Connection) -> None:
            connection.execute(mine.where(active).values(**_FREE, **interrupted))
            connection.execute(mine.values(**_FREE))

        self._index.transact(work)

    # --- jobs that this node does not hold ---

    def change_free(
        self, job_id: str, request: StopRequest | None, change: Callable[[Job], Job]
    ) -> tuple[Job, bool]:
        """Change a job that no node runs; else leave the request for the node that runs it.

        Args:
            change: makes the changed job, or raises.
        Returns:
            The job, and whether it was changed.
        """

        def work(connection: Connection) -> tuple[Job, bool]:
            wanted = select(job, (job.c.held_until > now_ms()).label("is_held"))
            row = (
                connection.execute(wanted.where(job.c.id == job_id).with_for_update())
                .mappings()
                .first()
            )
            if row is None:
                raise UnknownJobError(job_id)
            found = job_of(row)
            changed = change(found)
            this = update_of(job).where(job.c.id == job_id)
            if row["is_held"]:
                if request is not None:
                    connection.execute(this.values(wish=str(request)))
                return found, False
            connection.execute(this.values(**{**row_of(changed), **_FREE}))
            put_items(connection, changed, ())
            return changed, True

        return self._index.transact(work)

    def forget(self, job_id: str) -> None:
        """Drop a job that no node runs."""
        free = and_(job.c.id == job_id, job.c.held_until < now_ms())

        def work(connection: Connection) -> None:
            if connection.execute(delete(job).where(free)).rowcount:
                connection.execute(delete(job_item).where(job_item.c.job_id == job_id))

        self._index.transact(work)
