"""Looks up what each request of DICOMweb asks of the index: an instance, the version of a study.

The statements are compiled once and run through the driver itself: SQLAlchemy's execution costs
several times what the database needs for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from sqlalchemy import bindparam, func, select
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.database.database import Database, reason_of
from lfscp.archive.index.database.statements import Statement
from lfscp.archive.index.tables.schema import instance, series, study
from lfscp.dicom.values.attributes import Level, at_level

_ATTEMPTS: Final = 2  # a connection may just be old

INSTANCE: Final = (
    select(
        instance.c.id,
        instance.c.transfer_syntax_uid,
        instance.c.size,
        instance.c.path,
        instance.c.dataset_offset,
        instance.c.digest,
        instance.c.received_at,
        instance.c.calling_ae_title,
        study.c.id.label("study_key"),
        study.c.study_instance_uid,
        series.c.series_instance_uid,
        series.c.modality,
        *(instance.c[each.column] for each in at_level(Level.IMAGE)),
    )
    .join(series, instance.c.series_fk == series.c.id)
    .join(study, series.c.study_fk == study.c.id)
    .where(instance.c.sop_instance_uid == bindparam("uid"))
)
_COLUMNS: Final = tuple(INSTANCE.selected_columns.keys())


def _versions() -> tuple[Any, ...]:
    """The SELECTs of the versions of a study, a series and an instance."""
    of_study = (
        select(
            func.count(instance.c.id),
            func.max(instance.c.id),
            func.max(instance.c.received_at),
            func.sum(instance.c.size),
        )
        .join(series, instance.c.series_fk == series.c.id)
        .join(study, series.c.study_fk == study.c.id)
        .where(study.c.study_instance_uid == bindparam("study"))
    )
    of_series = of_study.where(series.c.series_instance_uid == bindparam("series"))
    of_instance = of_series.where(instance.c.sop_instance_uid == bindparam("instance"))
    return of_study, of_series, of_instance


class Lookups:
    """Look-ups in one database. Any thread may call any method.

    All raise ArchiveError if the index cannot be read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._instance = Statement(INSTANCE, database.dialect)
        self._versions = tuple(Statement(each, database.dialect) for each in _versions())

    def instance_row(self, sop_instance_uid: str) -> dict[str, Any] | None:
        """One instance with the UIDs above it, the key of its study and the path of its file.

        None when it is not there.
        """
        row = self.instance_values(sop_instance_uid)
        return None if row is None else dict(zip(_COLUMNS, row, strict=True))

    def instance_values(self, sop_instance_uid: str) -> Sequence[Any] | None:
        """The values of `instance_row` alone, in their order."""
        return self._first(self._instance, (sop_instance_uid,))

    def version_of(self, study_uid: str, *below: str) -> str:
        """A text that changes when an instance of a study comes, goes or changes.

        Args:
            below: the UIDs of a series and of an instance in it, for these alone.
        """
        row = self._first(self._versions[len(below)], (study_uid, *below))
        return "|".join(map(str, row or ()))

    def _first(self, statement: Statement, values: Sequence[str]) -> Sequence[Any] | None:
        """The first row; asked for once more if the connection was lost."""
        patience, attempts = self._database.patience(), 0
        while True:
            try:
                with self._database.lookup() as cursor:
                    return cast("Sequence[Any] | None", statement.run(cursor, values).fetchone())
            except (self._database.error, SQLAlchemyError) as error:
                attempts += 1
                if attempts == _ATTEMPTS or not patience.allows(error):
                    raise ArchiveError("read the index", reason_of(error)) from error
