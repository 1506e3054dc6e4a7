"""A node's DICOMweb on a socket of its own, for clients that need a real one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.service import JobService
from lfscp.web.app import create_app
from lfscp.web.security.connection_limits import ConnectionLimits
from lfscp.web.server import HttpServer
from tests.support.web_app import state


@contextmanager
def dicomweb_node(folder: Path, **sections: Any) -> Iterator[tuple[str, Archive]]:
    """The URL of the DICOMweb of a node, and its archive; `sections` are the settings' tables."""
    settings = Settings.model_validate({"data_dir": str(folder), **sections})
    listeners = [socket.create_server(("127.0.0.1", 0))]
    with Archive.open(folder, durability="os") as archive:
        jobs = JobService(archive, settings)
        server = HttpServer(
            lambda: create_app(settings, archive, jobs, state),
            listeners,
            ConnectionLimits(100, 0, 30, 0),
        )
        server.start()
        assert server.wait(60)
        try:
            yield f"http://127.0.0.1:{server.address[1]}/dicom-web", archive
        finally:
            server.stop()
            jobs.terminate(5)
