"""What the DICOMweb workloads ask with: paths, media types, and closed loops that are measured."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from .bench import Bench, Invalid
from .dataset import Instance
from .http_client import Client
from .procstat import cpu_seconds
from .server import Server
from .web_dataset import WebDataset, prepare_web
from .workload import Values, loop_seconds

ROOT: Final = "/dicom-web"
JSON: Final = "application/dicom+json"
RELATED: Final = 'multipart/related; type="{}"'
OBJECTS: Final = f"{RELATED.format('application/dicom')}; transfer-syntax=*"
OCTETS: Final = RELATED.format("application/octet-stream")
JPEG_2000: Final = RELATED.format("image/jp2") + "; transfer-syntax=1.2.840.10008.1.2.4.90"

Check = Callable[[Client, int], None]


def study_path(instance: Instance) -> str:
    return f"{ROOT}/studies/{instance.study}"


def series_path(instance: Instance) -> str:
    return f"{study_path(instance)}/series/{instance.series}"


def instance_path(instance: Instance) -> str:
    return f"{series_path(instance)}/instances/{instance.sop}"


def sets_of(bench: Bench) -> WebDataset:
    return prepare_web(bench.home, bench.scale)


@contextmanager
def measured(name: str, server: Server, figures: Values) -> Iterator[Callable[[int], None]]:
    """Time of the clock and of the server's processors; call what it gives with the work done."""
    done: list[int] = []
    cpu, started = cpu_seconds(server.pid), time.perf_counter()
    yield done.append
    elapsed = time.perf_counter() - started
    count = sum(done)
    figures[name] = count / elapsed
    figures[f"{name} CPU"] = (cpu_seconds(server.pid) - cpu) * 1000 / count


def loop(
    name: str, bench: Bench, server: Server, paths: Sequence[str], accept: str, check: Check
) -> Values:
    """Ask for the paths in turn, for the time of a closed loop; the last answer is looked at."""
    figures: Values = {}
    with Client(server.http_port) as client:
        check(client, client.get(paths[0], accept).size)
        until = time.perf_counter() + loop_seconds(bench)
        done, size = 0, 0
        with measured(name, server, figures) as count:
            for path in itertools.cycle(paths):
                size = client.get(path, accept).size
                done += 1
                if time.perf_counter() > until:
                    break
            count(done)
        check(client, size)
    return figures


def finds(count: int, client: Client, _size: int) -> None:
    found = len(json.loads(client.body))
    if found != count:
        raise Invalid(f"{found} matches, expected {count}")


def at_least(least: int, _client: Client, size: int) -> None:
    if size < least:
        raise Invalid(f"{size} bytes, expected at least {least}")
