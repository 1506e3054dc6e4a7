"""The attributes that are counted or gathered from lower levels, as SQL expressions.

Rules: correlated with the row of the level they belong to, so that they cost something only
when asked for, and only for rows that matched. Values gathered come unordered, by comma.
Source: PS3.4 section C.3.4, tables C.6-1 to C.6-3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Select, exists, func, select

from lfscp.archive.index.tables.schema import instance, patient, series, study

GATHERED_DELIMITER: Final = ","  # in no CS and no UID

_Condition = Callable[[ColumnElement[str]], ColumnElement[bool]]
_STUDY_OF_PATIENT: Final = study.c.patient_id_fk == patient.c.id
_SERIES_OF_STUDY: Final = series.c.study_fk == study.c.id
_INSTANCE_OF_SERIES: Final = instance.c.series_fk == series.c.id


def _count(parent: FromClause, rows: FromClause, *conditions: ColumnElement[bool]) -> Any:
    query = select(func.count()).select_from(rows).where(*conditions)
    return query.correlate(parent).scalar_subquery()


def _gathered(rows: Select[tuple[str]]) -> Any:
    distinct = rows.correlate(study).distinct().subquery()
    return select(func.aggregate_strings(distinct.c[0], GATHERED_DELIMITER)).scalar_subquery()


_STUDY_MODALITIES: Final = select(series.c.modality).where(
    _SERIES_OF_STUDY, series.c.modality != ""
)
_STUDY_CLASSES: Final = select(instance.c.sop_class_uid).where(
    _INSTANCE_OF_SERIES, _SERIES_OF_STUDY
)

EXPRESSION: Final[dict[str, Any]] = {
    "NumberOfPatientRelatedStudies": _count(patient, study, _STUDY_OF_PATIENT),
    "NumberOfPatientRelatedSeries": _count(
        patient, series.join(study, _SERIES_OF_STUDY), _STUDY_OF_PATIENT
    ),
    "NumberOfPatientRelatedInstances": _count(
        patient,
        instance.join(series, _INSTANCE_OF_SERIES).join(study, _SERIES_OF_STUDY),
        _STUDY_OF_PATIENT,
    ),
    "NumberOfStudyRelatedSeries": _count(study, series, _SERIES_OF_STUDY),
    "NumberOfStudyRelatedInstances": _count(
        study, instance.join(series, _INSTANCE_OF_SERIES), _SERIES_OF_STUDY
    ),
    "NumberOfSeriesRelatedInstances": _count(series, instance, _INSTANCE_OF_SERIES),
    "ModalitiesInStudy": _gathered(_STUDY_MODALITIES),
    "SOPClassesInStudy": _gathered(_STUDY_CLASSES),
}
GATHERED: Final = frozenset({"ModalitiesInStudy", "SOPClassesInStudy"})


def gathered_condition(keyword: str, condition: _Condition) -> ColumnElement[bool]:
    """Whether a study has a series (an instance) whose value fulfils the condition."""
    if keyword == "ModalitiesInStudy":
        return exists().where(_SERIES_OF_STUDY, condition(series.c.modality)).correlate(study)
    return (
        exists()
        .where(_INSTANCE_OF_SERIES, _SERIES_OF_STUDY, condition(instance.c.sop_class_uid))
        .correlate(study)
    )
