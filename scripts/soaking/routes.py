"""A soak of routes: three nodes that send on in a circle are killed at any moment.

    scripts/soak routes [--kills 60] [--workers 2] [--index-url URL]

Modalities store at the first node. One of its routes sends each object to the second node, another
each complete study to the third one by STOW-RS. The second sends on to the third, the third back to
the first. With the URL of an empty PostgreSQL database the first is two nodes that share an index.
SIGKILL ends one node, several, or one process of a node. At the end the queues must become empty,
each acknowledged object must be at all three byte for byte, and no object may have arrived twice
but for what was on its way at a kill. Exits 1 on any failure, 0 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "bench")]

import clients  # noqa: E402 - after its folder is known
import dicomweb  # noqa: E402
from clients import Soak  # noqa: E402
from ending import in_folder  # noqa: E402
from wire import Client  # noqa: E402

EMPTY_S = 300.0  # for the queues, once nobody kills any more
BATCH = 50  # objects of a queue that are noted together, and may be sent again after a kill
HERE, THERE, THIRD = "HERE", "THERE", "THIRD"
_ROUTE = '[[route]]\nretry_delay_s = 0.2\nname = "{}"\nsend_to = ["{}"]\n'
EACH = _ROUTE.format("each", THERE)
WHOLE = _ROUTE.format("whole", "THIRD_WEB") + 'on = "study"\nquiet_s = 2\n'


class Server(dicomweb.Server):
    """A node of the circle.

    Args:
        title: its AE title.
        objects: the folder of its objects, if it shares it.
    """

    def __init__(
        self,
        title: str,
        folder: Path,
        options: argparse.Namespace,
        index_url: str = "",
        objects: Path | None = None,
    ) -> None:
        super().__init__(folder.name, folder, options, index_url)
        self.title = title
        self._objects = objects

    def configure_routes(self, routes: str, *peers: Server) -> None:
        """Write its configuration."""
        self.configure(peers[-1].http_port)
        text = self.configuration.read_text()
        text = text.replace("[server]\n", f'[server]\nae_title = "{self.title}"\n')
        text = text.replace("[jobs]\n", "[jobs]\nlease_s = 3\n")
        text = text.replace("[peers.THERE]", "[peers.THIRD_WEB]")
        if self._objects is not None:
            text += f'[objects]\nurl = "file://{self._objects}"\n'
        for peer in peers:
            text += f'[peers.{peer.title}]\nhost = "127.0.0.1"\nport = {peer.port}\n'
        self.configuration.write_text(text + routes)

    def queues(self) -> list[dict[str, object]]:
        """Its queues, as its API shows them."""
        url = f"http://127.0.0.1:{self.http_port}/api/routes/queues"
        with urllib.request.urlopen(url, timeout=60) as answer:
            queues: list[dict[str, object]] = json.load(answer)
        return queues

    def arrived_from(self, title: str) -> Counter[str]:
        """How often each object came by C-STORE from a node, and was taken."""
        came: Counter[str] = Counter()
        with self._log.open(errors="replace") as lines:
            for line in lines:
                if '"C-STORE"' not in line or f'"{title}"' not in line:
                    continue
                event = json.loads(line)
                if event["event"] == "C-STORE" and event["status"] == "0x0000":
                    came[event["sop_instance_uid"]] += 1
        return came


class Run:
    """One soak from start to table."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        shared = folder / "shared-objects" if options.index_url else None
        self._here = Server(HERE, folder / "here", options, options.index_url, shared)
        self._there = Server(THERE, folder / "there", options)
        self._third = Server(THIRD, folder / "third", options)
        self._servers = [self._here, self._there, self._third]
        if shared is not None:
            self._servers.append(
                Server(HERE, folder / "here-too", options, options.index_url, shared)
            )
        for server in self._servers:
            if server.title == HERE:
                server.configure_routes(EACH + WHOLE, self._there, self._third)
        self._there.configure_routes(_ROUTE.format("round", THIRD), self._third)
        self._third.configure_routes(_ROUTE.format("back", HERE), self._here)
        self.soak = Soak(self._here.port, HERE, folder / "journal", pause_s=options.pause)
        self._kills: Counter[str] = Counter()
        self._rows: list[tuple[str, str]] = []
        self._threads = [
            threading.Thread(target=partial(clients.modality, self.soak, number), daemon=True)
            for number in range(options.modalities)
        ]

    def run(self) -> list[str]:
        """Soak, verify, and print the table: what failed."""
        began = time.monotonic()
        try:
            self._start(self._servers)
            self.soak.go.set()
            for each in self._threads:
                each.start()
            self._kill_again_and_again(began + 60 * self._options.minutes)
            self._end_clients()
            self._wait_for_queues()
            for server in (self._here, self._there, self._third):
                self._verify(server)
            self._count_doubles()
            for server in self._servers:
                self._end(server)
        finally:
            self.soak.stop.set()
            for server in self._servers:
                server.kill()
        self._print(time.monotonic() - began)
        return self.soak.failures

    def _start(self, servers: list[Server]) -> None:
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(Server.start, servers))
        for each in servers:
            each.wait_for_page()

    def _kill_again_and_again(self, until: float) -> None:
        while self._kills.total() < self._options.kills and time.monotonic() < until:
            time.sleep(random.uniform(0.1, self._options.life))
            if self._options.workers > 1 and random.random() < 0.4:
                random.choice(self._servers).kill_one()
                self._kills["one process"] += 1
                continue
            which = random.sample(self._servers, random.choice([1, 1, 2]))
            for each in which:
                each.kill()
            self._kills[" and ".join(sorted(each.name for each in which))] += 1
            time.sleep(random.choice([0, 0, 1.0, 4.0]))  # some stay away longer than a lease
            with ThreadPoolExecutor(len(which)) as pool:
                list(pool.map(Server.start, which))
            if random.random() < 0.6:  # else one dies while it starts
                for each in which:
                    each.wait_for_page()
        for each in self._servers:
            each.wait_for_page()

    def _end_clients(self) -> None:
        self.soak.stop.set()
        for each in self._threads:
            each.join(120)
        if any(each.is_alive() for each in self._threads):
            self.soak.fail("a client did not end")

    # --- what was promised ---

    def _wait_for_queues(self) -> None:
        deadline = time.monotonic() + EMPTY_S
        servers = [self._here, self._there, self._third]
        empty = 0
        while empty < 2 and time.monotonic() < deadline:  # what one sends on, the next gets later
            time.sleep(1)
            left = [each for server in servers for each in server.queues() if _has_any(each)]
            empty = 0 if left else empty + 1
        for each in left:
            self.soak.fail(f"not sent: {each}")

    def _verify(self, server: Server) -> None:
        """Retrieve every acknowledged object from a node, and hold it against what was sent."""
        soak, good = self.soak, 0
        for study, instances in soak.by_study.items():
            client = Client(server.port, server.title, 60.0)
            client.open()
            got = dict(client.get(study))
            client.close()
            for instance in instances:
                dataset = got.get(instance.uid)
                if dataset is None:
                    soak.fail(f"LOST at {server.name}: {instance.uid} was acknowledged")
                elif not soak.matches(instance, dataset):
                    soak.fail(f"WRONG at {server.name}: {instance.uid} has other bytes")
                else:
                    good += 1
        self._rows.append((f"there byte for byte, {server.name}", f"{good:,}"))
        if not good:
            soak.fail("nothing was stored")

    def _count_doubles(self) -> None:
        for server, sender in ((self._there, HERE), (self._third, THERE), (self._here, THIRD)):
            came = server.arrived_from(sender)
            again = came.total() - len(came)
            self._rows.append(
                (f"from {sender} to {server.title}, again", f"{len(came):,}, {again}")
            )
            if again > BATCH * self._kills.total():
                self.soak.fail(f"{sender} sent {again} objects again")

    def _end(self, server: Server) -> None:
        fail = self.soak.fail
        if (code := server.stop()) != 0:
            fail(f"{server.name} exited {code}")
        if wrong := server.checked():
            fail(f"lfscp check at {server.name}: {wrong}")
        for line in server.complaints()[:5]:
            fail(f"in the log of {server.name}: {line[:500]}")

    def _print(self, lasted: float) -> None:
        options, counts = self._options, self.soak.counts
        index = options.index_url.partition(":")[0] or "sqlite"
        table = [
            ("index, workers, nodes", f"{index}, {options.workers}, {len(self._servers)}"),
            ("duration", f"{lasted / 60:.1f} min"),
            ("SIGKILLs", ", ".join(f"{n} {what}" for what, n in self._kills.items()) or "0"),
            ("objects acknowledged", f"{counts['stored']:,}"),
            ("stores cut off, sent again", f"{counts['stores cut off']}, {counts['sent again']}"),
            *self._rows,
        ]
        width = max(len(name) for name, _ in table)
        for name, value in table:
            print(f"| {name:<{width}} | {value}")


def _has_any(queue: dict[str, object]) -> bool:
    return any(queue[state] for state in ("waiting", "held", "given_up"))


def main() -> int:
    """Run it as the arguments say: the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak routes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=20, help="at most, before it verifies")
    parser.add_argument("--life", type=float, default=3.0, help="until a kill, seconds at most")
    parser.add_argument("--modalities", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.1, help="of a modality, s in the mean")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--index-url", default="", help="of an empty PostgreSQL database")
    parser.add_argument("--folder", type=Path, help="where to put everything; it is kept")
    options = parser.parse_args()
    return in_folder(options.folder, lambda folder: Run(options, folder).run())


if __name__ == "__main__":
    sys.exit(main())
