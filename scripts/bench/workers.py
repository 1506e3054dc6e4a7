"""How the kernel shares connections out to a node's worker processes: whether one starves.

    python scripts/bench/workers.py --markdown

All workers wait at one listening socket, and whoever the kernel lets run first has the connection.
Each association asks one C-ECHO, and the node's log tells which worker answered. Associations come
one after another, many at once, and many that stay, which is how a worker could get all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from peers import dul
from peers.server import end_when_told, free_port, running
from peers.targets import AET, DEFAULT_LFSCP, ClientMode, command_target
from tables import table

_ASSOCIATE = dul.encode_associate_rq(AET, [dul.ProposedContext(1, dul.VERIFICATION)])
_ECHO = dul.encode_echo(1)
_BURST = 16
_PATIENCE_S = 10.0


def _one_after_another(port: int, count: int) -> None:
    for _ in range(count):
        association = dul.open_association(port, _ASSOCIATE)
        association.echo(_ECHO)
        association.release()


def _at_once(port: int, count: int) -> None:
    for _ in range(0, count, _BURST):
        _held(port, _BURST)


def _held(port: int, count: int) -> None:
    associations = [dul.open_association(port, _ASSOCIATE) for _ in range(count)]
    for association in associations:
        association.echo(_ECHO)
    for association in associations:
        association.release()


def _bursts(count: int) -> int:
    return -(-count // _BURST) * _BURST


WAYS: dict[str, tuple[Callable[[int, int], None], Callable[[int], int]]] = {
    "one after another": (_one_after_another, int),
    f"{_BURST} at once": (_at_once, _bursts),
    "all held open": (_held, int),
}


def _echoes(log: Path, since: int) -> Counter[int]:
    """C-ECHOs by worker, of the lines behind this place."""
    found: Counter[int] = Counter()
    with log.open("rb") as lines:
        lines.seek(since)
        for line in lines:
            fields = json.loads(line) if line.startswith(b"{") and line.endswith(b"\n") else {}
            if fields.get("event") == "C-ECHO":
                found[fields["worker"]] += 1
    return found


def measure(workers: int, count: int, folder: Path) -> dict[str, list[int]]:
    """Associations by worker, for each way that they come.

    Raises:
        RuntimeError: the log does not tell of all of them.
    """
    node = command_target("lfscp", f"{DEFAULT_LFSCP} --workers {workers} --log-format json")
    folder.mkdir()
    log = folder / "log"
    shares = {}
    with running(node, folder / "data", free_port(), ClientMode.NODELAY, log) as server:
        for way, (associate, number_of) in WAYS.items():
            since, expected = log.stat().st_size, number_of(count)
            associate(server.port, count)
            deadline = time.monotonic() + _PATIENCE_S
            while (found := _echoes(log, since)).total() < expected:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{found.total()} of {expected} C-ECHOs are in {log}")
                time.sleep(0.05)  # a line is written after its answer
            shares[way] = [found[worker] for worker in range(workers)]
    return shares


def main() -> int:
    """Print how many associations each worker had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="2,4", help="default: %(default)s")
    parser.add_argument("--count", type=int, default=400, help="associations of each way")
    parser.add_argument("--markdown", action="store_true", help="with a heading")
    arguments = parser.parse_args()
    end_when_told()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for workers in map(int, arguments.workers.split(",")):
            shares = measure(workers, arguments.count, Path(folder) / str(workers))
            for way, share in shares.items():
                rows.append([f"{workers} workers, {way}", *_row(share)])
    if arguments.markdown:
        print("### Associations of each worker\n")
    print(table(["how they come", "in all", "fewest", "most", "the fewest's share of even"], rows))
    return 0


def _row(share: list[int]) -> list[str]:
    total = sum(share)
    even = total / len(share)
    return [str(total), str(min(share)), str(max(share)), f"{min(share) / even:.0%}"]


if __name__ == "__main__":
    sys.exit(main())
