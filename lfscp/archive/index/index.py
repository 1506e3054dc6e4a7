"""The index: which instances there are; adding, finding and removing them.

Rules: an instance is added whole or not at all; those that come together share a transaction. The
rows above it are found or made by hierarchy.py. An instance of a known series costs one insert.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.durability import Durability
from lfscp.archive.errors import ArchiveError, InDoubtError, OutOfResourcesError
from lfscp.archive.index import migrations
from lfscp.archive.index.clock_readings import Stamps
from lfscp.archive.index.database.connect import open_database
from lfscp.archive.index.database.database import (
    DEFAULT_CONNECTIONS,
    DEFAULT_TIMEOUT_S,
    REBUILD_HINT,
    Patience,
    is_damaged,
    reason_of,
)
from lfscp.archive.index.database.group_commit import GroupCommit
from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.database.statements import compiled, statements_on
from lfscp.archive.index.hierarchy import Hierarchy, RowVanishedError
from lfscp.archive.index.lookups import Lookups
from lfscp.archive.index.patient_identity import PatientIdentity, said_of_patient
from lfscp.archive.index.removal import Removed, delete_entity, pieces_of, prune
from lfscp.archive.index.route_items import RouteItem, RouteItems
from lfscp.archive.index.rows import Added, Existing, KnownSeries, Shortened, texts
from lfscp.archive.index.tables.correction_tables import kept_object
from lfscp.archive.index.tables.maintenance_tables import writer_name
from lfscp.archive.index.tables.schema import TABLES, instance, patient, series, study
from lfscp.archive.store.object_store import Placement
from lfscp.dicom.reading.header import Header
from lfscp.dicom.values.attributes import UNIQUE_KEY, Level
from lfscp.observe import metrics

_KNOWN_SERIES: Final = 4096  # remembered at most
_TOUCH_MS: Final = 5_000  # a study's time of update is this old at most
_ATTEMPTS: Final = 20
_TOGETHER: Final = 16  # instances in one statement, of which each number is prepared by itself
_SIZE: Final = -5  # where the size stands in the values of an instance
_PATH: Final = -7
_STEP_S: Final = 0.005  # by which the pauses between them grow
# An instance to insert: its header, its values, where it is to go on to, and what `Placement` says
# of its content.
_Row = tuple[Header, list[Any], Sequence[RouteItem], bytes]
_Inserted = tuple[KnownSeries, list[str]]  # the series that it went to, and notes


_SELECTED: Final = (
    select(
        instance.c.sop_class_uid,
        instance.c.sop_instance_uid,
        instance.c.transfer_syntax_uid,
        instance.c.path,
        instance.c.dataset_offset,
        instance.c.size,
        study.c.study_instance_uid,
        series.c.series_instance_uid,
        instance.c.digest,
    )
    .select_from(instance.join(series).join(study).join(patient))
    .order_by(instance.c.id)
)


class Index:
    """The index behind an archive. Any thread may call any method; workers may be forked.

    Attributes:
        engine, dialect, error, is_shared, reading, writing, transact, transaction,
            may_still_commit: those of the `Database`, for the tables that others keep in it.
        lookups: what requests of DICOMweb ask for.
    """

    def __init__(
        self,
        url: str,
        durability: Durability = Durability.FULL,
        *,
        connections: int = DEFAULT_CONNECTIONS,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        database = self._database = open_database(
            url, durability, connections=connections, timeout_s=timeout_s
        )
        self.engine = database.engine
        self.dialect = database.dialect
        self.error = database.error
        self.is_shared = database.is_shared
        self.reading = database.reading
        self.writing = database.writing
        self.transact = database.transact
        self.transaction = database.transaction
        self.may_still_commit = database.may_still_commit
        try:
            migrations.upgrade(database.engine)
        except (SQLAlchemyError, OSError) as error:
            database.close()
            hint = REBUILD_HINT if is_damaged(error) else self._hint
            raise ArchiveError("open the index", reason_of(error), hint) from None
        except BaseException:
            database.close()
            raise
        self._statements = statements_on(self._database.dialect)
        self.lookups = Lookups(database)
        self._selecting_single: dict[tuple[Level, ...], str] = {}
        self._route_items = RouteItems(self._database.dialect)
        self.hierarchy = Hierarchy(self._statements)
        # By study and series UID. May be stale, as other processes delete: the foreign key tells.
        self._known: dict[tuple[str, str], KnownSeries] = {}
        self.stamps = Stamps()
        self._add_row: Callable[[_Row], _Inserted] = self._insert_settled
        if self._database.has_one_writer:
            self._add_row = GroupCommit(self._insert).perform
        self._settled = GroupCommit(self._insert_together, most=_TOGETHER, is_tried_alone=False)

    @property
    def _hint(self) -> str:
        if self._database.is_shared:
            return "check index.url, and that its server, database and user are there"
        return "check index.url and the rights on the folder"

    def cannot(self, operation: str, error: BaseException) -> ArchiveError:
        """The error of something that could not be done because of the database."""
        return ArchiveError(operation, reason_of(error), self._hint)

    @contextmanager
    def doing(self, operation: str, *, commits: bool = False) -> Iterator[None]:
        """Turn whatever the index can fail with into an ArchiveError of an operation.

        Args:
            commits: it is an InDoubtError if it is not known whether that was done.
        """
        try:
            yield
        except (SQLAlchemyError, self.error, OSError) as error:
            hint = "check the index and its disk"
            is_in_doubt = commits and self._database.may_be_done(error)
            kind = InDoubtError if is_in_doubt else ArchiveError
            raise kind(operation, reason_of(error), hint) from None

    def close(self) -> None:
        """Close this process's connections."""
        self._database.close()

    # Adding

    def add(
        self, header: Header, placement: Placement, items: Sequence[RouteItem] = ()
    ) -> Added | Existing:
        """Add one instance, with its series, study and patient when they are new.

        Args:
            items: where it is to go on to; they are committed with it.
        Returns:
            Added once committed; Existing, with nothing changed, when the SOP Instance UID is
            in the index already.
        Raises:
            OutOfResourcesError: the database cannot take it (disk full, connection lost).
        """
        patience = self._database.patience()
        for attempt in itertools.count(1):
            values = _values(header, placement, self.stamps.now_ms())
            row = (header, values, items, placement.content)
            try:
                _, notes = self._add_row(row)
                return Added(header.study_instance_uid, header.series_instance_uid, tuple(notes))
            except (self._database.integrity_error, RowVanishedError):
                existing = self._find(header.sop_instance_uid, patience)
                if existing is not None:
                    if patience.may_be_done and existing.path == placement.path:
                        return Added(existing.study_uid, existing.series_uid)  # by us, before
                    return existing
                self._others_were_faster(header, attempt, patience)
            except self.error as error:
                header = self._for_another_attempt(header, error, patience)
        raise AssertionError  # the loop ends by return or raise

    def _for_another_attempt(self, header: Header, error: Exception, patience: Patience) -> Header:
        """The header to try again with after an error; raises when there is no use in it."""
        if self._database.is_too_long(error) and not isinstance(header, Shortened):
            return cast("Header", Shortened(header))
        if not patience.allows(error):
            raise self._out_of_resources(error, patience) from None
        return header

    def keep_content(self, placement: Placement) -> None:
        """Keep the bytes of a file that is not synced yet, and whose row is there already.

        Raises:
            OutOfResourcesError: the database cannot take them.
        """
        try:
            with self._database.transaction() as cursor:
                self._keep(cursor, placement.path, placement.content)
        except self.error as error:
            raise self._out_of_resources(error, Patience()) from None

    def _insert(self, rows: list[_Row]) -> list[_Inserted]:
        """Insert instances in one transaction; one of a known series is one statement."""
        if len(rows) > 1:
            return self._insert_all(rows)
        known = self._settled_series(rows[0])
        if known is None:
            return self._insert_all(rows)
        started = time.monotonic()
        self._database.write(self._statements.insert_instance, [known.key, *rows[0][1]])
        metrics.INDEX_COMMIT.observe(time.monotonic() - started)
        metrics.INDEX_COMMIT_INSTANCES.observe(1)
        return [(known, [])]

    def _insert_settled(self, row: _Row) -> _Inserted:
        """Insert an instance: of a settled series together with others, else by itself.

        If that fails, perhaps because of another's row, it is inserted by itself too.
        """
        known = self._settled_series(row)
        if known is not None:
            try:
                return self._settled.perform((known, row[1]))
            except Exception as error:  # it may be of another's row, whatever it is
                if self._database.may_be_done(error):
                    raise
        return self._insert_all([row])[0]

    def _insert_together(self, rows: list[tuple[KnownSeries, list[Any]]]) -> list[_Inserted]:
        """Insert instances of settled series by one statement.

        Those of one series follow each other, in the order in which deletions lock series too.
        """
        ordered = sorted(rows, key=lambda row: row[0].key)
        values = [value for known, of_row in ordered for value in (known.key, *of_row)]
        started = time.monotonic()
        self._database.write_together(self._statements.insert_instances(len(rows)), values)
        metrics.INDEX_COMMIT.observe(time.monotonic() - started)
        metrics.INDEX_COMMIT_INSTANCES.observe(len(rows))
        return [(known, []) for known, _ in rows]

    def _settled_series(self, row: _Row) -> KnownSeries | None:
        """The series of an instance that has no row to write but its own; None if it has."""
        header, values, items, content = row
        if content or items:
            return None
        known = self._recall(header)
        is_settled = known is not None and _is_settled(known, values, self.stamps.now_ms())
        return known if is_settled else None

    def _insert_all(self, rows: list[_Row]) -> list[_Inserted]:
        now = self.stamps.now_ms()
        inserted: list[_Inserted] = []
        touched: dict[int, KnownSeries] = {}
        started = time.monotonic()
        with self._database.transaction() as cursor:
            for header, values, items, content in rows:
                found, notes = self._recall(header), list[str]()
                if found is None:
                    found, notes = self.hierarchy.series_of(cursor, header, now)
                # The clock may have been put back since. The study comes before its instances,
                # as for deletions, so that neither waits for the other.
                if abs(now - found.touched_at) > _TOUCH_MS and found.study_key not in touched:
                    self._statements.touch_study.run(cursor, (now, found.study_key))
                    touched[found.study_key] = found
                if _is_new_source(found, values):
                    self._statements.note_source.run(cursor, (found.study_key, values[-1]))
                self._statements.insert_instance.run(cursor, [found.key, *values])
                self._keep(cursor, values[_PATH], content)
                self._route_items.add(cursor, header, values[_SIZE], items)
                inserted.append((found, notes))
        metrics.INDEX_COMMIT.observe(time.monotonic() - started)
        metrics.INDEX_COMMIT_INSTANCES.observe(len(rows))
        for found in touched.values():
            found.touched_at = now
        for (header, values, *_), (found, _) in zip(rows, inserted, strict=True):
            found.sources |= {values[-1]}
            self._remember(header, found)
        return inserted

    def _keep(self, cursor: Any, path: str, content: bytes) -> None:
        """Keep the bytes of a file that is not synced yet; see late_sync.py."""
        if content:
            self._statements.keep_content.run(cursor, (writer_name(), path, content))

    def replace(
        self, header: Header, placement: Placement, items: Sequence[RouteItem] = ()
    ) -> Added:
        """Put an instance in the place of the one with its SOP Instance UID, if there is one.

        Args:
            items: as `add` takes them.
        Returns:
            Added, with the path of the file that no row refers to any longer. Until it is gone it
            stands in the table `removal`, as a deleted object's does.
        """
        seen: list[Existing] = []  # by each attempt
        patience = self._database.patience()
        for attempt in itertools.count(1):
            try:
                found, notes = self._replace(header, placement, items, seen)
                break
            except (self._database.integrity_error, RowVanishedError):
                self._others_were_faster(header, attempt, patience)
            except self.error as error:
                header = self._for_another_attempt(header, error, patience)
        if len(seen) > 1 and seen[-1].path == placement.path:
            seen.pop()  # it is ours: the attempt before had come through
        old = seen[-1] if seen else None
        if old is not None and old.series_key != found.key:
            notes = [*notes, *self._pruned(old.series_key)]
        replaced = old.path if old else None
        uids = (header.study_instance_uid, header.series_instance_uid)
        return Added(*uids, tuple(notes), replaced)

    def _replace(
        self,
        header: Header,
        placement: Placement,
        items: Sequence[RouteItem],
        seen: list[Existing],
    ) -> _Inserted:
        """Replace in one transaction; the row that was there goes to `seen`."""
        now = self.stamps.now_ms()
        with self._database.transaction() as cursor:
            row = self._statements.find_instance.run(cursor, (header.sop_instance_uid,)).fetchone()
            if row is not None:
                seen.append(Existing.of_row(row))
                self._statements.delete_instance.run(cursor, (seen[-1].key,))
                if seen[-1].path != placement.path:
                    self._statements.note_removal.run(cursor, (seen[-1].path, now))
            found, notes = self.hierarchy.series_of(cursor, header, now)
            values = [found.key, *_values(header, placement, now)]
            if _is_new_source(found, values):
                self._statements.note_source.run(cursor, (found.study_key, values[-1]))
            self._statements.insert_instance.run(cursor, values)
            self._keep(cursor, placement.path, placement.content)
            self._route_items.add(cursor, header, placement.size, items)
            # Only the old object may have said what the study knows of its patient.
            if row is not None and seen[-1].patient != PatientIdentity.of(header):
                self.hierarchy.read_again(cursor, seen[-1].study_key)
        return found, notes

    def _pruned(self, series_key: int) -> list[str]:
        """Remove what a replaced instance belonged to if it is empty; notes, of a failure.

        Its object is in its new place by then, so that the store has succeeded all the same.
        """
        try:
            self._prune(series.c.id == series_key)
        except (SQLAlchemyError, self.error) as error:
            return [f"its old series may be empty, `lfscp check` removes it: {reason_of(error)}"]
        return []

    def _others_were_faster(self, header: Header, attempt: int, patience: Patience) -> None:
        """Another node added the same study, or deleted our series, in the meantime."""
        self._known.pop(_uids(header), None)
        if attempt > _ATTEMPTS:
            kind = InDoubtError if patience.may_be_done else OutOfResourcesError
            reason = "other nodes keep changing its study"
            raise kind("index the instance", reason, "send again") from None
        if attempt > 1:
            time.sleep(random.uniform(0, _STEP_S * attempt))  # noqa: S311 - out of step

    def _out_of_resources(self, error: BaseException, patience: Patience) -> OutOfResourcesError:
        hint = "see that the index's server runs" if self.is_shared else "free space for the index"
        kind = InDoubtError if patience.may_be_done else OutOfResourcesError
        return kind("index the instance", reason_of(error), hint)

    def _recall(self, header: Header) -> KnownSeries | None:
        """The series, when an object of it that said the same of its patient came before."""
        known = self._known.get(_uids(header))
        return known if known is not None and known.patient == said_of_patient(header) else None

    def _remember(self, header: Header, found: KnownSeries) -> None:
        uids = _uids(header)
        if uids not in self._known and len(self._known) >= _KNOWN_SERIES:
            self._known.pop(next(iter(self._known)), None)  # the one known longest
        self._known[uids] = found

    # Finding

    def find(self, sop_instance_uid: str) -> Existing | None:
        """The row of one instance."""
        return self._find(sop_instance_uid, Patience())

    def _find(self, sop_instance_uid: str, of_store: Patience) -> Existing | None:
        """The same, for a store whose row may be there although that failed."""
        patience = self._database.patience()
        while True:
            try:
                with self._database.lookup() as cursor:
                    row = self._statements.find_instance.run(cursor, (sop_instance_uid,)).fetchone()
                return Existing.of_row(row) if row else None
            except (self._database.error, SQLAlchemyError) as error:
                if not patience.allows(error):
                    raise self._out_of_resources(error, of_store) from None

    def select(
        self, unique_keys: Mapping[Level, Sequence[str]], interruption: Interruption
    ) -> Iterator[Sequence[Any]]:
        """Rows of all instances that match lists of unique keys, in the order of arrival.

        Lists of any length are cut into pieces that every database takes. The columns are those of
        selection.SelectedRow.
        """
        lists = [pieces_of(values) for values in unique_keys.values()]
        for pieces in itertools.product(*lists):
            statement = self._selecting(dict(zip(unique_keys, pieces, strict=True)))
            with self.reading(interruption) as cursor:
                for row in cursor.execute(*statement):
                    interruption.look()
                    yield row

    def _selecting(self, pieces: Mapping[Level, Sequence[str]]) -> tuple[str, list[Any]]:
        """The statement of `select` for lists that it takes; that for one UID each is kept."""
        levels, values = tuple(pieces), list(itertools.chain(*pieces.values()))
        is_single = len(values) == len(levels)
        if is_single and levels in self._selecting_single:
            return self._selecting_single[levels], values
        wanted = _SELECTED
        for level, piece in pieces.items():
            wanted = wanted.where(TABLES[level].c[UNIQUE_KEY[level].column].in_(piece))
        text, values = compiled(wanted, self.dialect)
        if is_single:
            self._selecting_single[levels] = text
        return text, values

    def placements(self, after: int = 0, limit: int = 1000) -> list[Any]:
        """The next rows by key: (id, sop_instance_uid, path, dataset_offset, size, file_size,
        digest, sop_class_uid, transfer_syntax_uid). For walking the whole index in pieces."""
        columns = (
            instance.c.id,
            instance.c.sop_instance_uid,
            instance.c.path,
            instance.c.dataset_offset,
            instance.c.size,
            instance.c.file_size,
            instance.c.digest,
            instance.c.sop_class_uid,
            instance.c.transfer_syntax_uid,
        )
        wanted = select(*columns).where(instance.c.id > after).order_by(instance.c.id).limit(limit)
        with self.engine.connect() as connection:
            return list(connection.execute(wanted))

    def counts(self) -> dict[Level, int]:
        """How many patients, studies, series and instances there are."""
        with self.engine.connect() as connection:
            return {
                level: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for level, table in TABLES.items()
            }

    def total_size(self) -> int:
        """Bytes of all files in the index, with those that are kept of objects as they were."""
        with self.engine.connect() as connection:
            sizes = [select(func.sum(each.c.file_size)) for each in (instance, kept_object)]
            return sum(int(connection.execute(each).scalar() or 0) for each in sizes)

    # Removing

    def delete(self, level: Level, uid: str, key: int | None = None) -> Removed:
        """Remove a patient, study, series or instance with all that belongs to it.

        Args:
            key: of the row, where only one of several with this UID is to go.
        Returns:
            What is gone, with the files that no row refers to any longer.
        Raises:
            StudyProtectedError: something of it belongs to a protected study; nothing is removed.
        """
        removed = self._database.transact(
            lambda connection: delete_entity(connection, level, uid, key, spare_protected=True)
        )
        self._known.clear()
        return removed

    def forget(self, sop_instance_uid: str, path: str) -> None:
        """Remove the row of an instance whose file is gone, unless it points elsewhere by now.

        What the instance belonged to stays; `prune` removes it.
        """
        with self._database.transaction() as cursor:
            self._statements.delete_path.run(cursor, (sop_instance_uid, path))

    def forget_known(self) -> None:
        """Look series up again, since they may be others now."""
        self._known.clear()

    def prune(self) -> None:
        """Remove series without instances, studies without series, patients without studies."""
        self._prune(true())

    def _prune(self, condition: ColumnElement[bool]) -> None:
        self._database.transact(lambda connection: prune(connection, condition), snapshot=True)
        self._known.clear()


def _is_settled(known: KnownSeries, values: list[Any], now: int) -> bool:
    """Whether nothing above an instance needs to be written: it is one statement then."""
    return abs(now - known.touched_at) <= _TOUCH_MS and not _is_new_source(known, values)


def _is_new_source(known: KnownSeries, values: list[Any]) -> bool:
    """Whether an instance's sender, the last of its values, is new to its study."""
    return bool(values[-1]) and values[-1] not in known.sources


def _values(header: Header, placement: Placement, now_ms: int) -> list[Any]:
    """What an instance's row holds behind its series' key, in the order of the schema."""
    return [
        *texts(header, Level.IMAGE),
        placement.transfer_syntax_uid,
        header.specific_character_set,
        placement.path,
        placement.dataset_offset,
        placement.size,
        placement.file_size,
        placement.digest,
        now_ms,
        placement.calling_ae_title,
    ]


def _uids(header: Header) -> tuple[str, str]:
    return header.study_instance_uid, header.series_instance_uid
