"""The modality worklist in the index: adding, changing, listing and removing items."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, and_, select

from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.tables.workflow_tables import worklist_item
from lfscp.archive.workflow.worklist import rows
from lfscp.archive.workflow.worklist.item import InvalidItemError, WorklistItem, complete_item
from lfscp.archive.workflow.worklist.listing import newest_items
from lfscp.archive.workflow.worklist.narrowing import Narrowing
from lfscp.dicom.models.element_tree import encode_tree, read_own

if TYPE_CHECKING:
    from lfscp.archive.index.database.interruption import Interruption
    from lfscp.archive.index.index import Index
    from lfscp.archive.workflow.worklist.query import WorklistQuery
    from lfscp.dicom.models.element_tree import Tree

__all__ = ["InvalidItemError", "Worklist", "WorklistItem", "complete_item"]

Result = TypeVar("Result")

# Devices ask again and again for what is to be done today. Nobody changes these trees.
_read_kept = lru_cache(maxsize=512)(read_own)


class Worklist:
    """The items of the worklist. Any thread may call any method; workers may be forked.

    All methods raise ArchiveError when the index fails. Those that take a dataset raise
    InvalidItemError when it is no item; then nothing is changed.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._narrowing = Narrowing(index.dialect)

    def add(self, dataset: Tree, *, source: str = "api") -> int:
        """Add an item; gives its ID once it is committed."""
        return self.put(source, str(uuid.uuid4()), dataset)

    def put(self, source: str, source_key: str, dataset: Tree, fingerprint: str = "") -> int:
        """Add an item, or replace the one that its source calls the same.

        A step that a device has begun keeps its status, found by Scheduled Procedure Step ID.

        Args:
            fingerprint: what the source knows the item's content by.
        Returns:
            The ID of the item, which stays when it is replaced.
        """
        return self.put_all(source, [(source_key, dataset, fingerprint)])[0]

    def put_all(self, source: str, items: Iterable[tuple[str, Tree, str]]) -> list[int]:
        """Put several items in one transaction: source key, dataset and fingerprint of each."""
        listed = list(items)

        def work(connection: Connection) -> list[int]:
            return [_put(connection, source, *each) for each in listed]

        return self._transact("keep the worklist item", work)

    def put_valid(
        self, source: str, items: Iterable[tuple[str, Tree, str]]
    ) -> dict[str, InvalidItemError]:
        """Put those of several datasets that are items, in one transaction.

        Args:
            items: source key, dataset and fingerprint of each; no source key twice.
        Returns:
            Why the others are none, by source key.
        """
        listed = list(items)

        def work(connection: Connection) -> dict[str, InvalidItemError]:
            known = rows.keys_among(connection, source, [key for key, _, _ in listed])
            refused = {}
            for each in listed:
                put = _put if each[0] in known else rows.insert_item
                try:
                    put(connection, source, *each)
                except InvalidItemError as error:  # before anything of it is written
                    refused[each[0]] = error
            return refused

        return self._transact("keep the worklist items", work)

    def replace(self, item_id: int, dataset: Tree) -> bool:
        """Replace an item's dataset; False when there is none with this ID.

        A status that the dataset gives is taken; a step without one keeps its own.
        """

        def work(connection: Connection) -> bool:
            before = rows.find_item(connection, worklist_item.c.id == item_id, locks=True)
            if before is None:
                return False
            rows.update_item(connection, before, dataset, keeps_performed=False)
            return True

        return self._transact("change the worklist item", work)

    def get(self, item_id: int) -> WorklistItem | None:
        """The item with an ID."""
        with self._index.doing("read the worklist"), self._index.engine.connect() as connection:
            return rows.find_item(connection, worklist_item.c.id == item_id)

    def find_by_key(self, source: str, source_key: str) -> WorklistItem | None:
        """The item that a source calls so."""
        with self._index.doing("read the worklist"), self._index.engine.connect() as connection:
            return rows.find_item(connection, rows.named_by_source(source, source_key))

    def remove(self, item_id: int) -> bool:
        """Remove an item; False when there is none with this ID."""
        return self._remove(worklist_item.c.id == item_id) > 0

    def remove_by_key(self, source: str, source_key: str) -> bool:
        """Remove the item that a source calls so; False when there is none."""
        return self._remove(rows.named_by_source(source, source_key)) > 0

    def remove_by_keys(self, source: str, source_keys: Iterable[str]) -> int:
        """Remove the items that a source calls so; gives how many there were."""
        item = worklist_item.c

        def work(connection: Connection) -> int:
            return sum(
                rows.remove_items(
                    connection, and_(item.source == source, item.source_key.in_(keys))
                )
                for keys in pieces_of(source_keys)
            )

        return self._transact("remove from the worklist", work)

    def expire(self, before_date: str) -> int:
        """Remove items whose last step is before a day (YYYYMMDD), but for those of folders.

        Returns:
            How many.
        """
        return self._remove(rows.is_over(before_date))

    def _remove(self, condition: rows.Condition) -> int:
        return self._transact(
            "remove from the worklist", lambda connection: rows.remove_items(connection, condition)
        )

    def items(
        self, *, text: str = "", statuses: Collection[str] = (), after: int = 0, limit: int = 100
    ) -> list[WorklistItem]:
        """A page of items, the newest first; see listing.newest_items."""
        with self._index.doing("read the worklist"), self._index.engine.connect() as connection:
            return newest_items(connection, text=text, statuses=statuses, after=after, limit=limit)

    def fingerprints(self, source: str) -> dict[str, str]:
        """The fingerprints of a source's items by source key."""
        item = worklist_item.c
        wanted = select(item.source_key, item.fingerprint).where(item.source == source)
        with self._index.doing("read the worklist"), self._index.engine.connect() as connection:
            return {row.source_key: row.fingerprint for row in connection.execute(wanted)}

    def find(
        self,
        query: WorklistQuery,
        *,
        transfer_syntax_uid: str,
        limit: int = 0,
        interruption: Interruption | None = None,
    ) -> Generator[bytes, None, None]:
        """Find what matches a query, drawn one by one in the calling thread.

        Args:
            query: see query.parse_worklist_query.
            transfer_syntax_uid: of the answers.
            limit: the most answers to give; 0 for all.
            interruption: asked while it lasts.
        Returns:
            Encoded identifiers, by the start of the first step that may match.
        Raises:
            InterruptionError: the answers are no longer wanted.
        """
        given = 0
        statement = self._narrowing.statement(query)
        with self._index.doing("read the worklist"), self._index.reading(interruption) as cursor:
            for answer in _answers(cursor.execute(*statement), query, interruption):
                yield encode_tree(answer, transfer_syntax_uid, query.character_set)
                given += 1
                if given == limit:
                    return

    def set_step_status(
        self,
        connection: Connection,
        *,
        study_uid: str,
        step_id: str,
        accession_number: str,
        status: str,
        procedure_step_uid: str,
    ) -> int:
        """Say that a device performs, or has performed, a step; in the caller's transaction.

        The step is found by study and step ID, else by Accession Number and step ID. Without a step
        ID it is the study's only one.

        Returns:
            How many steps there are of it.
        """
        for wanted in rows.steps_named(study_uid, step_id, accession_number):
            found = connection.execute(wanted).all()
            for item_id, position in found:
                rows.set_status(connection, item_id, position, status, procedure_step_uid)
            if found:
                return len(found)
        return 0

    def _transact(self, operation: str, work: Callable[[Connection], Result]) -> Result:
        with self._index.doing(operation):
            return self._index.transact(work)


def _put(
    connection: Connection, source: str, source_key: str, dataset: Tree, fingerprint: str
) -> int:
    named = rows.named_by_source(source, source_key)
    before = rows.find_item(connection, named, locks=True)
    if before is None:
        return rows.insert_item(connection, source, source_key, dataset, fingerprint)
    rows.update_item(connection, before, dataset, fingerprint, keeps_performed=True)
    return before.id


def _answers(
    found: Iterable[Sequence[Any]], query: WorklistQuery, interruption: Interruption | None
) -> Iterator[Tree]:
    """The answers of rows of ID and dataset, each item once."""
    seen: set[int] = set()
    for key, dataset in found:
        if interruption is not None:
            interruption.look()
        if key in seen:
            continue
        seen.add(key)
        answer = query.answer(_read_kept(bytes(dataset)))
        if answer is not None:
            yield answer
