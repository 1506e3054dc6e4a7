"""Where a node listens: the plain port and that of TLS, opened here or handed over.

A socket that is handed over, by systemd or by the node that this one follows on, listens already:
connections that wait there are served, none is refused.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.config.access import TLS
from lfscp.config.settings import ServerSettings
from lfscp.server.listener import bind
from lfscp.upperlayer.tls import ServerTLS, server_context

PLAIN: Final = "dicom"  # the names under which sockets are handed over
SECURE: Final = "dicom-tls"


class ListenError(Exception):
    """A port cannot be listened on; its text is one line for the administrator."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Sockets that listen, at least one.

    Args:
        plain: for associations without TLS.
        tls: for those with it.
    """

    plain: socket.socket | None
    tls: socket.socket | None

    @property
    def first(self) -> socket.socket:
        """The plain one; that of TLS when it is alone."""
        found = self.plain or self.tls
        assert found is not None  # noqa: S101 - the settings see to it
        return found

    @property
    def second(self) -> socket.socket | None:
        """That of TLS beside the plain one."""
        return self.tls if self.plain is not None else None

    def named(self) -> dict[str, socket.socket]:
        """The sockets under the names by which they are handed over."""
        both = {PLAIN: self.plain, SECURE: self.tls}
        return {name: sock for name, sock in both.items() if sock is not None}

    def close(self) -> None:
        """Close this process's descriptors."""
        for sock in self.named().values():
            sock.close()


def open_endpoints(
    server: ServerSettings, tls: TLS, handed_over: Mapping[str, socket.socket] | None = None
) -> Endpoints:
    """Listen where the settings say, on the sockets that were handed over where there are any.

    Raises:
        ListenError: a port cannot be had; nothing is left open.
    """
    found = dict(handed_over or {})
    opened: list[socket.socket] = []

    def one(name: str, key: str, port: int) -> socket.socket:
        if name in found:
            return found.pop(name)
        try:
            sock = bind((server.host, port), server.backlog)
        except OSError as error:
            for each in opened:
                each.close()
            raise listen_error(server.host, key, port, error) from error
        opened.append(sock)
        return sock

    plain = one(PLAIN, "server.port", server.port) if server.plain else None
    secure = one(SECURE, "tls.port", tls.port) if tls.enabled else None
    for unused in found.values():
        unused.close()
    return Endpoints(plain, secure)


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


def listen_error(host: str, key: str, port: int, error: OSError) -> ListenError:
    """Why a port cannot be listened on, and what can be done."""
    reason = error.strerror or str(error)
    return ListenError(f"cannot listen on {host}:{port}: {reason}; {_hint(key, error)}")


def _hint(key: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "ports below 1024 need a privilege; use lfscp.socket or another port"
    if error.errno == errno.EADDRINUSE:
        return f"choose another port ({key}), or stop what uses it"
    return "give server.host an address of this machine"
