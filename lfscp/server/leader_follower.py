"""Serves a pynetdicom AE with a leader/follower pool: the server's life, and each connection's.

The leader waits among the arrivals. It promotes a new leader as soon as one of them asks for an
association, and serves that itself, from the TLS handshake to the close. Nothing else: what is
asked of an association is the upper layer's, how threads take turns the pool's.

One hostile peer takes nothing from the others: who says nothing takes no thread (`arrivals`), who
stalls before there is an association gives its place to others (`unestablished`), and the
associations of one address are counted (`address_limits`). All together take no more than their
share of the process's open files.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from pynetdicom import evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from lfscp.observe.log_budget import REQUESTS
from lfscp.observe.metrics import PROMOTION, REFUSED
from lfscp.observe.open_files import most_open_files
from lfscp.pool import LeaderFollowerPool
from lfscp.python_build import require_gil
from lfscp.server.address_limits import MAX_OF_ADDRESS, AddressLimitError, AddressLimits, Place
from lfscp.server.arrivals import Arrival, Arrivals
from lfscp.server.capacity import NO_THREAD, Capacity
from lfscp.server.cpu_affinity import SharedProcessor
from lfscp.server.draining import IDLE_BEFORE_ABORT_S, Silence
from lfscp.server.listener import Address, Listener, ListenerClosedError, bind, queued
from lfscp.server.proxy_protocol import InvalidProxyHeaderError, ProbeOnlyError
from lfscp.server.refusals import Refusals
from lfscp.server.served_associations import ServedAssociations
from lfscp.server.settings import ServerSettings
from lfscp.server.unestablished import Unestablished
from lfscp.upperlayer.acceptor import (
    AcceptorSettings,
    forget_server,
    open_acceptor,
    register_server,
    serve_acceptor,
    unregister_server,
)
from lfscp.upperlayer.scp.association import AcceptorAssociation
from lfscp.upperlayer.scp.contexts import SupportedContexts
from lfscp.upperlayer.wire.rejections import Rejection

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

LOGGER = logging.getLogger(__name__)

_DRAIN_S: Final = 30.0  # what `close` gives associations to finish
_ABORT_S: Final = 5.0  # and then those that it aborts
_NOT_BOUND: Final = nullcontext()
_WATCHING_CONNECTIONS: Final = (evt.EVT_CONN_OPEN, evt.EVT_CONN_CLOSE)


def _is_over() -> bool:
    return False


class LeaderFollowerServer(ServedAssociations):
    """A drop-in for what `AE.start_server(block=False)` returns, served by a pool.

    `with` starts the server, and closes it at the end:

        with LeaderFollowerServer(ae, ("", 11112), evt_handlers=handlers) as server:
            server.serve_forever()

    Args:
        ae: the pynetdicom AE to serve; its timeouts, PDU size and limits hold.
        address: host and port to listen on; port 0 lets the system choose.
        evt_handlers: pynetdicom's (event, handler) or (event, handler, arguments).
        ssl_context: for TLS.
        ae_title: the AE title it answers to; default the AE's.
        contexts: the supported presentation contexts; default the AE's.
        max_running: most associations served at once and threads waiting; 0 is no limit.
        max_waiting: most threads waiting to lead; -1 is no limit.
        threads: threads to begin with.
        settings: everything else that can be chosen.
        options: single settings by name, instead of those in `settings`.
    Raises:
        ValueError: there are no presentation contexts, a cap is out of range, or there is an
            address for TLS and no context.

    Attributes:
        settings: with what was given as an option.
        ssl_context, receive_limits: may be replaced while it runs, for the associations to come.
        limits: what one address may do; its numbers may be changed while it runs.
        one_processor: where threads are bound to one processor; None when they are not. Its
            `look_again` wants to be called every few seconds, for who has fallen silent since.
    """

    _arrivals: Arrivals  # both are made by `start`
    _acceptors: AcceptorSettings

    def __init__(
        self,
        ae: ApplicationEntity,
        address: Address,
        evt_handlers: Iterable[evt.EventHandlerType] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ae_title: str | None = None,
        contexts: Sequence[PresentationContext] | None = None,
        max_running: int = 0,
        max_waiting: int = -1,
        threads: int = 1,
        *,
        settings: ServerSettings | None = None,
        **options: Any,
    ) -> None:
        super().__init__(evt_handlers or ())
        self.settings = settings = replace(settings or ServerSettings(), **options)
        self.ae = ae
        self.ae_title = ae_title or ae.ae_title
        self.contexts = list(contexts or ae.supported_contexts)
        if ssl_context is None and (settings.tls_address or settings.tls_socket):
            raise ValueError("tls_address without ssl_context: TLS needs a certificate")
        self.ssl_context = ssl_context
        self.server_address: Address = address
        self.socket = settings.listen_socket
        self.tls_address = settings.tls_address
        self.tls_socket = settings.tls_socket
        self.pool = LeaderFollowerPool(
            self._handle,
            max_running=max_running,
            max_waiting=max_waiting,
            wake_leader=self._wake_leader,
            max_idle_s=settings.max_idle_s,
        )
        self._threads = threads
        self._supported = SupportedContexts(
            self.contexts,
            accept_unknown_storage=settings.accept_unknown_storage,
            storage_classes=settings.storage_classes,
        )
        if self._supported.is_nothing:
            raise ValueError("no supported presentation contexts: give contexts, or add them to ae")
        self.limits = settings.limits or AddressLimits(MAX_OF_ADDRESS)
        self.receive_limits = settings.receive_limits
        self.one_processor = SharedProcessor() if settings.one_processor else None
        self._listener: Listener | None = None
        self._unestablished = Unestablished()
        self._capacity = Capacity(most_open_files())
        self._refusals = Refusals()
        self._taken_at = 0.0  # monotonic; when nobody has led since: 0 once somebody does
        self._is_shut_down = threading.Event()

    # --- life ---

    def __enter__(self) -> Self:
        """Start, unless it was started.

        Raises:
            OSError, RuntimeError: as for `start`.
        """
        if self._listener is None:
            self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def serve_forever(self) -> None:
        """Start, unless it was started, and wait until `shutdown`.

        Ctrl-C in the main thread shuts the server down as well, as it does in
        `AE.start_server(block=True)`. Associations that run go on; see `close`.

        Raises:
            OSError, RuntimeError: as for `start`.
        """
        if self._listener is None:
            self.start()
        try:
            self._is_shut_down.wait()
        except KeyboardInterrupt:
            self.shutdown()

    def close(self, timeout_s: float | None = _DRAIN_S) -> None:
        """Shut down, let associations finish, and abort those that last longer.

        Args:
            timeout_s: longest wait in seconds before they are aborted; None waits for ever.
        """
        self.shutdown()
        if not self.drain(timeout_s):
            self.abort_all()
            self.drain(_ABORT_S)

    def start(self) -> None:
        """Listen, and start the pool; returns once connections are accepted.

        Raises:
            OSError: the address cannot be listened on.
            RuntimeError: it was started before, or Python is a free-threaded build.
        """
        if self._listener is not None:
            raise RuntimeError("the server was started before; make a new one")
        require_gil()
        self._listen(self._bind())
        settings = self.settings
        self._acceptors = AcceptorSettings(
            ae=self.ae,
            ae_title=self.ae_title,
            local=self.address_info,
            bindings=self._bindings,
            supported=self._supported,
            admit=settings.admit,
            spool_dir=settings.spool_dir,
            file_header=settings.file_header,
            examine=settings.examine,
            server=self,
            limits=self.receive_limits,
        )
        register_server(self.ae, self)
        self.pool.start(self._threads)

    def _listen(self, sock: socket.socket) -> None:
        capacity = self._capacity
        self._arrivals = Arrivals(
            timeout_s=lambda: self.ae.acse_timeout,
            refuse=self._refusals.note,
            speaks_tls=self._speaks_tls,
            has_proxy_header=self.settings.proxies is not None,
            hands_over_ends=self._watches_connections,
            most=capacity.most_arrivals,
            most_of_address=lambda: capacity.most_arrivals_of_address(self.limits.max_associations),
        )
        self._listener = Listener(
            sock,
            self.tls_socket,
            beside=self._arrivals.fileno(),
            on_shortage=self._arrivals.make_room,
        )

    def _speaks_tls(self) -> bool:
        """Whether the connection that was accepted last came to where TLS is spoken."""
        assert self._listener is not None  # noqa: S101 - it has accepted one
        if self.ssl_context is None:
            return False
        return self.tls_socket is None or self._listener.accepted_by is self.tls_socket

    def _watches_connections(self) -> bool:
        return any(self._bindings.handlers(event) for event in _WATCHING_CONNECTIONS)

    def _bind(self) -> socket.socket:
        """Listen where nobody does yet; what listens at the first address."""
        try:
            if self.socket is None:
                self.socket = bind(self.server_address, self.settings.backlog)
            self.server_address = self.socket.getsockname()
            if self.tls_socket is None and self.tls_address is not None:
                self.tls_socket = bind(self.tls_address, self.settings.backlog)
            if self.tls_socket is not None:
                self.tls_address = self.tls_socket.getsockname()
        except BaseException:
            self.server_close()
            raise
        return self.socket

    def shutdown(self) -> None:
        """Accept no more connections. Associations that run go on; see `drain`."""
        self.pool.shutdown()
        self.server_close()
        if self._listener is not None and self.pool.running == 0:
            self._arrivals.close()
        unregister_server(self.ae, self)
        self._is_shut_down.set()

    def server_close(self) -> None:
        """Close the listening sockets."""
        if self._listener is not None:
            self._listener.close()
            return
        for each in (self.socket, self.tls_socket):
            if each is not None:
                each.close()

    def drain(self, timeout_s: float | None = None, *, abort_idle: bool = True) -> bool:
        """Wait until the last association has ended, after `shutdown`.

        An association that has asked nothing for a second, or whose peer is silent in mid-message,
        is aborted: it would only hold up the end.

        Args:
            timeout_s: longest wait in seconds; None waits for ever.
            abort_idle: False lets those be, when nobody waits for the end.
        Returns:
            True when nobody is left.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        silence = Silence()
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            step = IDLE_BEFORE_ABORT_S if left is None else min(left, IDLE_BEFORE_ABORT_S)
            if self.pool.drain(step):
                self._refusals.say_left_out(now=True)
                REQUESTS.say_left_out()
                forget_server(self.ae, self)
                return True
            if left is not None and left <= step:
                return False
            if abort_idle:
                self._abort_silent(silence)

    # --- what the pool's threads run ---

    def _wake_leader(self) -> None:
        if self._listener is not None:
            self._listener.wake()

    def _handle(self, pool: LeaderFollowerPool) -> None:
        """Lead: wait until somebody asks, let another thread lead, serve. The pool's handler."""
        assert self._listener is not None  # noqa: S101 - start() made it before any thread
        if self._taken_at:
            PROMOTION.observe(time.monotonic() - self._taken_at)
            self._taken_at = 0.0
        self._refusals.say_left_out()
        try:
            arrival = self._arrivals.next(
                self._listener, timeout_s=1.0 if self._refusals.budget.is_over else None
            )
        except ListenerClosedError:
            pool.shutdown()  # also after `server_close` alone: there is nothing left to lead for
            self._is_shut_down.set()
            self._serve_the_last()
            return
        if arrival is None:
            return
        self._taken_at = time.monotonic()
        is_alone = not pool.promote_new_leader() and self._leads_still(pool)
        self._serve_arrival(arrival, NO_THREAD if is_alone else None)
        if pool.is_shutdown:
            self._serve_the_last()

    @staticmethod
    def _leads_still(pool: LeaderFollowerPool) -> bool:
        """Whether nobody else can lead, for want of a thread, while others serve."""
        state = pool.state()
        return state.leader == threading.current_thread().name and state.running > 1

    def _serve_the_last(self) -> None:
        """Serve those who had just connected when the server was told to stop."""
        threads: list[threading.Thread] = []
        while (arrival := self._arrivals.last()) is not None:
            thread = threading.Thread(target=self._serve_arrival, args=(arrival,), daemon=True)
            try:
                thread.start()
                threads.append(thread)
            except RuntimeError:  # no thread can be started
                self._serve_arrival(arrival)
        self._arrivals.close()
        for thread in threads:
            thread.join()

    def _serve_arrival(self, arrival: Arrival, refusal: Rejection | None = None) -> None:
        """Serve a connection to its end, whatever becomes of it."""
        try:
            self._serve(arrival, refusal)
        except Exception:
            LOGGER.exception("An association failed")
        finally:
            arrival.is_under_way = _is_over
            arrival.connection.close()

    def _serve(self, arrival: Arrival, refusal: Rejection | None) -> None:
        address = self._peer_of(arrival)
        if address is None:
            return
        if not self.limits.is_on:
            self._serve_association(arrival, address, None, refusal)
            return
        try:
            place = self.limits.counting(address[0])
        except AddressLimitError:
            REFUSED.of("far_over_limit").add()
            return
        with place:
            self._serve_association(arrival, address, place, refusal)

    def _peer_of(self, arrival: Arrival) -> Address | None:
        """The address of the peer, which a proxy may tell; None when nobody is to be served."""
        if self.settings.proxies is None:
            return arrival.address
        try:
            return self.settings.proxies.peer_of(arrival.connection, arrival.address)
        except InvalidProxyHeaderError as problem:
            host = arrival.address[0]
            if self._refusals.budget.allows(host):
                LOGGER.warning("Closing a connection of %s: %s", host, problem)
        except ProbeOnlyError:
            pass
        return None

    def _serve_association(
        self, arrival: Arrival, address: Address, place: Place | None, refusal: Rejection | None
    ) -> None:
        if self._acceptors.limits is not self.receive_limits:
            self._acceptors = replace(self._acceptors, limits=self.receive_limits)
        association = open_acceptor(self._acceptors, arrival.connection, address, arrival.since)
        ssl_context = self.ssl_context if arrival.is_tls else None
        arrival.is_under_way = association.is_beginning
        with self._lock:
            self._associations[association] = None
        self._capacity.hold(association, lambda: len(self._associations), place, refusal)
        # Encryption needs no interpreter: it may well take place on several processors.
        gathering = self.one_processor if ssl_context is None else None
        try:
            self._unestablished.enter(association)
            with _NOT_BOUND if gathering is None else gathering.member(association.idle_s):
                serve_acceptor(association, address, ssl_context)
        finally:
            self._unestablished.leave(association)
            with self._lock:
                self._associations.pop(association, None)
            self._report(association)

    def _report(self, association: AcceptorAssociation) -> None:
        if association.end_reason is not None:
            address = association.requestor.address or ""
            association.is_worth_a_line = self._refusals.budget.allows(address)
        if self.settings.on_end is not None:
            self.settings.on_end(association)
        elif association.end_reason is not None and association.is_worth_a_line:
            LOGGER.warning(
                "Association %d of %s ended: %s",
                association.serial,
                association.requestor.address,
                association.end_reason,
            )

    # --- what can be asked of it ---

    @property
    def address_info(self) -> AddressInformation:
        """The listening address, as pynetdicom tells it."""
        return AddressInformation.from_tuple(self.server_address)

    def queued(self) -> int:
        """How many connections wait in the kernel for a leader."""
        return sum(queued(sock) for sock in (self.socket, self.tls_socket) if sock is not None)
