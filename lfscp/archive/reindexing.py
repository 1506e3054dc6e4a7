"""Reads from the objects which patient a study belongs to, where the index cannot tell.

An older version gave all studies of one Patient ID, and all without one, the attributes of the
first of them, and filed a series under the first study that had its UID. Also, when an instance is
replaced or deleted, it may have been the only one to say something of its study's patient.

Rules: the table `unread_study` lists the work, so that it can stop and go on later, and nodes that
share an index may do it at the same time. First each study gets the patient that its first object
names. Then folders of objects go to the studies they belong to. At last, while the node serves,
every object is read. An object that cannot be read stays where it was, and the log names it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, func, select, update

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.hierarchy import STUDIES_DIFFER, RowVanishedError, StudyRow, own_study
from lfscp.archive.index.patient_identity import PatientIdentity, are_in_conflict, said_of_patient
from lfscp.archive.index.removal import pieces_of, prune, settle_patients
from lfscp.archive.index.rows import texts
from lfscp.archive.index.tables.maintenance_tables import (
    EACH_FOLDER,
    EVERY_OBJECT,
    FIRST_OBJECT,
    unread_study,
)
from lfscp.archive.index.tables.schema import attribute_columns, instance, patient, series, study
from lfscp.archive.store.received_objects import read_file_header
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import Header
from lfscp.dicom.values.attributes import Level
from lfscp.observe.logging import get_logger
from lfscp.observe.systemd import notify

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.archive.store.object_store import ObjectStore

LOG: Final = get_logger("lfscp.archive")
_AT_ONCE: Final = 50  # studies in a transaction
_TRIES: Final = 3  # objects of a folder, when the first cannot be read
_ATTEMPTS: Final = 20  # while other nodes change the same studies
_PAUSE_S: Final = 0.1
_TELL_S: Final = 5.0
_PATIENCE_US: Final = 60_000_000  # asked of systemd, again and again
_OF_PATIENT: Final = [column.name for column in attribute_columns(Level.PATIENT)]

IsStopping = Callable[[], bool]


def never() -> bool:
    """Go on to the end."""
    return False


@dataclass(slots=True)
class _Group:
    """Instances of a series that are read or moved together: their keys, files and first header."""

    series_key: int
    received_at: int
    keys: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    header: Header | None = None


@dataclass(slots=True)
class _Study:
    """A study to be looked at."""

    key: int
    uid: str = ""
    groups: list[_Group] = field(default_factory=list)


def place_studies(index: Index, files: ObjectStore, is_stopping: IsStopping = never) -> None:
    """Give each study of an older index its own patient, and its own series.

    Raises:
        ArchiveError: other nodes keep changing the studies.
        SQLAlchemyError, OSError: the index cannot be read or written to.
    """
    unplaced = unread_study.c.step < EVERY_OBJECT
    with index.engine.connect() as connection:
        total = connection.execute(select(func.count()).where(unplaced)).scalar_one()
    if not total:
        return
    progress = _Progress(total)
    for step, work in ((FIRST_OBJECT, _give_patients), (EACH_FOLDER, _move_groups)):
        while keys := _next(index, step):
            if is_stopping():
                return
            studies = [_read_folders(index, files, key) for key in keys]
            _in_transaction(index, lambda connection: work(index, connection, studies))  # noqa: B023
            progress.step(len(keys))
    progress.end()


def read_every_object(index: Index, files: ObjectStore, is_stopping: IsStopping = never) -> None:
    """Read all objects of the studies that are left, and file each where it says.

    Raises:
        As `place_studies`.
    """
    while keys := _next(index, EVERY_OBJECT):
        for key in keys:
            found = _read_objects(index, files, key, is_stopping)
            if found is None:
                return
            _in_transaction(index, lambda connection: _settle_study(index, connection, found))  # noqa: B023


class _Progress:
    """Tells the log how far it is, and systemd, so that it goes on waiting."""

    def __init__(self, studies: int) -> None:
        self._steps, self._done = 2 * studies, 0
        self._began = self._told = time.monotonic()
        LOG.info("updating patients from the objects", studies=studies)

    def step(self, studies: int) -> None:
        self._done += studies
        if time.monotonic() - self._told > _TELL_S:
            self._told = time.monotonic()
            percent = 100 * self._done // self._steps
            LOG.info("updating patients from the objects", percent=percent)
            status = f"STATUS=updating the index: {percent} %"
            notify(f"EXTEND_TIMEOUT_USEC={_PATIENCE_US}", status)

    def end(self) -> None:
        duration = round(time.monotonic() - self._began, 1)
        LOG.info("updated patients from the objects", duration_s=duration)


def _next(index: Index, step: int) -> list[int]:
    wanted = select(unread_study.c.study_fk).where(unread_study.c.step == step)
    with index.engine.connect() as connection:
        rows = connection.execute(wanted.order_by(unread_study.c.study_fk).limit(_AT_ONCE))
        return list(rows.scalars())


def _in_transaction(index: Index, work: Callable[[Connection], dict[str, list[str]]]) -> None:
    """Do it, again while other nodes work on the same rows, and log the conflicts."""
    for _ in range(_ATTEMPTS):
        try:
            notes = index.transact(work)
        except RowVanishedError:
            time.sleep(_PAUSE_S)
            continue
        for uid, said in notes.items():
            text = "; ".join(dict.fromkeys(said))
            LOG.warning("studies are in conflict", study_instance_uid=uid, notes=text)
        return
    raise ArchiveError("update patients from the objects", "other nodes keep changing them")


def _cursor(connection: Connection) -> closing[Any]:
    """The driver's cursor in a transaction of SQLAlchemy's."""
    return closing(connection.connection.cursor())


# The first object of a study, and of each folder


def _read_folders(index: Index, files: ObjectStore, key: int) -> _Study:
    """A study with one header of each folder in each of its series."""
    found = _Study(key)
    groups: dict[tuple[int, str], _Group] = {}
    for uid, series_key, instance_key, path, received_at in _rows(index, key):
        found.uid = uid
        folder = path.rpartition("/")[0]
        group = groups.setdefault((series_key, folder), _Group(series_key, received_at))
        group.keys.append(instance_key)
        group.paths.append(path)
    for group in groups.values():
        group.header = _first_header(files, group.paths)
    found.groups = [group for group in groups.values() if group.header is not None]
    return found


def _rows(index: Index, key: int) -> Sequence[Any]:
    """The instances of a study, those received first before others."""
    wanted = (
        select(
            study.c.study_instance_uid,
            series.c.id,
            instance.c.id,
            instance.c.path,
            instance.c.received_at,
        )
        .select_from(instance.join(series).join(study))
        .where(study.c.id == key)
        .order_by(instance.c.id)
    )
    with index.engine.connect() as connection:
        return connection.execute(wanted).all()


def _first_header(files: ObjectStore, paths: Iterable[str]) -> Header | None:
    """The header of the first object that can be read."""
    headers = (_header(files, path) for path in list(paths)[:_TRIES])
    return next((header for header in headers if header is not None), None)


def _header(files: ObjectStore, path: str) -> Header | None:
    try:
        return read_file_header(files.path(path))
    except (DatasetError, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", "")
        LOG.warning("an object cannot be read", path=path, reason=reason)
        return None


def _give_patients(
    index: Index, connection: Connection, studies: Iterable[_Study]
) -> dict[str, list[str]]:
    """Give each study the patient that the first of its own objects names; notes by study UID."""
    patients: dict[int, str] = {}
    for each in studies:
        done = update(unread_study).where(unread_study.c.study_fk == each.key)
        connection.execute(done.values(step=EACH_FOLDER))
        headers = (group.header for group in each.groups if group.header is not None)
        header = next((one for one in headers if one.study_instance_uid == each.uid), None)
        if header is not None:
            for key in _give_patient(index, connection, each.key, header):
                patients[key] = each.uid
    in_conflict = settle_patients(connection, patients)
    _remove_those_without_studies(connection, patients)
    return {patients[key]: [STUDIES_DIFFER] for key in in_conflict}


def _give_patient(
    index: Index, connection: Connection, key: int, header: Header
) -> tuple[int, ...]:
    """Give a study its patient; the keys of the one that it had and the one that it has."""
    identity = PatientIdentity.of(header)
    with _cursor(connection) as cursor:
        found = index.hierarchy.studies_of(cursor, header.study_instance_uid)
        own = next((each for each in found if each.key == key), None)
        if own is None:
            return ()
        patient_key = index.hierarchy.patient_of(cursor, header, identity)
    if any(each.patient_key == patient_key and each.key != key for each in found):
        return ()  # that patient's study exists by now; the next step moves these objects there
    _set_patient(connection, own, patient_key, header)
    return own.patient_key, patient_key


def _set_patient(connection: Connection, own: StudyRow, patient_key: int, header: Header) -> None:
    values: dict[str, Any] = dict(zip(_OF_PATIENT, texts(header, Level.PATIENT), strict=True))
    row = update(study).where(study.c.id == own.key)
    connection.execute(row.values(patient_id_fk=patient_key, **values))


def _remove_those_without_studies(connection: Connection, patients: Iterable[int]) -> None:
    for piece in pieces_of(patients):
        with_studies = select(study.c.patient_id_fk).where(study.c.patient_id_fk.in_(piece))
        gone = delete(patient).where(patient.c.id.in_(piece), patient.c.id.not_in(with_studies))
        connection.execute(gone)


def _move_groups(
    index: Index, connection: Connection, studies: Iterable[_Study]
) -> dict[str, list[str]]:
    """Move what belongs to another study, or another patient's; notes by study UID."""
    notes: dict[str, list[str]] = {}
    for each in studies:
        filed = _file_anew(index, connection, each.groups, notes)
        with _cursor(connection) as cursor:  # a folder's other objects may say something else
            for study_key in {study_key for study_key, _ in filed} - {each.key}:
                index.hierarchy.read_again(cursor, study_key)
        done = update(unread_study).where(unread_study.c.study_fk == each.key)
        connection.execute(done.values(step=EVERY_OBJECT))
        prune(connection, series.c.study_fk == each.key)
    return notes


def _file_anew(
    index: Index,
    connection: Connection,
    groups: Iterable[_Group],
    notes: dict[str, list[str]],
) -> list[tuple[int, Header]]:
    """Put each group into the series that its object names; its study's key and header."""
    filed: list[tuple[int, Header]] = []
    with _cursor(connection) as cursor:
        for group in groups:
            if group.header is None:
                continue
            found, said = index.hierarchy.series_of(cursor, group.header, group.received_at)
            if found.key != group.series_key:
                _move(connection, group.keys, found.key)
            if said:
                notes.setdefault(group.header.study_instance_uid, []).extend(said)
            filed.append((found.study_key, group.header))
    return filed


def _move(connection: Connection, instances: Iterable[int], series_key: int) -> None:
    for piece in pieces_of(instances):
        moved = update(instance).where(instance.c.id.in_(piece)).values(series_fk=series_key)
        connection.execute(moved)


# Every object of a study


def _read_objects(
    index: Index, files: ObjectStore, key: int, is_stopping: IsStopping
) -> _Study | None:
    """A study with its objects, those that say the same in one group; None when it was stopped."""
    found = _Study(key)
    groups: dict[tuple[Any, ...], _Group] = {}
    for uid, series_key, instance_key, path, received_at in _rows(index, key):
        if is_stopping():
            return None
        found.uid = uid
        header = _header(files, path)
        if header is None:
            continue
        uids = (header.study_instance_uid, header.series_instance_uid)
        says = (series_key, *uids, said_of_patient(header))
        group = groups.setdefault(says, _Group(series_key, received_at, header=header))
        group.keys.append(instance_key)
    found.groups = list(groups.values())
    return found


def _settle_study(index: Index, connection: Connection, found: _Study) -> dict[str, list[str]]:
    """File a study's objects where they say, and let it know what those say that stay."""
    notes: dict[str, list[str]] = {}
    filed = _file_anew(index, connection, found.groups, notes)
    headers = [header for study_key, header in filed if study_key == found.key]
    patients = _keys_of_patients(connection, found.key)
    if headers:
        _know_again(index, connection, found, headers)
        patients |= _keys_of_patients(connection, found.key)
    connection.execute(delete(unread_study).where(unread_study.c.study_fk == found.key))
    prune(connection, series.c.study_fk == found.key)
    settle_patients(connection, patients)
    _remove_those_without_studies(connection, patients)
    return notes


def _keys_of_patients(connection: Connection, study_key: int) -> set[int]:
    wanted = select(study.c.patient_id_fk).where(study.c.id == study_key)
    return set(connection.execute(wanted).scalars())


def _know_again(
    index: Index, connection: Connection, found: _Study, headers: Sequence[Header]
) -> None:
    """Set what a study says of its patient: as its first object, completed by the next ones."""
    identities = [PatientIdentity.of(header) for header in headers]
    with _cursor(connection) as cursor:
        studies = index.hierarchy.studies_of(cursor, found.uid)
        own = own_study(identities[0], studies)
        if own is None or own.key != found.key:
            return
        _set_patient(connection, own, own.patient_key, headers[0])
        connection.execute(
            update(study)
            .where(study.c.id == own.key)
            .values(has_conflict=int(are_in_conflict(identities)))
        )
        for header, identity in zip(headers, identities, strict=True):
            if not identity.contradicts(identities[0]):
                index.hierarchy.complete(cursor, header, found.key)
