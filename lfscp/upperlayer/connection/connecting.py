"""Connects a requestor step by step on a non-blocking socket: TCP, then TLS."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Callable

Wait = Callable[[socket.socket, int], None]  # until the socket is ready for these poll events


def connect(
    sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int], wait: Wait
) -> None:
    """Connect; the socket does not block then.

    Raises:
        OSError: it cannot be connected, or `wait` says so.
    """
    sock.setblocking(False)
    problem = sock.connect_ex(address)
    if problem == errno.EINPROGRESS:
        wait(sock, select.POLLOUT)
        problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))


def secure(
    sock: socket.socket, tls_args: tuple[ssl.SSLContext, str | None], wait: Wait
) -> ssl.SSLSocket:
    """Do the requestor's side of a TLS handshake.

    Args:
        tls_args: the context, and the name that the peer's certificate must have.
    Raises:
        OSError: it fails, or `wait` says so; the socket is closed then.
    """
    context, server_hostname = tls_args
    secured = context.wrap_socket(
        sock, server_hostname=server_hostname, do_handshake_on_connect=False
    )
    try:
        _shake_hands(secured, wait)
    except BaseException:
        secured.close()
        raise
    return secured


def _shake_hands(sock: ssl.SSLSocket, wait: Wait) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            wait(sock, select.POLLIN)
        except ssl.SSLWantWriteError:
            wait(sock, select.POLLOUT)
        else:
            return
