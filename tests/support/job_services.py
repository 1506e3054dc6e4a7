"""A service of jobs whose work is the tests' own: of a node alone, or one that shares its index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job
from lfscp.jobs.service import JobService
from lfscp.jobs.sharing import SharedJobService


@contextmanager
def job_service(
    archive: Archive, perform: Callable[[Job, Control], JobEnd], **jobs: Any
) -> Iterator[JobService]:
    """Run a service; it is terminated at the end.

    Args:
        perform: does the work of each job.
        jobs: the settings of `[jobs]`.
    """
    settings = Settings.model_validate({"data_dir": archive.data_dir, "jobs": jobs})
    kind = SharedJobService if archive.index.is_shared else JobService
    service = kind(
        archive, settings, perform=lambda job, control, _archive, _settings: perform(job, control)
    )
    service.start()
    try:
        yield service
    finally:
        service.terminate(0.0)
