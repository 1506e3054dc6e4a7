"""Stores jobs in the database: writes each change, and reads them back after a restart."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from lfscp.archive.index.tables.dialects import insert_if_absent
from lfscp.archive.index.tables.job_tables import job, job_item
from lfscp.jobs.matches import EncodedJSON
from lfscp.jobs.model import SHORT_RESULT, Job, JobKind, State, now
from lfscp.jobs.peers.described import from_row, to_row

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_MAX_LISTED: Final = 1 << 18  # characters of a result that comes with a list of jobs
_PIECE: Final = 1 << 20  # characters of a result that are read at once
_FIELDS: Final = tuple(each.name for each in fields(Job))
_ITEMS_PER_STATEMENT: Final = 400  # SQLite's oldest limit is 999 parameters


class JobStore:
    """The jobs of one node in the index's database. Any thread may call any method.

    Args:
        index: of the archive.
        node: this node's id, which tells its jobs from others' in a shared database.
    """

    def __init__(self, index: Index, node: str) -> None:
        self._index = index
        self._node = node

    @property
    def _of_this_node(self) -> ColumnElement[bool]:
        return job.c.node == self._node

    def add(self, added: Job) -> None:
        """Save a new job."""
        row = {"node": self._node, **row_of(added)}
        self._index.transact(lambda connection: connection.execute(insert(job).values(**row)))

    def save(self, changed: Job, items: Collection[str] = ()) -> None:
        """Save a job and the items newly done; a job that is done needs its items no longer."""

        def work(connection: Connection) -> None:
            this = update(job).where(job.c.id == changed.id)
            connection.execute(this.values(**row_of(changed)))
            put_items(connection, changed, items)

        self._index.transact(work)

    def get(self, job_id: str) -> Job | None:
        """One job; None when there is none."""
        with self._index.engine.connect() as connection:
            wanted = select(*_with_short_result()).where(self._of_this_node, job.c.id == job_id)
            row = connection.execute(wanted).mappings().first()
        return None if row is None else job_of(row)

    def jobs(
        self,
        states: Iterable[State] | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        newest_first: bool = True,
    ) -> list[Job]:
        """Jobs in the order of their arrival, or the newest first."""
        wanted = select(*_with_short_result(_MAX_LISTED)).where(self._of_this_node)
        if states is not None:
            wanted = wanted.where(job.c.state.in_([str(state) for state in states]))
        order = job.c.arrival.desc() if newest_first else job.c.arrival
        wanted = wanted.order_by(order).limit(limit).offset(offset)
        with self._index.engine.connect() as connection:
            return [job_of(row) for row in connection.execute(wanted).mappings()]

    def result(self, job_id: str) -> Iterator[str]:
        """A job's result as JSON, in pieces."""
        at = 1
        while True:
            piece = func.substr(job.c.result, at, _PIECE)
            with self._index.engine.connect() as connection:
                wanted = select(piece).where(self._of_this_node, job.c.id == job_id)
                found = connection.execute(wanted).scalar()
            if not found:
                return
            yield found
            at += _PIECE

    def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs there are by kind and state."""
        wanted = (
            select(job.c.kind, job.c.state, func.count())
            .where(self._of_this_node)
            .group_by(job.c.kind, job.c.state)
        )
        with self._index.engine.connect() as connection:
            found = {(kind, state): n for kind, state, n in connection.execute(wanted)}
        return {
            (kind.value, state.value): found.get((kind, state), 0)
            for kind in JobKind
            for state in State
        }

    def woken(self) -> set[str]:
        """The sleeping jobs whose time has come, also when another process has put it forward."""
        wanted = select(job.c.id).where(
            self._of_this_node, job.c.state == str(State.SLEEPING), job.c.next_attempt_at <= now()
        )
        with self._index.engine.connect() as connection:
            return set(connection.execute(wanted).scalars())

    def items(self, job_id: str) -> set[str]:
        """The items that an unfinished job has done."""
        with self._index.engine.connect() as connection:
            wanted = select(job_item.c.item).where(job_item.c.job_id == job_id)
            return set(connection.execute(wanted).scalars())

    def forget(self, job_id: str) -> None:
        """Drop a job."""
        self._drop([job_id])

    def forget_ended_before(self, moment: str) -> int:
        """Drop the jobs that ended before a time; how many there were."""
        ended = [str(state) for state in State if state.is_end]
        wanted = select(job.c.id).where(
            self._of_this_node, job.c.ended_at < moment, job.c.state.in_(ended)
        )
        with self._index.engine.connect() as connection:
            old = list(connection.execute(wanted).scalars())
        for start in range(0, len(old), _ITEMS_PER_STATEMENT):
            self._drop(old[start : start + _ITEMS_PER_STATEMENT])
        return len(old)

    def _drop(self, job_ids: list[str]) -> None:

        def work(connection: Connection) -> None:
            connection.execute(delete(job_item).where(job_item.c.job_id.in_(job_ids)))
            connection.execute(delete(job).where(job.c.id.in_(job_ids)))

        self._index.transact(work)


def _with_short_result(most: int | None = None) -> list[ColumnElement[Any]]:
    """The columns of a job without a long result: of a query, or longer than `most`."""
    size = func.length(job.c.result)
    fits = or_(size <= SHORT_RESULT, job.c.kind != str(JobKind.FIND))
    if most is not None:
        fits = and_(fits, size <= most)
    short = case((fits, job.c.result), else_="null").label("result")
    return [*(column for column in job.c if column.name != "result"), short]


def put_items(connection: Connection, of: Job, items: Collection[str]) -> None:
    """Save the items that a job has newly done; drop them all once the job is done."""
    if of.state is State.DONE:
        connection.execute(delete(job_item).where(job_item.c.job_id == of.id))
    elif items:
        rows = [{"job_id": of.id, "item": item} for item in items]
        connection.execute(insert_if_absent(job_item, connection.dialect), rows)


def row_of(kept: Job) -> dict[str, Any]:
    """A job as a row of the table."""
    row = {each: getattr(kept, each) for each in _FIELDS}
    return row | {
        "kind": str(kept.kind),
        "peers": json.dumps([to_row(peer) for peer in kept.peers]),
        "parameters": json.dumps(dict(kept.parameters)),
        "state": str(kept.state),
        "remaining": row.pop("left"),
        "reason": kept.reason.replace("\0", "\ufffd"),  # PostgreSQL's text takes no NUL
        "result": kept.result if isinstance(kept.result, EncodedJSON) else json.dumps(kept.result),
    }


def job_of(row: Any) -> Job:
    """A job from its row."""
    values = {each: row["remaining" if each == "left" else each] for each in _FIELDS}
    values |= {
        "kind": JobKind(row["kind"]),
        "peers": tuple(from_row(each) for each in json.loads(row["peers"])),
        "parameters": json.loads(row["parameters"]),
        "state": State(row["state"]),
        "result": json.loads(row["result"]),
    }
    return Job(**values)
