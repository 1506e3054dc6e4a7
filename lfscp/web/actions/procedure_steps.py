"""Finds the performed procedure steps that modalities reported, and what of them has arrived."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from lfscp.archive.index.browsing import browse
from lfscp.archive.workflow.procedure_steps.rows import ProcedureStep, study_uid_of
from lfscp.web.actions import cursors
from lfscp.web.context import Web
from lfscp.web.problems import not_found

CURSOR: Final = (int,)  # types of the values of a cursor
STATUSES: Final = ("IN PROGRESS", "COMPLETED", "DISCONTINUED")


def page(
    web: Web,
    *,
    text: str = "",
    statuses: Collection[str] = (),
    study_uid: str = "",
    after: str | None = None,
    limit: int,
) -> tuple[list[ProcedureStep], str | None]:
    """A page of steps, the newest first, and the cursor of the next one.

    Args:
        after: the cursor of this page; None for the first one.
    Raises:
        Problem: it is no cursor.
    """
    given = cursors.from_text(after, CURSOR)
    found = web.procedure_steps.steps(
        text=text,
        statuses=statuses,
        study_uid=study_uid,
        after=given[0] if given else 0,
        limit=limit + 1,
    )
    following = cursors.to_text((found[limit - 1].id,)) if len(found) > limit else None
    return found[:limit], following


def step_of(web: Web, sop_instance_uid: str) -> ProcedureStep:
    """One step.

    Raises:
        Problem: it does not exist.
    """
    step = web.procedure_steps.get(sop_instance_uid)
    if step is None:
        raise not_found("performed procedure step", sop_instance_uid)
    return step


def has_study(web: Web, step: ProcedureStep) -> bool:
    """Whether something of the step's study is in the archive."""
    with web.index() as connection:
        return bool(browse.studies_of_uid(connection, study_uid_of(step.dataset)))
