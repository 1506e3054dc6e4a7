"""Finds the objects of the archive that a job names by its studies and series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.control import Control
from lfscp.jobs.model import Job

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive


def named_objects(job: Job, control: Control, archive: Archive) -> list[StoredInstance]:
    """The objects of a job's `studies` and `series`; what is not there becomes a problem of it.

    Raises:
        ArchiveError: the index cannot be read.
    """
    instances: list[StoredInstance] = []
    for level, name in ((Level.STUDY, "studies"), (Level.SERIES, "series")):
        for uid in job.parameters.get(name, []):
            found = archive.select(level, {level: [uid]})
            if not found:
                control.problem(uid, f"there is no such {level.lower()} in the archive")
            instances += found
    return once(instances)


def once(instances: list[StoredInstance]) -> list[StoredInstance]:
    """Each object once, though a study and its series may both be named."""
    return list({each.sop_instance_uid: each for each in instances}.values())
