"""Shows the storage commitments that peers asked for, and has a report sent again."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from lfscp.archive.workflow.commitment.commitment import OPEN, Commitment
from lfscp.archive.workflow.commitment.references import Failure
from lfscp.observe.logging import get_logger
from lfscp.web.actions import cursors
from lfscp.web.context import Web
from lfscp.web.problems import Problem, not_found

LOG: Final = get_logger("lfscp.web")
CURSOR: Final = (int,)  # types of the values of a cursor


def page(
    web: Web, *, states: Collection[str] = (), after: str | None = None, limit: int
) -> tuple[list[Commitment], str | None]:
    """A page of commitments, the newest first, and the cursor of the next one.

    Args:
        states: only those in one of these; none for all.
        after: the cursor of this page; None for the first one.
    Raises:
        Problem: it is no cursor.
    """
    given = cursors.from_text(after, CURSOR)
    last = given[0] if given else 0
    found = web.commitments.commitments(states=states, after=last, limit=limit + 1)
    following = cursors.to_text((found[limit - 1].id,)) if len(found) > limit else None
    return found[:limit], following


def commitment_of(web: Web, commitment_id: int) -> Commitment:
    """One commitment.

    Raises:
        Problem: it does not exist.
    """
    found = web.commitments.get(commitment_id)
    if found is None:
        raise not_found("commitment", str(commitment_id))
    return found


def failures_of(web: Web, commitment_id: int) -> list[Failure]:
    """The objects that the node did not commit to.

    Raises:
        Problem: the commitment does not exist.
    """
    commitment_of(web, commitment_id)
    return web.commitments.failures(commitment_id)


def is_due(commitment: Commitment) -> bool:
    """Whether its time of the next attempt means anything."""
    return commitment.state in OPEN


def retry(web: Web, commitment_id: int) -> Commitment:
    """Have it verified and reported now, once more or again.

    Raises:
        Problem: it does not exist, or its objects are not verified yet.
    """
    commitment_of(web, commitment_id)
    if not web.commitments.retry(commitment_id):
        detail = "its objects are still being verified; the report follows by itself"
        raise Problem(HTTPStatus.CONFLICT, detail)
    LOG.info("commitment is tried again on request", commitment=commitment_id)
    return commitment_of(web, commitment_id)
