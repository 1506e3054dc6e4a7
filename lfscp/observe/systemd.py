"""Talks to systemd: readiness, status, watchdog, and the listening socket that it hands over.

The protocols are sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3): a datagram to the
socket named in the environment, two variables, and file descriptors from number 3 on. Without
systemd every function here does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
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


def take_listening_sockets(
    environment: MutableMapping[str, str],
    names: Sequence[str],
    first_descriptor: int = _FIRST_DESCRIPTOR,
) -> dict[str, socket.socket]:
    """The listening sockets that systemd opened for this process, by name; none without systemd.

    The variables are removed, so that no child believes the sockets to be its own.

    Args:
        names: what they are for, in the order of the unit's ListenStream= lines. A socket whose
            FileDescriptorName= is one of these is that one, whatever the order.
    Raises:
        SystemdError: more sockets than names, or one that is no TCP listener.
    """
    if environment.pop("LISTEN_PID", "") != str(os.getpid()):
        return {}
    count = int(environment.pop("LISTEN_FDS", "0"))
    given = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not 1 <= count <= len(names):
        raise SystemdError(
            f"lfscp.socket: expected 1 to {len(names)} ListenStream=, systemd handed over {count}"
        )
    listeners = [_listener(first_descriptor + number) for number in range(count)]
    if set(given) <= set(names) and len(set(given)) == count:
        return dict(zip(given, listeners, strict=True))
    return dict(zip(names, listeners, strict=False))


def _listener(descriptor: int) -> socket.socket:
    listener = socket.socket(fileno=descriptor)
    listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.type != socket.SOCK_STREAM or not listening:
        listener.close()
        raise SystemdError("lfscp.socket: expected a TCP ListenStream=")
    os.set_inheritable(descriptor, False)
    return listener
