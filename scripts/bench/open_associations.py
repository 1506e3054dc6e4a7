"""Memory and threads of a real node process while it holds open, idle associations."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peers import dul
from peers.procstat import memory, tree
from peers.server import free_port, running
from peers.targets import AET, DEFAULT_LFSCP, ClientMode, command_target

_ASSOCIATE = dul.encode_associate_rq(AET, [dul.ProposedContext(1, dul.VERIFICATION)])
_ECHO = dul.encode_echo(1)
_SETTLE_S = 0.5
_ECHOES = 200


@dataclass(frozen=True)
class Held:
    """A node with so many open associations; `echo_us` is the least time of a C-ECHO in one."""

    associations: int
    rss_kb: int
    pss_kb: int
    threads: int
    echo_us: float


def _threads(root: int) -> int:
    return sum(1 for pid in tree(root) for _ in Path(f"/proc/{pid}/task").iterdir())


def _allow_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        enough = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def hold(counts: list[int], folder: Path, workers: int) -> list[Held]:
    """Open more and more associations to one node, and look at it; first with none.

    Args:
        counts: how many are open at each look.
        folder: for the node's data and log.
        workers: processes of the node; 0 is its default.
    """
    _allow_descriptors(max(counts) + 100)
    folder.mkdir(parents=True)
    no_limit = "env LFSCP_SERVER__MAX_ASSOCIATIONS_PER_ADDRESS=0"  # all come from this machine
    node = command_target("lfscp", f"{no_limit} {DEFAULT_LFSCP} --workers {workers}")
    log = folder / "log"
    with (
        running(node, folder / "data", free_port(), ClientMode.NODELAY, log) as server,
        _opened() as associations,
    ):
        held = []
        for count in [0, *sorted(counts)]:
            while len(associations) < count:
                associations.append(dul.open_association(server.port, _ASSOCIATE))
            time.sleep(_SETTLE_S)
            now = memory(server.pid)
            held.append(
                Held(
                    count,
                    now.rss_kb,
                    now.pss_kb,
                    _threads(server.pid),
                    _echo_us(server.port),
                )
            )
        return held


def _echo_us(port: int) -> float:
    association = dul.open_association(port, _ASSOCIATE)
    times = []
    for _ in range(_ECHOES):
        began = time.perf_counter()
        association.echo(_ECHO)
        times.append(time.perf_counter() - began)
    association.release()
    return min(times) * 1e6


@contextlib.contextmanager
def _opened() -> Iterator[list[dul.Association]]:
    associations: list[dul.Association] = []
    try:
        yield associations
    finally:
        for association in associations:
            association.close()
