"""The index: which instances there are, in one SQL database; adding, finding and removing them.

Rules: one transaction per instance, serialised by a lock in this process and, with SQLite, by
a lock file between processes, so that nobody meets "database is locked". The first patient,
study or series of its unique key stays; what differs later is noted, not changed. An instance
of a known series costs one insert.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    create_engine,
    delete,
    event,
    exists,
    func,
    select,
    true,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lfscp.archive import migrations
from lfscp.archive.attributes import LEVELS, UNIQUE_KEY, Level, at_level
from lfscp.archive.errors import ArchiveError, OutOfResources
from lfscp.archive.files import Durability
from lfscp.archive.header import STUDY_INSTANCE_UID, Header
from lfscp.archive.person_names import search_form
from lfscp.archive.schema import TABLES, instance, patient, series, study
from lfscp.archive.statements import Statements

PATIENT_ID: Final = UNIQUE_KEY[Level.PATIENT].tag
ISSUER_OF_PATIENT_ID: Final = 0x00100021
_BUSY_TIMEOUT_MS: Final = 60_000
_KNOWN_SERIES: Final = 4096  # remembered at most
_TOUCH_MS: Final = 5_000  # a study's time of update is this old at most
_KEYS_PER_STATEMENT: Final = 500
_ALL: Final = series.join(study).join(patient)
_Key = TypeVar("_Key", int, str)
_TAGS: Final = {
    level: [(item.tag, item.search_column is not None) for item in at_level(level)]
    for level in LEVELS
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance's file is and how its dataset is encoded.

    Args:
        path: of the file, relative to the objects folder.
        dataset_offset: bytes in the file before the dataset.
        size: bytes of the dataset; `file_size` those of the whole file.
        digest: "algorithm:hex" over the dataset's bytes; empty when digests are off.
    """

    path: str
    transfer_syntax_uid: str
    dataset_offset: int
    size: int
    file_size: int
    digest: str
    calling_ae_title: str


@dataclass(frozen=True, slots=True)
class Existing:
    """The row of an instance that is in the index already."""

    key: int
    path: str
    transfer_syntax_uid: str
    dataset_offset: int
    size: int
    file_size: int
    digest: str
    series_uid: str
    study_uid: str


@dataclass(frozen=True, slots=True)
class Added:
    """A new row: the study and series it went to, and what is worth a line in the log."""

    study_uid: str
    series_uid: str
    notes: tuple[str, ...] = ()
    replaced_path: str | None = None


@dataclass(slots=True)
class _Series:
    """What is remembered of a series; `touched_at` is the study's time of update."""

    key: int
    study_key: int
    study_uid: str
    patient_id: str
    touched_at: int = 0


class Index:
    """The index behind an archive. Any thread may call any method; workers may be forked."""

    def __init__(self, url: str, durability: Durability = Durability.FULL) -> None:
        self._engine = _engine(url, durability)
        self._errors: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._integrity_error: type[Exception] = self._engine.dialect.loaded_dbapi.IntegrityError
        self._sqlite = self._engine.dialect.name == "sqlite"
        database = make_url(url).database
        self._lock_path = f"{database}.lock" if self._sqlite and database else None
        try:
            migrations.upgrade(self._engine)
        except (SQLAlchemyError, OSError) as error:
            raise ArchiveError(
                "open the index", _reason(error), "check index.url and the rights on the folder"
            ) from None
        self._statements = Statements(self._engine.dialect)
        self._reset()
        reference = weakref.ref(self)
        os.register_at_fork(
            before=lambda: _call(reference, Index._before_fork),
            after_in_parent=lambda: _call(reference, Index._after_fork_in_parent),
            after_in_child=lambda: _call(reference, Index._after_fork_in_child),
        )

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._writer: Any = None
        self._lock_file = -1
        self._known: dict[str, _Series] = {}

    # SQLite keeps its locks per process, in memory that a fork copies: a child would believe to
    # hold what its parent's connections held. So none is open while a process forks; workers
    # have to be forked while nobody queries.

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._disconnect()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._engine.dispose(close=False)
        self._reset()

    @property
    def engine(self) -> Engine:
        """The engine, for reading."""
        return self._engine

    def close(self) -> None:
        """Close this process's connections."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A writing transaction; yields the driver's cursor. Only one at a time per database."""
        with self._lock:
            if self._writer is None:
                self._connect_writer()
            cursor = self._writer.cursor()
            if self._lock_file >= 0:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            try:
                if self._sqlite:
                    cursor.execute("BEGIN IMMEDIATE")
                yield cursor
                self._writer.commit()
            except BaseException:
                self._writer.rollback()
                raise
            finally:
                if self._lock_file >= 0:
                    fcntl.flock(self._lock_file, fcntl.LOCK_UN)
                cursor.close()

    def _connect_writer(self) -> None:
        self._writer = self._engine.raw_connection()
        if self._sqlite:
            self._writer.driver_connection.isolation_level = None  # we say BEGIN ourselves
        self._writer.detach()  # never goes back to the pool that readers draw from
        if self._lock_path is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock_file = os.open(self._lock_path, flags, 0o640)

    # Adding

    def add(self, header: Header, placement: Placement) -> Added | Existing:
        """Add one instance, with its series, study and patient when they are new.

        Returns:
            Added once committed; Existing, with nothing changed, when the SOP Instance UID is
            in the index already.
        Raises:
            OutOfResources: the database cannot take it (disk full, connection lost).
        """
        for attempt in itertools.count(1):
            try:
                return self._insert(header, placement)
            except self._integrity_error:
                existing = self.find(header.sop_instance_uid)
                if existing is not None:
                    return existing
                # Another node added the same study, or deleted our series, in the meantime.
                self._known.pop(header.series_instance_uid, None)
                if attempt > 5:
                    raise OutOfResources(
                        "index the instance", "other nodes keep changing its study", "send again"
                    ) from None
            except self._errors as error:
                raise _out_of_resources(error) from None
        raise AssertionError  # the loop ends by return or raise

    def _insert(self, header: Header, placement: Placement) -> Added:
        now = _now_ms()
        notes: list[str] = []
        with self._transaction() as cursor:
            known = self._known.get(header.series_instance_uid)
            found = known or self._series(cursor, header, now)
            self._insert_row(cursor, header, placement, found, now)
            touched = now - found.touched_at > _TOUCH_MS
            if touched:
                self._statements.touch_study.run(cursor, (found.study_key, now))
        if touched:
            found.touched_at = now
        if known is None:
            self._remember(header.series_instance_uid, found)
        _compare(header, found, notes)
        return Added(found.study_uid, header.series_instance_uid, tuple(notes))

    def replace(self, header: Header, placement: Placement) -> Added:
        """Put an instance in the place of the one with its SOP Instance UID, if there is one.

        Returns:
            Added, with the path of the file that no row refers to any longer.
        """
        now = _now_ms()
        notes: list[str] = []
        try:
            with self._transaction() as cursor:
                row = self._statements.find_instance.run(
                    cursor, (header.sop_instance_uid,)
                ).fetchone()
                old = Existing(*row) if row else None
                if old is not None:
                    self._statements.delete_instance.run(cursor, (old.key,))
                found = self._series(cursor, header, now)
                self._insert_row(cursor, header, placement, found, now)
        except self._errors as error:
            raise _out_of_resources(error) from None
        if old is not None and old.series_uid != header.series_instance_uid:
            self._prune(series.c.series_instance_uid == old.series_uid)
        _compare(header, found, notes)
        replaced = old.path if old else None
        return Added(found.study_uid, header.series_instance_uid, tuple(notes), replaced)

    def _insert_row(
        self, cursor: Any, header: Header, placement: Placement, found: _Series, now: int
    ) -> None:
        values: list[Any] = [found.key]
        values += _texts(header, Level.IMAGE)
        values += (
            placement.transfer_syntax_uid,
            header.specific_character_set,
            placement.path,
            placement.dataset_offset,
            placement.size,
            placement.file_size,
            placement.digest,
            now,
            placement.calling_ae_title,
        )
        self._statements.insert_instance.run(cursor, values)

    def _series(self, cursor: Any, header: Header, now: int) -> _Series:
        """Find or make the series; for the first object of a series in this process only."""
        uid = (header.series_instance_uid,)
        row = self._statements.find_series.run(cursor, uid).fetchone()
        if row is not None:
            return _Series(*row)
        study_key, patient_id = self._study(cursor, header, now)
        values = [study_key, *_texts(header, Level.SERIES), now]
        self._statements.insert_series.run(cursor, values)
        key = self._statements.find_series.run(cursor, uid).fetchone()[0]
        return _Series(key, study_key, header.study_instance_uid, patient_id)

    def _study(self, cursor: Any, header: Header, now: int) -> tuple[int, str]:
        uid = (header.study_instance_uid,)
        row = self._statements.find_study.run(cursor, uid).fetchone()
        if row is None:
            patient_key = self._patient(cursor, header)
            values = [patient_key, *_texts(header, Level.STUDY), now, now]
            self._statements.insert_study.run(cursor, values)
            row = self._statements.find_study.run(cursor, uid).fetchone()
        key, patient_id = row
        return key, patient_id

    def _patient(self, cursor: Any, header: Header) -> int:
        unique = (header.text(PATIENT_ID), header.text(ISSUER_OF_PATIENT_ID))
        row = self._statements.find_patient.run(cursor, unique).fetchone()
        if row is None:
            self._statements.insert_patient.run(cursor, _texts(header, Level.PATIENT))
            row = self._statements.find_patient.run(cursor, unique).fetchone()
        key: int = row[0]
        return key

    def _remember(self, series_uid: str, found: _Series) -> None:
        if len(self._known) >= _KNOWN_SERIES:
            self._known.pop(next(iter(self._known)), None)  # the one known longest
        self._known[series_uid] = found

    # Finding

    def find(self, sop_instance_uid: str) -> Existing | None:
        """The row of one instance."""
        try:
            connection = self._engine.raw_connection()
            try:
                cursor = connection.cursor()
                row = self._statements.find_instance.run(cursor, (sop_instance_uid,)).fetchone()
                cursor.close()
                connection.rollback()
            finally:
                connection.close()
        except (self._errors, SQLAlchemyError) as error:
            raise _out_of_resources(error) from None
        return Existing(*row) if row else None

    def select(self, unique_keys: Mapping[Level, Sequence[str]]) -> Iterator[Any]:
        """Rows of all instances that match lists of unique keys, in the order of arrival.

        Lists of any length are cut into pieces that every database takes.
        """
        lists = [
            (TABLES[level].c[UNIQUE_KEY[level].column], _pieces(values))
            for level, values in unique_keys.items()
        ]
        rows = (
            select(
                instance.c.sop_class_uid,
                instance.c.sop_instance_uid,
                instance.c.transfer_syntax_uid,
                instance.c.path,
                instance.c.dataset_offset,
                instance.c.size,
                study.c.study_instance_uid,
                series.c.series_instance_uid,
            )
            .select_from(instance.join(series).join(study).join(patient))
            .order_by(instance.c.id)
        )
        with self._engine.connect() as connection:
            for pieces in itertools.product(*(pieces for _, pieces in lists)):
                wanted = rows
                for (column, _), values in zip(lists, pieces, strict=True):
                    wanted = wanted.where(column.in_(values))
                yield from connection.execute(wanted)

    def placements(self, after: int = 0, limit: int = 1000) -> list[Any]:
        """The next rows by key: (id, sop_instance_uid, path, dataset_offset, size, file_size,
        digest). For walking the whole index in pieces."""
        columns = (
            instance.c.id,
            instance.c.sop_instance_uid,
            instance.c.path,
            instance.c.dataset_offset,
            instance.c.size,
            instance.c.file_size,
            instance.c.digest,
        )
        wanted = select(*columns).where(instance.c.id > after).order_by(instance.c.id).limit(limit)
        with self._engine.connect() as connection:
            return list(connection.execute(wanted))

    def counts(self) -> dict[Level, int]:
        """How many patients, studies, series and instances there are."""
        with self._engine.connect() as connection:
            return {
                level: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for level, table in TABLES.items()
            }

    def total_size(self) -> int:
        """Bytes of all files in the index."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.sum(instance.c.file_size))).scalar_one() or 0

    # Removing

    def delete(self, level: Level, uid: str) -> list[str]:
        """Remove a patient, study, series or instance with all that belongs to it.

        Returns:
            The paths of the files that no row refers to any longer.
        """
        column = TABLES[level].c[UNIQUE_KEY[level].column]
        wanted = select(instance.c.id).select_from(_ALL.join(instance)).where(column == uid)
        with self._writing() as connection:
            parents = _parents(connection, series.c.id.in_(_series_of(level, uid)))
            paths = select(instance.c.path).where(instance.c.id.in_(wanted))
            removed = list(connection.execute(paths).scalars())
            connection.execute(delete(instance).where(instance.c.id.in_(wanted)))
            _prune(connection, parents)
        self._known.clear()
        return removed

    def forget(self, sop_instance_uid: str, path: str) -> None:
        """Remove the row of an instance whose file is gone, unless it points elsewhere by now.

        What the instance belonged to stays; `prune` removes it.
        """
        with self._transaction() as cursor:
            self._statements.delete_path.run(cursor, (sop_instance_uid, path))

    def prune(self) -> None:
        """Remove series without instances, studies without series, patients without studies."""
        self._prune(true())

    def _prune(self, condition: ColumnElement[bool]) -> None:
        with self._writing() as connection:
            _prune(connection, _parents(connection, condition))
        self._known.clear()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A writing transaction for statements that need no speed."""
        with self._lock:
            descriptor = -1
            if self._lock_path is not None:
                descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                with self._engine.begin() as connection:
                    yield connection
            finally:
                if descriptor >= 0:
                    os.close(descriptor)


def _call(reference: weakref.ref[Index], method: Callable[[Index], None]) -> None:
    index = reference()
    if index is not None:
        method(index)


def _series_of(level: Level, uid: str) -> Select[tuple[int]]:
    """The keys of the series that an entity of any level belongs to or has."""
    column = TABLES[level].c[UNIQUE_KEY[level].column]
    tables = _ALL.join(instance) if level is Level.IMAGE else _ALL
    return select(series.c.id).select_from(tables).where(column == uid)


def _parents(connection: Any, condition: ColumnElement[bool]) -> list[set[int]]:
    """The keys of series, studies and patients that meet a condition."""
    columns = (series.c.id, study.c.id, patient.c.id)
    found: list[set[int]] = [set(), set(), set()]
    for row in connection.execute(select(*columns).select_from(_ALL).where(condition)):
        for keys, key in zip(found, row, strict=True):
            keys.add(key)
    return found


def _prune(connection: Any, parents: list[set[int]]) -> None:
    """Remove those of the series, studies and patients that nothing belongs to any longer."""
    pairs = (
        (series, instance.c.series_fk),
        (study, series.c.study_fk),
        (patient, study.c.patient_id_fk),
    )
    for (parent, foreign_key), keys in zip(pairs, parents, strict=True):
        empty = ~exists().where(foreign_key == parent.c.id)
        for piece in _pieces(keys):
            connection.execute(delete(parent).where(parent.c.id.in_(piece), empty))


def _compare(header: Header, found: _Series, notes: list[str]) -> None:
    """Note what the object says otherwise than the series' first one."""
    if header.study_instance_uid != found.study_uid:
        notes.append(
            f"the series belongs to study {found.study_uid}, "
            f"the object says ({STUDY_INSTANCE_UID >> 16:04X},{STUDY_INSTANCE_UID & 0xFFFF:04X}) "
            f"{header.study_instance_uid}; the first one stays"
        )
    if header.text(PATIENT_ID) != found.patient_id:
        notes.append("the study belongs to another Patient ID; the first one stays")


def _texts(header: Header, level: Level) -> list[str]:
    """One value per attribute column of a level, in the order of the schema."""
    values: list[str] = []
    for tag, is_name in _TAGS[level]:
        text = header.text(tag)
        if "\0" in text:
            text = text.replace("\0", "\ufffd")  # PostgreSQL's text takes no NUL
        values.append(text)
        if is_name:
            values.append(search_form(text))
    return values


def _pieces(values: Iterable[_Key]) -> list[list[_Key]]:
    unique = list(dict.fromkeys(values))
    starts = range(0, len(unique), _KEYS_PER_STATEMENT)
    return [unique[start : start + _KEYS_PER_STATEMENT] for start in starts]


def _engine(url: str, durability: Durability) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, max_overflow=-1)
    engine = create_engine(url, max_overflow=-1, pool_timeout=60)
    synchronous = "FULL" if durability is Durability.FULL else "OFF"

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {_BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "foreign_keys = ON",
            "wal_autocheckpoint = 4000",
            "temp_store = MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite index in a file."""
    return f"sqlite:///{path}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _reason(error: BaseException) -> str:
    """The driver's message without SQL and parameters, which would hold patient data."""
    return str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]


def _out_of_resources(error: BaseException) -> OutOfResources:
    return OutOfResources("index the instance", _reason(error), "free space for the index")
