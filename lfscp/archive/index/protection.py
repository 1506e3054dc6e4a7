"""Protects studies from deletion and change until somebody unprotects them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, exists, select
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.errors import ArchiveError, StudyProtectedError
from lfscp.archive.index.database import reason_of
from lfscp.archive.index.maintenance_tables import protection
from lfscp.archive.index.schema import instance, patient, series, study

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_ALL = patient.join(study).join(series).join(instance)


def require_unprotected(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Refuse to touch what belongs to a protected study.

    Args:
        condition: of the rows of any level that are meant.
    Raises:
        StudyProtectedError: one of them does.
    """
    is_protected = exists().where(protection.c.study_instance_uid == study.c.study_instance_uid)
    wanted = select(study.c.study_instance_uid).select_from(_ALL).where(condition, is_protected)
    found = connection.execute(wanted.limit(1)).scalar()
    if found is not None:
        raise StudyProtectedError(found)


def require_replaceable(index: Index, study_uid: str) -> None:
    """Refuse to put another object in the place of one of a protected study.

    Raises:
        StudyProtectedError: it is one.
        ArchiveError: the index cannot be read.
    """
    wanted = select(protection.c.protected_at).where(protection.c.study_instance_uid == study_uid)
    try:
        with index.engine.connect() as connection:
            is_protected = connection.execute(wanted).first() is not None
    except SQLAlchemyError as error:
        reason = reason_of(error)
        raise ArchiveError("read the index", reason, "check the index and its disk") from None
    if is_protected:
        raise StudyProtectedError(study_uid, "replace an instance")
