"""A process that is one of several nodes and runs jobs until it is killed: for the tests.

Arguments: the index's URL, its data folder, jobs at once here and on all nodes. It says "began" or
"ended" with the job's id; a job goes on until its data folder has a file of that id.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job
from lfscp.jobs.sharing import SharedJobService

LEASE_S = 1.5


def main() -> None:
    url, folder, max_active, of_all = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    jobs = {"max_active": max_active, "max_active_of_all": of_all, "lease_s": LEASE_S}
    settings = Settings.model_validate({"data_dir": folder, "jobs": jobs})

    def say(what: str, job: Job) -> None:
        sys.stdout.write(f"{what} {job.id}\n")
        sys.stdout.flush()

    def perform(job: Job, control: Control, *_: object) -> JobEnd:
        say("began", job)
        while not (folder.parent / job.id).exists():
            control.stop.wait(0.02)
            control.check()
        say("ended", job)
        return JobEnd(result=folder.name)

    place = folder.parent / "objects"
    with Archive.open(folder, index_url=url, objects_root=place, durability="os") as archive:
        SharedJobService(archive, settings, perform=perform).start()
        threading.Event().wait()


if __name__ == "__main__":
    main()
