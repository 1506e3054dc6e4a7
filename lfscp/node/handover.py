"""Handing a node's place to its successor: sockets that listen, and the lock on the data folder.

A node offers itself at a Unix socket in its data folder. A successor asks there, gets copies of the
descriptors, starts, and says that it is ready; only then does the old node stop accepting and
drain. The sockets never close, so connections that wait in them are served by the one or the other:
none is refused. A successor that fails before it is ready changes nothing. The lock is one for all
who hold a copy of its descriptor, so nobody else gets the data folder meanwhile.

Only processes of the same user, and root, may ask.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.node.errors import NodeError
from lfscp.node.signals import SignalPipe
from lfscp.observe.logging import get_logger, mark_lines

LOG: Final = get_logger("lfscp.node")
FILE: Final = "handover.sock"
OPTION: Final = "--take-over"
_REQUEST: Final = b"lfscp handover 1\n"
_READY: Final = b"ready\n"
_ANSWER_S: Final = 10.0
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
_MAX_DESCRIPTORS: Final = 16


@dataclass(frozen=True, slots=True)
class Taken:
    """What a successor got.

    Args:
        sockets: they listen already, by name.
        lock: descriptor of the data folder's lock.
        channel: to the node that runs.
    """

    sockets: dict[str, socket.socket]
    lock: int
    channel: socket.socket

    def take(self, name: str, port: int) -> socket.socket | None:
        """Take the socket of a name; None when there is none, or another port is configured by now.

        Args:
            port: 0 is any.
        """
        sock = self.sockets.get(name)
        if sock is None or port not in (0, sock.getsockname()[1]):
            return None
        return self.sockets.pop(name)

    def ready(self) -> None:
        """Say that this node accepts: from now on the other does not."""
        with contextlib.suppress(OSError):  # it has ended: then nobody need be told
            self.channel.sendall(_READY)
        self.channel.close()

    def close_unused(self) -> None:
        """Close what was not taken: else connections would wait where nobody accepts them."""
        for each in self.sockets.values():
            each.close()

    def give_back(self) -> None:
        """Give up: the node that runs goes on. The lock is the archive's, if that has it."""
        self.channel.close()
        self.close_unused()


def take_over(data_dir: Path) -> Taken | None:
    """Ask the node that runs on a data folder for its place; None when there is none.

    Raises:
        NodeError: it runs, but did not hand over.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.settimeout(_ANSWER_S)
        with _address(data_dir, FILE) as address:
            channel.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except OSError as error:
        channel.close()
        raise NodeError(f"cannot ask the node of {data_dir}: {error.strerror}") from error
    try:
        channel.sendall(_REQUEST)
        message, descriptors, _, _ = socket.recv_fds(channel, 4096, _MAX_DESCRIPTORS)
        names = json.loads(message)
    except (OSError, ValueError) as error:
        channel.close()
        raise NodeError(f"the node of {data_dir} did not hand over; is it of this user?") from error
    for each in descriptors:
        os.set_inheritable(each, False)
    *listening, lock = descriptors
    sockets = {
        name: socket.socket(fileno=each) for name, each in zip(names, listening, strict=True)
    }
    return Taken(sockets, lock, channel)


def begin_successor() -> subprocess.Popen[bytes] | None:
    """Start this program again, to take over from this process; None, and a line, on failure.

    It is the program that is installed now: so a node is upgraded in place.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    if OPTION not in command:
        command.append(OPTION)
    # systemd's watchdog and sockets were meant for this process by its number.
    foreign = ("LISTEN_", "WATCHDOG_PID")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    try:
        begun = subprocess.Popen(command, env=environment)  # noqa: S603 - our own command line
    except OSError as error:
        LOG.error("the successor cannot be started", reason=str(error))  # noqa: TRY400 - one line
        return None
    LOG.info("starting a successor", successor=begun.pid)
    return begun


class Offer:
    """A running node's readiness to be followed.

    Args:
        data_dir: where successors ask.
        sockets: what they get, by name.
        lock: descriptor of the data folder's lock.
        taken: called, in a thread of its own, when a successor is ready.
    """

    def __init__(
        self,
        data_dir: Path,
        sockets: Mapping[str, socket.socket],
        lock: int,
        taken: Callable[[], None],
    ) -> None:
        self._data_dir = data_dir
        self._sockets = dict(sockets)
        self._lock = lock
        self._taken = taken
        self._inode = 0
        self._is_taken = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Take the name, from a predecessor if need be, and wait for a successor."""
        name = f"{FILE}.{os.getpid()}"
        path = self._data_dir / name
        try:
            path.unlink(missing_ok=True)  # of a life before, which had the same number
            with _address(self._data_dir, name) as address:
                self._listener.bind(address)
            path.chmod(0o600)
            self._inode = path.stat().st_ino
            self._listener.listen()
            path.rename(self._data_dir / FILE)
        except OSError as error:
            LOG.warning("no handover to a successor", reason=error.strerror)
            return
        threading.Thread(target=self._wait, name="lfscp-handover", daemon=True).start()

    def close(self) -> None:
        """Offer it no longer. The name is the successor's, if there is one."""
        path = self._data_dir / FILE
        with contextlib.suppress(OSError):
            # A successor takes the name at any moment, between these two lines as well.
            if not self._is_taken and path.stat().st_ino == self._inode:
                path.unlink()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()

    def _wait(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return  # closed
            with channel:
                try:
                    is_taken = self._hand_over(channel)
                except OSError as error:
                    LOG.warning("handover failed", reason=str(error))
                    continue
            if is_taken:
                self._is_taken = True
                self._taken()
                return

    def _hand_over(self, channel: socket.socket) -> bool:
        pid, uid, _ = _CREDENTIALS.unpack(
            channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in (0, os.geteuid()):
            LOG.warning("handover refused", pid=pid, reason="of another user")
            return False
        channel.settimeout(_ANSWER_S)
        if channel.recv(len(_REQUEST)) != _REQUEST:
            return False
        LOG.info("handing over", successor=pid)
        descriptors = [*(each.fileno() for each in self._sockets.values()), self._lock]
        socket.send_fds(channel, [json.dumps(list(self._sockets)).encode()], descriptors)
        channel.settimeout(None)  # it may take its time to start; when it ends we read nothing
        if channel.recv(len(_READY)) == _READY:
            return True
        LOG.warning("the successor did not start, this node goes on", successor=pid)
        return False


def wait_for_successor(offer: Offer) -> int:
    """Keep an offer open in a process of its own, for a parent that forks and has no threads."""
    os.environ.pop("NOTIFY_SOCKET", None)
    mark_lines(worker="handover")
    with SignalPipe() as signals:
        offer.start()
        while signals.wait(None) == signal.SIGHUP:
            pass
        offer.close()
    return 0


@contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    """A socket's address in a folder whose path may be longer than an address can be."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
