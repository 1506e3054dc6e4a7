"""How far a correction is: running, to be confirmed, confirmed or undone.

Functions run in a transaction of their caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    Connection,
    RowMapping,
    delete,
    select,
    update,
)

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.tables.correction_tables import corrected_study, correction, kept_object
from lfscp.archive.index.tables.dialects import insert_if_absent


class CorrectionState(StrEnum):
    """How far a correction is."""

    RUNNING = "running"
    TO_CONFIRM = "to confirm"  # all is corrected, and the old objects are kept
    CONFIRMED = "confirmed"
    UNDONE = "undone"


_ENDED: Final = (CorrectionState.CONFIRMED, CorrectionState.UNDONE)


class CorrectionEndedError(ArchiveError):
    """The correction was confirmed or undone."""


def begin(
    connection: Connection, correction_id: str, user: str, changes: Mapping[str, str]
) -> None:
    """Make the row of a correction, if it is not there.

    Raises:
        ArchiveError: it was confirmed or undone already.
    """
    values = {
        "id": correction_id,
        "state": CorrectionState.RUNNING,
        "user": user,
        "changes": json.dumps(dict(changes), ensure_ascii=False),
        "created_at": wall_ms(),
    }
    connection.execute(insert_if_absent(correction, connection.dialect).values(values))
    require_open(connection, correction_id, "correct the study")


def require_open(connection: Connection, correction_id: str, what: str) -> CorrectionState:
    """Refuse a correction that was confirmed or undone; hold one that was not, until the end.

    Args:
        what: is to be done.
    Returns:
        How far it is.
    Raises:
        CorrectionEndedError: it was, maybe by another node just now.
        ArchiveError: there is none.
    """
    wanted = select(correction.c.state).where(correction.c.id == correction_id)
    state = connection.execute(wanted.with_for_update()).scalar()
    if state is None:
        raise ArchiveError(what, "there is no such correction")
    if state in _ENDED:
        raise CorrectionEndedError(what, f"the correction is {state} already")
    return CorrectionState(state)


def set_state(connection: Connection, correction_id: str, state: CorrectionState) -> None:
    """Say how far a correction is."""
    ended_at = wall_ms() if state in _ENDED else 0
    changed = update(correction).where(correction.c.id == correction_id)
    connection.execute(changed.values(state=state, ended_at=ended_at))


def end(connection: Connection, correction_id: str) -> None:
    """Say that a correction waits for its confirmation; one without a study never was."""
    wanted = select(corrected_study.c.study_key).where(
        corrected_study.c.correction_id == correction_id
    )
    if connection.execute(wanted.limit(1)).first() is not None:
        waits = update(correction).where(
            correction.c.id == correction_id, correction.c.state.not_in(_ENDED)
        )
        connection.execute(waits.values(state=CorrectionState.TO_CONFIRM))
        return
    connection.execute(delete(correction).where(correction.c.id == correction_id))


def is_corrected(connection: Connection, correction_id: str, study_key: int) -> bool:
    """Whether a correction has changed a study already."""
    wanted = select(corrected_study.c.instances).where(
        corrected_study.c.correction_id == correction_id, corrected_study.c.study_key == study_key
    )
    return connection.execute(wanted).first() is not None


def list_corrections(
    connection: Connection, *, correction_id: str = "", limit: int = 100
) -> list[dict[str, Any]]:
    """Corrections, the newest first, each with its studies and the bytes that are kept of it."""
    wanted = select(correction).order_by(correction.c.created_at.desc(), correction.c.id)
    if correction_id:
        wanted = wanted.where(correction.c.id == correction_id)
    rows = connection.execute(wanted.limit(limit)).mappings().all()
    return [_described(connection, row) for row in rows]


def _described(connection: Connection, row: RowMapping) -> dict[str, Any]:
    mine = corrected_study.c.correction_id == row["id"]
    studies = connection.execute(select(corrected_study).where(mine)).mappings().all()
    sizes = select(kept_object.c.file_size).where(kept_object.c.correction_id == row["id"])
    return {
        **row,
        "changes": json.loads(row["changes"] or "{}"),
        "studies": [
            {
                "study_instance_uid": each["study_instance_uid"],
                "instances": each["instances"],
                "before": json.loads(each["before"]),
                "after": json.loads(each["after"]),
            }
            for each in studies
        ],
        "kept_bytes": sum(connection.execute(sizes).scalars()),
    }
