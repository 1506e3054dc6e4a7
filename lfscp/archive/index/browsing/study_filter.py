"""What people filter studies by, and the conditions that it becomes in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, CompoundSelect, Select, exists, or_, select, union_all

from lfscp.archive.index.browsing.text_search import begins, holds, names_hold, starts, words_of
from lfscp.archive.index.tables.dialects import unindexed
from lfscp.archive.index.tables.schema import series, study
from lfscp.archive.index.tables.study_tables import study_label, study_source

Text = ColumnElement[str]
Truth = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class StudyFilter:
    """Conditions for studies; an empty one is none.

    Args:
        text: words; each must be in the patient's name or the study's description, or begin the
            Patient ID or the accession number, or be the Study Instance UID.
        modality: of one of the series, such as CT.
        date_from: first study date, YYYYMMDD; `date_to` the last one.
        patient_key: the row of the patient in the index.
        name: words in the patient's name; `referrer` in the referring physician's, `description`
            in the study's description.
        patient_id: how the Patient ID begins, with `*` and `?`; `accession_number` likewise.
        birth_date: the patient's, or how it begins: YYYY, YYYYMM or YYYYMMDD.
        calling_ae_title: who sent one of the instances.
        label: one of the study's labels.
        keys: the rows of the studies in the index.
    """

    text: str = ""
    modality: str = ""
    date_from: str = ""
    date_to: str = ""
    patient_key: int | None = None
    name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    accession_number: str = ""
    description: str = ""
    referrer: str = ""
    calling_ae_title: str = ""
    label: str = ""
    keys: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One condition in two forms: the rows that meet it, and a test of a row.

    Args:
        keys: asks an index for the keys of the studies that meet it.
        test: tests a study's row.
        blind_test: the same, with no index that the rows could be looked for in.
        column: what `test` bounds, if it is one.
    """

    keys: Select[Any] | CompoundSelect[Any]
    test: Truth
    blind_test: Truth
    column: Column[Any] | None = None


def conditions_of(wanted: StudyFilter) -> Iterator[Condition]:
    """The conditions of a filter; those that take longest to look for come first."""
    for word in words_of(wanted.text):
        yield _names(word)
    yield from _of_words(wanted)
    if wanted.patient_id:
        yield _of(study.c.patient_id, begins, wanted.patient_id)
    if wanted.accession_number:
        yield _of(study.c.accession_number, begins, wanted.accession_number)
    if wanted.birth_date:
        yield _of(study.c.patient_birth_date, starts, wanted.birth_date)
    if wanted.date_from or wanted.date_to:
        dates = wanted.date_from or "0", wanted.date_to or "99999999"
        yield _of(study.c.study_date, lambda column, between: column.between(*between), dates)
    if wanted.patient_key is not None:
        yield _of(study.c.patient_id_fk, lambda column, key: column == key, wanted.patient_key)
    if wanted.keys:
        yield _of(study.c.id, lambda column, keys: column.in_(keys), wanted.keys)
    yield from _of_other_tables(wanted)


def _of_words(wanted: StudyFilter) -> Iterator[Condition]:
    for word in words_of(wanted.name):
        yield _of_names("patient_name", word)
    for word in words_of(wanted.referrer):
        yield _of_names("referring_physician_name", word)
    for word in words_of(wanted.description):
        yield _of(study.c.study_description, holds, word)


def _of_names(name: str, word: str) -> Condition:
    """A word in a person name of the study."""
    searched, folded = study.c[f"{name}_search"], study.c[f"{name}_folded"]
    either = names_hold(searched, folded, word)
    keys = union_all(*(select(study.c.id).where(each) for each in either))
    blind = or_(*names_hold(unindexed(searched), unindexed(folded), word))
    return Condition(keys, or_(*either), blind)


def _of_other_tables(wanted: StudyFilter) -> Iterator[Condition]:
    if wanted.modality:
        yield _related(series.c.study_fk, study.c.id, series.c.modality == wanted.modality)
    if wanted.calling_ae_title:
        title = study_source.c.calling_ae_title == wanted.calling_ae_title
        yield _related(study_source.c.study_fk, study.c.id, title)
    if wanted.label:
        yield _related(
            study_label.c.study_instance_uid,
            study.c.study_instance_uid,
            study_label.c.label == wanted.label,
        )


def _of(column: Column[Any], compare: Any, value: Any) -> Condition:
    """A condition of one column of the study."""
    test = compare(column, value)
    keys = select(study.c.id).where(test)
    return Condition(keys, test, compare(unindexed(column), value), column)


def _related(reference: Column[Any], own: Column[Any], condition: Truth) -> Condition:
    """A condition of rows that refer to a study."""
    keys: Select[Any] = select(reference).where(condition)
    if own is not study.c.id:
        keys = select(study.c.id).where(own.in_(keys))
    test = exists().where(reference == own, condition)
    return Condition(keys, test, test)


def _names(word: str) -> Condition:
    """A word names a study: one cheap question to each index, put together."""
    either = [
        *names_hold(study.c.patient_name_search, study.c.patient_name_folded, word),
        begins(study.c.patient_id, word),
        begins(study.c.accession_number, word),
        study.c.study_instance_uid == word,
        holds(study.c.study_description, word),
    ]
    keys = union_all(*(select(study.c.id).where(each) for each in either))
    test = or_(*either)
    return Condition(keys, test, unindexed(test))
