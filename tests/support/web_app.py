"""The application of a node with a small archive, asked in the test's own process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.service import JobService
from lfscp.web.app import create_app
from lfscp.web.status.state import NodeState, ProcessState
from tests.support.prepared import keep_web

keep_web()
HOME = "http://127.0.0.1:8080"


def state() -> NodeState:
    process = ProcessState(1, "Thread-1", 2, 1, 0, -1, False, "LF_ThreadPool-1[…]")
    return NodeState("LFSCP", "127.0.0.1", 11112, 1024, 0, time.time(), (process,))


@contextmanager
def serving(
    folder: Path, perform: Any = None, *, ohif_port: int | None = None, **sections: Any
) -> Iterator[TestClient]:
    """A client of the application; `sections` are the settings' tables."""
    settings = Settings.model_validate({"data_dir": str(folder), **sections})
    with (
        Archive.open(folder, durability="os", duplicates=settings.duplicates) as archive,
        serving_archive(archive, settings, perform, ohif_port) as client,
    ):
        yield client


@contextmanager
def serving_archive(
    archive: Archive, settings: Settings, perform: Any = None, ohif_port: int | None = None
) -> Iterator[TestClient]:
    """The same of an archive that is open."""
    jobs = JobService(archive, settings, **({"perform": perform} if perform else {}))
    jobs.start()
    app = create_app(settings, archive, jobs, state, ohif_port=ohif_port)
    try:
        with TestClient(app, base_url=HOME, raise_server_exceptions=False) as client:
            yield client
    finally:
        jobs.terminate(5)
