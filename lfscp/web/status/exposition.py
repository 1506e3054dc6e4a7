"""Writes the node's metrics in Prometheus' format: its counters, and gauges of its state now.

Everything is computed for each request, except the size of the archive; see `archive_counts`.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString
from pynetdicom import __version__ as pynetdicom_version
from sqlalchemy.exc import SQLAlchemyError

from lfscp import __version__
from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError
from lfscp.observe import metrics
from lfscp.observe.counters import Counter, Gauge
from lfscp.observe.processes import ProcessUsage, usage
from lfscp.routing.routes import Route
from lfscp.routing.steering import queue_states
from lfscp.web.status.archive_counts import ArchiveCounts
from lfscp.web.status.state import NodeState, ProcessState

if TYPE_CHECKING:
    from lfscp.jobs.service import JobService

Families = Iterator[Metric]


class Exposition:
    """The metrics of one node. Any thread may ask.

    Args:
        node_state: gives the node's state now.
        routes: gives the routes of now.
    """

    def __init__(
        self,
        archive: Archive,
        counts: ArchiveCounts,
        jobs: JobService,
        node_state: Callable[[], NodeState],
        routes: Callable[[], Sequence[Route]] = tuple,
    ) -> None:
        self._routes = routes
        self._archive = archive
        self._counts = counts
        self._jobs = jobs
        self._node_state = node_state
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type.

        Args:
            accept: the request's header, which chooses between the text formats.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Families:
        """Every metric; called by prometheus_client."""
        state = self._node_state()
        yield from counted()
        yield from _node(state)
        yield from _pools(state)
        yield from _processes(state)
        yield from self._disks()
        yield from self._index()

    def _disks(self) -> Families:
        free = GaugeMetricFamily(
            "lfscp_disk_free_bytes", "Bytes free on the disk of a folder.", labels=["folder"]
        )
        size = GaugeMetricFamily("lfscp_disk_size_bytes", "Its size.", labels=["folder"])
        for name, folder in (
            ("data", self._archive.data_dir),
            ("objects", self._archive.files.root),
        ):
            try:
                found = shutil.disk_usage(folder)
            except OSError:  # gone with its mount; /readyz says so
                continue
            free.add_metric([name], found.free)
            size.add_metric([name], found.total)
        yield free
        yield size

    def _index(self) -> Families:
        """What the index tells; or that it does not answer."""
        up = GaugeMetricFamily("lfscp_index_up", "1 when the index answered this scrape.")
        try:
            found = [*self._sizes(), *self._job_counts(), *self._route_queues()]
        except (ArchiveError, SQLAlchemyError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from found

    def _sizes(self) -> Families:
        for name, number in asdict(self._counts.now()).items():
            unit = "bytes" if name == "size" else name
            text = "Bytes of all stored files." if name == "size" else f"Stored {name}."
            yield GaugeMetricFamily(f"lfscp_archive_{unit}", text, number)

    def _job_counts(self) -> Families:
        family = GaugeMetricFamily(
            "lfscp_jobs",
            "Jobs by kind and state; ended ones are kept for a while.",
            labels=("kind", "state"),
        )
        for labels, number in self._jobs.counts().items():
            family.add_metric(labels, number)
        yield family

    def _route_queues(self) -> Families:
        waiting = GaugeMetricFamily(
            "lfscp_route_queue_instances",
            "Objects in the queues of routes, by state.",
            labels=("route", "destination", "state"),
        )
        oldest = GaugeMetricFamily(
            "lfscp_route_queue_oldest_seconds",
            "For how long the oldest object that is to be sent has waited.",
            labels=("route", "destination"),
        )
        paused = GaugeMetricFamily(
            "lfscp_route_queue_paused",
            "1 if an administrator has paused the queue.",
            labels=("route", "destination"),
        )
        for each in queue_states(self._archive.index, self._routes()):
            labels = (each.route, each.destination)
            for state in ("waiting", "held", "given_up"):
                waiting.add_metric((*labels, state), getattr(each, state))
            oldest.add_metric(labels, each.oldest_s)
            paused.add_metric(labels, each.is_paused)
        yield waiting
        yield oldest
        yield paused


def counted() -> Families:
    """The counters of all processes since the node started."""
    sums = metrics.BOARD.sums()
    for instrument in metrics.BOARD.instruments:
        if isinstance(instrument, Counter):
            counter = CounterMetricFamily(
                instrument.name, instrument.text, labels=instrument.labels
            )
            for values, number in instrument.samples(sums):
                counter.add_metric(values, number)
            yield counter
            continue
        if isinstance(instrument, Gauge):
            yield GaugeMetricFamily(instrument.name, instrument.text, instrument.total(sums))
            continue
        histogram = HistogramMetricFamily(
            instrument.name, instrument.text, labels=instrument.labels
        )
        bounds = [*map(floatToGoString, instrument.bounds), "+Inf"]
        for values, numbers, total in instrument.samples(sums):
            # Most of the many statuses never occur; success is shown from the beginning.
            if numbers[-1] or len(values) < 2 or values[1] == "0x0000":
                histogram.add_metric(values, list(zip(bounds, numbers, strict=True)), total)
        yield histogram


def _node(state: NodeState) -> Families:
    queued = max((each.queued for each in state.processes), default=0)  # they share the sockets
    info = GaugeMetricFamily(
        "lfscp_build_info", "Versions.", labels=["version", "python", "pynetdicom"]
    )
    info.add_metric([__version__, platform.python_version(), pynetdicom_version], 1)
    yield info
    for name, text, number in (
        ("start_time_seconds", "When the node started, in seconds since 1970.", state.started_at),
        ("draining", "1 while the node accepts no more associations.", state.is_shutdown),
        ("backlog_connections", "Connections that wait in the kernel.", queued),
        ("backlog_max_connections", "Limit of those.", state.backlog),
        (
            "max_associations",
            "Limit per process; 0: no limit.",
            state.max_associations,
        ),
    ):
        yield GaugeMetricFamily(f"lfscp_{name}", text, float(number))


def _pools(state: NodeState) -> Families:
    for name, text, number in _POOL_GAUGES:
        gauge = GaugeMetricFamily(f"lfscp_{name}", text, labels=["process"])
        for process, each in _named(state):
            gauge.add_metric([process], float(number(each)))
        yield gauge


def _processes(state: NodeState) -> Families:
    named = _with_this_process([(name, each.pid) for name, each in _named(state) if each.pid])
    found = {(name, str(pid)): usage(pid) for name, pid in named}
    running = {labels: each for labels, each in found.items() if each is not None}
    for kind, name, text, number in _PROCESS_FAMILIES:
        family = kind(f"lfscp_process_{name}", text, labels=("process", "pid"))
        for labels, each in running.items():
            family.add_metric(labels, number(each))
        yield family


_POOL_GAUGES: Final[tuple[tuple[str, str, Callable[[ProcessState], float]], ...]] = (
    ("pool_leaders", "1 while a thread waits for connections.", lambda it: it.leader is not None),
    ("pool_waiting_threads", "Followers: idle threads that wait to lead.", lambda it: it.waiting),
    ("pool_running_threads", "The leader and the processors.", lambda it: it.running),
    ("pool_max_running_threads", "Limit of running; 0: no limit.", lambda it: it.max_running),
    ("pool_max_waiting_threads", "Limit of waiting; -1: no limit.", lambda it: it.max_waiting),
    ("associations", "Open associations.", lambda it: len(it.associations)),
)
_PROCESS_FAMILIES: Final[tuple[tuple[Any, str, str, Callable[[ProcessUsage], float]], ...]] = (
    (CounterMetricFamily, "cpu_seconds_total", "CPU time of a process.", lambda it: it.cpu_s),
    (
        GaugeMetricFamily,
        "resident_memory_bytes",
        "Memory of a process that is in RAM.",
        lambda it: it.resident_bytes,
    ),
    (GaugeMetricFamily, "open_fds", "Open file descriptors.", lambda it: it.open_files),
    (GaugeMetricFamily, "max_fds", "Limit of file descriptors.", lambda it: it.max_open_files),
    (GaugeMetricFamily, "threads", "Threads of a process.", lambda it: it.threads),
)


def _named(state: NodeState) -> list[tuple[str, ProcessState]]:
    """The processes that have a pool, with their names."""
    if len(state.processes) == 1:
        return [("node", state.processes[0])]
    return [(f"worker-{number}", each) for number, each in enumerate(state.processes)]


def _with_this_process(named: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Add the page's own process, which this is if there are several workers."""
    here = os.getpid()
    return named if any(pid == here for _, pid in named) else [*named, ("page", here)]
