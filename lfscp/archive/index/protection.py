"""Protects studies: from deletion and change until they are unprotected, or from retention.

Retention leaves a study alone for a while after the node has committed to one of its instances, and
while a route has to send some of it on. An administrator may delete such a study.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, insert, select
from sqlalchemy.exc import IntegrityError

from lfscp.archive.errors import StudyProtectedError
from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.removal import named
from lfscp.archive.index.tables.dialects import among
from lfscp.archive.index.tables.maintenance_tables import protection
from lfscp.archive.index.tables.route_tables import GIVEN_UP, route_item
from lfscp.archive.index.tables.schema import study
from lfscp.archive.index.tables.workflow_tables import committed_study
from lfscp.dicom.values.attributes import Level

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index


def require_replaceable(index: Index, study_uid: str) -> None:
    """Refuse to put another object in the place of one of a protected study.

    Raises:
        StudyProtectedError: it is one.
        ArchiveError: the index cannot be read.
    """
    with index.doing("read the index"), index.engine.connect() as connection:
        if not is_protected(connection, study_uid):
            return
    raise StudyProtectedError(study_uid, "replace an instance")


def is_of_protected(uid: ColumnElement[str]) -> ColumnElement[bool]:
    return exists().where(protection.c.study_instance_uid == uid)


def is_of_committed(uid: ColumnElement[str], after_ms: int) -> ColumnElement[bool]:
    """The condition that the node committed to an instance of a study later than this."""
    column = committed_study.c
    return exists().where(column.study_instance_uid == uid, column.committed_at > after_ms)


def is_committed(connection: Connection, study_uid: str, after_ms: int) -> bool:
    """Whether the node committed to an instance of a study later than this."""
    found = select(committed_study.c.committed_at).where(
        committed_study.c.study_instance_uid == study_uid,
        committed_study.c.committed_at > after_ms,
    )
    return connection.execute(found).first() is not None


def is_on_its_way(uid: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that an object of a study is still to be sent on by a route."""
    column = route_item.c
    return exists().where(column.study_instance_uid == uid, column.state != GIVEN_UP)


def locked_study(study_uid: str, key: int | None = None) -> Select[Any]:
    """A study's last time and whether it is protected, held against other transactions."""
    return (
        select(study.c.updated_at, is_of_protected(study.c.study_instance_uid))
        .where(named(Level.STUDY, study_uid, key))
        .with_for_update(of=study)
    )


def protect(index: Index, study_uid: str) -> bool:
    """Keep a study from being deleted or replaced; False when there is none with this UID.

    Raises what `Index.writing` raises.
    """
    with suppress(IntegrityError), index.writing() as connection:
        if connection.execute(locked_study(study_uid)).first() is None:
            return False
        if not is_protected(connection, study_uid):
            values = {"study_instance_uid": study_uid, "protected_at": wall_ms()}
            connection.execute(insert(protection).values(values))
    return True


def unprotect(index: Index, study_uid: str) -> bool:
    """Let a study be deleted again; False when it was not protected."""
    with index.writing() as connection:
        gone = delete(protection).where(protection.c.study_instance_uid == study_uid)
        return connection.execute(gone).rowcount > 0


def is_protected(connection: Connection, study_uid: str) -> bool:
    """Whether a study is protected."""
    found = select(protection.c.protected_at).where(protection.c.study_instance_uid == study_uid)
    return connection.execute(found).first() is not None


def protected_among(connection: Connection, study_uids: list[str]) -> set[str]:
    """Those of some studies that are protected; for a page of them."""
    column = protection.c.study_instance_uid
    return set(connection.execute(select(column).where(among(column, study_uids))).scalars())
