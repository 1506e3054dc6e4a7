"""Pages through the index for people: patients, studies, series, instances, a page at a time.

Rules: pages are cut by key, never by offset, so the last page costs what the first one costs; a
cursor is the sort key of the last row shown. Every statement is bounded by its page. Text
in a search box is literal: LIKE's own signs in it are escaped. Counts of what lies below a row
are made for the rows of the page only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    func,
    select,
    tuple_,
    union_all,
)

from lfscp.archive.index.browsing.text_search import begins, names_hold, words_of
from lfscp.archive.index.labels import labels_among
from lfscp.archive.index.protection import protected_among
from lfscp.archive.index.removal import named
from lfscp.archive.index.tables.dialects import among, leading_integer
from lfscp.archive.index.tables.schema import instance, patient, series, study
from lfscp.archive.index.tables.study_tables import study_source
from lfscp.dicom.values.attributes import Level, at_level

MAX_PAGE: Final = 500
MAX_NAMES: Final = 10  # of one patient that are shown

Cursor = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, each by column name.

    Attributes:
        next: the cursor of the next page; None on the last one. `previous` likewise.
    """

    rows: list[dict[str, Any]]
    next: Cursor | None
    previous: Cursor | None = None


_PATIENT: Final = [patient.c[each.column] for each in at_level(Level.PATIENT)]
_STUDY: Final = [
    study.c[each.column] for level in (Level.PATIENT, Level.STUDY) for each in at_level(level)
]
STUDY_ROW: Final = select(
    study.c.id,
    study.c.patient_id_fk,
    study.c.received_at,
    study.c.updated_at,
    study.c.has_conflict,
    patient.c.has_conflict.label("patient_has_conflict"),
    *_STUDY,
).select_from(study.join(patient))
_SERIES: Final = [series.c[each.column] for each in at_level(Level.SERIES)]
_INSTANCE: Final = [instance.c[each.column] for each in at_level(Level.IMAGE)]

_OF_PATIENT: Final = study.c.patient_id_fk
# As numbers to sort by; absent is 0.
_SERIES_NUMBER: Final = leading_integer(series.c.series_number)
_INSTANCE_NUMBER: Final = leading_integer(instance.c.instance_number)


def study_row(
    connection: Connection, study_uid: str, key: int | None = None
) -> dict[str, Any] | None:
    """One study with its patient; None when it is not there.

    Args:
        key: its row, where studies of several patients have the UID; else the oldest patient's.
    """
    statement = STUDY_ROW.where(named(Level.STUDY, study_uid, key)).order_by(_OF_PATIENT)
    row = connection.execute(statement).mappings().first()
    if row is None:
        return None
    rows = [dict(row)]
    describe_studies(connection, rows)
    return rows[0]


def patients(
    connection: Connection, text: str = "", *, after: Cursor | None = None, limit: int = 50
) -> Page:
    """Patients by name, with the number of their studies."""
    key = (patient.c.patient_name_search, patient.c.id)
    statement = select(
        patient.c.id, patient.c.patient_name_search, patient.c.has_conflict, *_PATIENT
    ).order_by(*key)
    for word in words_of(text):
        statement = statement.where(patient.c.id.in_(union_all(*of_patients(word, _OF_PATIENT))))
    if after is not None:
        statement = statement.where(tuple_(*key) > tuple_(*after))
    page = _page(connection, statement, [column.name for column in key], limit)
    keys = [row["id"] for row in page.rows]
    counted = connection.execute(
        select(study.c.patient_id_fk, func.count())
        .where(among(study.c.patient_id_fk, keys))
        .group_by(study.c.patient_id_fk)
    )
    counts = {row[0]: row[1] for row in counted}
    for row in page.rows:
        row["number_of_studies"] = counts.get(row["id"], 0)
        del row["patient_name_search"]
    return page


def series_of(connection: Connection, study_key: int) -> list[dict[str, Any]]:
    """All series of a study in the order of their numbers, each with a count and a middle instance.

    The middle instance is the one to make a small picture of.
    """
    statement = (
        select(series.c.id, series.c.received_at, *_SERIES)
        .where(series.c.study_fk == study_key)
        .order_by(_SERIES_NUMBER, series.c.id)
    )
    rows = [dict(row) for row in connection.execute(statement).mappings()]
    _mark_shared(connection, series.c.series_instance_uid, rows)
    for row in rows:
        _describe_series(connection, row)
    return rows


def series_row(
    connection: Connection, series_uid: str, key: int | None = None
) -> dict[str, Any] | None:
    """One series with the UID and key of its study; None when it is not there.

    Args:
        key: its row, where series of several studies have the UID; else the one that came first.
    """
    statement = (
        select(
            series.c.id,
            series.c.received_at,
            series.c.study_fk,
            study.c.study_instance_uid,
            *_SERIES,
        )
        .join(study, series.c.study_fk == study.c.id)
        .where(named(Level.SERIES, series_uid, key))
        .order_by(series.c.id)
    )
    row = connection.execute(statement).mappings().first()
    if row is None:
        return None
    found = dict(row)
    _mark_shared(connection, series.c.series_instance_uid, [found])
    _describe_series(connection, found)
    return found


def instances_of(
    connection: Connection, series_key: int, *, after: Cursor | None = None, limit: int = 200
) -> Page:
    """Instances of a series in the order of their numbers."""
    key = (_INSTANCE_NUMBER, instance.c.id)
    statement = (
        select(
            instance.c.id,
            _INSTANCE_NUMBER.label("number"),
            instance.c.transfer_syntax_uid,
            instance.c.size,
            instance.c.received_at,
            instance.c.calling_ae_title,
            *_INSTANCE,
        )
        .where(instance.c.series_fk == series_key)
        .order_by(*key)
    )
    if after is not None:
        statement = statement.where(tuple_(*key) > tuple_(*after))
    return _page(connection, statement, ["number", "id"], limit)


def series_keys(connection: Connection, study_uid: str, series_uid: str) -> list[int]:
    """The rows of a series in studies with a UID."""
    statement = (
        select(series.c.id)
        .join(study, series.c.study_fk == study.c.id)
        .where(named(Level.SERIES, series_uid), named(Level.STUDY, study_uid))
    )
    return list(connection.execute(statement).scalars())


def series_uids(connection: Connection, study_uid: str) -> list[str]:
    """The UIDs of a study's series, in the order of their arrival."""
    statement = (
        select(series.c.series_instance_uid)
        .join(study, series.c.study_fk == study.c.id)
        .where(study.c.study_instance_uid == study_uid)
        .order_by(series.c.id)
    )
    return list(dict.fromkeys(connection.execute(statement).scalars()))


def _page(connection: Connection, statement: Select[Any], key: Sequence[str], limit: int) -> Page:
    """Run a statement for one page; one row more shows that another page follows."""
    size = max(1, min(limit, MAX_PAGE))
    found = connection.execute(statement.limit(size + 1)).mappings().all()
    rows = [dict(row) for row in found[:size]]
    more = len(found) > size
    return Page(rows, tuple(rows[-1][name] for name in key) if more else None)


def of_patients(word: str, key: ColumnElement[int]) -> Iterator[Select[Any]]:
    """Keys of studies or patients, by a word in the patient's name or at the start of the ID."""
    searched, folded = study.c.patient_name_search, study.c.patient_name_folded
    yield from (select(key).where(each) for each in names_hold(searched, folded, word))
    yield select(key).where(begins(study.c.patient_id, word))


def describe_studies(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add counts, labels and senders to the rows of a page, and whether retention spares them."""
    _count_below_studies(connection, rows)
    _mark_shared(connection, study.c.study_instance_uid, rows)
    uids = [row["study_instance_uid"] for row in rows]
    protected, labels = protected_among(connection, uids), labels_among(connection, uids)
    _add_sources(connection, rows)
    for row in rows:
        row["labels"] = labels.get(row["study_instance_uid"], [])
        row["is_protected"] = row["study_instance_uid"] in protected


def _add_sources(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add the AE titles that sent instances of the studies of a page."""
    by_key = {row["id"]: row for row in rows}
    for row in rows:
        row["calling_ae_titles"] = []
    wanted = select(study_source.c.study_fk, study_source.c.calling_ae_title)
    of_page = among(study_source.c.study_fk, list(by_key))
    order = study_source.c.calling_ae_title
    for key, title in connection.execute(wanted.where(of_page).order_by(order)):
        by_key[key]["calling_ae_titles"].append(title)


def _mark_shared(connection: Connection, uid: Column[str], rows: Sequence[dict[str, Any]]) -> None:
    """Mark rows of a page that share their UID with others, against the standard."""
    uids = list({row[uid.name] for row in rows})
    several = select(uid).where(among(uid, uids)).group_by(uid).having(func.count() > 1)
    shared = set(connection.execute(several).scalars())
    for row in rows:
        row["shares_uid"] = row[uid.name] in shared


def names_of_patient(connection: Connection, patient_key: int) -> list[dict[str, str]]:
    """Names, birth dates and sexes in a patient's studies: each set once, MAX_NAMES at most."""
    said = (study.c.patient_name, study.c.patient_birth_date, study.c.patient_sex)
    statement = select(*said).where(study.c.patient_id_fk == patient_key).distinct()
    return [dict(row) for row in connection.execute(statement.limit(MAX_NAMES)).mappings()]


def studies_of_uid(connection: Connection, study_uid: str) -> list[dict[str, Any]]:
    """The studies with a UID, which should be one: their keys and patients."""
    statement = select(
        study.c.id, study.c.patient_name, study.c.patient_birth_date, study.c.patient_sex
    )
    rows = statement.where(study.c.study_instance_uid == study_uid).order_by(study.c.id)
    return [dict(row) for row in connection.execute(rows.limit(MAX_NAMES)).mappings()]


def _count_below_studies(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add modalities and the numbers of series and instances to the rows of a page."""
    by_key = {row["id"]: row for row in rows}
    for row in rows:
        row.update(modalities=[], number_of_series=0, number_of_instances=0)
    counted = select(func.count()).where(instance.c.series_fk == series.c.id).scalar_subquery()
    below = select(series.c.study_fk, series.c.modality, counted).where(
        among(series.c.study_fk, list(by_key))
    )
    for key, modality, count in connection.execute(below):
        row = by_key[key]
        row["number_of_series"] += 1
        row["number_of_instances"] += count
        if modality and modality not in row["modalities"]:
            row["modalities"] = sorted([*row["modalities"], modality])


def _describe_series(connection: Connection, row: dict[str, Any]) -> None:
    inside = instance.c.series_fk == row["id"]
    count = connection.execute(select(func.count()).where(inside)).scalar() or 0
    middle = (
        select(instance.c.sop_instance_uid)
        .where(inside)
        .order_by(_INSTANCE_NUMBER, instance.c.id)
        .offset(count // 2)
        .limit(1)
    )
    row["number_of_instances"] = count
    row["middle_instance_uid"] = connection.execute(middle).scalar() or ""
