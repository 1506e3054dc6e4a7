"""Where the microseconds of one C-STORE, C-ECHO, C-FIND response and C-GET sub-operation go.

    python scripts/bench/stages.py --markdown
    python scripts/bench/stages.py --only store --folders /dev/shm,/srv/disk --json before.json
    python scripts/bench/stages.py --before before.json

A node with default settings (durability full) serves one association in this thread, its own code
and nothing else; see conversation.py. Each operation is measured twice: bare, which gives the
whole, and with a clock around each stage (probes.py), which costs about half a microsecond a call.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import stage_probes
from conversation import (
    FailedError,
    converse,
    node_in,
    socket_pair,
    statuses,
    tcp_pair,
)
from objects import Objects
from peers import dul
from probes import Probe, Probes
from tables import Samples, number, table

WHOLE = "whole, without probes"
REST = "the rest"
OPERATIONS = ("store", "echo", "find", "get")
_AE_TITLE = "LFSCP"


@dataclass
class Column:
    """The stages of one operation in one setting, in microseconds for one operation."""

    title: str
    stages: dict[str, Samples] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, stage: str, seconds: float) -> None:
        """One more repetition of a stage."""
        self.stages.setdefault(stage, Samples()).add_seconds(seconds)


@dataclass(frozen=True)
class Plan:
    """One operation to be measured.

    Args:
        associate_rq: encoded A-ASSOCIATE-RQ of its association.
        requests: makes so many encoded requests.
        probes: its stages.
        parts: how many responses or sub-operations a request has; figures are divided by it.
        receives: the client answers sub-operations, in a process of its own.
    """

    associate_rq: bytes
    requests: Callable[[int], Iterable[bytes]]
    probes: Sequence[Probe]
    parts: int = 1
    receives: bool = False


def _associate(*contexts: tuple[int, str, str], receives: Sequence[str] = ()) -> bytes:
    proposed = [dul.ProposedContext(n, uid, (syntax,)) for n, uid, syntax in contexts]
    return dul.encode_associate_rq(_AE_TITLE, proposed, receives=receives)


ASSOCIATE_STORE = _associate((1, dul.CT_IMAGE_STORAGE, dul.EXPLICIT_LE))
ASSOCIATE_ECHO = _associate((1, dul.VERIFICATION, dul.IMPLICIT_LE))
ASSOCIATE_FIND = _associate((1, dul.STUDY_ROOT_FIND, dul.IMPLICIT_LE))
ASSOCIATE_GET = _associate(
    (1, dul.CT_IMAGE_STORAGE, dul.EXPLICIT_LE),
    (3, dul.STUDY_ROOT_GET, dul.IMPLICIT_LE),
    receives=[dul.CT_IMAGE_STORAGE],
)
_STUDY_KEYS = dict.fromkeys(
    [
        (0x08, 0x20),
        (0x08, 0x30),
        (0x08, 0x50),
        (0x10, 0x10),
        (0x10, 0x20),
        (0x20, 0x0D),
        (0x20, 0x10),
    ],
    "",
)


def measure(node: Any, plan: Plan, repeats: int, title: str) -> Column:
    """Measure one operation, bare and by stages.

    Raises:
        FailedError: the node answered with something other than success.
    """
    column = Column(title)
    warm = max(3, repeats // 10)

    def run(on_each: Callable[[float], None]) -> None:
        done = 0

        def answered(seconds: float, answers: bytes) -> None:
            nonlocal done
            done += 1
            if not plan.receives:
                _require_success(answers, plan.parts)
            if done > warm:
                on_each(seconds / plan.parts)
            else:
                on_each(-1.0)

        _converse(node, plan, repeats + warm, answered)

    run(lambda seconds: column.add(WHOLE, seconds) if seconds >= 0 else None)
    probes = Probes()

    def by_stages(seconds: float) -> None:
        stages = {stage: taken / plan.parts for stage, taken in probes.take().items()}
        if seconds >= 0:
            for stage, taken in stages.items():
                column.add(stage, taken)
            column.add(REST, seconds - sum(stages.values()))

    with probes.around(plan.probes):
        run(by_stages)
    column.missing = probes.missing
    return column


def _require_success(answers: bytes, parts: int) -> None:
    found = statuses(answers)
    if not found or found[-1] != dul.STATUS_SUCCESS:
        raise FailedError(f"answered with status {found[-1:] or 'nothing'}")
    if parts > 1 and len(found) != parts + 1:
        raise FailedError(f"{len(found) - 1} responses instead of {parts}")


def _converse(node: Any, plan: Plan, count: int, answered: Callable[[float, bytes], None]) -> None:
    requests = plan.requests(count)
    if not plan.receives:
        converse(node, socket_pair(), plan.associate_rq, requests, answered=answered)
        return
    client, served = tcp_pair()
    program = [sys.executable, str(Path(__file__).with_name("receiver.py")), str(client.fileno())]
    with subprocess.Popen(program, pass_fds=[client.fileno()]):
        converse(
            node,
            (client, served),
            plan.associate_rq,
            requests,
            answered=answered,
            takes_answers=False,
        )


# --- the operations ---


def _repeated(request: bytes) -> Callable[[int], Iterable[bytes]]:
    return lambda count: [request] * count


def store(folder: Path, sizes: Sequence[int], repeats: int) -> list[Column]:
    """C-STORE of each size into one known series."""
    columns = []
    for at, size in enumerate(sizes):
        objects = Objects(size * 1024, at + 1)
        plan = Plan(ASSOCIATE_STORE, objects.requests, stage_probes.STORE)
        with _node(folder) as node:
            columns.append(measure(node, plan, repeats, f"{size} KB, {_place(folder)}"))
    return columns


def echo(folder: Path, repeats: int) -> list[Column]:
    """C-ECHO."""
    plan = Plan(ASSOCIATE_ECHO, _repeated(dul.encode_echo(1)), stage_probes.ECHO)
    with _node(folder) as node:
        return [measure(node, plan, repeats, "C-ECHO")]


def find_request(study_uid: str) -> bytes:
    """A C-FIND of one study, or of all when the UID is empty."""
    keys = _STUDY_KEYS | {(0x08, 0x52): "STUDY", (0x20, 0x0D): study_uid}
    return dul.encode_find(1, dul.encode_identifier(keys))


def find(folder: Path, studies: int, repeats: int) -> list[Column]:
    """C-FIND at STUDY level: per response of a query for all, and a query for one."""
    everything = find_request("")
    with _node(folder) as node:
        uids = fill(node, studies)
        one = find_request(uids[-1])
        per_response = Plan(ASSOCIATE_FIND, _repeated(everything), stage_probes.FIND, studies)
        per_query = Plan(ASSOCIATE_FIND, _repeated(one), stage_probes.FIND)
        return [
            measure(node, per_response, max(5, repeats // 20), f"a response of {studies}"),
            measure(node, per_query, repeats, "a query by UID"),
        ]


def get(folder: Path, sizes: Sequence[int], repeats: int) -> list[Column]:
    """C-GET sub-operations of each size, to a receiver in another process over loopback TCP."""
    columns = []
    for at, size in enumerate(sizes):
        objects, count = Objects(size * 1024, at + 1), 50
        keys = {(8, 0x52): "STUDY", (0x20, 0x0D): objects.study_uid}
        request = dul.encode_get(3, dul.encode_identifier(keys))
        plan = Plan(ASSOCIATE_GET, _repeated(request), stage_probes.GET, count, receives=True)
        with _node(folder) as node:
            _converse(
                node,
                Plan(ASSOCIATE_STORE, objects.requests, ()),
                count,
                lambda _, answers: _require_success(answers, 1),
            )
            title = f"{size} KB, {_place(folder)}"
            columns.append(measure(node, plan, max(5, repeats // 20), title))
    return columns


def fill(node: Any, studies: int) -> list[str]:
    """Store one small object in each of so many studies."""
    sets = [Objects(8 * 1024, n + 1) for n in range(studies)]
    _converse(
        node,
        Plan(ASSOCIATE_STORE, lambda _: (r for each in sets for r in each.requests(1)), ()),
        studies,
        lambda _, answers: _require_success(answers, 1),
    )
    return [each.study_uid for each in sets]


def _place(folder: Path) -> str:
    return "/dev/shm" if str(folder).startswith("/dev/shm") else "disk"  # noqa: S108 - a label


class _node:  # noqa: N801 - used as a function
    """A node in a temporary folder below the one given."""

    def __init__(self, folder: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="stages-", dir=folder)
        self._context = node_in(Path(self._folder.name))

    def __enter__(self) -> Any:
        return self._context.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._context.__exit__(*cast(Any, exc))
        self._folder.cleanup()


# --- the report ---


def render(columns: Sequence[Column], before: dict[str, Any]) -> str:
    """A table of stages with the least and the median of each column."""
    header = ["µs, least / median"]
    header += [title for c in columns for title in _titles(c, before)]
    order = dict.fromkeys(stage for column in columns for stage in column.stages)
    stages = [stage for stage in order if stage not in (WHOLE, REST)]
    stages.sort(key=lambda stage: -max(_median(column, stage) for column in columns))
    rows = []
    for stage in [WHOLE, *stages, REST]:
        row = [stage]
        for column in columns:
            if column.title in before:
                old = before[column.title].get(stage)
                row.append(f"{number(old[0])} / {number(old[1])}" if old else "-")
            samples = column.stages.get(stage)
            row.append(f"{number(samples.least)} / {number(samples.median)}" if samples else "-")
        rows.append(row)
    return table(header, rows)


def _titles(column: Column, before: dict[str, Any]) -> list[str]:
    if column.title not in before:
        return [column.title]
    return [f"{column.title}: before", "after"]


def _median(column: Column, stage: str) -> float:
    return column.stages[stage].median if stage in column.stages else 0.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(OPERATIONS), help="default: %(default)s")
    parser.add_argument(
        "--folders",
        default="/dev/shm,/var/tmp",  # noqa: S108 - memory and disk
        help="where objects are stored, each a column; default: %(default)s",
    )
    parser.add_argument("--sizes", default="8,512", help="of objects, in KB; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--studies", type=int, default=500, help="for find; default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="with a heading above each table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write least and median here")
    parser.add_argument(
        "--before", type=Path, metavar="FILE", help="show these beside, from --json"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(OPERATIONS)
    if unknown:
        parser.error(f"--only: {', '.join(unknown)}: expected {', '.join(OPERATIONS)}")
    return arguments


def _measure_all(arguments: argparse.Namespace) -> dict[str, list[Column]]:
    folders = [Path(each) for each in arguments.folders.split(",")]
    sizes = [int(each) for each in arguments.sizes.split(",")]
    repeats = arguments.repeats
    work: dict[str, Callable[[], list[Column]]] = {
        "store": lambda: [c for folder in folders for c in store(folder, sizes, repeats)],
        "echo": lambda: echo(folders[0], repeats * 5),
        "find": lambda: find(folders[0], arguments.studies, repeats),
        "get": lambda: [c for folder in folders for c in get(folder, sizes, repeats)],
    }
    return {name: work[name]() for name in arguments.only.split(",")}


def main() -> int:
    """Measure and print."""
    arguments = _arguments()
    before = json.loads(arguments.before.read_text()) if arguments.before else {}
    measured = _measure_all(arguments)
    headings = {
        "store": "one C-STORE",
        "echo": "one C-ECHO",
        "find": "C-FIND",
        "get": "one C-GET sub-operation",
    }
    for name, columns in measured.items():
        print(f"{'### ' if arguments.markdown else ''}Where the time of {headings[name]} goes\n")
        print(render(columns, before.get(name, {})), end="\n\n")
        missing = sorted({each for column in columns for each in column.missing})
        if missing:
            print(f"Not there any more, in the rest: {', '.join(missing)}\n")
    if arguments.json:
        as_json = {
            name: {
                c.title: {stage: [s.least, s.median] for stage, s in c.stages.items()}
                for c in columns
            }
            for name, columns in measured.items()
        }
        arguments.json.write_text(json.dumps(as_json, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
