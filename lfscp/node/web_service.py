"""The page of a node and its jobs: the sockets, the HTTP server behind them, and the job service.

Binding happens at start, so that a port that cannot be had is said at once. What costs time,
importing and building the application, waits for the first connection, for a moment in which the
node has nothing else to do, or for jobs that the last run left unfinished: no modality ever waits
for the page.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from lfscp.node.errors import NodeError
from lfscp.observe.logging import get_logger
from lfscp.observe.open_files import allow_most_open_files

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.jobs.service import JobService
    from lfscp.node.handover import Taken
    from lfscp.plugins.plugins import Plugins
    from lfscp.web.security.connection_limits import ConnectionLimits
    from lfscp.web.security.forwarded import ReverseProxies
    from lfscp.web.server import HttpServer
    from lfscp.web.status.state import NodeState

LOG: Final = get_logger("lfscp.web")
JOBS_STOP_S: Final = 5.0  # how long active jobs may go on when the node stops
IDLE_S: Final = 10  # without any association, before the page is built unasked
PAGE: Final = "page"  # the names of the sockets in a handover
OHIF: Final = "ohif"
JOBS_LOCK: Final = "jobs.lock"
_LOOK_AGAIN_S: Final = 0.2
_BACKLOG: Final = 128


def bind_page(settings: Settings, taken: Taken | None = None) -> socket.socket | None:
    """Listen for the page; None when it is off, or when nobody asked for the port that is taken.

    Args:
        taken: of the node that this one follows on; its page's socket listens already.
    Raises:
        NodeError: the port that was asked for cannot be had.
    """
    web = settings.web
    if not web.enabled:
        return None
    allow_most_open_files()  # of which the page has a share
    handed_over = taken.take(PAGE, web.port) if taken is not None else None
    if handed_over is not None:
        return handed_over
    try:
        listener = _listen(web.host, web.port)
    except OSError as error:
        reason = _reason(error)
        if web.model_fields_set & {"port", "host"}:
            raise NodeError(
                f"cannot serve the page on {web.host}:{web.port}: {reason}; choose another "
                "--http-port, or --no-http"
            ) from error
        LOG.warning("no page", host=web.host, port=web.port, reason=reason, hint="set --http-port")
        return None
    LOG.info("page", url=f"http://{web.host}:{listener.getsockname()[1]}/")
    return listener


def bind_ohif(settings: Settings, taken: Taken | None = None) -> socket.socket | None:
    """Listen for OHIF; None when it is off or not installed, or nobody asked for a taken port.

    Args:
        taken: of the node that this one follows on; its socket listens already.
    Raises:
        NodeError: the port that was asked for cannot be had.
    """
    from lfscp.web.ohif.installation import read_installation

    host, ohif = settings.web.host, settings.ohif
    is_chosen = "port" in ohif.model_fields_set
    if not ohif.enabled or not (is_chosen or read_installation(settings.data_dir)):
        return None
    handed_over = taken.take(OHIF, ohif.port) if taken is not None else None
    if handed_over is not None:
        return handed_over
    try:
        listener = _listen(host, ohif.port)
    except OSError as error:
        reason = _reason(error)
        if is_chosen:
            raise NodeError(
                f"cannot serve OHIF on {host}:{ohif.port}: {reason}; choose another ohif.port, or "
                "set ohif.enabled to false"
            ) from error
        LOG.warning("no OHIF", host=host, port=ohif.port, reason=reason, hint="set ohif.port")
        return None
    LOG.info("OHIF", url=f"http://{host}:{listener.getsockname()[1]}/")
    return listener


def _listen(host: str, port: int) -> socket.socket:
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


class WebService:
    """Jobs and page of one node, in threads of their own.

    Args:
        listener: what `bind_page` gave; closed by `stop`.
        node_state: the node as it is now; called from any thread.
        ohif: what `bind_ohif` gave; closed by `stop`.
        plugins: hear of jobs that end, and bring routes.
    """

    def __init__(
        self,
        settings: Settings,
        archive: Archive,
        listener: socket.socket,
        node_state: Callable[[], NodeState],
        ohif: socket.socket | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._listeners = [listener] if ohif is None else [listener, ohif]
        self._ohif_port: int | None = None if ohif is None else ohif.getsockname()[1]
        self._node_state = node_state
        self._plugins = plugins
        self._jobs: JobService | None = None
        self._server: HttpServer | None = None
        self._app: Any = None
        self._proxies: ReverseProxies | None = None
        self._building = threading.Lock()
        self._jobs_lock = -1
        self._stopping = False
        self._stop_reader, self._stop_writer = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._begin, name="lfscp-web-start", daemon=True)

    def start(self) -> None:
        """Wait for the first visitor in a thread of its own; returns at once."""
        self._thread.start()

    def renew(self, settings: Settings) -> None:
        """Take over settings that were read again: peers, users, tokens, proxies."""
        with self._building:
            self._settings = settings
            if self._proxies is not None:
                self._proxies.renew(settings.web.trusted_proxies)
            if self._jobs is not None:
                self._jobs.renew(settings)
            if self._app is not None:
                from lfscp.web.app import renew

                renew(self._app, settings)

    def stop_jobs(self) -> None:
        """End the jobs; the page goes on, and says that the node is stopping."""
        self._stopping = True
        os.write(self._stop_writer, b".")
        self._thread.join()
        if self._jobs is not None:
            self._jobs.terminate(JOBS_STOP_S)
        if self._jobs_lock >= 0:
            os.close(self._jobs_lock)  # a successor may go on with them
            self._jobs_lock = -1

    def stop(self) -> None:
        """End page and jobs; what was left of the jobs runs again after the next start."""
        if not self._stopping:
            self.stop_jobs()
        if self._server is not None:
            self._server.stop()
        for each in self._listeners:
            each.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _begin(self) -> None:
        """Build and start when there is a reason to; runs in a thread of its own."""
        try:
            if not self._take_jobs():
                return
            if not self._has_unfinished_jobs():
                self._wait_for_visitor()
            if self._stopping:
                return
            from lfscp.jobs.plugins import job_teller
            from lfscp.jobs.sharing import job_service
            from lfscp.web.security.forwarded import ReverseProxies
            from lfscp.web.server import HttpServer

            with self._building:
                self._jobs = job_service(self._archive, self._settings)
                if self._plugins is not None:
                    self._jobs.on_ended = job_teller(self._plugins)
            self._jobs.start()
            with self._building:
                self._proxies = ReverseProxies(self._settings.web.trusted_proxies)
            limits = _connection_limits(self._settings, self._proxies)
            self._server = HttpServer(self._build, self._listeners, limits, _end_streams)
            self._server.start()
        except Exception as error:  # the node goes on without its page
            LOG.error("the page cannot be served", exc_info=error)  # noqa: TRY400 - our own logger

    def _take_jobs(self) -> bool:
        """Wait until the node that this one follows on has ended its jobs; False: told to stop."""
        self._jobs_lock = os.open(
            self._archive.data_dir / JOBS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        while True:
            try:
                fcntl.flock(self._jobs_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if select.select([self._stop_reader], [], [], _LOOK_AGAIN_S)[0]:
                    return False
            else:
                return True

    def _wait_for_visitor(self) -> None:
        poll = select.poll()
        for each in self._listeners:
            poll.register(each, select.POLLIN)
        poll.register(self._stop_reader, select.POLLIN)
        while not poll.poll(IDLE_S * 1000) and self._is_busy():
            pass

    def _is_busy(self) -> bool:
        return any(process.associations for process in self._node_state().processes)

    def _build(self) -> Any:
        from lfscp.web.app import create_app

        assert self._jobs is not None  # noqa: S101 - made before the server
        with self._building:
            self._app = create_app(
                self._settings,
                self._archive,
                self._jobs,
                self._node_state,
                self._proxies,
                self._ohif_port,
                self._plugins,
            )
        _spare_the_collector()
        return self._app

    def _has_unfinished_jobs(self) -> bool:
        if self._archive.index.is_shared:
            return True  # another node's may come at any time
        from sqlalchemy import select as query

        from lfscp.archive.index.tables.job_tables import job

        unfinished = query(job.c.id).where(job.c.state.in_(("sleeping", "active"))).limit(1)
        with self._archive.index.engine.connect() as connection:
            return connection.execute(unfinished).first() is not None


def _spare_the_collector() -> None:
    """Keep what is loaded by now from the garbage collector.

    The page is some 80,000 objects that stay. To look through them again and again stops every
    thread of the node for 30 to 60 ms each time.
    """
    gc.collect()
    gc.freeze()


def _connection_limits(settings: Settings, proxies: ReverseProxies) -> ConnectionLimits:
    from lfscp.web.security.connection_limits import ConnectionLimits

    web = settings.web
    return ConnectionLimits(
        web.max_connections,
        web.max_connections_per_address,
        web.timeout_s,
        web.min_rate,
        proxies,
    )


def _end_streams(app: Any) -> None:
    from lfscp.web.app import events_of, renderer_of

    events_of(app).close()
    renderer_of(app).close()
