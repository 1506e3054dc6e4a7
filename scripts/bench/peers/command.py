"""Command line: run workloads over targets, interleaved in rounds, and report."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

from tests.support.postgresql_programs import binaries

from . import dataset, report
from .bench import Bench, Invalid, UnsupportedError
from .dul import DicomError
from .http_client import HttpError
from .postgresql import PostgreSQL
from .server import ServerError, end_when_told, free_port
from .targets import (
    DCMTK,
    DEFAULT_LFSCP,
    PEERS,
    WEB_LFSCP,
    WEB_PEERS,
    Target,
    command_target,
    lfscp_program,
    postgresql_lfscp,
    postgresql_targets,
)
from .workload import Figure, Workload
from .workloads import WEB_WORKLOADS, WORKLOADS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="peers", description=__doc__)
    parser.add_argument("--targets", help="comma-separated; default: all peers, and lfscp if found")
    parser.add_argument("--only", help="comma-separated workload names; default: all")
    parser.add_argument(
        "--dicomweb", action="store_true", help="measure DICOMweb instead of DICOM's own services"
    )
    parser.add_argument(
        "--postgresql",
        action="store_true",
        help="lfscp and Orthanc with their indexes in a PostgreSQL server of the benchmark's own",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a quarter of the work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here too")
    parser.add_argument(
        "--target-cmd",
        action="append",
        default=[],
        metavar="NAME=TEMPLATE",
        help="add a target, with {port} {aet} {data} {dst_port} {http_port}; "
        f"lfscp, unless given here, is: {DEFAULT_LFSCP}",
    )
    parser.add_argument(
        "--subject",
        help="the target compared with the peers (default: lfscp, or the first --target-cmd)",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("/dev/shm/peerbench"),  # noqa: S108 - memory, to leave the disk out
        help="where the files and the servers' data live (default: %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="list workloads and targets, and exit")
    arguments = parser.parse_args()
    if arguments.postgresql and arguments.dicomweb:
        parser.error("--postgresql is not for --dicomweb")
    return arguments


def all_targets(
    commands: list[str], *, dicomweb: bool = False, database: PostgreSQL | None = None
) -> dict[str, Target]:
    """The peers, lfscp, and what `--target-cmd` adds, by name; with a database, what can use it."""
    if database is not None:
        found = {target.name: target for target in postgresql_targets(database)}
    else:
        found = {target.name: target for target in (WEB_PEERS if dicomweb else PEERS)}
        found["lfscp"] = command_target("lfscp", WEB_LFSCP if dicomweb else DEFAULT_LFSCP)
    for item in commands:
        name, separator, template = item.partition("=")
        if not separator:
            sys.exit(f"--target-cmd {item!r}: expected NAME=TEMPLATE")
        found[name] = (
            postgresql_lfscp(name, template, database)
            if database
            else command_target(name, template)
        )
    return found


def _chosen(names: str | None, known: dict[str, Target], commands: list[str]) -> list[Target]:
    if names is None:
        absent = {t.name: t.absence for t in known.values() if t.absence}
        if not lfscp_program() and not any(c.startswith("lfscp=") for c in commands):
            absent["lfscp"] = "not beside this Python, nor on PATH"
        for name, reason in absent.items():
            print(f"{name} is left out: {reason}", file=sys.stderr)
        return [t for t in known.values() if t.name not in absent]
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        sys.exit(f"unknown targets {unknown}; known: {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def _with_database_cpu(workload: Workload) -> Workload:
    """The same, and where it shows the server's processor time also that of PostgreSQL."""
    own = next((each for each in workload.figures if each.name == f"{workload.name} CPU"), None)
    if own is None:
        return workload
    added = Figure(f"{workload.name} PostgreSQL CPU", own.unit, higher_is_better=False)
    return replace(workload, figures=(*workload.figures, added))


def _chosen_workloads(names: str | None, *, dicomweb: bool, postgresql: bool) -> list[Workload]:
    all_of_them = WEB_WORKLOADS if dicomweb else WORKLOADS
    if postgresql:
        all_of_them = tuple(map(_with_database_cpu, all_of_them))
    known = {workload.name: workload for workload in all_of_them}
    if names is None:
        return list(all_of_them)
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        sys.exit(f"unknown workloads {unknown}; known: {', '.join(known)}")
    return [known[name] for name in names.split(",")]


_FAILURES = (Invalid, DicomError, ServerError, HttpError, HTTPException)


def _run_one(bench: Bench, workload: Workload, target: Target, cell: report.Cell) -> str:
    """Run once, record into the cell, and say in a few words how it went."""
    try:
        workload.check(bench, target)
        values = workload.run(bench, target)
    except UnsupportedError as reason:
        cell.unsupported = str(reason)
        return f"- ({reason})"
    except (*_FAILURES, OSError, subprocess.TimeoutExpired) as problem:
        cell.invalid.append(f"{type(problem).__name__}: {problem}"[:300])
        return f"INVALID {cell.invalid[-1]}"
    cell.rounds.append(values)
    return ", ".join(f"{values[f.name]:.4g} {f.unit}" for f in workload.figures)


def _database(data_root: Path) -> PostgreSQL:
    programs = binaries()
    if programs is None:
        sys.exit("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return PostgreSQL(data_root / f"postgresql-{os.getpid()}", programs)


def main() -> int:
    arguments = _arguments()
    database = _database(arguments.data_root) if arguments.postgresql else None
    known = all_targets(arguments.target_cmd, dicomweb=arguments.dicomweb, database=database)
    workloads = _chosen_workloads(
        arguments.only, dicomweb=arguments.dicomweb, postgresql=arguments.postgresql
    )
    targets = _chosen(arguments.targets, known, arguments.target_cmd)
    if arguments.list:
        for workload in workloads:
            print(f"{workload.name:18} {workload.about}")
        for target in known.values():
            print(f"{target.name:18} {target.note}")
        return 0
    if not os.access(f"{DCMTK}/storescu", os.X_OK):
        sys.exit(f"{DCMTK}/storescu is not installed; on Debian: apt-get install dcmtk")
    names = [target.name for target in targets]
    added = [item.partition("=")[0] for item in arguments.target_cmd]
    subject = arguments.subject or next((n for n in ["lfscp", *added] if n in names), None)
    end_when_told()  # then what there is is reported

    scale = 0.25 if arguments.quick else 1.0
    arguments.data_root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.data_root))
    logs = Path(tempfile.mkdtemp(prefix="peerbench-logs-"))
    settings = {
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "data_root": str(arguments.data_root),
    }
    results = report.Results(targets, workloads, subject, settings, report.machine_facts())
    began = time.monotonic()
    try:
        with database or nullcontext():
            files = dataset.prepare(
                arguments.data_root, int(400 * scale), int(2000 * scale), int(2000 * scale)
            )
            bench = Bench(files, scratch, logs, free_port(), scale, arguments.data_root, database)
            for number in range(1, arguments.rounds + 1):
                first = (number - 1) % len(targets)  # nobody always follows the same neighbour
                for workload in workloads:
                    for target in targets[first:] + targets[:first]:
                        cell = results.cell(workload.name, target.name)
                        outcome = _run_one(bench, workload, target, cell)
                        print(
                            f"[{time.monotonic() - began:6.0f}s {number}/{arguments.rounds}] "
                            f"{workload.name:18} {target.name:14} {outcome}",
                            file=sys.stderr,
                            flush=True,
                        )
    except KeyboardInterrupt:
        print("interrupted: reporting what there is", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    results.machine["load_after"] = os.getloadavg()
    settings["seconds"] = round(time.monotonic() - began)
    text = report.render(results)
    print(text)
    print(f"Server and client logs: {logs}", file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(results), indent=1))
    if arguments.markdown:
        arguments.markdown.write_text(text)
    return 1 if any(cell.invalid for cell in results.cells.values()) else 0
