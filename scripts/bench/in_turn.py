"""Whether one server is faster than another, by a few per cent: short bursts, in turn, in pairs.

    python scripts/bench/in_turn.py --targets lfscp,storescp-fork --associations 1,4,16
    python scripts/bench/in_turn.py --targets lfscp,before --target-cmd 'before=/path/bin/lfscp
        serve --host 127.0.0.1 --port {port} --aet {aet} --data-dir {data} --no-http'

On a machine that others use as well, a whole run of one server and then of another compares the
minutes in which they ran. Here all servers run at the same time, all but one of them idle, and each
gets the same files by storescu one burst after the other; a burst is compared with the first
server's of the same files, not half a second away. Given is the geometric mean of those ratios with
its standard error over the starts: what a start did well or badly, all its bursts do. The first
burst at a fresh server is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers import dataset
from peers.bench import Invalid, send, split
from peers.command import all_targets
from peers.dataset import Instance
from peers.procstat import cpu_seconds
from peers.server import Server, end_when_told, free_port, running
from peers.targets import ClientMode, Target
from tables import table

_FEW = 8  # of the files that are not wanted


@dataclass
class Bursts:
    """What one server did, burst after burst; the lists of all servers belong together."""

    starts: list[int] = field(default_factory=list)  # of the server: in which of them it was
    rates: list[float] = field(default_factory=list)  # objects a second
    # Of an object, in milliseconds:
    cpu_ms: list[float] = field(default_factory=list)
    senders_ms: list[float] = field(default_factory=list)
    left_ms: list[float] = field(default_factory=list)

    def add(self, start: int, count: int, seconds: float, cpu_s: float, senders_s: float) -> None:
        """Add a burst of so many objects."""
        self.starts.append(start)
        self.rates.append(count / seconds)
        self.cpu_ms.append(1000 * cpu_s / count)
        self.senders_ms.append(1000 * senders_s / count)
        left_s = len(os.sched_getaffinity(0)) * seconds - cpu_s - senders_s
        self.left_ms.append(1000 * left_s / count)

    def ratio(self, others: Bursts) -> tuple[float, float]:
        """How many times as fast as the others, and the standard error of that."""
        by_start: dict[int, list[float]] = {}
        for start, ours, theirs in zip(self.starts, self.rates, others.rates, strict=True):
            by_start.setdefault(start, []).append(math.log(ours / theirs))
        means = [statistics.mean(logs) for logs in by_start.values()]
        error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
        ratio = math.exp(statistics.mean(means))
        return ratio, ratio * error


def measure(
    targets: Sequence[Target],
    files: Sequence[Instance],
    *,
    burst: int,
    associations: int,
    starts: int,
    folder: Path,
) -> dict[str, Bursts]:
    """Start the servers so many times, and give each all files in bursts.

    Raises:
        Invalid: a store failed.
    """
    bursts = [files[at : at + burst] for at in range(0, len(files), burst)]
    found = {target.name: Bursts() for target in targets}
    for start in range(starts):
        scratch = folder / str(start)
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            servers = [start_target(stack, target, scratch / target.name) for target in targets]
            for number, each in enumerate(bursts):
                first = (start + number) % len(servers)
                for server in [*servers[first:], *servers[:first]]:
                    batches = split(each, associations)
                    count = sum(map(len, batches))
                    cpu_before, senders_before = cpu_seconds(server.pid), _ended_children_s()
                    seconds = send(batches, server.port, ClientMode.NODELAY, scratch)
                    if number:  # the first one finds everything cold
                        cpu_s = cpu_seconds(server.pid) - cpu_before
                        senders_s = _ended_children_s() - senders_before
                        found[server.target.name].add(start, count, seconds, cpu_s, senders_s)
    return found


def _ended_children_s() -> float:
    """Processor time of the senders: no server ends between them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start_target(stack: contextlib.ExitStack, target: Target, data: Path) -> Server:
    """Start a server that is stopped when the stack is left."""
    data.mkdir(parents=True)
    log = data.with_suffix(".log")
    return stack.enter_context(running(target, data, free_port(), ClientMode.NODELAY, log))


def chosen_targets(names: str, known: dict[str, Target]) -> list[Target]:
    """Two or more servers by their names; else the program ends and says why."""
    chosen = [known[name] for name in names.split(",") if name in known]
    if len(chosen) < 2 or len(chosen) < len(names.split(",")):
        sys.exit(f"--targets {names}: expected two or more of {', '.join(known)}")
    for target in chosen:
        if target.absence:
            sys.exit(f"{target.name}: {target.absence}")
    return chosen


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--targets", default="lfscp,storescp-fork", help="default: %(default)s")
    parser.add_argument("--target-cmd", action="append", default=[], metavar="NAME=TEMPLATE")
    parser.add_argument("--associations", default="1,4,16", help="default: %(default)s")
    parser.add_argument("--small", action="store_true", help="objects of 8 KB instead of 512 KB")
    parser.add_argument("--burst", type=int, default=400, help="objects, default %(default)s")
    parser.add_argument("--bursts", type=int, default=3, help="a start, default %(default)s")
    parser.add_argument("--starts", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--data-root", type=Path, default=Path("/dev/shm/peerbench"))  # noqa: S108 - memory
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every burst here")
    arguments = parser.parse_args()
    end_when_told()
    targets = chosen_targets(arguments.targets, all_targets(arguments.target_cmd))
    arguments.data_root.mkdir(parents=True, exist_ok=True)
    count = arguments.burst * arguments.bursts
    small = arguments.small
    counts = (_FEW, count) if small else (count, _FEW)
    files = dataset.prepare(arguments.data_root, *counts, _FEW)
    rows, every = [], {}
    with tempfile.TemporaryDirectory(prefix="in-turn-", dir=arguments.data_root) as folder:
        for number in map(int, arguments.associations.split(",")):
            try:
                found = measure(
                    targets,
                    files.small if small else files.large,
                    burst=arguments.burst,
                    associations=number,
                    starts=arguments.starts,
                    folder=Path(folder),
                )
            except Invalid as problem:
                sys.exit(f"{number} associations: {problem}")
            every[number] = {name: vars(bursts) for name, bursts in found.items()}
            first = found[targets[0].name]
            for target in targets:
                bursts = found[target.name]
                ratio, error = first.ratio(bursts)
                rows.append(
                    [
                        str(number),
                        target.name,
                        f"{statistics.median(bursts.rates):.0f}",
                        *(
                            f"{statistics.median(each):.2f}"
                            for each in (bursts.cpu_ms, bursts.senders_ms, bursts.left_ms)
                        ),
                        "" if bursts is first else f"{ratio:.3f} ± {error:.3f}",
                    ]
                )
    heading = ["associations", "server", "objects/s", "ms CPU", "senders'", "idle"]
    print(table([*heading, f"{targets[0].name} is so fast"], rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(every, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
