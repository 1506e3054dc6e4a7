"""How cost grows: stores and queries with up to a million instances, a node with 1,000 peers.

    python scripts/bench/growth.py --markdown
    python scripts/bench/growth.py --instances 1000,100000 --associations 10,100
    python scripts/bench/growth.py --plans-only
    python scripts/bench/growth.py --index-url postgresql+psycopg:///empty --associations ""

The index is filled with rows through the archive's own tables (filling.py). At each size objects
are stored and queries asked through the archive, and the database's plan for each required key of
PS3.4 is looked at: the exit status is 1 when one of them reads a whole table. Memory and threads
are those of `lfscp serve`, started for it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from filling import Filled, Filling
from objects import Objects
from open_associations import Held, hold
from peers import dul
from peers.server import end_when_told
from pydicom.dataset import Dataset
from tables import Samples, number, table

from lfscp.archive.archive import Archive, Received
from lfscp.archive.query.matching import build
from lfscp.archive.query.query import Model, Query, parse_query

Asked = tuple[str, str, dict[str, str]]  # what it is called, level, keys

_RETURN_KEYS = ("PatientName", "PatientID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID")
_STORED_BYTES = 8 * 1024
_FEW_ROWS = "_groups"  # partial indexes, of the few names with several component groups


def required_keys(of: Filled) -> list[Asked]:
    """A query by each required and unique key, the unique keys above its level given.

    Source: PS3.4 tables C.6-1 to C.6-5, types R and U.
    """
    series = {"StudyInstanceUID": of.study_uid}
    image = series | {"SeriesInstanceUID": of.series_uid}
    return [
        ("Patient ID", "PATIENT", {"PatientID": of.patient_id}),
        ("Patient's Name", "PATIENT", {"PatientName": of.patient_name}),
        ("Patient's Name, wildcard", "PATIENT", {"PatientName": of.patient_name[:-1] + "*"}),
        ("Study Instance UID", "STUDY", {"StudyInstanceUID": of.study_uid}),
        ("Study Date", "STUDY", {"StudyDate": of.study_date}),
        ("Study Date, range", "STUDY", {"StudyDate": f"{of.study_date}-{of.study_date}"}),
        ("Study Time, range", "STUDY", {"StudyTime": f"{of.study_time}-{of.study_time}"}),
        ("Accession Number", "STUDY", {"AccessionNumber": of.accession_number}),
        ("Study ID", "STUDY", {"StudyID": str(of.number)}),
        ("Patient ID of a study", "STUDY", {"PatientID": of.patient_id}),
        ("Patient's Name of a study", "STUDY", {"PatientName": of.patient_name}),
        ("Series Instance UID", "SERIES", series | {"SeriesInstanceUID": of.series_uid}),
        ("Modality", "SERIES", series | {"Modality": of.modality}),
        ("Series Number", "SERIES", series | {"SeriesNumber": "1"}),
        ("SOP Instance UID", "IMAGE", image | {"SOPInstanceUID": of.instance_uid}),
        ("Instance Number", "IMAGE", image | {"InstanceNumber": "1"}),
        ("all instances of a series", "IMAGE", image),
    ]


def _query(asked: Asked) -> Query:
    _, level, keys = asked
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    if level == "STUDY":
        for keyword in _RETURN_KEYS:
            setattr(identifier, keyword, "")
        identifier.StudyInstanceUID = ""
    else:
        identifier.PatientName = ""
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    if level == "IMAGE":
        identifier.SOPInstanceUID = keys.get("SOPInstanceUID", "")
    # Relational, since keys of the patient are not asked for below the study.
    return parse_query(identifier, Model.PATIENT_ROOT, relational=True)


def _timed(repeats: int, work: Callable[[], Any]) -> tuple[Samples, Any]:
    samples, result = Samples(), None
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        samples.add_seconds(time.perf_counter() - began)
    return samples, result


def _shown(samples: Samples) -> str:
    return f"{number(samples.least)} / {number(samples.median)}"


# --- stores and queries ---


def _store(archive: Archive, objects: Objects) -> None:
    uid, dataset = objects.following()
    archive.store(
        Received(
            sop_class_uid=dul.CT_IMAGE_STORAGE,
            sop_instance_uid=uid,
            transfer_syntax_uid=dul.EXPLICIT_LE,
            calling_ae_title="GROWTH",
            dataset=memoryview(dataset),
            spooled_path=None,
            dataset_offset=0,
        )
    )


def _stores(archive: Archive, size: int, repeats: int) -> dict[str, Samples]:
    """Times of stores into one series, and each into a new study."""
    known = Objects(_STORED_BYTES, size)
    _store(archive, known)
    fresh = iter([Objects(_STORED_BYTES, size + 1 + at) for at in range(repeats)])
    return {
        "store, known series": _timed(repeats, lambda: _store(archive, known))[0],
        "store, new study": _timed(repeats, lambda: _store(archive, next(fresh)))[0],
    }


def _finds(archive: Archive, of: Filled, repeats: int) -> dict[str, tuple[Samples, int]]:
    found = {}
    for asked in required_keys(of):
        query = _query(asked)
        samples, answers = _timed(repeats, partial(_answers, archive, query))
        found[f"find, {asked[0]}"] = samples, len(answers)
    return found


def _answers(archive: Archive, query: Query) -> list[bytes]:
    found = archive.find(query, transfer_syntax_uid=dul.IMPLICIT_LE, retrieve_ae_title="LFSCP")
    return list(found)


def _growth_row(title: str, per_size: list[Any]) -> list[str]:
    row = [title]
    for measured in per_size:
        samples, matches = measured if isinstance(measured, tuple) else (measured, None)
        row.append(_shown(samples) + (f" ({matches:,})" if matches is not None else ""))
    return row


def growth(
    folder: Path, sizes: list[int], repeats: int, index_url: str | None = None
) -> tuple[str, str, bool]:
    """Table of times, list of plans, and whether no plan reads a whole table."""
    per_size: list[dict[str, Any]] = []
    with Archive.open(folder, index_url=index_url) as archive:
        filling = Filling(archive)
        for size in sorted(sizes):
            began = time.perf_counter()
            filling.fill_to(size)
            filling.settle()
            seconds = time.perf_counter() - began
            print(f"filled to {filling.instances:,} in {seconds:.0f} s", file=sys.stderr)
            middle = Filled(filling.studies // 2)
            per_size.append({**_stores(archive, size, repeats), **_finds(archive, middle, repeats)})
        plan_table, is_fine = plans(archive, middle)
    header = ["µs, least / median (matches)", *(f"{size:,} instances" for size in sorted(sizes))]
    rows = [_growth_row(title, [each[title] for each in per_size]) for title in per_size[0]]
    return table(header, rows), plan_table, is_fine


# --- plans ---


def plans(archive: Archive, of: Filled) -> tuple[str, bool]:
    """The database's plan for each required key, and whether none reads a whole table or index."""
    lines, is_fine = [], True
    with archive.index.engine.connect() as connection:
        for asked in required_keys(of):
            statement = build(_query(asked), connection.dialect.name).statement
            compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
            if connection.dialect.name == "sqlite":
                explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
                steps = [str(row[3]) for row in explained]
                scans = [s for s in steps if s.startswith("SCAN ") and not s.endswith(_FEW_ROWS)]
            else:
                sql = f"EXPLAIN (COSTS OFF) {compiled}".replace("%%", "%")
                lean = connection.execution_options(no_parameters=True)
                steps = [str(row[0]).strip(" ->") for row in lean.exec_driver_sql(sql)]
                scans = [s for s in steps if "Seq Scan" in s]
            is_fine = is_fine and not scans
            verdict = f" **reads all: {'; '.join(scans)}**" if scans else ""
            lines.append(f"- {asked[1]} by {asked[0]}:{verdict} {'; '.join(steps)}")
    return "\n".join(lines), is_fine


# --- memory and threads ---


def held_table(counts: list[int], folder: Path, workers: int) -> str:
    """Memory and threads of a node with so many open associations."""
    held = hold(counts, folder, workers)
    idle = held[0]

    def row(each: Held) -> list[str]:
        per = (each.pss_kb - idle.pss_kb) / each.associations if each.associations else 0.0
        return [
            f"{each.associations:,}",
            number(each.pss_kb / 1024),
            number(each.rss_kb / 1024),
            number(per) if each.associations else "-",
            f"{each.threads:,}",
            number(each.echo_us),
        ]

    header = ["open associations", "PSS MB", "RSS MB", "PSS KB each", "threads", "C-ECHO µs"]
    return table(header, [row(each) for each in held])


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--instances", type=_numbers, default="1000,100000,1000000", metavar="N,N")
    parser.add_argument("--associations", type=_numbers, default="10,100,1000", metavar="N,N")
    parser.add_argument("--index-url", help="of an empty database; default: SQLite in --folder")
    parser.add_argument("--workers", type=int, default=1, help="of the node; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108 - memory
    parser.add_argument("--plans-only", action="store_true", help="of an index of 1,000 instances")
    parser.add_argument("--markdown", action="store_true", help="with a heading above each table")
    arguments = parser.parse_args()
    end_when_told()
    mark = "### " if arguments.markdown else ""
    is_fine = True
    with tempfile.TemporaryDirectory(prefix="growth-", dir=arguments.folder) as name:
        if arguments.plans_only:
            arguments.instances, arguments.associations, arguments.repeats = [1000], [], 1
        if arguments.instances:
            times, plan_table, is_fine = growth(
                Path(name) / "archive",
                arguments.instances,
                arguments.repeats,
                arguments.index_url,
            )
            if not arguments.plans_only:
                print(f"{mark}Cost of one operation as the archive grows\n\n{times}\n")
            print(f"{mark}Plans for the required keys\n\n{plan_table}\n")
        if arguments.associations:
            held = held_table(arguments.associations, Path(name) / "node", arguments.workers)
            print(f"{mark}Open and idle associations\n\n{held}\n")
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
