"""What an association costs a server: processor time, switches and time of the clock, in turn.

    python scripts/bench/associations.py --targets lfscp,orthanc
    python scripts/bench/associations.py --targets lfscp,before --target-cmd 'before=/path/bin/lfscp
        serve --host 127.0.0.1 --port {port} --aet {aet} --data-dir {data} --no-http'

All servers run at the same time, all but one of them idle, and get associations in short bursts,
one burst after the other. Given are the least and the median of a burst, for each association:
processor time of the server and the switches of its threads, from the kernel's own counts (children
that have ended in ticks of 10 ms only); and the time of the clock, the client's work included. On a
machine that others use as well, compare the processor times. The first burst at each server is left
out.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from in_turn import chosen_targets, start_target
from peers import dataset
from peers.associating import Connection, echoing, storing_one
from peers.command import all_targets
from peers.dataset import Instance
from peers.procstat import ended_children_s, tree
from peers.server import Server, end_when_told
from tables import Samples, number, table

WORK = ("assoc", "assoc-big", "assoc-store")
_FEW = 8  # of the files that are not wanted


@dataclass
class Costs:
    """Of one association, burst by burst."""

    cpu: Samples = field(default_factory=Samples)
    clock: Samples = field(default_factory=Samples)
    switches: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Used:
    """What the processes of a server have used so far."""

    cpu_s: float
    switches: int

    @classmethod
    def of(cls, pid: int) -> _Used:
        cpu_s, switches = 0.0, 0
        for process in tree(pid):
            with contextlib.suppress(OSError):  # ended meanwhile
                cpu_s += time.clock_gettime(_processor_clock(process)) + ended_children_s(process)
                for task in Path(f"/proc/{process}/task").iterdir():
                    status = (task / "status").read_text().splitlines()
                    switches += sum(int(line.split()[1]) for line in status if "_switches" in line)
        return cls(cpu_s, switches)


def _processor_clock(pid: int) -> int:
    """The clock of all threads of a process, ended ones too: what clock_getcpuclockid(3) gives."""
    return (~pid << 3) | 2


def _burst(server: Server, connection: Connection, count: int, costs: Costs | None) -> None:
    before, began = _Used.of(server.pid), time.perf_counter()
    for _ in range(count):
        connection.make(server.port)
    seconds, after = time.perf_counter() - began, _Used.of(server.pid)
    if costs is not None:
        costs.clock.add_seconds(seconds / count)
        costs.cpu.add_seconds((after.cpu_s - before.cpu_s) / count)
        costs.switches.append((after.switches - before.switches) / count)


def _connection(name: str, files: Sequence[Instance]) -> Connection:
    if name == "assoc-store":
        return storing_one(name, files)
    return echoing(name, is_big=name == "assoc-big")


def measure(
    servers: Sequence[Server],
    names: Sequence[str],
    files: Sequence[Instance],
    *,
    bursts: int,
    count: int,
) -> dict[tuple[str, str], Costs]:
    """Give each server its bursts, in turn; the costs by the names of work and server."""
    work = [(server, [_connection(name, files) for name in names]) for server in servers]
    found = {(name, server.target.name): Costs() for name in names for server in servers}
    for turn in range(bursts + 1):
        first = turn % len(servers)
        for server, connections in [*work[first:], *work[:first]]:
            for connection in connections:
                costs = found[connection.name, server.target.name] if turn else None
                _burst(server, connection, count, costs)
    return found


def _row(name: str, target: str, costs: Costs, first: Costs) -> list[str]:
    pairs = zip(first.clock.values, costs.clock.values, strict=True)
    ratio = statistics.geometric_mean(theirs / ours for ours, theirs in pairs)
    times = (costs.cpu.least, costs.cpu.median, costs.clock.least, costs.clock.median)
    switches = statistics.median(costs.switches)
    is_first = costs is first
    return [name, target, *map(number, (*times, switches)), "" if is_first else f"{ratio:.2f}"]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--targets", default="lfscp,orthanc", help="default: %(default)s")
    parser.add_argument("--target-cmd", action="append", default=[], metavar="NAME=TEMPLATE")
    parser.add_argument("--only", default=",".join(WORK), help="default: %(default)s")
    parser.add_argument("--burst", type=int, default=100, help="associations, default %(default)s")
    parser.add_argument("--bursts", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--data-root", type=Path, default=Path("/dev/shm/peerbench"))  # noqa: S108 - memory
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if not set(names) <= set(WORK):
        sys.exit(f"--only {arguments.only}: expected some of {', '.join(WORK)}")
    end_when_told()
    targets = chosen_targets(arguments.targets, all_targets(arguments.target_cmd))
    arguments.data_root.mkdir(parents=True, exist_ok=True)
    stored = (arguments.bursts + 1) * arguments.burst + 1
    files = dataset.prepare(arguments.data_root, _FEW, stored, _FEW).small
    with (
        tempfile.TemporaryDirectory(prefix="associations-", dir=arguments.data_root) as folder,
        contextlib.ExitStack() as stack,
    ):
        servers = [start_target(stack, each, Path(folder) / each.name) for each in targets]
        found = measure(servers, names, files, bursts=arguments.bursts, count=arguments.burst)
    rows = [
        _row(name, each.name, found[name, each.name], found[name, targets[0].name])
        for name in names
        for each in targets
    ]
    heading = ["of one, µs", "server", "least CPU", "CPU", "least time", "time", "switches"]
    print(table([*heading, f"{targets[0].name} is so fast"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
