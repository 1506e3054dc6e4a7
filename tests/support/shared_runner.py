"""A process that is one of several nodes and runs jobs until it is killed: for the tests."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job
from lfscp.jobs.sharing import SharedJobService

LEASE_S = 1.5
DEADLINE_S = 60

# All come from one process that has loaded lfscp, which takes longer than what they then do.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Runner:
    """One such process. A job goes on until its data folder's parent has a file of the job's id.

    Args:
        max_active, of_all: jobs at once here and on all nodes.
    """

    def __init__(self, url: str, folder: Path, max_active: int = 10, of_all: int = 0) -> None:
        self.name = folder.name
        self._folder = folder
        hears, says = _processes.Pipe(duplex=False)
        self._process = _processes.Process(
            target=_run, args=(url, folder, max_active, of_all, says), daemon=True
        )
        self._process.start()
        says.close()
        self._said: queue.Queue[tuple[str, str]] = queue.Queue()
        threading.Thread(target=self._read, args=(hears,), daemon=True).start()

    def _read(self, hears: Connection) -> None:
        with hears:
            while True:
                try:
                    self._said.put(hears.recv())
                except EOFError:
                    return

    def says(self) -> tuple[str, str]:
        """The next thing that it says: "began" or "ended", and the job's id."""
        return self._said.get(timeout=DEADLINE_S)

    def is_silent(self) -> bool:
        """Whether it has said nothing more."""
        return self._said.empty()

    def release(self, job_id: str) -> None:
        """Let a job come to its end, whoever runs it."""
        (self._folder.parent / job_id).touch()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.join(DEADLINE_S)
        assert not self._process.is_alive()


def _run(url: str, folder: Path, max_active: int, of_all: int, says: Connection) -> None:
    jobs = {"max_active": max_active, "max_active_of_all": of_all, "lease_s": LEASE_S}
    settings = Settings.model_validate({"data_dir": folder, "jobs": jobs})
    saying = threading.Lock()

    def say(what: str, job: Job) -> None:
        with saying:
            says.send((what, job.id))

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
