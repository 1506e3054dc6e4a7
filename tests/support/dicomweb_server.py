"""DICOMweb servers for tests of the client side: a node's application on a real port, and one whose
answers are the test's own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.service import JobService
from lfscp.web.app import create_app
from lfscp.web.security.connection_limits import ConnectionLimits
from lfscp.web.server import HttpServer
from tests.support.web_app import state

Respond = Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]


@dataclass
class WebNode:
    """A node's application that listens; `url` is that of its DICOMweb services."""

    archive: Archive
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"


@contextmanager
def web_node(folder: Path, **sections: Any) -> Iterator[WebNode]:
    """The application of a node over a new archive in `folder`, on a free port."""
    settings = Settings.model_validate({"data_dir": str(folder), "durability": "os", **sections})
    with Archive.open(folder, durability="os") as archive:
        jobs = JobService(archive, settings)
        listeners = [socket.create_server(("127.0.0.1", 0))]
        server = HttpServer(
            lambda: create_app(settings, archive, jobs, state),
            listeners,
            ConnectionLimits(100, 0, 60.0, 0),
        )
        server.start()
        try:
            assert server.wait(60)
            yield WebNode(archive, server.address[1])
        finally:
            server.stop()
            jobs.terminate(5)


@contextmanager
def scripted(respond: Respond) -> Iterator[str]:
    """A server with these answers (status, headers, body) to every request; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = respond(self)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
