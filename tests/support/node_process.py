"""A real `lfscp serve` in a process of its own, as an administrator would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.support.forked_lfscp import ForkedProcess, can_fork

LFSCP = Path(sys.executable).with_name("lfscp")
START_S = 60.0  # generous: a machine that builds something else may be slow
STOP_S = 30.0


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would change a node, and with `changes`."""
    foreign = ("LFSCP_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    # A node that is not told where its data goes must not find the user's own.
    return kept | {"XDG_DATA_HOME": "/nonexistent/lfscp-tests"} | dict(changes or {})


def run_lfscp(
    *arguments: object, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run one lfscp command to its end; its output is text."""
    command, variables = [str(LFSCP), *map(str, arguments)], environment(env)
    if options or not can_fork(variables):
        result = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=60, **options
        )
    else:
        result = _run_forked(command, variables)
    assert "Traceback" not in result.stdout + result.stderr
    return result


def run_script(
    script: Path,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run one of the project's scripts to its end; its nodes are forked too."""
    command, variables = [str(script), *map(str, arguments)], {**os.environ, **(env or {})}
    if sys.platform == "linux":
        return _run_forked(command, variables, script=script, timeout_s=timeout_s)
    return subprocess.run(
        [sys.executable, *command],
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def _run_forked(
    command: list[str],
    variables: Mapping[str, str],
    *,
    script: Path | None = None,
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    with (
        open(os.devnull) as nothing,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        standard = [each.fileno() for each in (nothing, output, errors)]
        process = ForkedProcess(command[1:], variables, standard, script=script)
        try:
            code = process.wait(timeout_s)
        finally:
            if script is not None:
                process.terminate()  # it ends its nodes, should it still run
                process.wait(30)
            process.kill()
        said = [each.seek(0) or each.read() for each in (output, errors)]
    return subprocess.CompletedProcess(command, code, *said)


class NodeProcess:
    """One node: started, asked, stopped; its data folder outlives it.

    It is forked from a process that has loaded lfscp, unless what is asked for needs another.

    Args:
        folder: holds the configuration and, in `data`, index and objects.
        configuration: TOML of the node's configuration file.
        flags: further options of `lfscp serve`.
        env: variables of its environment.
        wrapper: a command that is put before `lfscp serve`.

    Attributes:
        port: where it listens, once started.
        lines: what it has logged, over all its starts.
        environment: its variables.
    """

    def __init__(
        self,
        folder: Path,
        *,
        configuration: str = "",
        flags: Sequence[object] = (),
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.data_dir = folder / "data"
        self.port = 0
        self.lines: list[str] = []
        self._flags = [str(flag) for flag in flags]
        self.environment = environment(env)
        self._wrapper = list(wrapper)
        self._configuration = folder / "lfscp.toml"
        folder.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text(configuration)
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._reader: threading.Thread | None = None
        self._changed = threading.Condition()
        self._read_to_the_end = True

    @property
    def objects(self) -> Path:
        """The folder of the stored objects."""
        return self.data_dir / "objects"

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return [
            *(*self._wrapper, str(LFSCP), "serve", "--config", str(self._configuration)),
            *("--host", "127.0.0.1", "--port", "0", "--data-dir", str(self.data_dir)),
            *("--log-format", "json", *([] if "--http-port" in self._flags else ["--no-http"])),
            *self._flags,
        ]

    def start(self, **options: Any) -> Self:
        """Start it; returns once it says that it listens."""
        already = len(self.lines)
        self._read_to_the_end = False
        log, error = os.pipe()
        try:
            self._process = self._begun(error, options)
        finally:
            os.close(error)
        self._reader = threading.Thread(target=self._read_log, args=(log,), daemon=True)
        self._reader.start()
        self.port = self.wait_for("listening", since=already)["port"]
        return self

    def _begun(
        self, error: int, options: Mapping[str, Any]
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        if self._wrapper or options or not can_fork(self.environment):
            return subprocess.Popen(self.command, stderr=error, env=self.environment, **options)
        return ForkedProcess(self.command[1:], self.environment, (0, 1, error))

    def _read_log(self, log: int) -> None:
        with open(log, "rb") as stream:
            for line in stream:
                with self._changed:
                    self.lines.append(line.decode().rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._read_to_the_end = True
            self._changed.notify_all()

    # What it says

    def events(self, event: str | None = None, *, since: int = 0, **fields: Any) -> list[Any]:
        """The log's lines as they were meant, those with this event and these fields."""
        wanted = fields if event is None else {"event": event, **fields}
        parsed = [json.loads(line) for line in self.lines[since:] if line.startswith("{")]
        return [each for each in parsed if wanted.items() <= each.items()]

    def wait_for(
        self, event: str | None = None, *, since: int = 0, count: int = 1, **fields: Any
    ) -> Any:
        """Wait until the log has `count` such lines; gives the last of them."""

        def said() -> bool:
            return self._read_to_the_end or len(self.events(event, since=since, **fields)) >= count

        with self._changed:
            self._changed.wait_for(said, START_S)
        found = self.events(event, since=since, **fields)
        assert len(found) >= count, f"no {event} {fields} in\n{self.tail}"
        return found[count - 1]

    @property
    def log(self) -> str:
        """All it has logged."""
        return "\n".join(self.lines)

    @property
    def tail(self) -> str:
        """The end of it."""
        return "\n".join(self.lines[-10:])

    def complaints(self) -> list[str]:
        """Lines that no log of a node may have: tracebacks, warnings of Python, errors."""
        return [
            line
            for line in self.lines
            if not line.startswith("{")
            or "Traceback" in line
            or json.loads(line)["level"] in ("error", "critical")
        ]

    # How it ends

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def tls_port(self) -> int:
        """Where it listens for TLS."""
        return int(self.events("listening")[-1]["tls_port"])

    def reload(self, configuration: str, *, says: str = "configuration reloaded") -> Any:
        """Give it another configuration and SIGHUP; what it says about that."""
        already = len(self.lines)
        self._configuration.write_text(configuration)
        self.signal(signal.SIGHUP)
        return self.wait_for(says, since=already)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait until it has ended, and its log was read: the exit code."""
        assert self._process is not None
        assert self._reader is not None
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def stop(self) -> int:
        """Stop it as systemd does: the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.is_running:
            self.signal(signal.SIGKILL)
        if self._process is not None:
            self.wait()

    def restart(self) -> Self:
        """Stop it properly and start it again on the same data folder."""
        assert self.stop() == 0
        return self.start()


StartNode = Callable[..., NodeProcess]  # what the fixture `start_node` gives


@contextmanager
def proper_end(node: NodeProcess, *, errors_expected: bool = False) -> Iterator[NodeProcess]:
    """At the end the node stops at SIGTERM, exits 0, and has logged nothing unseemly."""
    try:
        yield node
        if node.is_running:
            assert node.stop() == 0, node.tail
        assert errors_expected or node.complaints() == []
    finally:
        node.kill()
