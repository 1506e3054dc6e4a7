"""A soak of DICOMweb: two nodes, of which one sends and fetches, are killed at any moment.

    scripts/soak dicomweb [--kills 150] [--workers 1] [--index-url URL --other-url URL]

Programs store by STOW-RS at both nodes. Jobs of one node send studies to the other by STOW-RS, and
fetch studies from there by WADO-RS. SIGKILL ends the one, the other, both or, with several workers,
one process of a node. What was acknowledged must be there byte for byte, what a search names must
be retrieved, each job must end well, and nothing may be left in the folders of incoming objects.
Exits 1 on any failure, 0 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "bench")]

import run as soak_run  # noqa: E402 - after its folder is known
from ending import in_folder  # noqa: E402
from peers.targets import lfscp_program  # noqa: E402
from web_clients import NoAnswerError, Node, Programs, retrieved  # noqa: E402

JOBS_END_S = 300.0  # once nobody kills any more
FETCHERS, SENDERS = 2, 2


class Server(soak_run.Server):
    """A node, with the other one as a DICOMweb peer."""

    def __init__(
        self, name: str, folder: Path, options: argparse.Namespace, index_url: str
    ) -> None:
        folder.mkdir()
        super().__init__("lfscp", folder, 0, 0)
        self.name = name
        self.kills = 0
        self._folder = folder
        self._workers = options.workers
        self._index_url = index_url

    def configure(self, peer_port: int) -> None:
        """Write its configuration."""
        self.configuration = self._folder / "lfscp.toml"
        self.configuration.write_text(
            f'data_dir = "{self.data}"\n[index]\nurl = "{self._index_url}"\n'
            f'[server]\nhost = "127.0.0.1"\nport = {self.port}\n'
            "[jobs]\nretry_delay_s = 1\nretries = 100\n"
            f'[peers.THERE]\nurl = "http://127.0.0.1:{peer_port}/dicom-web"\n'
        )
        self._command = [lfscp_program(), "serve", "--config", str(self.configuration)]
        self._command += ["--http-port", str(self.http_port), "--log-format", "json"]
        self._command += ["--workers", str(self._workers)]

    def wait_for_page(self) -> None:
        """Wait until the page answers, which comes after the port of DICOM."""
        deadline = time.monotonic() + soak_run.START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/healthz", timeout=30)
                return
            time.sleep(0.05)
        raise RuntimeError(f"the page does not listen: {self.log_tail()}")

    def kill_one(self) -> None:
        """SIGKILL to one of its processes, not to the parent."""
        assert self._process is not None  # noqa: S101 - asked only of a server that was started
        others = soak_run.family(self._process.pid)[1:]
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(others), signal.SIGKILL)

    def left_over(self) -> list[str]:
        """Files in the folder of incoming objects."""
        incoming = self.data / "objects" / ".incoming"
        return [str(each) for each in incoming.rglob("*") if each.is_file()]

    def checked(self) -> str:
        """What `lfscp check` finds wrong; empty if nothing."""
        command = [lfscp_program(), "check", "--config", str(self.configuration)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else (done.stdout + done.stderr)[-800:]


class Run:
    """One soak from start to table."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._here = Server("here", folder / "here", options, options.index_url)
        self._there = Server("there", folder / "there", options, options.other_url)
        self._here.configure(self._there.http_port)
        self._there.configure(self._here.http_port)
        self._servers = (self._here, self._there)
        nodes = [Node(each.name, each.http_port) for each in self._servers]
        self.programs = Programs(*nodes)
        self._kills: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []

    def run(self) -> list[str]:
        """Soak, verify, and print the table: what failed."""
        began = time.monotonic()
        programs = self.programs
        try:
            self._start(self._servers)
            self._begin()
            self._kill_again_and_again(began + 60 * self._options.minutes)
            self._end_clients()
            self._wait_for_jobs()
            self._restart()  # what is left over now stays
            self._verify()
            for server in self._servers:
                self._end(server)
        finally:
            programs.stop.set()
            for server in self._servers:
                server.kill()
        self._print(time.monotonic() - began)
        return programs.failures

    def _start(self, servers: tuple[Server, ...]) -> None:
        for each in servers:
            each.start()
        for each in servers:
            each.wait_for_page()

    def _begin(self) -> None:
        programs = self.programs
        acts = [(programs.look, 0.2)]
        acts += [(programs.study_to_send, 0.3)] * SENDERS
        acts += [(programs.study_to_fetch, 0.3)] * FETCHERS
        self._threads = [
            threading.Thread(target=programs.repeatedly, args=each, daemon=True) for each in acts
        ]
        for each in self._threads:
            each.start()

    def _kill_again_and_again(self, until: float) -> None:
        here, there = self._servers
        while self._kills.total() < self._options.kills and time.monotonic() < until:
            time.sleep(random.uniform(0.1, self._options.life))
            if self._options.workers > 1 and random.random() < 0.5:
                random.choice(self._servers).kill_one()
                self._kills["one process"] += 1
                continue
            which = random.choice([(here,), (there,), (here, there)])
            for each in which:
                each.kill()
            self._kills[" and ".join(each.name for each in which)] += 1
            for each in which:
                each.start()
            if random.random() < 0.6:  # else one dies while it starts
                for each in which:
                    each.wait_for_page()
        for each in self._servers:
            each.wait_for_page()

    def _restart(self) -> None:
        for each in self._servers:
            each.kill()
        self._start(self._servers)

    def _end_clients(self) -> None:
        self.programs.stop.set()
        for each in self._threads:
            each.join(120)
        if any(each.is_alive() for each in self._threads):
            self.programs.fail("a client did not end")

    # --- what was promised ---

    def _wait_for_jobs(self) -> None:
        deadline = time.monotonic() + JOBS_END_S
        left = dict(self.programs.jobs)
        while left and time.monotonic() < deadline:
            for job_id in list(left):
                if self._has_ended(job_id):
                    del left[job_id]
            time.sleep(0.5)
        for job_id, what in left.items():
            self.programs.fail(f"job {job_id} did not end: {what}, {self._job(job_id)}"[:600])

    def _has_ended(self, job_id: str) -> bool:
        with contextlib.suppress(NoAnswerError):
            status, job = self._job(job_id)
            if status == 404:
                self.programs.fail(f"LOST: job {job_id}")
                return True
            if status == 200 and job["state"] == "sleeping":
                self.programs.here.call("POST", f"/api/jobs/{job_id}/retry")
            if status == 200 and job["state"] in ("failed", "cancelled"):
                self.programs.fail(f"job {job_id} is {job['state']}: {job['reason']}"[:400])
            return status == 200 and job["state"] in ("done", "failed", "cancelled")
        return False

    def _job(self, job_id: str) -> tuple[int, dict[str, str]]:
        return self.programs.here.call("GET", f"/api/jobs/{job_id}")

    def _verify(self) -> None:
        programs = self.programs
        here, there = programs.here, programs.there
        for kind, study in programs.jobs.values():
            source, target = (here, there) if kind == "send" else (there, here)
            target.kept.setdefault(study, {}).update(source.kept.get(study, {}))
        for node in (here, there):
            for study, promised in node.kept.items():
                self._verify_study(node, study, promised)

    def _verify_study(self, node: Node, study: str, promised: dict[str, bytes]) -> None:
        objects = retrieved(node, f"/dicom-web/studies/{study}") or {}
        right = [uid for uid, digest in promised.items() if objects.get(uid) == digest]
        self.programs.count("objects verified byte for byte", len(right))
        for uid in promised.keys() - set(right):
            what = "WRONG" if uid in objects else "LOST"
            self.programs.fail(f"{what} at {node.name}: {uid}")

    def _end(self, server: Server) -> None:
        fail = self.programs.fail
        for left in server.left_over():
            fail(f"left over: {left}")
        if (code := server.stop()) != 0:
            fail(f"{server.name} exited {code}")
        if wrong := server.checked():
            fail(f"lfscp check at {server.name}: {wrong}")
        for line in server.complaints()[:5]:
            fail(f"in the log of {server.name}: {line[:500]}")

    def _print(self, lasted: float) -> None:
        options = self._options
        table = [
            (
                "index, workers",
                f"{options.index_url.partition(':')[0] or 'sqlite'}, {options.workers}",
            ),
            ("duration", f"{lasted / 60:.1f} min"),
            ("SIGKILLs", ", ".join(f"{n} {what}" for what, n in self._kills.items()) or "0"),
            *((what, f"{n:,}") for what, n in sorted(self.programs.counts.items())),
        ]
        width = max(len(name) for name, _ in table)
        for name, value in table:
            print(f"| {name:<{width}} | {value}")


def main() -> int:
    """Run it as the arguments say: the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak dicomweb", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--minutes", type=float, default=20, help="at most, before it verifies")
    parser.add_argument("--life", type=float, default=3.0, help="until a kill, seconds at most")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--index-url", default="", help="of an empty PostgreSQL database")
    parser.add_argument("--other-url", default="", help="of another one, for the other node")
    parser.add_argument("--folder", type=Path, help="where to put everything; it is kept")
    options = parser.parse_args()
    return in_folder(options.folder, lambda folder: Run(options, folder).run())


if __name__ == "__main__":
    sys.exit(main())
