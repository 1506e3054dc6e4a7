"""Workloads on associations themselves: echo, negotiation, idle memory, latency, start-up."""

from __future__ import annotations

import select
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pydicom._uid_dict import UID_dictionary

from . import dul
from .bench import Bench, Invalid, sending, split, verify_stored
from .dataset import Instance, data_set_bytes
from .procstat import memory
from .targets import AET, ClientMode, Target
from .workload import Figure, Values, Workload, loop_seconds

# Closed connections linger in TIME_WAIT: more of them would use up the client's ports.
MAX_CONNECTIONS = 8000
IDLE_ASSOCIATIONS = 200
LOADING_ASSOCIATIONS = 8

_ECHO = dul.encode_echo(1)
_ONE_CONTEXT = dul.encode_associate_rq(AET, [dul.ProposedContext(1, dul.VERIFICATION)])
_STORE_PDU = 16384  # which every server takes


def modality_contexts() -> list[dul.ProposedContext]:
    """Verification and 127 storage contexts, three transfer syntaxes each."""
    storage = sorted(
        uid
        for uid, entry in UID_dictionary.items()
        if uid.startswith("1.2.840.10008.5.1.4.1.1.") and entry[1] == "SOP Class"
    )
    syntaxes = (dul.EXPLICIT_LE, dul.IMPLICIT_LE, dul.EXPLICIT_BE)
    abstract = [dul.VERIFICATION, *(storage * 2)[:127]]
    return [dul.ProposedContext(2 * n + 1, uid, syntaxes) for n, uid in enumerate(abstract)]


def _echo(bench: Bench, target: Target) -> Values:
    with bench.fresh(target) as server:
        association = dul.open_association(server.port, _ONE_CONTEXT)
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < loop_seconds(bench):
            association.echo(_ECHO)
            done += 1
        association.release()
    return {"echo": done / elapsed}


@dataclass(frozen=True)
class Connection:
    """What is done on a connection of its own, again and again.

    Args:
        associate_rq: encoded; the operation comes in its context 1.
        operation: done once on each association; gives whether there is more to do.
    """

    name: str
    associate_rq: bytes
    operation: Callable[[dul.Association], bool]

    def make(self, port: int) -> bool:
        """Connect, associate, operate, release and close; whether there is more to do."""
        association = dul.open_association(port, self.associate_rq)
        if 1 not in association.accepted:
            raise Invalid("presentation context 1 was not accepted")
        has_more = self.operation(association)
        association.release()
        return has_more


def _echo_on(association: dul.Association) -> bool:
    association.echo(_ECHO)
    return True


def echoing(name: str, *, is_big: bool = False) -> Connection:
    """Connections with a C-ECHO each, with 1 or 128 contexts."""
    request = dul.encode_associate_rq(AET, modality_contexts()) if is_big else _ONE_CONTEXT
    return Connection(name, request, _echo_on)


def storing_one(name: str, files: Sequence[Instance]) -> Connection:
    """Connections with a C-STORE each, until all files are stored."""
    contexts = [dul.ProposedContext(1, dul.CT_IMAGE_STORAGE, (dul.EXPLICIT_LE,))]
    requests = deque(
        dul.encode_store(1, dul.CT_IMAGE_STORAGE, each.sop, data_set_bytes(each), _STORE_PDU)
        for each in files
    )

    def store_on(association: dul.Association) -> bool:
        association.store(requests.popleft())
        return bool(requests)

    return Connection(name, dul.encode_associate_rq(AET, contexts), store_on)


def _repeated(connection: Connection, port: int, bench: Bench) -> tuple[int, float]:
    """Make connections for a while: how many, and in how many seconds."""
    done, started, has_more = 0, time.perf_counter(), True
    while (elapsed := time.perf_counter() - started) < loop_seconds(bench):
        if done == MAX_CONNECTIONS or not has_more:
            break
        has_more = connection.make(port)
        done += 1
    return done, elapsed


def _associate(connection: Connection, bench: Bench, target: Target) -> Values:
    with bench.fresh(target) as server:
        done, elapsed = _repeated(connection, server.port, bench)
    return {connection.name: done / elapsed}


def _associate_and_store(name: str, bench: Bench, target: Target) -> Values:
    files = bench.share(bench.dataset.small, target)
    with bench.fresh(target) as server:
        done, elapsed = _repeated(storing_one(name, files), server.port, bench)
        verify_stored(server, files[:done])
    return {name: done / elapsed}


def _idle_memory(bench: Bench, target: Target) -> Values:
    with bench.fresh(target) as server:
        time.sleep(0.3)
        before = memory(server.pid)
        open_now = []
        try:
            for _ in range(IDLE_ASSOCIATIONS):  # appended one by one: all are closed at the end
                open_now.append(dul.open_association(server.port, _ONE_CONTEXT))  # noqa: PERF401
            time.sleep(1.0)
            after = memory(server.pid)
            closed, _, _ = select.select([a.connection for a in open_now], [], [], 0)
            if closed:
                raise Invalid(f"{len(closed)} of {len(open_now)} idle associations were ended")
            open_now[0].echo(_ECHO)
        finally:
            for association in open_now:
                association.close()
    return {
        "idle-mem": (after.rss_kb - before.rss_kb) / IDLE_ASSOCIATIONS,
        "idle-mem PSS": (after.pss_kb - before.pss_kb) / IDLE_ASSOCIATIONS,
    }


def _echo_under_load(bench: Bench, target: Target) -> Values:
    batches = split(bench.share(bench.dataset.large, target), LOADING_ASSOCIATIONS)
    latencies: list[float] = []
    with bench.fresh(target) as server:
        association = dul.open_association(server.port, _ONE_CONTEXT, 60)
        association.echo(_ECHO)
        with sending(batches, server.port, ClientMode.NODELAY, bench.logs) as clients:
            while any(client.poll() is None for client in clients):
                started = time.perf_counter()
                association.echo(_ECHO)
                latencies.append(time.perf_counter() - started)
                time.sleep(0.002)
        association.release()
        verify_stored(server, [instance for batch in batches for instance in batch])
    if len(latencies) < 20:
        raise Invalid(f"only {len(latencies)} echoes while the stores ran")
    ordered = sorted(latencies)
    return {
        "echo-under-load p50": statistics.median(ordered) * 1000,
        "echo-under-load p99": ordered[int(len(ordered) * 0.99)] * 1000,
    }


def _startup(bench: Bench, target: Target) -> Values:
    seconds = []
    for _ in range(3):
        with bench.fresh(target) as server:
            seconds.append(server.startup_seconds)
    return {"startup": statistics.median(seconds)}


ASSOCIATING: tuple[Workload, ...] = (
    Workload("echo", "C-ECHO round trips on one association", (Figure("echo", "/s"),), _echo),
    Workload(
        "assoc",
        "connect, associate (1 context), C-ECHO, release, close",
        (Figure("assoc", "/s"),),
        partial(_associate, echoing("assoc")),
    ),
    Workload(
        "assoc-big",
        "the same with 128 contexts of 3 transfer syntaxes",
        (Figure("assoc-big", "/s"),),
        partial(_associate, echoing("assoc-big", is_big=True)),
    ),
    Workload(
        "assoc-store",
        "connect, associate (1 context), C-STORE of 8 KB, release, close",
        (Figure("assoc-store", "/s"),),
        partial(_associate_and_store, "assoc-store"),
    ),
    Workload(
        "idle-mem",
        f"memory per association, {IDLE_ASSOCIATIONS} open and idle",
        (Figure("idle-mem", "KB", False), Figure("idle-mem PSS", "KB", False)),
        _idle_memory,
        associations=IDLE_ASSOCIATIONS,
    ),
    Workload(
        "echo-under-load",
        f"C-ECHO latency while {LOADING_ASSOCIATIONS} associations store 512 KB instances",
        (Figure("echo-under-load p50", "ms", False), Figure("echo-under-load p99", "ms", False)),
        _echo_under_load,
        associations=LOADING_ASSOCIATIONS + 1,
    ),
    Workload("startup", "process start to first echo", (Figure("startup", "s", False),), _startup),
)
