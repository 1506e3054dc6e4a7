"""How long the page takes to list, filter and sort 100,000 studies with 1,000,000 objects.

    python scripts/bench/page.py --markdown
    python scripts/bench/page.py --studies 1000 --repeats 3
    python scripts/bench/page.py --index-url postgresql+psycopg:///empty
    python scripts/bench/page.py --data /var/tmp/filled    # the second time, in seconds

The index is filled with rows (filling.py), then a node is started on it and asked over HTTP. Each
line is one request: time until the answer has ended, and processor time of the node, without that
of PostgreSQL. The exit status is 1 when the middle time of a request is over --limit. The start of
the node on this index is measured as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from filling import SERIES_PER_STUDY, Filled, Filling
from peers.http_client import Client
from peers.procstat import cpu_seconds
from peers.server import Server, end_when_told, free_port, running
from peers.targets import WEB_LFSCP, ClientMode, command_target
from tables import Samples, number, table

from lfscp.archive.archive import Archive
from lfscp.archive.index.browsing.study_pages import ORDERS

_OBJECTS_PER_SERIES = 5


class Asked(NamedTuple):
    """A request: what it is called, and its path."""

    title: str
    path: str


class Measured(NamedTuple):
    """The times of a request, and its mean processor time in ms."""

    title: str
    times: Samples
    cpu_ms: float


def fill(folder: Path, studies: int, index_url: str | None) -> None:
    """Fill the index of an archive."""
    with Archive.open(folder, durability="os", index_url=index_url) as archive:
        filling = Filling(archive, _OBJECTS_PER_SERIES)
        filling.fill_to(studies * SERIES_PER_STUDY * _OBJECTS_PER_SERIES)
        filling.settle()


def requests(studies: int, client: Client) -> Iterator[Asked]:
    """What a person asks of the list: every order, every filter, some together, its other pages."""
    middle = Filled(studies // 2)
    yield Asked("newest studies", "/")
    for order in ORDERS:
        yield Asked(f"by {order}", f"/archive/rows?order={order}")
        yield Asked(f"by {order}, from the end", f"/archive/rows?order=-{order}")
    yield Asked("next page", f"/archive/rows?after={_cursor(client, '-date')}")
    yield Asked("next page by name", f"/archive/rows?order=name&after={_cursor(client, 'name')}")
    filters = {
        "a word of one study": f"q={quote(middle.accession_number)}",
        "a word of all studies": "q=filler",
        "a word of no study": "q=nobody",
        "two words of many": "q=filler+thorax",
        "name": f"name={quote(middle.patient_name.split('^')[1])}",
        "ID": f"patient_id={middle.patient_id[:-1]}",
        "ID, wildcard": f"patient_id=*{middle.patient_id[-4:]}",
        "birth date": f"birth_date={middle.patient_birth_date[:4]}",
        "study date": f"date_from={middle.study_date}&date_to={middle.study_date}",
        "last 30 days": "when=30d",
        "modality": f"modality={middle.modality}",
        "description": "description=thorax",
        "accession": f"accession={middle.accession_number}",
        "referrer": "referrer=number123",
        "calling AE": f"calling_ae={middle.calling_ae_title}",
        "label": "label=label+1",
        "modality, date and description": "modality=CT&date_from=20100101&description=thorax",
        "two that exclude each other": "modality=CT&description=brain",
        "six that many meet": "q=filler&modality=CT&referrer=referrer&patient_id=FILL"
        f"&calling_ae={Filled(0).calling_ae_title}&description=thorax",
    }
    for title, query in filters.items():
        yield Asked(f"filter: {title}", f"/archive/rows?{query}")
        yield Asked(f"filter: {title}, by name", f"/archive/rows?{query}&order=name")
    yield Asked("one study", f"/studies/{middle.study_uid}")
    yield Asked("objects of a series", f"/series/{middle.series_uid}/instances")
    yield Asked("API: 50 studies, counted", "/api/studies?count=true")
    yield Asked("QIDO: 100 studies", "/dicom-web/studies?limit=100")
    begin = quote(middle.patient_name[:-2])
    yield Asked("QIDO: studies by begin of name", f"/dicom-web/studies?PatientName={begin}*")


def _cursor(client: Client, order: str) -> str:
    client.get(f"/api/studies?limit=60&order={order}")
    return str(json.loads(client.body)["next"])


def measure(server: Server, studies: int, repeats: int) -> list[Measured]:
    """Ask everything so many times, after once without the clock."""
    measured = []
    with Client(server.http_port) as client:
        for asked in requests(studies, client):
            client.get(asked.path)
            samples, before = Samples(), cpu_seconds(server.pid)
            for _ in range(repeats):
                began = time.perf_counter()
                client.get(asked.path)
                samples.add_seconds(time.perf_counter() - began)
            cpu_ms = (cpu_seconds(server.pid) - before) * 1000 / repeats
            measured.append(Measured(asked.title, samples, cpu_ms))
    return measured


def _summary(times: Samples) -> tuple[float, float, float]:
    return times.least, times.median, times.quantile(0.95)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--studies", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--limit", type=float, default=200.0, help="ms; default: %(default)s")
    parser.add_argument("--index-url", help="of an empty database; default: SQLite in --folder")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))  # noqa: S108 - memory
    parser.add_argument("--data", type=Path, help="a data folder that stays; filled if it is new")
    parser.add_argument("--markdown", action="store_true", help="with a heading above the table")
    arguments = parser.parse_args()
    end_when_told()
    with tempfile.TemporaryDirectory(prefix="page-", dir=arguments.folder) as name:
        data = arguments.data or Path(name, "data")
        if not data.exists():
            fill(data, arguments.studies, arguments.index_url)
        index = f"env LFSCP_INDEX__URL={arguments.index_url} " if arguments.index_url else ""
        node = command_target("lfscp", f"{index}{WEB_LFSCP} --workers 1")
        log, began = Path(name, "log"), time.perf_counter()
        with running(node, data, free_port(), ClientMode.NODELAY, log) as server:
            start_s = time.perf_counter() - began
            measured = measure(server, arguments.studies, arguments.repeats)
    if arguments.markdown:
        objects = arguments.studies * SERIES_PER_STUDY * _OBJECTS_PER_SERIES
        print(f"### The page with {arguments.studies:,} studies and {objects:,} objects\n")
    rows = [
        [
            each.title,
            *(number(time_us / 1e3) for time_us in _summary(each.times)),
            number(each.cpu_ms),
        ]
        for each in measured
    ]
    print(table(["request", "least ms", "median ms", "p95 ms", "CPU ms"], rows))
    print(f"\nThe node took {number(start_s)} s to start.")
    slow = [each.title for each in measured if each.times.median / 1000 > arguments.limit]
    if slow:
        print(f"over {arguments.limit:g} ms: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
