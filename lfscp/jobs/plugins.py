"""Tells plug-ins of jobs that have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lfscp.plugins.events import EndedJob

if TYPE_CHECKING:
    from lfscp.jobs.model import Job
    from lfscp.plugins.plugins import Plugins


def job_teller(plugins: Plugins) -> Callable[[Job], None]:
    """What a job service calls with each job that has ended."""

    def tell(job: Job) -> None:
        peers = tuple(str(peer) for peer in job.peers)
        plugins.job_ended(
            EndedJob(job.id, str(job.kind), str(job.state), peers, job.done, job.failed, job.reason)
        )

    return tell
