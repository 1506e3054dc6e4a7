"""A process that runs jobs over an archive until it is killed, as a node would: for the tests.

Arguments: the data folder, a peer as JSON, and Study Instance UIDs to retrieve, one job each. It
says "stored" when the first object is in the archive, and stores no further one.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from lfscp.archive.archive import Archive, Received, Stored
from lfscp.config import Settings
from lfscp.jobs.request import JobRequest
from lfscp.jobs.service import JobService
from lfscp.scu.peer import Peer


def main() -> None:
    folder, peer, studies = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    settings = Settings.model_validate({"data_dir": folder, "jobs": {"max_active": 1}})
    archive = Archive.open(folder)
    service = JobService(archive, settings)
    store = archive.store

    def store_one(received: Received) -> Stored:
        stored = store(received)
        sys.stdout.write("stored\n")
        sys.stdout.flush()
        threading.Event().wait()
        return stored

    archive.store = store_one  # type: ignore[method-assign]
    service.start()
    for study in studies:
        keys = {"StudyInstanceUID": study}
        service.submit(JobRequest("retrieve", Peer.from_json(peer), {"keys": keys}))
    threading.Event().wait()


if __name__ == "__main__":
    main()
