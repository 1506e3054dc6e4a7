"""Chooses what does the work of a job by its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.matches import MEGABYTE, Matches
from lfscp.jobs.model import Job, JobKind
from lfscp.jobs.peers.asking import Client, client_of
from lfscp.jobs.peers.levels import find_by_levels
from lfscp.jobs.tasks import correcting, exporting, retrieving, sending
from lfscp.observe import metrics
from lfscp.scu.errors import PeerError
from lfscp.scu.identifiers import identifier

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

Task = Callable[[Job, Control, "Archive", "Settings"], JobEnd]


def perform(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    """Do the work of one job, in the calling thread.

    Raises:
        JobStoppedError: the job was asked to stop.
        PeerError: a peer is down, or refuses.
        ArchiveError, OSError: the archive or a file cannot be used.
    """
    return TASKS[job.kind](job, control, archive, settings)


def _echo(job: Job, control: Control, _archive: Archive, settings: Settings) -> JobEnd:
    answer = client_of(job.peer, settings).echo(cancel=control.stop)
    control.progress.done = 1
    return JobEnd(result=asdict(answer))


class _Either:
    """A flag that is set when the job is to stop, or has enough matches."""

    def __init__(self, control: Control) -> None:
        self._stop = control.stop
        self.enough = False

    def is_set(self) -> bool:
        return self.enough or self._stop.is_set()


def _find(job: Job, control: Control, archive: Archive, settings: Settings) -> JobEnd:
    most = min(job.parameters.get("limit", settings.jobs.max_matches), settings.jobs.max_matches)
    cancel = _Either(control)
    matches = Matches(archive.incoming_dir, settings.budgets.job_mb * MEGABYTE)
    control.result = matches
    try:
        for match in _matches(job, client_of(job.peer, settings), cancel):
            if matches.count < most and matches.add(match):
                control.progress.done = matches.count
                control.report()
            else:
                cancel.enough = True
    except PeerError:
        if not cancel.enough:  # else the peer only ignored the C-CANCEL
            raise
    control.check()
    return JobEnd(reason=_cut(matches, settings) if cancel.enough else "", result=matches)


def _matches(job: Job, client: Client, cancel: _Either) -> Iterator[Dataset]:
    """What the peer finds; level by level from the top, if the job says so."""
    keys, level = job.parameters["keys"], job.parameters.get("level", "STUDY")
    model = job.parameters.get("model", "study")

    def find(wanted: Dataset) -> Iterator[Dataset]:
        return client.find(wanted, model, cancel=cancel)

    if job.parameters.get("hierarchical"):
        return find_by_levels(find, keys, level, model)
    return find(identifier(keys, level))


def _cut(matches: Matches, settings: Settings) -> str:
    if not matches.is_full:
        return f"only the first {matches.count} matches, there are more"
    metrics.JOBS_OVER_BUDGET.add()
    size = f"{settings.budgets.job_mb} MB (budgets.job_mb)"
    return f"cut off: only the first {matches.count} matches, more would take over {size}"


TASKS: Final[Mapping[JobKind, Task]] = {
    JobKind.ECHO: _echo,
    JobKind.FIND: _find,
    JobKind.RETRIEVE: retrieving.retrieve,
    JobKind.SEND: sending.send_objects,
    JobKind.COLLECT: retrieving.collect,
    JobKind.CORRECT: correcting.correct,
    JobKind.EXPORT: exporting.export,
}
