"""Workloads that store: with DCMTK's storescu, and from encoded bytes on a raw socket."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from . import dul
from .bench import Bench, UnsupportedError, send, split, verify_stored
from .dataset import data_set_bytes, total_bytes
from .procstat import PeakMemory, cpu_seconds
from .targets import AET, ClientMode, Target
from .tls import make_certificates
from .workload import Figure, Values, Workload


@dataclass(frozen=True)
class StorePlan:
    name: str
    small: bool = False
    parallel: int = 1
    send_pdu: int = 131072
    mode: ClientMode = ClientMode.NODELAY
    share: float = 1.0  # of the files: stores that stall take long
    tls: bool = False


def _store(plan: StorePlan, bench: Bench, target: Target) -> Values:
    everything = bench.dataset.small if plan.small else bench.dataset.large
    files = bench.share(everything, target)
    files = files[: max(plan.parallel, int(len(files) * plan.share))]
    batches = split(files, plan.parallel)
    certificates = None
    if plan.tls:
        if target.tls_command is None:
            raise UnsupportedError("no TLS")
        certificates = make_certificates(bench.scratch / "certificates")
        target = target.with_tls(certificates)
    with bench.fresh(target, plan.mode) as server:
        bench.warm_memory(total_bytes(files))
        cpu_before, database_before = cpu_seconds(server.pid), bench.database_cpu_seconds()
        with PeakMemory(server.pid) as peak:
            elapsed = send(batches, server.port, plan.mode, bench.logs, plan.send_pdu, certificates)
        cpu = cpu_seconds(server.pid) - cpu_before
        database_cpu = bench.database_cpu_seconds() - database_before
        sent = [instance for batch in batches for instance in batch]
        verify_stored(server, sent)
    return {
        plan.name: len(sent) / elapsed,
        f"{plan.name} MB/s": total_bytes(sent) / elapsed / 1e6,
        f"{plan.name} peak RSS": peak.rss_kb / 1024,
        f"{plan.name} peak PSS": peak.pss_kb / 1024,
        f"{plan.name} CPU": cpu / len(sent) * 1000,
        f"{plan.name} PostgreSQL CPU": database_cpu / len(sent) * 1000,
    }


def _store_workload(about: str, plan: StorePlan, *extra: Figure) -> Workload:
    return Workload(
        plan.name,
        about,
        (Figure(plan.name, "inst/s"), *extra),
        partial(_store, plan),
        associations=plan.parallel,
    )


def _raw_store_workload(name: str, small: bool) -> Workload:
    about = f"{'store-small' if small else 'store-512k'} from encoded bytes instead of storescu"
    return Workload(name, about, (Figure(name, "inst/s"),), partial(_store_raw, name, small))


def _megabytes(name: str) -> Figure:
    return Figure(f"{name} MB/s", "MB/s")


def _cpu(name: str) -> Figure:
    return Figure(f"{name} CPU", "s/1000 inst", higher_is_better=False)


def _store_raw(name: str, small: bool, bench: Bench, target: Target) -> Values:
    """Stores from encoded bytes on one association: what is left is mostly the server."""
    files = bench.share(bench.dataset.small if small else bench.dataset.large, target)
    associate_rq = dul.encode_associate_rq(
        AET, [dul.ProposedContext(1, dul.CT_IMAGE_STORAGE, (dul.EXPLICIT_LE,))]
    )
    with bench.fresh(target) as server:
        association = dul.open_association(server.port, associate_rq, 60)
        pdu_length = min(association.max_send_pdu, 131072)
        requests = [
            dul.encode_store(1, dul.CT_IMAGE_STORAGE, i.sop, data_set_bytes(i), pdu_length)
            for i in files
        ]
        bench.warm_memory(total_bytes(files))
        started = time.perf_counter()
        for request in requests:
            association.store(request)
        elapsed = time.perf_counter() - started
        association.release()
        verify_stored(server, files)
    return {name: len(files) / elapsed}


STORING: tuple[Workload, ...] = (
    _store_workload(
        "400 CT of 512 KB, one association, 128 KB PDUs",
        StorePlan("store-512k"),
        _megabytes("store-512k"),
        Figure("store-512k peak RSS", "MB", higher_is_better=False),
        Figure("store-512k peak PSS", "MB", higher_is_better=False),
        _cpu("store-512k"),
    ),
    _store_workload(
        "store-512k over TLS, certificates of both sides verified",
        StorePlan("store-512k-tls", tls=True),
        _megabytes("store-512k-tls"),
        _cpu("store-512k-tls"),
    ),
    _store_workload(
        "the same with 16 KB PDUs",
        StorePlan("store-512k-16k", send_pdu=16384),
        _megabytes("store-512k-16k"),
    ),
    _store_workload(
        "2000 files of 8 KB, one association",
        StorePlan("store-small", small=True),
        _cpu("store-small"),
    ),
    _store_workload(
        "400 CT of 512 KB on 4 associations",
        StorePlan("store-par4", parallel=4),
        _megabytes("store-par4"),
        _cpu("store-par4"),
    ),
    _store_workload(
        "400 CT of 512 KB on 16 associations",
        StorePlan("store-par16", parallel=16),
        _megabytes("store-par16"),
    ),
    _raw_store_workload("store-raw-512k", small=False),
    _raw_store_workload("store-raw-small", small=True),
    _store_workload(
        "store-512k with Nagle's algorithm on (DCMTK's default); a tenth of the files",
        StorePlan("store-512k-nagle", mode=ClientMode.NAGLE, share=0.1),
    ),
    _store_workload(
        "store-small with Nagle on; a fiftieth of the files",
        StorePlan("store-small-nagle", small=True, mode=ClientMode.NAGLE, share=0.02),
    ),
    _store_workload(
        "store-par4 with Nagle on; a fifth of the files",
        StorePlan("store-par4-nagle", parallel=4, mode=ClientMode.NAGLE, share=0.2),
    ),
)
