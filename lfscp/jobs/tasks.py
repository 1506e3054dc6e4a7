"""What jobs do, by kind: the work itself, without its record and without the balancer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lfscp.jobs.model import JSON, Job, Kind, State

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.jobs.control import Control


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job came to its end without an error: done, or failed in part."""

    state: State = State.DONE
    reason: str = ""
    result: JSON = None


Task = Callable[[Job, "Control", "Archive", "Settings"], Ended]
TASKS: Final[Mapping[Kind, Task]] = {}


def perform(job: Job, control: Control, archive: Archive, settings: Settings) -> Ended:
    """Do the work of one job, in the calling thread.

    Raises:
        Stopped: somebody wished so.
        PeerError: a peer is down, or refuses.
        ArchiveError, OSError: the archive or a file cannot be used.
    """
    return TASKS[job.kind](job, control, archive, settings)
