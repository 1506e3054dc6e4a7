"""What a workload needs: files, running servers, DCMTK clients, checks of the work done."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import dul
from .dataset import Dataset, Instance, total_bytes
from .postgresql import PostgreSQL
from .server import Server, destination, running
from .targets import AET, DCMTK, Capability, ClientMode, Target
from .tls import Certificates

CLIENT_LIMIT_SECONDS = 300
STORED_MARK = b"Received Store Response (Success)"
FIND_CONTEXT = 1
FIND_ASSOCIATE = dul.encode_associate_rq(
    AET, [dul.ProposedContext(FIND_CONTEXT, dul.STUDY_ROOT_FIND)]
)


class UnsupportedError(Exception):
    """The target cannot do this workload: shown as '-'."""


class Invalid(Exception):  # noqa: N818 - an outcome, not a fault
    """The work was not really done: the result does not count."""


@dataclass
class Bench:
    dataset: Dataset
    scratch: Path
    logs: Path
    dst_port: int
    scale: float
    home: Path = Path()  # where generated files stay
    database: PostgreSQL | None = None  # where the servers have their indexes
    _loaded: dict[tuple[str, str], Path] = field(default_factory=dict)
    _load_failed: set[tuple[str, str]] = field(default_factory=set)
    _serial: int = 0

    def share(self, files: Sequence[Instance], target: Target) -> Sequence[Instance]:
        """The part of the work that this target is given."""
        return files[: max(1, int(len(files) * target.work_share))]

    def _folder(self, label: str) -> Path:
        self._serial += 1
        return self.scratch / f"{self._serial:04d}-{label}"

    def _log(self, target: Target) -> Path:
        return self.logs / f"{target.name}.log"

    def database_cpu_seconds(self) -> float:
        """Processor time of PostgreSQL until now; 0 without it."""
        return self.database.cpu_seconds() if self.database is not None else 0.0

    @contextmanager
    def fresh(self, target: Target, mode: ClientMode = ClientMode.NODELAY) -> Iterator[Server]:
        """The target with an empty data directory, removed afterwards."""
        folder = self._folder(target.name)
        try:
            with running(target, folder, self.dst_port, mode, self._log(target)) as server:
                yield server
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def warm_memory(self, size: int) -> None:
        """Write as many bytes as are to be stored, and remove them.

        A virtual machine may have given free memory back to its host; who touches it first then
        waits for it, 1 ms for each 512 KB where this was found. That is no work of a server's.
        """
        path = self.scratch / "warm"
        piece = bytes(1 << 20)
        with path.open("wb") as file:
            for _ in range(0, size + size // 4, len(piece)):
                file.write(piece)
        path.unlink()

    @contextmanager
    def loaded(
        self,
        target: Target,
        what: str,
        files: Sequence[Instance],
        mode: ClientMode = ClientMode.NODELAY,
        *,
        load: Callable[[Server, Sequence[Instance]], None] | None = None,
        without_caches: bool = False,
    ) -> Iterator[Server]:
        """The target already holding `files`; loaded once per run, then only read.

        Args:
            load: stores them there, instead of DCMTK's storescu.
            without_caches: it has forgotten what it made of them before.
        """
        key = (target.name, what)
        if key in self._load_failed:
            raise Invalid("could not be loaded")
        if key not in self._loaded:
            self._load_failed.add(key)  # until it has succeeded: not tried twice
            folder = self._folder(f"{target.name}-{what}")
            with running(
                target, folder, self.dst_port, ClientMode.NODELAY, self._log(target)
            ) as server:
                if load is not None:
                    load(server, files)
                else:
                    send([files], server.port, ClientMode.NODELAY, self.logs)
                verify_stored(server, files)
            self._loaded[key] = folder
            self._load_failed.remove(key)
        folder = self._loaded[key]
        if without_caches:
            for name in target.caches:
                shutil.rmtree(folder / name, ignore_errors=True)
        with running(target, folder, self.dst_port, mode, self._log(target)) as server:
            yield server

    @contextmanager
    def receiver(self) -> Iterator[Path]:
        """The C-MOVE destination and the folder it fills."""
        folder = self._folder("destination")
        try:
            with destination(folder, self.dst_port):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def empty_folder(self) -> Iterator[Path]:
        folder = self._folder("client")
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


# --- DCMTK clients ------------------------------------------------------------


def storescu_command(
    port: int,
    files: Sequence[Instance],
    send_pdu: int = 131072,
    tls: Certificates | None = None,
) -> list[str]:
    command = [f"{DCMTK}/storescu", "-v", "-aec", AET, "-pdu", str(send_pdu)]
    if tls is not None:
        command += ["+tls", str(tls.key), str(tls.certificate), "+cf", str(tls.authority)]
    command += ["--max-send-pdu", str(send_pdu), "127.0.0.1", str(port)]
    return command + [instance.path for instance in files]


def split(files: Sequence[Instance], parts: int) -> list[Sequence[Instance]]:
    size = len(files) // parts
    if size == 0:
        raise Invalid(f"{len(files)} files cannot be shared among {parts} associations")
    return [files[i * size : (i + 1) * size] for i in range(parts)]


@contextmanager
def ending(clients: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """No client outlives the block, nor CLIENT_LIMIT_SECONDS.

    A watchdog, because `Popen.wait` with a timeout polls every 50 ms: too coarse to time with.
    """

    def kill() -> None:
        for client in clients:
            if client.returncode is None:
                client.kill()

    watchdog = threading.Timer(CLIENT_LIMIT_SECONDS, kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        kill()
        for client in clients:
            client.wait()


@contextmanager
def sending(
    batches: Sequence[Sequence[Instance]],
    port: int,
    mode: ClientMode,
    logs: Path,
    send_pdu: int = 131072,
    tls: Certificates | None = None,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A storescu per batch, all at once. Leaving waits for them and checks every status."""
    outputs = [logs / f"storescu-{number}.log" for number in range(len(batches))]
    clients: list[subprocess.Popen[bytes]] = []
    with ending(clients):
        for batch, path in zip(batches, outputs, strict=True):
            with path.open("wb") as output:
                clients.append(
                    subprocess.Popen(
                        storescu_command(port, batch, send_pdu, tls),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=mode.environment(),
                    )
                )
        yield clients
        for client in clients:
            client.wait()
    for client, batch, path in zip(clients, batches, outputs, strict=True):
        successes = path.read_bytes().count(STORED_MARK)
        if client.returncode != 0 or successes != len(batch):
            raise Invalid(
                f"storescu exit {client.returncode}, {successes} of {len(batch)} stores succeeded"
            )


def send(
    batches: Sequence[Sequence[Instance]],
    port: int,
    mode: ClientMode,
    logs: Path,
    send_pdu: int = 131072,
    tls: Certificates | None = None,
) -> float:
    """Send each batch on an association of its own, all at once; return the seconds taken."""
    started = time.perf_counter()
    with sending(batches, port, mode, logs, send_pdu, tls):
        pass
    return time.perf_counter() - started


# --- checks that the work was done --------------------------------------------


def data_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def verify_received(folder: Path, expected: Sequence[Instance]) -> None:
    """The folder holds one file per expected instance, and their bytes."""
    paths = data_files(folder)
    size = sum(path.stat().st_size for path in paths)
    if len(paths) != len(expected) or size < 0.95 * total_bytes(expected):
        raise Invalid(
            f"{len(paths)} files, {size} bytes; expected {len(expected)}, {total_bytes(expected)}"
        )


def _verify_kept(folder: Path, expected: Sequence[Instance]) -> None:
    """At least one full-size file per instance: an index may know instances whose file is lost."""
    least = 0.95 * min(instance.size for instance in expected)
    kept = sum(path.stat().st_size >= least for path in data_files(folder))
    if kept < len(expected):
        raise Invalid(f"{len(expected)} stores acknowledged, {kept} files kept")


def _stored_sops(server: Server, expected: Sequence[Instance]) -> set[str]:
    association = dul.open_association(server.port, FIND_ASSOCIATE, 120, server.target.tls)
    found: set[str] = set()
    for study, series in sorted({(i.study, i.series) for i in expected}):
        identifier = dul.encode_identifier(
            {
                (0x0008, 0x0018): "",
                (0x0008, 0x0052): "IMAGE",
                (0x0020, 0x000D): study,
                (0x0020, 0x000E): series,
            }
        )
        for response in association.responses(dul.encode_find(FIND_CONTEXT, identifier)):
            if response.status in dul.PENDING:
                found.add(dul.find_value(response.data, (0x0008, 0x0018)) or "")
            elif response.status != dul.STATUS_SUCCESS:
                raise Invalid(f"C-FIND status {response.status:#06x} while counting instances")
    association.release()
    return found


def _sample(expected: Sequence[Instance], series: int = 40) -> list[Instance]:
    """All instances of at most `series` series, evenly chosen."""
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for instance in expected:
        by_series[instance.series].append(instance)
    chosen = list(by_series)[:: max(1, len(by_series) // series)]
    return [instance for uid in chosen for instance in by_series[uid]]


def verify_stored(server: Server, expected: Sequence[Instance], patience: float = 10.0) -> None:
    """Look at the server's files, and where it has an index ask it (C-FIND at image level)."""
    if Capability.QUERY not in server.target.capabilities:
        verify_received(server.data, expected)
        return
    _verify_kept(server.data, expected)
    checked = _sample(expected)
    wanted = {instance.sop for instance in checked}
    deadline = time.monotonic() + patience
    while True:
        missing = wanted - _stored_sops(server, checked)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise Invalid(f"{len(missing)} of {len(wanted)} stored instances not found by C-FIND")
        time.sleep(0.2)
