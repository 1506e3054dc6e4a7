"""Reads from the objects whose the studies are that an older version indexed.

That version gave all studies of one Patient ID, and all without one, the attributes of the first of
them, and filed a series under the first study that had its UID. One object of each series, and of
each folder in it, is read to bring that right.

Rules: each study is a transaction, so that this can be interrupted and goes on at the next start;
nodes that share an index may do it at the same time. First each study gets its own patient, then
what belongs to another study goes there. What cannot be read stays as it was, and is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from lfscp.archive.attributes import Level
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.header import Header
from lfscp.archive.hierarchy import RowVanishedError
from lfscp.archive.maintenance_tables import unread_study
from lfscp.archive.objects import read_file_header
from lfscp.archive.removal import pieces_of, prune, settle_conflicts
from lfscp.archive.rows import texts
from lfscp.archive.schema import attribute_columns, instance, patient, series, study
from lfscp.observe.logging import get_logger
from lfscp.observe.systemd import notify

if TYPE_CHECKING:
    from lfscp.archive.index import Index
    from lfscp.archive.object_store import ObjectStore

LOG: Final = get_logger("lfscp.archive")
_STUDIES: Final = 100  # looked for at a time
_TRIES: Final = 3  # objects of a series, when the first cannot be read
_TELL_S: Final = 5.0
_PATIENCE_US: Final = 60_000_000  # asked of systemd, again and again
_OF_PATIENT: Final = [column.name for column in attribute_columns(Level.PATIENT)]

# Added by a node of the older version while this one was there already.
_WITHOUT: Final = (
    select(study.c.id)
    .join(patient, study.c.patient_id_fk == patient.c.id)
    .where(study.c.patient_id == "", patient.c.patient_id != "")
    .where(study.c.id.not_in(select(unread_study.c.study_fk)))
)

_Group = tuple[int, list[int], list[str]]  # the series' key; keys and paths of its instances


def read_patients(
    index: Index, files: ObjectStore, is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Give each study of an older index its own patient, and its own series.

    Raises:
        SQLAlchemyError, OSError: the index cannot be read or written to.
    """
    with index.engine.connect() as connection:
        total = _count(connection)
        is_any_without = connection.execute(_WITHOUT.limit(1)).first() is not None
    if is_any_without:
        with index.writing() as connection:
            connection.execute(insert(unread_study).from_select(["study_fk"], _WITHOUT))
            total = _count(connection)
    if not total:
        return
    progress = _Progress(total)
    for is_placed, work in ((0, _give_patient), (1, _move_series)):
        while keys := _next(index, is_placed):
            for key in keys:
                if is_stopping():
                    return
                with suppress(RowVanishedError):  # another node was at it too: once more then
                    work(index, files, key)
                    progress.step()
    with index.writing() as connection:
        of_nobody = ~exists().where(study.c.patient_id_fk == patient.c.id)
        connection.execute(delete(patient).where(of_nobody))
    progress.end()


class _Progress:
    """Says how far it is: in the log, and to systemd, which would lose its patience."""

    def __init__(self, studies: int) -> None:
        self._steps, self._done = 2 * studies, 0
        self._began = self._told = time.monotonic()
        LOG.info("reading from the objects whose the studies are", studies=studies)

    def step(self) -> None:
        self._done += 1
        if time.monotonic() - self._told > _TELL_S:
            self._told = time.monotonic()
            percent = 100 * self._done // self._steps
            LOG.info("reading from the objects whose the studies are", percent=percent)
            status = f"STATUS=updating the index: {percent} %"
            notify(f"EXTEND_TIMEOUT_USEC={_PATIENCE_US}", status)

    def end(self) -> None:
        duration = round(time.monotonic() - self._began, 1)
        LOG.info("read from the objects whose the studies are", duration_s=duration)


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(unread_study)).scalar_one()


def _next(index: Index, is_placed: int) -> list[int]:
    wanted = select(unread_study.c.study_fk).where(unread_study.c.is_placed == is_placed)
    with index.engine.connect() as connection:
        rows = connection.execute(wanted.order_by(unread_study.c.study_fk).limit(_STUDIES))
        return list(rows.scalars())


def _give_patient(index: Index, files: ObjectStore, key: int) -> None:
    """Give a study the patient that the first of its own objects names."""
    study_uid, groups = _groups(index, key)
    header = None
    for group in groups:
        if any(path.startswith(f"{study_uid}/") for path in group[2]):
            header = _header(files, group[2])
        if header is not None:
            break
    if header is not None and header.study_instance_uid != study_uid:
        header = None
    notes = index.transact(lambda connection: _place(index, connection, key, header))
    _say(study_uid, notes)


def _place(index: Index, connection: Connection, key: int, header: Header | None) -> list[str]:
    """Give the study's row its patient; what is worth a note."""
    done = update(unread_study).where(unread_study.c.study_fk == key)
    connection.execute(done.values(is_placed=1))
    notes: list[str] = []
    if header is None:
        return notes
    with _cursor(connection) as cursor:
        patient_key = index.hierarchy.patient_of(cursor, header, notes)
    values: dict[str, Any] = dict(zip(_OF_PATIENT, texts(header, Level.PATIENT), strict=True))
    own = update(study).where(study.c.id == key)
    connection.execute(own.values(patient_id_fk=patient_key, **values))
    settle_conflicts(connection, [patient_key])
    return notes


def _cursor(connection: Connection) -> closing[Any]:
    """The driver's cursor in a transaction of SQLAlchemy's."""
    return closing(connection.connection.cursor())


def _move_series(index: Index, files: ObjectStore, key: int) -> None:
    """Move what belongs to another study, or another patient's, there."""
    _, groups = _groups(index, key)
    read = [(group, _header(files, group[2])) for group in groups]
    headers = [(group, header) for group, header in read if header is not None]
    notes = index.transact(lambda connection: _file_anew(index, connection, key, headers))
    for uid, said in notes.items():
        _say(uid, said)


def _say(study_uid: str, notes: Sequence[str]) -> None:
    if notes:
        LOG.warning("studies are in conflict", study_instance_uid=study_uid, notes="; ".join(notes))


def _file_anew(
    index: Index, connection: Connection, key: int, headers: Iterable[tuple[_Group, Header]]
) -> dict[str, list[str]]:
    """Put each group into the series that its object names; notes by Study Instance UID."""
    noted: dict[str, list[str]] = {}
    now = time.time_ns() // 1_000_000
    with _cursor(connection) as cursor:
        for (series_key, keys, _), header in headers:
            found, notes = index.hierarchy.series_of(cursor, header, now)
            if found.key != series_key:
                _move(connection, keys, found.key)
            if notes:
                noted.setdefault(header.study_instance_uid, []).extend(notes)
    connection.execute(delete(unread_study).where(unread_study.c.study_fk == key))
    prune(connection, series.c.study_fk == key)
    return noted


def _move(connection: Connection, instances: Iterable[int], series_key: int) -> None:
    for piece in pieces_of(instances):
        moved = update(instance).where(instance.c.id.in_(piece)).values(series_fk=series_key)
        connection.execute(moved)


def _groups(index: Index, key: int) -> tuple[str, list[_Group]]:
    """A study's UID, and its instances by series and folder, those received first before others."""
    wanted = (
        select(study.c.study_instance_uid, series.c.id, instance.c.id, instance.c.path)
        .select_from(instance.join(series).join(study))
        .where(study.c.id == key)
        .order_by(instance.c.id)
    )
    found: dict[tuple[int, str], _Group] = {}
    with index.engine.connect() as connection:
        rows = connection.execute(wanted).all()
    for _, series_key, instance_key, path in rows:
        group = found.setdefault((series_key, path.rpartition("/")[0]), (series_key, [], []))
        group[1].append(instance_key)
        group[2].append(path)
    return rows[0][0] if rows else "", list(found.values())


def _header(files: ObjectStore, paths: Iterable[str]) -> Header | None:
    """The header of the first object that can be read."""
    for path in list(paths)[:_TRIES]:
        try:
            return read_file_header(files.path(path))
        except (CannotUnderstand, OSError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", "")
            LOG.warning("an object cannot be read", path=path, reason=reason)
    return None
