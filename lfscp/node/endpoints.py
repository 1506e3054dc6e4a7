"""Where a node listens: the ports of DICOM and that of HL7, opened here or handed over.

A socket that is handed over, by systemd or by the node that this one follows on, listens already:
connections that wait there are served, none is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.config.access import TLS
from lfscp.config.server import ServerSection
from lfscp.config.settings import Settings
from lfscp.node.errors import NodeError
from lfscp.observe import systemd
from lfscp.server.listener import bind
from lfscp.upperlayer.connection.tls import ServerTLS, server_context

if TYPE_CHECKING:
    from lfscp.node.handover import Taken

PLAIN: Final = "dicom"  # the names under which sockets are handed over
SECURE: Final = "dicom-tls"
HL7: Final = "hl7"


class Endpoints:
    """Sockets that listen, at least one.

    Args:
        sockets: by the names under which they are handed over, the plain one first.

    Attributes:
        address: where the node listens, with the port that the system chose for port 0.
        tls_port: the port of TLS; None when there is none.
    """

    def __init__(self, sockets: dict[str, socket.socket]) -> None:
        self.sockets = sockets
        # Asked for once: they are still told when the sockets are closed.
        host, port = self.first.getsockname()[:2]
        self.address = str(host), int(port)
        self.tls_port = sockets[SECURE].getsockname()[1] if SECURE in sockets else None

    @property
    def first(self) -> socket.socket:
        """The plain one; that of TLS when it is alone."""
        return next(iter(self.sockets.values()))

    @property
    def second(self) -> socket.socket | None:
        """That of TLS beside the plain one."""
        return self.sockets.get(SECURE) if PLAIN in self.sockets else None

    def close(self) -> None:
        """Close this process's descriptors."""
        for sock in self.sockets.values():
            sock.close()


def open_endpoints(settings: Settings, taken: Taken | None = None) -> Endpoints:
    """Listen where the settings say, or on what systemd or a predecessor hands over.

    Raises:
        NodeError, SystemdError: it is not possible; nothing is left open.
    """
    server, tls = settings.server, settings.tls
    wanted = [(PLAIN, "server.port", server.port)] if server.plain else []
    if tls.enabled:
        wanted.append((SECURE, "tls.port", tls.port))
    names = (PLAIN, SECURE) if server.plain else (SECURE,)
    given = systemd.take_listening_sockets(os.environ, names)
    sockets: dict[str, socket.socket] = {}
    with ExitStack() as opened:
        for name, key, port in wanted:
            sock = given.pop(name, None) or (taken and taken.take(name, port))
            sockets[name] = opened.enter_context(sock or _listen(server, key, port))
        opened.pop_all()
    for unused in given.values():
        unused.close()
    return Endpoints(sockets)


def _listen(server: ServerSection, key: str, port: int) -> socket.socket:
    try:
        return bind((server.host, port), server.backlog)
    except OSError as error:
        raise listen_error(server.host, key, port, error) from error


def open_hl7(settings: Settings, taken: Taken | None = None) -> socket.socket | None:
    """Listen for HL7, or on what a predecessor hands over; None when that is off.

    Raises:
        NodeError: it is not possible.
    """
    host, port = settings.worklist.hl7_host.strip("[]"), settings.worklist.hl7_port
    if not port:
        return None
    handed_over = taken.take(HL7, port) if taken is not None else None
    if handed_over is not None:
        return handed_over
    try:
        return bind((host, port), settings.server.backlog)
    except OSError as error:
        raise listen_error(host, "worklist.hl7_port", port, error) from error


def listen_error(host: str, key: str, port: int, error: OSError) -> NodeError:
    """Why a port cannot be listened on, and what can be done."""
    reason = error.strerror or str(error)
    return NodeError(f"cannot listen on {host}:{port}: {reason}; {_hint(key, error)}")


def _hint(key: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "ports below 1024 need a privilege; use lfscp.socket or another port"
    if error.errno == errno.EADDRINUSE:
        return f"choose another port ({key}), or stop what uses it"
    host = "worklist.hl7_host" if key == "worklist.hl7_port" else "server.host"
    return f"give {host} an address of this machine"


def tls_context(tls: TLS) -> ssl.SSLContext | None:
    """What the listener for TLS needs; None when there is none.

    Raises:
        TLSFilesError: a certificate or key cannot be used.
    """
    if not tls.enabled:
        return None
    certificate = Path(tls.certificate_file)
    return server_context(
        ServerTLS(
            certificate,
            Path(tls.key_file) if tls.key_file else certificate,
            Path(tls.ca_file) if tls.ca_file else None,
            tls.client_auth,
            tls.profile,
            tls.minimum_version,
        )
    )
