"""A soak: modalities store, others ask, break off or attack; the server is killed every minute.

    scripts/soak [--minutes 20] [--modalities 16] [--kill-every 60] [--attackers 4] [--server lfscp]

At the end every acknowledged object must come back as it was sent, index and objects must agree,
and threads, descriptors and memory of the idle server must be as they were. While attackers are at
it an honest C-ECHO is timed, and memory may not grow by more than each of them may take. Everything
listens on
127.0.0.1, everything is kept in a temporary folder. Exits 1 on any failure, 0 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "bench")]

import attackers  # noqa: E402 - after its folder is known
import clients  # noqa: E402
from clients import Soak  # noqa: E402
from ending import told  # noqa: E402
from peers.targets import AET, DESTINATION_AET, PEERS, Launch, lfscp_program  # noqa: E402

START_S = 60.0
IDLE_S = 75.0  # for what the last clients left to end: longer than the network timeout
MEMORY_MB = 150.0  # caches fill; a leak of each object, of a megabyte each, would be far beyond
KEPT_OPEN = 48.0  # folders of current series (32), and the index in several threads
LEFT_S = 90.0  # for the modalities to store what they still have
KEPT_THREADS = 40.0  # of the page: its pool lets idle ones go only when it is used again
KEPT_SOCKETS = 4.0  # to the processes that render and decode, once somebody has needed them
ATTACKER_MB = 200.0  # what one of them may take of the server's memory


@dataclass
class Usage:
    """What a process, and those it started, have."""

    threads: int
    sockets: int
    files: int
    memory_mb: float


class Server:
    """The server that is soaked, in a process group of its own.

    Args:
        name: lfscp, or one of the benchmarks' other servers.
        folder: for its data and its log.
        destination_port: of the one peer that it may send to.
        evil_port: of the one peer that answers without end; 0 without attackers.
    """

    def __init__(self, name: str, folder: Path, destination_port: int, evil_port: int) -> None:
        self.port = free_port()
        self.http_port = free_port()
        self.token = ""
        self._data = folder / "data"
        self._data.mkdir()
        self._log = folder / "server.log"
        self.data = self._data
        if name == "lfscp":
            self._command = [
                *(lfscp_program(), "serve", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--data-dir", str(self._data), "--http-port", str(self.http_port)),
                *("--peer", f"{DESTINATION_AET}=127.0.0.1:{destination_port}"),
                *("--log-format", "json"),
            ]
            if evil_port:
                self._command += ["--peer", f"{attackers.EVIL}=127.0.0.1:{evil_port}"]
                self._command += ["--config", str(self._access(folder))]
        else:
            target = next(each for each in PEERS if each.name == name)
            if target.absence:
                raise SystemExit(f"soak: {target.absence}")
            launch = Launch(self.port, self._data, destination_port)
            self._command = target.command(launch)
        self._process: subprocess.Popen[bytes] | None = None

    def _access(self, folder: Path) -> Path:
        """Default settings, but for a user whose password is guessed, and a token.

        Threads that nobody needs leave sooner, so that the end need not wait for it.
        """
        program = [lfscp_program(), "hash-password"]
        password = secrets.token_hex(8)
        user = subprocess.check_output(program, input=f"{password}\n{password}\n", text=True)
        made = subprocess.check_output([*program, "--token"], text=True).split()
        self.token = made[1]
        configuration = folder / "lfscp.toml"
        configuration.write_text(
            f'[web]\nusers = ["doctor:{user.split()[-1]}"]\ntoken_hash = "{made[-1]}"\n'
            "[pool]\nmax_idle_s = 5\n"
        )
        return configuration

    def start(self) -> float:
        """Start it: how long until it answers, in seconds."""
        began = time.monotonic()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LFSCP_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        while time.monotonic() - began < START_S:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.log_tail()}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return time.monotonic() - began
            time.sleep(0.05)
        raise RuntimeError(f"the server does not listen: {self.log_tail()}")

    def log_tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-1500:]

    def complaints(self) -> list[str]:
        """Lines of its log that no server should write."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if "Traceback" in line or '"level": "critical"' in line]

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, to all of its processes at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> int | None:
        """SIGTERM: the exit code; None when it did not end."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def memory_mb(self) -> float:
        """What all its processes have that they share with nothing."""
        return attackers.memory_of(family(self._process.pid)) if self._process else 0.0

    def usage(self) -> Usage:
        """Threads, descriptors and memory of all its processes."""
        assert self._process is not None  # noqa: S101 - asked only of a server that was started
        used = Usage(0, 0, 0, 0.0)
        for pid in family(self._process.pid):
            with contextlib.suppress(OSError):  # it has just ended
                status = dict(
                    line.split(":", 1)
                    for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                )
                used.threads += int(status["Threads"])
                used.memory_mb += int(status.get("VmRSS", "0 kB").split()[0]) / 1024
                for each in Path(f"/proc/{pid}/fd").iterdir():
                    is_socket = str(each.readlink()).startswith("socket:")
                    used.sockets += is_socket
                    used.files += not is_socket
        return used


def family(first: int) -> list[int]:
    """A process and all below it; those that render and decode have sessions of their own."""
    children: dict[int, list[int]] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(each.name))
    found = [first]
    for pid in found:  # it grows meanwhile
        found += children.get(pid, [])
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Run:
    """One soak from start to table."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._is_lfscp = options.server == "lfscp"
        self.soak = Soak(
            0,
            "LFSCP" if self._is_lfscp else AET,
            folder / "journal",
            exact=self._is_lfscp,
            pause_s=options.pause,
            large_share=options.large_share,
        )
        self._destination = clients.Destination(self.soak)
        self._evil = attackers.EvilPeer() if options.attackers else None
        evil_port = self._evil.port if self._evil else 0
        self._server = Server(options.server, folder, self._destination.port, evil_port)
        self.soak.port = self._server.port
        self._attack = attackers.Attack(self.soak, self._server.http_port, self._server.token)
        self._watch = attackers.Watch(self.soak, self._server.memory_mb)
        self._memory_at_start = 0.0
        self._rows: list[tuple[str, str]] = []
        self._threads: list[threading.Thread] = []
        self._starts: list[float] = []
        self._ended_by_itself = 0

    def run(self) -> list[str]:
        """Soak, verify, and print the table: what failed."""
        began = time.monotonic()
        try:
            self._starts.append(self._server.start())
            began = time.monotonic()
            self._memory_at_start = self._server.memory_mb()
            self._begin_clients()
            before = self._kill_and_restart(began + 60 * self._options.minutes)
            self._end_clients()
            lasted = time.monotonic() - began
            after = self._idle_usage(before)
            self._describe(lasted)
            self._verify()
            self._compare_usage(before, after)
            self._judge_attacks()
            self._stop_and_check()
        finally:
            self.soak.stop.set()
            self.soak.go.set()
            self._server.kill()
            self._destination.close()
            if self._evil:
                self._evil.close()
        self._print()
        return self.soak.failures

    def _begin_clients(self) -> None:
        soak, options = self.soak, self._options
        work: list[Callable[[], None]] = [
            partial(clients.modality, soak, number) for number in range(options.modalities)
        ]
        for _ in range(options.askers):
            work.append(partial(clients.repeatedly, soak, clients.find, 0.1))
            work.append(partial(clients.repeatedly, soak, clients.get, 0.3))
        # One only: what a destination takes is not told apart by who asked for it.
        move = clients.mover(self._destination, DESTINATION_AET)
        work.append(partial(clients.repeatedly, soak, move, 0.3))
        break_off = partial(clients.repeatedly, soak, clients.break_off, 0.1)
        work += [break_off] * options.breakers
        self._clients = len(work)
        if options.attackers:
            work += [self._watch.watch_memory, self._watch.echo]
        for number in range(options.attackers):
            first = number * len(attackers.ATTACKS) // options.attackers
            work.append(partial(attackers.attacker, self._attack, first))
        self._threads = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in self._threads:
            thread.start()
        soak.go.set()

    def _kill_and_restart(self, until: float) -> Usage:
        """Kill the server again and again; what its last successor used before anybody came."""
        options, kills = self._options, 0
        usage = Usage(0, 0, 0, 0.0)
        next_kill = time.monotonic() + options.kill_every
        while (now := time.monotonic()) < until:
            time.sleep(max(0.05, min(until, next_kill) - now) if self._server.is_running else 0)
            if not self._server.is_running:
                self._ended_by_itself += 1
                self.soak.fail(f"the server ended by itself: {self._server.log_tail()[-300:]}")
            elif time.monotonic() < next_kill:
                continue
            else:
                self._server.kill()
                kills += 1
            self.soak.go.clear()
            time.sleep(0.2)
            self._starts.append(self._server.start())
            usage = self._warm_usage()
            next_kill = time.monotonic() + options.kill_every  # it works so long, however it starts
            self.soak.go.set()
        if not kills:
            self.soak.fail("the server was never killed: the soak proves little")
        self.soak.counts["kills"] = kills
        return usage

    def _warm_usage(self) -> Usage:
        """What a server uses that has met as many associations at once as there are clients."""
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                for _ in range(self._clients):
                    with contextlib.suppress(*clients.GONE):
                        stack.enter_context(self.soak.open())
        self._settle(lambda: True)
        return self._server.usage()

    def _settle(self, is_idle: Callable[[], bool]) -> None:
        deadline = time.monotonic() + IDLE_S
        time.sleep(0.5)
        while not is_idle() and time.monotonic() < deadline:
            time.sleep(0.5)

    def _end_clients(self) -> None:
        self.soak.stop.set()
        deadline = time.monotonic() + LEFT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = sum(thread.is_alive() for thread in self._threads)
        if left:
            self.soak.fail(f"{left} clients did not end: the server does not answer them")

    def _idle_usage(self, before: Usage) -> Usage:
        self._settle(lambda: self._is_as_before(self._server.usage(), before))
        return self._server.usage()

    def _is_as_before(self, now: Usage, before: Usage) -> bool:
        is_as_many = now.threads <= before.threads + self._kept_threads
        return is_as_many and now.sockets <= before.sockets + KEPT_SOCKETS

    @property
    def _kept_threads(self) -> float:
        return KEPT_THREADS if self._options.attackers else 0.0  # nobody else asks for pages

    def _verify(self) -> None:
        """Retrieve every acknowledged object, and hold it against what was sent."""
        soak = self.soak
        verified = 0

        def retrieve(study: str) -> int:
            instances = soak.by_study[study]
            try:
                with soak.open() as client:
                    got = dict(client.get(study))
                    client.close()
            except clients.GONE as problem:
                soak.fail(f"study {study} cannot be retrieved: {problem!r}")
                return 0
            good = 0
            for instance in instances:
                dataset = got.get(instance.uid)
                if dataset is None:
                    soak.fail(f"LOST: {instance.uid} was acknowledged")
                elif not soak.matches(instance, dataset):
                    soak.fail(f"WRONG: {instance.uid} has other bytes")
                else:
                    good += 1
            return good

        with ThreadPoolExecutor(3) as pool:
            verified = sum(pool.map(retrieve, list(soak.by_study)))
        self._rows.append(("acknowledged and there, byte for byte", _ratio(verified, soak)))
        if not verified:
            soak.fail("nothing was stored")

    def _compare_usage(self, before: Usage, after: Usage) -> None:
        pairs = (
            ("threads", before.threads, after.threads, self._kept_threads),
            ("sockets", before.sockets, after.sockets, KEPT_SOCKETS),
            ("files and folders", before.files, after.files, KEPT_OPEN),
            ("memory, MB", before.memory_mb, after.memory_mb, MEMORY_MB),
        )
        for name, begin, end, more in pairs:
            self._rows.append((f"{name}: last start, idle at the end", f"{begin:.0f}, {end:.0f}"))
            if self._is_lfscp and end > begin + more:
                self.soak.fail(f"{name} grew from {begin:.0f} to {end:.0f}")

    def _judge_attacks(self) -> None:
        """What the attackers took, and what an honest client felt of it."""
        number, watch, counts = self._options.attackers, self._watch, self.soak.counts
        if not number:
            return
        echoes = f"{len(watch.echoes):,}, {watch.slowest(0.5):.3f} s, {watch.slowest(1):.2f} s"
        begin, most = self._memory_at_start, watch.most_memory_mb
        self._rows += [
            ("attackers, attacks", f"{number}, {counts['attacks']:,}"),
            ("honest C-ECHOs: number, median, slowest", echoes),
            ("honest C-ECHOs cut off", str(counts["echoes cut off"])),
            ("private memory, MB: first start, most", f"{begin:.0f}, {most:.0f}"),
        ]
        if self._is_lfscp and most > begin + MEMORY_MB + ATTACKER_MB * number:
            self.soak.fail(f"{number} attackers took {most - begin:.0f} MB")

    def _stop_and_check(self) -> None:
        code = self._server.stop()
        self._rows.append(("exit code at SIGTERM", str(code)))
        if not self._is_lfscp:
            return
        if code != 0:
            self.soak.fail(f"the node exited {code} at SIGTERM")
        for line in self._server.complaints()[:5]:
            self.soak.fail(f"in the log: {line[:300]}")
        checked = subprocess.run(
            [lfscp_program(), "check", "--data-dir", str(self._server.data)],
            capture_output=True,
            text=True,
            check=False,
        )
        said = (checked.stdout + checked.stderr).strip()
        self._rows.append(("lfscp check", said.splitlines()[-1] if said else ""))
        if checked.returncode != 0:
            self.soak.fail(f"lfscp check: exit {checked.returncode}: {said[-500:]}")

    def _describe(self, lasted: float) -> None:
        counts, starts = self.soak.counts, self._starts
        refused = sum(number for name, number in counts.items() if name.startswith("refused"))
        size_gb = counts["bytes"] / 1e9
        modalities = self._options.modalities
        self._rows += [
            ("server", self._options.server),
            ("duration", f"{lasted / 60:.1f} min"),
            ("SIGKILLs", str(counts["kills"])),
            ("until it serves again, s", f"{min(starts):.1f} to {max(starts):.1f}"),
            ("storing modalities", str(modalities)),
            ("objects acknowledged", f"{counts['stored']:,} ({size_gb:.2f} GB)"),
            ("stores cut off, sent again", f"{counts['stores cut off']}, {counts['sent again']}"),
            ("stores refused", str(refused)),
            ("C-FIND", f"{counts['C-FIND']:,}"),
            ("C-GET, objects", f"{counts['C-GET']:,}, {counts['C-GET objects']:,}"),
            ("C-MOVE, objects", f"{counts['C-MOVE']:,}, {counts['C-MOVE objects']:,}"),
            ("clients that broke off", f"{counts['broke off']:,}"),
        ]

    def _print(self) -> None:
        width = max(len(name) for name, _ in self._rows)
        wide = max(len(value) for _, value in self._rows)
        print(f"| {'soak':<{width}} | {'':<{wide}} |")
        print(f"|{'-' * (width + 2)}|{'-' * (wide + 2)}|")
        for name, value in self._rows:
            print(f"| {name:<{width}} | {value:<{wide}} |")


def _ratio(verified: int, soak: Soak) -> str:
    return f"{verified:,} of {len(soak.acknowledged):,}"


def main() -> int:
    """Run it as the arguments say: the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--modalities", type=int, default=16)
    parser.add_argument("--kill-every", type=float, default=60, metavar="SECONDS", help="of work")
    parser.add_argument("--askers", type=int, default=2, help="of C-FIND and of C-GET")
    parser.add_argument("--breakers", type=int, default=4)
    parser.add_argument("--attackers", type=int, default=4, help="at once; 0 for none")
    parser.add_argument("--pause", type=float, default=0.15, help="of a modality, s in the mean")
    parser.add_argument("--large-share", type=float, default=0.02, help="of 0.5 to 6 MB")
    parser.add_argument("--server", default="lfscp", choices=["lfscp", "orthanc", "dcmqrscp"])
    parser.add_argument("--folder", type=Path, help="where to put everything; it is kept")
    options = parser.parse_args()
    if options.server != "lfscp":
        options.attackers = 0  # they know this server's page
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended as well
    folder = options.folder or Path(tempfile.mkdtemp(prefix="lfscp-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        failures = Run(options, folder).run()
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return told(failures)


if __name__ == "__main__":
    sys.exit(main())
