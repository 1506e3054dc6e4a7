"""The studies that the node has committed to instances of, which retention leaves alone.

They are in a table of their own, which deletion looks at; see `lfscp.archive.index.protection`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, delete, exists, select, update

from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.tables.dialects import insert_if_absent, now_ms
from lfscp.archive.index.tables.schema import instance, series, study
from lfscp.archive.index.tables.workflow_tables import committed_study

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.archive.workflow.commitment.references import Reference


def note_studies(index: Index, references: Iterable[Reference]) -> None:
    """Note that the node is about to commit to instances.

    It comes before they are looked for. A study that retention is deleting is waited for.

    Raises:
        ArchiveError: the index cannot be written to.
    """
    with index.doing("write to the index"):
        for piece in pieces_of(each.sop_instance_uid for each in references):
            index.transact(partial(_note, sop_instance_uids=piece))


def _note(connection: Connection, sop_instance_uids: list[str]) -> None:
    """Note the studies of some instances in the caller's transaction."""
    of_instances = (
        select(study.c.id)
        .select_from(instance.join(series).join(study))
        .where(instance.c.sop_instance_uid.in_(sop_instance_uids))
    )
    for keys in pieces_of(connection.execute(of_instances.distinct()).scalars()):
        # Retention holds the row of the study that it deletes.
        held = select(study.c.study_instance_uid).where(study.c.id.in_(keys)).order_by(study.c.id)
        uids = connection.execute(held.with_for_update()).scalars().all()
        rows = [{"study_instance_uid": uid} for uid in uids]
        if rows:
            connection.execute(insert_if_absent(committed_study, connection.dialect), rows)
            noted = update(committed_study).where(committed_study.c.study_instance_uid.in_(uids))
            connection.execute(noted.values(committed_at=now_ms()))


def forget_gone(connection: Connection, before: ColumnElement[int]) -> None:
    """Drop what was noted before a time of studies that are gone, in the caller's transaction."""
    is_there = exists().where(study.c.study_instance_uid == committed_study.c.study_instance_uid)
    gone = delete(committed_study).where(committed_study.c.committed_at < before, ~is_there)
    connection.execute(gone)
