"""What systemd is told and what it hands over: readiness, status, watchdog, the listening socket.

The protocols are sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3): a datagram to the
socket named in the environment, two variables, and file descriptors from number 3 on. Without
systemd every function here does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_FIRST_DESCRIPTOR: Final = 3


class SystemdError(Exception):
    """What systemd handed over cannot be used."""


def notify(*assignments: str) -> bool:
    """Tell systemd, e.g. `notify("READY=1", "STATUS=listening")`; False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # a name in the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto("\n".join(assignments).encode(), address)
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float | None:
    """How often to send WATCHDOG=1: half of what the unit allows; None when it does not ask."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        allowed_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return allowed_us / 2e6 if allowed_us > 0 else None


def take_listening_socket(
    environment: MutableMapping[str, str], first_descriptor: int = _FIRST_DESCRIPTOR
) -> socket.socket | None:
    """The listening socket that systemd opened for this process, or None.

    The variables are removed, so that no child believes the socket to be its own.

    Raises:
        SystemdError: more than one socket, or one that is no TCP listener.
    """
    if environment.pop("LISTEN_PID", "") != str(os.getpid()):
        return None
    count = environment.pop("LISTEN_FDS", "0")
    environment.pop("LISTEN_FDNAMES", None)
    if count != "1":
        raise SystemdError(f"lfscp.socket: expected one ListenStream=, systemd handed over {count}")
    listener = socket.socket(fileno=first_descriptor)
    listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.type != socket.SOCK_STREAM or not listening:
        listener.close()
        raise SystemdError("lfscp.socket: expected a TCP ListenStream=")
    os.set_inheritable(first_descriptor, False)
    return listener
