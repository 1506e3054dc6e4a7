"""The queues in the index: what waits for each destination, and which node serves it.

Rules: one process of one node serves a queue at a time, and renews its lease by the database's
clock: a node that hands over to a new version has two for a while. If it gives no sign of life,
another takes its queues. An item goes only when its destination has the
object. If the object was stored again meanwhile, its version is another, and it goes once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Connection, and_, bindparam, case, delete, or_, select, true, tuple_, update

from lfscp.archive.index.tables.dialects import insert_if_absent, now_ms
from lfscp.archive.index.tables.route_tables import (
    GIVEN_UP,
    WAITING,
    route_item,
    route_made,
    route_queue,
)
from lfscp.routing.queue_rows import (
    ITEM_COLUMNS,
    Failure,
    Item,
    QueueName,
    add_given_up,
    count_outcome,
    delay_after_ms,
    due,
    give_up,
    is_item_of,
    is_queue,
    is_same,
    is_time,
    new_queue,
    pieces_of,
    storable,
)

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_BREAKS: Final = 3  # in a row, until the object at which the destination breaks off waits
_Result = TypeVar("_Result")


class Queues:
    """The queues of all nodes, and this one's hold on those it serves. Any thread may call it.

    Args:
        node: this one, and its process.
        lease_ms: how long it holds a queue without renewing that.
    """

    def __init__(self, index: Index, node: str, lease_ms: int) -> None:
        self._index = index
        self._node = node
        self._lease_ms = lease_ms

    def _work(self, work: Callable[[Connection], _Result]) -> _Result:
        with self._index.doing("use the queues of routes"):
            return self._index.transact(work)

    def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        with self._index.doing("read the queues of routes"), self._index.engine.connect() as one:
            return work(one)

    @property
    def _is_free(self) -> Any:
        """The condition that no other node holds a queue."""
        queue = route_queue.c
        return or_(
            queue.holder == self._node,
            queue.held_until < now_ms(),
            queue.held_until > now_ms() + 10 * self._lease_ms,  # by a clock put back
        )

    # --- which to serve ---

    def claimable(self, names: Iterable[QueueName]) -> list[QueueName]:
        """Those queues that have something to send now and that no other node serves.

        Each is looked at by itself, so that what waits elsewhere costs nothing.
        """
        queue = route_queue.c
        is_free = and_(queue.is_paused == 0, is_time(queue.next_attempt_at), self._is_free)

        def work(one: Connection) -> list[QueueName]:
            known = select(queue.route, queue.destination, is_free.label("is_free"))
            free = {QueueName(*row[:2]): row[2] for row in one.execute(known)}
            return [
                name
                for name in names
                if free.get(name, True) and one.execute(due(name).limit(1)).first() is not None
            ]

        return self._read(work)

    def claim(self, name: QueueName) -> bool:
        """Take a queue; whether this node has it now."""
        held = {"holder": self._node, "held_until": now_ms() + self._lease_ms}

        def work(one: Connection) -> bool:
            one.execute(new_queue(one, name))
            taken = update(route_queue).where(
                is_queue(name), self._is_free, route_queue.c.is_paused == 0
            )
            return one.execute(taken.values(**held)).rowcount > 0

        return self._work(work)

    def renew(self, names: Sequence[QueueName]) -> set[QueueName]:
        """Renew the leases on queues; those that this node still has, and that are not paused."""
        if not names:
            return set()
        keys = tuple_(route_queue.c.route, route_queue.c.destination)
        mine = and_(route_queue.c.holder == self._node, keys.in_([tuple(each) for each in names]))

        def work(one: Connection) -> set[QueueName]:
            held = update(route_queue).where(mine)
            one.execute(held.values(held_until=now_ms() + self._lease_ms))
            wanted = select(route_queue.c.route, route_queue.c.destination)
            return {
                QueueName(*row)
                for row in one.execute(wanted.where(mine, route_queue.c.is_paused == 0))
            }

        return self._work(work)

    def release(self, name: QueueName) -> None:
        """Free a queue of this node."""
        mine = update(route_queue).where(route_queue.c.holder == self._node, is_queue(name))
        self._work(lambda one: one.execute(mine.values(holder="", held_until=0)))

    def release_ended(self, has_ended: Callable[[str], bool]) -> None:
        """Free the queues of those who have ended, as far as that is known."""
        holders = select(route_queue.c.holder).where(route_queue.c.holder != "").distinct()
        ended = [
            each
            for each in self._read(lambda one: one.execute(holders).scalars().all())
            if has_ended(each)
        ]
        if ended:
            free = update(route_queue).where(route_queue.c.holder.in_(ended))
            self._work(lambda one: one.execute(free.values(holder="", held_until=0)))

    # --- what to send ---

    def next_items(self, name: QueueName, limit: int) -> list[Item]:
        """The next objects of a queue, in their order."""
        column = route_item.c
        wanted = (
            select(*ITEM_COLUMNS)
            .where(is_item_of(name), column.state == WAITING, is_time(column.next_attempt_at))
            .where(column.commitment == "")
            .order_by(column.id)
            .limit(limit)
        )
        return self._read(lambda one: [Item(*row) for row in one.execute(wanted)])

    def is_overtaken(self, others: Iterable[QueueName]) -> bool:
        """Whether a node sends something of one of these queues now.

        Args:
            others: queues to the same destination that go first.
        """

        def work(one: Connection) -> bool:
            queue = route_queue.c
            for other in others:
                is_served = select(queue.route).where(
                    is_queue(other),
                    queue.is_paused == 0,
                    queue.held_until > now_ms(),
                    is_time(queue.next_attempt_at),
                )
                if one.execute(is_served).first() and one.execute(due(other).limit(1)).first():
                    return True
            return False

        return self._read(work)

    def commitments(self, name: QueueName) -> set[str]:
        """The Transaction UIDs of a queue's requests for commitment whose reports are due."""
        column = route_item.c
        wanted = (
            select(column.commitment)
            .where(is_item_of(name), column.state == WAITING, column.commitment != "")
            .distinct()
        )
        return self._read(lambda one: set(one.execute(wanted).scalars()))

    def asked(self, name: QueueName, transaction_uid: str) -> list[Item]:
        """The objects of a request for commitment."""
        wanted = select(*ITEM_COLUMNS).where(
            is_item_of(name), route_item.c.commitment == transaction_uid
        )
        return self._read(lambda one: [Item(*row) for row in one.execute(wanted)])

    # --- what became of it ---

    def sent(self, name: QueueName, items: Mapping[Item, int]) -> None:
        """The destination has objects: they go, unless they were stored again meanwhile.

        Args:
            items: with their sizes in bytes.
        """
        if items:
            self._work(lambda one: self._sent(one, name, items))

    def committed(self, name: QueueName, items: Mapping[Item, int]) -> None:
        """The destination has committed to objects, as `sent`; two threads may find that out."""

        def work(one: Connection) -> None:
            there: set[int] = set()
            for piece in pieces_of(list(items)):
                wanted = select(route_item.c.id).where(is_same(piece)).with_for_update()
                there.update(one.execute(wanted).scalars())
            left = {item: size for item, size in items.items() if item.id in there}
            if left:
                self._sent(one, name, left)

        if items:
            self._work(work)

    def _sent(self, one: Connection, name: QueueName, items: Mapping[Item, int]) -> None:
        for piece in pieces_of(list(items)):
            one.execute(delete(route_item).where(is_same(piece)))
        count_outcome(one, name, [item.study_instance_uid for item in items], sent=1)
        counted = (
            update(route_queue)
            .where(is_queue(name))
            .values(
                sent=route_queue.c.sent + len(items),
                sent_bytes=route_queue.c.sent_bytes + sum(items.values()),
                last_sent_at=now_ms(),
                failures=0,
                next_attempt_at=0,
                reason="",
            )
        )
        one.execute(counted)

    def gone(self, name: QueueName, items: Sequence[Item], reason: str) -> None:
        """Objects are no longer in the archive: nothing is left to send, unless they came again."""

        def work(one: Connection) -> None:
            for piece in pieces_of(items):
                one.execute(delete(route_item).where(is_same(piece)))
            count_outcome(one, name, [each.study_instance_uid for each in items], reason=reason)

        if items:
            self._work(work)

    def failed(
        self, name: QueueName, failures: Mapping[Item, Failure], delay_ms: int, keep_ms: int
    ) -> list[Item]:
        """Objects were refused: they are tried again later, or given up.

        An object is given up if its failure is final, or if it has been too long.

        Args:
            failures: why, for each.
            delay_ms: before the first retry; it doubles each time.
            keep_ms: how long an object is tried.
        Returns:
            Those that were given up.
        """

        def work(one: Connection) -> list[Item]:
            over: list[Item] = []
            for item, (reason, is_final) in failures.items():
                this = and_(route_item.c.id == item.id, route_item.c.version == item.version)
                is_over = true() if is_final else (route_item.c.queued_at < now_ms() - keep_ms)
                delay = delay_after_ms(delay_ms, item.failures)
                one.execute(
                    update(route_item)
                    .where(this)
                    .values(
                        failures=route_item.c.failures + 1,
                        next_attempt_at=now_ms() + delay,
                        reason=storable(reason),
                        commitment="",
                        state=case((is_over, GIVEN_UP), else_=WAITING),
                    )
                )
                state = select(route_item.c.state).where(this)
                if one.execute(state).scalar() == GIVEN_UP:
                    over.append(item)
                    count_outcome(one, name, [item.study_instance_uid], failed=1, reason=reason)
            add_given_up(one, name, len(over))
            return over

        return self._work(work) if failures else []

    def unreachable(
        self,
        name: QueueName,
        reason: str,
        delay_ms: int,
        keep_ms: int,
        *,
        broke_at: Item | None = None,
    ) -> int:
        """The destination cannot be asked: the queue waits, longer each time.

        Args:
            broke_at: the object at which it broke off. After several times in a row the object
                waits longer than the queue, so that the others go before it.
        Returns:
            How many objects were given up, since they have waited for too long.
        """

        def work(one: Connection) -> int:
            one.execute(new_queue(one, name))
            queue = select(route_queue.c.failures).where(is_queue(name))
            failures = int(one.execute(queue).scalar_one())
            waits = (
                update(route_queue)
                .where(is_queue(name))
                .values(
                    failures=failures + 1,
                    next_attempt_at=now_ms() + delay_after_ms(delay_ms, failures),
                    reason=storable(reason),
                )
            )
            one.execute(waits)
            if broke_at is not None and failures + 1 >= _BREAKS:
                delay = 2 * delay_after_ms(delay_ms, max(failures, broke_at.failures))
                behind = {"failures": broke_at.failures + 1, "next_attempt_at": now_ms() + delay}
                this = update(route_item).where(is_same([broke_at]))
                one.execute(this.values(**behind, reason=storable(reason)))
            return give_up(one, name, keep_ms, reason)

        return self._work(work)

    def ask_commitment(self, items: Mapping[Item, str], transaction_uid: str) -> None:
        """Note that the destination was asked to commit to objects.

        Args:
            items: with the SOP Instance UIDs under which it has got them.
        """
        columns = {"commitment": transaction_uid, "sent_uid": bindparam("as_uid")}
        is_this = and_(
            route_item.c.id == bindparam("key"), route_item.c.version == bindparam("of_version")
        )
        asked = update(route_item).where(is_this).values(**columns)
        rows = [
            {"key": item.id, "of_version": item.version, "as_uid": uid}
            for item, uid in items.items()
        ]
        if rows:
            self._work(lambda one: one.execute(asked, rows))

    # --- what actions have made ---

    def note_made(self, uids: Iterable[str]) -> None:
        """Note SOP Instance UIDs that actions have given, before an object goes out with them."""
        rows = [{"made_uid": uid} for uid in uids]

        def work(one: Connection) -> None:
            made = insert_if_absent(route_made, one.dialect)
            one.execute(made.values(uid=bindparam("made_uid"), made_at=now_ms()), rows)

        if rows:
            self._work(work)

    def made_here(self, items: Sequence[Item]) -> list[Item]:
        """Those of some objects that an action has made: they have come back."""

        def work(one: Connection) -> set[str]:
            found: set[str] = set()
            for piece in pieces_of(items):
                uids = [item.sop_instance_uid for item in piece]
                column = route_made.c.uid
                found.update(one.execute(select(column).where(column.in_(uids))).scalars())
            return found

        made = self._read(work)
        return [item for item in items if item.sop_instance_uid in made]
