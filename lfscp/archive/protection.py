"""Keeps protected studies from being deleted or changed before somebody unprotects them.

Each function runs in a transaction, or on a connection, of its caller.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, exists, select

from lfscp.archive.errors import StudyProtected
from lfscp.archive.maintenance_tables import protection
from lfscp.archive.schema import instance, patient, series, study

_ALL = patient.join(study).join(series).join(instance)


def require_unprotected(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Refuse to touch what belongs to a protected study.

    Args:
        condition: of the rows of any level that are meant.
    Raises:
        StudyProtected: one of them does.
    """
    is_protected = exists().where(protection.c.study_instance_uid == study.c.study_instance_uid)
    wanted = select(study.c.study_instance_uid).select_from(_ALL).where(condition, is_protected)
    found = connection.execute(wanted.limit(1)).scalar()
    if found is not None:
        raise StudyProtected(found)
