"""The application of a node on a socket of its own: what is sent there passes no test client."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi.testclient import TestClient

from lfscp.config import Settings
from lfscp.web.security.connection_limits import ConnectionLimits
from lfscp.web.server import HttpServer

WAIT_S = 60
START_S = 30


@contextmanager
def on_socket(client: TestClient) -> Iterator[HttpServer]:
    """Serve the application of a test client on a free port."""
    web: Any = Settings().web
    places = ConnectionLimits(
        web.max_connections, web.max_connections_per_address, web.timeout_s, web.min_rate
    )
    with listening(client.app, places) as server:
        yield server


@contextmanager
def listening(app: Any, places: ConnectionLimits) -> Iterator[HttpServer]:
    """Serve an application on a free port, within some limits."""
    server = HttpServer(lambda: app, [socket.create_server(("127.0.0.1", 0))], places)
    server.start()
    assert server.wait(START_S)
    try:
        yield server
    finally:
        server.stop()


def ask(
    server: HttpServer, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """An answer on a connection of its own, with its body; `_` in a header's name is `-`."""
    connection = http.client.HTTPConnection(*server.address, timeout=WAIT_S)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers={**sent, "Connection": "close"})
    answer = connection.getresponse()
    return answer, answer.read()
