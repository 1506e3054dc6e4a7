"""Splits a C-GET of more SOP classes than one association can propose over several associations.

Each association brings the objects of its SOP classes and fails the rest. An object has failed if
none of them brought it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.proposals import MAX_CONTEXTS
from lfscp.services.status import CANCELLED, SUB_OPERATIONS_COMPLETE_WITH_FAILURES, SUCCESS


@dataclass(frozen=True, slots=True)
class RetrieveProgress:
    """The counters of a pending response; `remaining` is None if the peer does not say."""

    remaining: int | None
    completed: int
    failed: int
    warning: int


@dataclass(frozen=True, slots=True)
class RetrieveResult:
    """The end of a retrieve: success, success in part (`failed`), or cancelled.

    Args:
        completed: of a C-GET, objects that were stored; of a C-MOVE, as the peer reports.
        failed_uids: SOP Instance UIDs that the peer could not send, as far as it reports them.
        comment: the peer's own words, if any.
    """

    status: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: tuple[str, ...] = ()
    comment: str = ""

    @property
    def is_cancelled(self) -> bool:
        """Whether a C-CANCEL ended it."""
        return self.status == CANCELLED


OnProgress = Callable[[RetrieveProgress], None]
GetOnce = Callable[[Sequence[str], OnProgress | None], RetrieveResult]


def get_in_parts(
    sop_classes: Sequence[str], get_once: GetOnce, progress: OnProgress | None
) -> RetrieveResult:
    """Get over as many associations as the SOP classes need; mostly one.

    Args:
        get_once: gets with these SOP classes over one association.
    Raises:
        PeerError: as `get_once`; a refusal only of the first.
    """
    result = get_once(sop_classes[:MAX_CONTEXTS], progress)
    for at in range(MAX_CONTEXTS, len(sop_classes), MAX_CONTEXTS):
        if result.is_cancelled or not result.failed:
            break
        follow = _following(result, progress)
        try:
            part = get_once(sop_classes[at : at + MAX_CONTEXTS], follow)
        except PeerError as error:
            if error.kind is not PeerErrorKind.REFUSED:
                raise
            break  # it has nothing of these SOP classes
        result = _together(result, part)
    return result


def _following(before: RetrieveResult, progress: OnProgress | None) -> OnProgress | None:
    if progress is None:
        return None

    def follow(part: RetrieveProgress) -> None:
        # Objects that failed before may still come; objects that fail now have come before.
        completed = before.completed + part.completed
        failed = max(0, before.failed - part.completed - part.warning)
        progress(RetrieveProgress(part.remaining, completed, failed, before.warning + part.warning))

    return follow


def _together(before: RetrieveResult, part: RetrieveResult) -> RetrieveResult:
    failed = max(0, before.failed - part.completed - part.warning)
    status = part.status
    if not part.is_cancelled:
        status = SUB_OPERATIONS_COMPLETE_WITH_FAILURES if failed else SUCCESS
    uids = frozenset(part.failed_uids)
    return replace(
        part,
        status=status,
        completed=before.completed + part.completed,
        warning=before.warning + part.warning,
        failed=failed,
        failed_uids=tuple(uid for uid in before.failed_uids if uid in uids) if failed else (),
        comment=part.comment if failed else "",
    )
