"""Nodes and commands that are forked from one process that has loaded lfscp; see `loaded_lfscp`.

Scripts of the project too, which then have their nodes forked.

What depends on how a process is loaded gets a process of its own: a wrapper, an option of Popen, or
a variable of the environment that the loader, the C library or Python read at the start.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("loaded_lfscp.py")
LFSCP = Path(sys.executable).with_name("lfscp")
# TCP_NODELAY is read by DCMTK alone.
READ_AT_RUN_TIME = (
    "TCP_NODELAY",
    "LFSCP_",
    "AWS_",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "XDG_DATA_HOME",
)


class ForkedProcess:
    """A forked process, with those methods of Popen that tests use.

    Args:
        arguments: of `lfscp`.
        standard: the descriptors of standard input, output and error.
        script: is run with the arguments in place of `lfscp`.
        folder: it begins there; without one, in ours.
        session: whether it gets a session of its own.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        standard: Sequence[int],
        *,
        script: Path | None = None,
        folder: str | Path | None = None,
        session: bool = False,
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._status, status = os.pipe()
        request = {
            "arguments": arguments,
            "environment": environment,
            "folder": str(folder or Path.cwd()),
            "script": str(script or ""),
            "session": session,
        }
        try:
            _loaded.ask(request, standard, status)
        finally:
            os.close(status)
        self.pid = self._read()

    def _read(self) -> int:
        said = os.read(self._status, 8)
        assert len(said) == 8, "the process that has loaded lfscp has ended"
        return int.from_bytes(said, "little", signed=True)

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended: the exit code."""
        code = self._ended_within(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _ended_within(self, timeout_s: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._status], [], [], timeout_s)[0]:
                self.returncode = self._read()
                os.close(self._status)
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment may be forked."""
    changed = {
        name
        for name in environment.keys() | os.environ.keys()
        if environment.get(name) != os.environ.get(name)
    }
    return sys.platform == "linux" and all(name.startswith(READ_AT_RUN_TIME) for name in changed)


class _Loaded:
    """The process that has loaded lfscp; it is started when it is first asked, and ends with us."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, Any], standard: Sequence[int], status: int) -> None:
        """Have it fork a process."""
        with self._lock:
            if self._control is None:
                self._start()
            assert self._control is not None
            own = [self._control.fileno()] if request["script"] else []  # it may ask as well
            sent = [json.dumps(request).encode()]
            socket.send_fds(self._control, sent, [*standard, *own, status])

    def be_asked_by(self, control: socket.socket) -> None:
        """Ask one that is there."""
        self._control = control

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, str(PROGRAM), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        atexit.register(self.end)

    def end(self) -> None:
        """End it; what it has forked goes on."""
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()


_loaded = _Loaded()
_Popen = subprocess.Popen


def fork_nodes_by(control: socket.socket) -> None:
    """In a script that was forked: let it ask for nodes where it would start them."""
    _loaded.be_asked_by(control)
    subprocess.Popen = _started  # type: ignore[assignment,misc]


def _started(
    command: Sequence[str],
    *,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    start_new_session: bool = False,
    **options: Any,
) -> subprocess.Popen[Any] | ForkedProcess:
    """What `Popen` would start."""
    chosen = (stdin, stdout, stderr)
    variables = dict(os.environ if env is None else env)
    if command[0] != str(LFSCP) or options or subprocess.PIPE in chosen or not can_fork(variables):
        return _Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            start_new_session=start_new_session,
            **options,
        )
    with _descriptors(chosen) as standard:
        return ForkedProcess(
            command[1:], variables, standard, folder=cwd, session=start_new_session
        )


@contextmanager
def _descriptors(chosen: Sequence[Any]) -> Iterator[list[int]]:
    """The numbers of what `Popen` is given as standard input, output and error."""
    with ExitStack() as opened:
        found: list[int] = []
        for number, each in enumerate(chosen):
            if each is None:
                found.append(number)
            elif each == subprocess.DEVNULL:
                found.append(opened.enter_context(open(os.devnull, "r+b")).fileno())
            elif each == subprocess.STDOUT:
                found.append(found[1])
            else:
                found.append(each if isinstance(each, int) else each.fileno())
        yield found
