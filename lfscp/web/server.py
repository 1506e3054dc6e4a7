"""Runs the HTTP server: uvicorn in a thread of the node, on sockets that are bound beforehand.

The node binds the sockets first, so that an address in use is reported at once. Importing and
building the application takes longer, and happens in the server's thread; connections that come
early wait in the kernel.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from uvicorn import Server

    from lfscp.web.security.connection_limits import ConnectionLimits

LOG: Final = get_logger("lfscp.web")
BACKLOG: Final = 128  # connections beyond the limit that may be open for a moment
STOP_S: Final = 10
_BROKEN_OFF: Final = "ASGI callable returned without completing response."


def _is_news(record: logging.LogRecord) -> bool:
    """Whether uvicorn says what is not in the log yet: who breaks an answer off says why.

    Of requests that are called off when the server stops it also says how many there are.
    """
    error = record.exc_info[1] if record.exc_info else None
    return record.msg != _BROKEN_OFF and not isinstance(error, asyncio.CancelledError)


class HttpServer:
    """One HTTP server.

    Args:
        build: makes the application; called in the server's thread.
        listeners: sockets that listen, the page's first; the server closes them.
        limits: of its connections.
        before_stop: called with the application when the server stops, to end its endless answers.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        listeners: Sequence[socket.socket],
        limits: ConnectionLimits,
        before_stop: Callable[[Any], None] | None = None,
    ) -> None:
        self._build = build
        self._listeners = list(listeners)
        self._limits = limits
        self._before_stop = before_stop
        self._app: Any = None
        self._server: Server | None = None
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="lfscp-http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where the page is, with the port that the system chose for port 0."""
        host, port = self._listeners[0].getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Begin to serve; requests are answered when the application is built."""
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the application answers; False if it does not in time, or failed."""
        return self._ready.wait(timeout_s) and self._server is not None

    def stop(self) -> None:
        """Finish the running requests, within some seconds, and close the sockets."""
        with self._lock:
            self._stopped = True
            server = self._server
        if server is not None:
            if self._before_stop is not None:
                self._before_stop(self._app)
            server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(STOP_S + 5)
        for each in self._listeners:
            each.close()

    def _run(self) -> None:
        try:
            import uvicorn

            from lfscp.web.security.connection import LimitedProtocol

            app = self._build()
            protocol: Any = functools.partial(LimitedProtocol, self._limits)
            config = uvicorn.Config(
                app,
                log_config=None,
                log_level="error",  # what it warns of is counted and said by `refusals`
                access_log=False,
                server_header=False,
                lifespan="off",
                proxy_headers=False,
                loop="asyncio",
                http=protocol,
                ws="none",
                timeout_graceful_shutdown=STOP_S,
                timeout_keep_alive=math.ceil(self._limits.timeout_s),
                backlog=BACKLOG,
            )
            logging.getLogger("uvicorn.error").addFilter(_is_news)
            server = uvicorn.Server(config)
        except Exception as error:  # the node goes on without its page
            LOG.error("cannot serve the page", exc_info=error)  # noqa: TRY400 - our own logger
            self._ready.set()
            return
        with self._lock:
            if self._stopped:
                return
            self._app, self._server = app, server
        self._ready.set()
        server.run(sockets=self._listeners)
