"""Workloads of DICOMweb: searches, metadata, frames, whole studies and pictures."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from typing import Any, Final

from . import static_server
from .bench import Bench, Invalid
from .dataset import Instance, total_bytes
from .http_client import Client, HttpError
from .procstat import PeakMemory, memory
from .server import Server
from .targets import Capability, Target
from .web_dataset import FRAMES
from .web_requests import (
    JPEG_2000,
    JSON,
    OBJECTS,
    OCTETS,
    ROOT,
    Check,
    at_least,
    finds,
    instance_path,
    loop,
    measured,
    series_path,
    sets_of,
    study_path,
)
from .web_storing import store, stow_each
from .workload import Figure, Values, Workload, loop_seconds

_PICTURES: Final = 40  # of different objects, each asked for once
_FOUND: Final = 100
_WEB: Final = frozenset({Capability.DICOMWEB})


def _search(name: str, bench: Bench, target: Target) -> Values:
    index = bench.dataset.index
    paths, found = [f"{ROOT}/studies?limit={_FOUND}"], _FOUND
    if name == "qido-one":
        uids = sorted({instance.study for instance in index})
        paths, found = [f"{ROOT}/studies?StudyInstanceUID={uid}" for uid in uids], 1
    with bench.loaded(target, "index", index) as server:
        return loop(name, bench, server, paths, JSON, partial(finds, found))


# --- metadata -----------------------------------------------------------------


def _metadata(bench: Bench, target: Target) -> Values:
    """The first request counts alone; the others show what is kept of it."""
    series = sets_of(bench).series
    path = f"{series_path(series[0])}/metadata"
    figures: Values = {}
    with bench.loaded(target, "series", series, without_caches=True) as server:
        with Client(server.http_port, 64 << 20) as client:
            with measured("metadata-first", server, figures) as count:
                client.get(path, JSON)
                count(1)
            finds(len(series), client, 0)
        check: Check = partial(at_least, 500 * len(series))
        return figures | loop("metadata-again", bench, server, [path], JSON, check)


# --- frames -------------------------------------------------------------------


def _frame_paths(bench: Bench, target: Target) -> list[str]:
    if Capability.DICOMWEB not in target.capabilities:
        return [static_server.PATH]
    return [f"{instance_path(each)}/frames/1" for each in sets_of(bench).series[:200]]


@contextmanager
def _with_series(bench: Bench, target: Target) -> Iterator[Server]:
    if Capability.DICOMWEB in target.capabilities:
        with bench.loaded(target, "series", sets_of(bench).series) as server:
            yield server
    else:
        with bench.fresh(target) as server:
            yield server


def _frames(name: str, connections: int, bench: Bench, target: Target) -> Values:
    paths = _frame_paths(bench, target)
    figures: Values = {}
    with _with_series(bench, target) as server:
        readers = [
            _FrameReader(server.http_port, paths[number::connections] or paths)
            for number in range(connections)
        ]
        with measured(name, server, figures) as count:
            count(_read_for(readers, loop_seconds(bench)))
    return figures


def _read_for(readers: Sequence[_FrameReader], seconds: float) -> int:
    for reader in readers:
        reader.start()
    time.sleep(seconds)
    for reader in readers:
        reader.is_over = True
    for reader in readers:
        reader.join()
    failed = next((reader.failure for reader in readers if reader.failure), "")
    if failed:
        raise Invalid(failed)
    return sum(reader.done for reader in readers)


class _FrameReader(threading.Thread):
    """Reads frames on one connection until it is told to end."""

    def __init__(self, port: int, paths: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.done = 0
        self.is_over = False
        self.failure = ""
        self._paths = itertools.cycle(paths)
        self._port = port

    def run(self) -> None:
        try:
            with Client(self._port) as client:
                while not self.is_over:
                    size = client.get(next(self._paths), OCTETS).size
                    at_least(static_server.FRAME_BYTES, client, size)
                    self.done += 1
        except (OSError, HTTPException, HttpError, Invalid) as problem:
            self.failure = str(problem)


def _long(bench: Bench, target: Target) -> Values:
    (image,) = sets_of(bench).long
    paths = [
        f"{instance_path(image)}/frames/{1 + number * 37 % FRAMES}" for number in range(FRAMES)
    ]
    with bench.loaded(target, "long", [image], load=stow_each) as server:
        check: Check = partial(at_least, 900_000)
        return loop("frames-jpeg2000", bench, server, paths, JPEG_2000, check)


# --- whole studies ------------------------------------------------------------


def _retrieve(name: str, bench: Bench, target: Target) -> Values:
    label = "study" if name == "study" else "series"
    files: tuple[Instance, ...] = getattr(sets_of(bench), label)
    figures: Values = {}
    with bench.loaded(target, label, files) as server, Client(server.http_port) as client:
        client.get(f"{instance_path(files[0])}/frames/1", OCTETS)  # what a first answer loads
        before = memory(server.pid).pss_kb
        with (
            PeakMemory(server.pid, pss_interval_s=0.05) as peak,
            measured(name, server, figures) as count,
        ):
            size = client.get(study_path(files[0]), OBJECTS).size
            count(len(files))
        at_least(int(0.99 * total_bytes(files)), client, size)
    return figures | {f"{name} memory": max(0, peak.pss_kb - before) / 1024}


# --- pictures -----------------------------------------------------------------


def _pictures(name: str, bench: Bench, target: Target) -> Values:
    """Each object once: what is kept of a picture does not count."""
    series = sets_of(bench).series
    chosen = series[:: max(1, len(series) // _PICTURES)][:_PICTURES]
    figures: Values = {}
    with (
        bench.loaded(target, "series", series, without_caches=True) as server,
        Client(server.http_port) as client,
    ):
        client.get(f"{instance_path(series[1])}/{name}", "image/jpeg")
        with measured(name, server, figures) as count:
            sizes = [client.get(f"{instance_path(i)}/{name}", "image/jpeg").size for i in chosen]
            count(len(chosen))
    at_least(500, client, min(sizes))
    return figures


def _workload(
    name: str,
    about: str,
    unit: str,
    run: Callable[[Bench, Target], Values],
    *,
    needs: frozenset[Capability] = _WEB,
    with_memory: bool = False,
    figures: Sequence[str] = (),
) -> Workload:
    shown: list[Figure] = []
    for figure in figures or (name,):
        shown.append(Figure(figure, f"{unit}/s"))
        shown.append(Figure(f"{figure} CPU", f"ms/{unit}", higher_is_better=False))
    if with_memory:
        shown.append(Figure(f"{name} memory", "MB more", higher_is_better=False))
    return Workload(name, about, tuple(shown), run, needs)


def _frames_workload(name: str, connections: int) -> Workload:
    about = f"single frames of 512 KB on {connections} connections, as multipart/related"
    needs = frozenset({Capability.FRAMES})
    return _workload(name, about, "frame", partial(_frames, name, connections), needs=needs)


def _named(make: Callable[[str, Bench, Target], Values], name: str) -> Any:
    return partial(make, name)


DICOMWEB: tuple[Workload, ...] = (
    _workload(
        "qido-studies",
        "QIDO-RS of 2000 studies with limit=100",
        "request",
        _named(_search, "qido-studies"),
    ),
    _workload(
        "qido-one",
        "QIDO-RS of one study by its UID among 2000",
        "request",
        _named(_search, "qido-one"),
    ),
    _workload(
        "metadata",
        "metadata of a series of 1000 CT: the first time, and again",
        "request",
        _metadata,
        figures=("metadata-first", "metadata-again"),
    ),
    _frames_workload("frames-1", 1),
    _frames_workload("frames-6", 6),
    _workload(
        "frames-jpeg2000",
        "single frames of an image of 88 frames and 90 MB in JPEG 2000, as they are stored",
        "frame",
        _long,
    ),
    _workload(
        "study",
        "a study of 200 x 512 KB as it is stored",
        "object",
        _named(_retrieve, "study"),
        with_memory=True,
    ),
    _workload(
        "study-500mb",
        "a study of 1000 x 512 KB",
        "object",
        _named(_retrieve, "study-500mb"),
        with_memory=True,
    ),
    _workload(
        "stow",
        "STOW-RS of 200 x 512 KB in one request",
        "object",
        _named(store, "stow"),
        with_memory=True,
    ),
    _workload(
        "stow-500mb",
        "STOW-RS of 1000 x 512 KB in one request",
        "object",
        _named(store, "stow-500mb"),
        with_memory=True,
    ),
    _workload(
        "rendered",
        "JPEG pictures of 40 CT of 512x512, each once",
        "picture",
        _named(_pictures, "rendered"),
    ),
    _workload(
        "thumbnail",
        "thumbnails of the same",
        "picture",
        _named(_pictures, "thumbnail"),
        needs=_WEB | {Capability.THUMBNAILS},
    ),
)
