"""Store and find rates of 1, 2 and 3 nodes behind HAProxy, with PostgreSQL and shared objects.

    python scripts/bench/cluster.py --nodes 1,2,3 --objects bucket --count 200

Everything runs on this machine, database, object store and senders too: with few cores the figures
say what an operation costs, and not how a cluster grows. Beside the rates stands the processor time
that the nodes, PostgreSQL and the S3 service (moto, in Python; a real one is quicker) have used for
a thousand operations. PostgreSQL syncs nothing here. Needs the packages haproxy and postgresql.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from objects import Objects  # noqa: E402
from peers import dul  # noqa: E402
from peers.procstat import cpu_seconds  # noqa: E402
from peers.server import end_when_told, free_port  # noqa: E402
from tables import table  # noqa: E402

from tests.support.haproxy import balancer  # noqa: E402 - after the line that makes it importable
from tests.support.node_process import NodeProcess  # noqa: E402 - likewise
from tests.support.postgresql_programs import binaries  # noqa: E402
from tests.support.postgresql_server import PostgreSQLServer  # noqa: E402
from tests.support.s3_service import CREDENTIALS, S3Service  # noqa: E402

STORE_RQ = dul.encode_associate_rq(
    "CLUSTER", [dul.ProposedContext(1, dul.CT_IMAGE_STORAGE, (dul.EXPLICIT_LE,))]
)
FIND_RQ = dul.encode_associate_rq("CLUSTER", [dul.ProposedContext(1, dul.STUDY_ROOT_FIND)])
SENDERS = 4


@dataclass
class Cluster:
    """Nodes behind a balancer at `port`, and the numbers of the processes that serve."""

    port: int
    nodes: list[int]
    postgresql: int
    service: int | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def cpu(self) -> dict[str, float]:
        """Processor seconds so far, with those of children."""
        used = {
            "nodes": sum(map(cpu_seconds, self.nodes)),
            "postgresql": cpu_seconds(self.postgresql),
        }
        if self.service is not None:
            used["s3"] = cpu_seconds(self.service)
        return used


@contextmanager
def running(nodes: int, where: str, folder: Path) -> Iterator[Cluster]:
    """A cluster of so many nodes of one process each."""
    programs = binaries()
    if programs is None:
        raise SystemExit("no PostgreSQL server found, install the package postgresql")
    port = free_port()
    with ExitStack() as stack:
        postgresql = stack.enter_context(PostgreSQLServer(programs))
        objects, service = f'url = "file://{folder}/objects"', None
        if where == "bucket":
            service = stack.enter_context(S3Service())
            bucket = service.new_bucket()
            objects = f'url = "s3://{bucket}"\nendpoint = "{service.url}"\nallow_http = true'
        configuration = (
            '[server]\nae_title = "CLUSTER"\nproxy_protocol = ["127.0.0.1"]\n'
            f'[index]\nurl = "{postgresql.url(postgresql.new_database())}"\n'
            f"[objects]\n{objects}\n"
        )
        started = []
        for number in range(nodes):
            node = NodeProcess(
                folder / f"node{number}",
                configuration=configuration,
                env=CREDENTIALS,
                flags=["--http-port", "0", "--workers", "1", "--log-level", "info"],
            )
            stack.callback(node.kill)
            started.append(node.start())
        pages = [str(node.wait_for("page")["url"]).rstrip("/") for node in started]
        for page in pages:  # so that no page is built while something is measured
            urllib.request.urlopen(f"{page}/readyz", timeout=60).close()  # noqa: S310 - our nodes
        ports = [
            (node.port, int(page.rpartition(":")[2]))
            for node, page in zip(started, pages, strict=True)
        ]
        stack.enter_context(balancer(folder, port, ports))
        time.sleep(1)  # until every node has passed its first check of health
        yield Cluster(
            port,
            [node.pid for node in started],
            postgresql.pid,
            service.pid if service is not None else None,
        )


def store(port: int, number: int, count: int, size: int, barrier: Any) -> None:
    """Send one study over one association; in a process of its own."""
    requests = list(Objects(size, number).requests(count))
    association = dul.open_association(port, STORE_RQ, 60)
    barrier.wait()
    for request in requests:
        association.store(request)
    association.release()


def find(port: int, number: int, count: int, _size: int, barrier: Any) -> None:
    """Ask for one study again and again."""
    keys = {
        (0x0008, 0x0020): "",
        (0x0008, 0x0052): "STUDY",
        (0x0010, 0x0010): "",
        (0x0010, 0x0020): "",
        (0x0020, 0x000D): Objects(8192, number).study_uid,
    }
    request = dul.encode_find(1, dul.encode_identifier(keys))
    association = dul.open_association(port, FIND_RQ, 60)
    barrier.wait()
    for _ in range(count):
        if len(list(association.responses(request))) != 2:
            raise SystemExit("a study that was stored was not found")
    association.release()


def measured(
    work: Callable[..., None], cluster: Cluster, numbers: list[int], count: int, size: int
) -> dict[str, float]:
    """Operations a second of all senders at once, and the processors' milliseconds for each."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(numbers) + 1)
    senders = [
        context.Process(target=work, args=(cluster.port, number, count, size, barrier))
        for number in numbers
    ]
    for sender in senders:
        sender.start()
    try:
        barrier.wait(60)
        before, started = cluster.cpu(), time.perf_counter()
        for sender in senders:
            sender.join(120)
        elapsed = time.perf_counter() - started
        after = cluster.cpu()
        if any(sender.exitcode != 0 for sender in senders):
            raise SystemExit("a sender failed")
    finally:
        for sender in senders:
            sender.kill()
    done = count * len(numbers)
    figures = {"per second": done / elapsed}
    return figures | {f"ms {name}": (after[name] - before[name]) / done * 1000 for name in before}


def measure(cluster: Cluster, count: int, size: int) -> dict[str, dict[str, float]]:
    """All figures of one cluster."""
    numbers = [next(cluster.numbers) for _ in range(SENDERS)]
    small = [next(cluster.numbers) for _ in range(SENDERS)]
    return {
        f"store {size >> 10} KB": measured(store, cluster, numbers, count, size),
        "store 8 KB": measured(store, cluster, small, count, 8192),
        "find a study": measured(find, cluster, numbers, 2 * count, 0),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", default="1,2,3", help="how many, one run for each")
    parser.add_argument("--objects", choices=("bucket", "folder"), default="bucket")
    parser.add_argument("--count", type=int, default=100, help="objects of each of 4 senders")
    parser.add_argument("--size", type=int, default=512 << 10, help="bytes of the large ones")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args()
    end_when_told()
    figures: dict[str, Any] = {}
    for nodes in map(int, given.nodes.split(",")):
        with (
            tempfile.TemporaryDirectory(prefix="lfscp-cluster-") as folder,
            running(nodes, given.objects, Path(folder)) as cluster,
        ):
            figures[str(nodes)] = measure(cluster, given.count, given.size)
    rows = [
        [
            nodes,
            what,
            *(
                f"{value:.1f}" if name == "per second" else f"{value:.2f}"
                for name, value in values.items()
            ),
        ]
        for nodes, by_what in figures.items()
        for what, values in by_what.items()
    ]
    columns = list(next(iter(next(iter(figures.values())).values())))
    print(table(["nodes", "operation", *columns], rows))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    try:
        main()
    except subprocess.TimeoutExpired as late:
        raise SystemExit(str(late)) from None
