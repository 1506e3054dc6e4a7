"""A soak of the modality workflow: the node's processes are killed in any state, again and again.

    scripts/soak workflow [--kills 100] [--workers 1] [--index-url URL] [--folder FOLDER]
    scripts/soak workflow --kills 0 --minutes 10

Orders come by API, HL7 and command, modalities perform them, store, and ask for commitment, studies
are sent on to a PACS that is asked to commit. What the node acknowledged must be there, and nothing
half: no item without steps, no status of a step without its performed step, no report that is lost
or untrue. With several workers one process alone, or the parent alone, is killed at times. Without
kills threads, descriptors and memory must not grow either. Exits 1 on any failure, 0 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "bench")]
sys.path.append(str(Path(__file__).parents[2]))

import run as soak_run  # noqa: E402 - after its folder is known
from ending import in_folder  # noqa: E402
from hospital import MODALITY, NO_SUCH_INSTANCE, PACS, Hospital, Order  # noqa: E402
from peers.targets import lfscp_program  # noqa: E402
from pynetdicom import AE, evt  # noqa: E402
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel  # noqa: E402
from sqlalchemy import create_engine, text  # noqa: E402

REPORTED_S = 180.0  # for all reports and jobs, once nobody kills any more
PARENT_GONE_S = 30.0
SAMPLE_S = 10.0
TABLES = ("worklist_item", "worklist_step", "procedure_step", "commitment", "committed_study")
TABLES += ("commitment_request", "job", "instance")

# What must never be in the index, whenever the node died.
HALF = {
    "an item without steps": """
        SELECT accession_number FROM worklist_item i
        WHERE NOT EXISTS (SELECT 1 FROM worklist_step s WHERE s.item_id = i.id)""",
    "a step without its item": """
        SELECT item_id FROM worklist_step s
        WHERE NOT EXISTS (SELECT 1 FROM worklist_item i WHERE i.id = s.item_id)""",
    "a step's status without its performed step": """
        SELECT item_id, status FROM worklist_step s
        WHERE status IN ('STARTED', 'COMPLETED', 'DISCONTINUED') AND NOT EXISTS (
            SELECT 1 FROM procedure_step p WHERE p.sop_instance_uid = s.procedure_step_uid)""",
    "a step's status that its performed step has not": """
        SELECT s.item_id, s.status, p.status FROM worklist_step s
        JOIN procedure_step p ON p.sop_instance_uid = s.procedure_step_uid
        WHERE s.status <> CASE p.status WHEN 'IN PROGRESS' THEN 'STARTED' ELSE p.status END""",
    "a performed step without its item's status": """
        SELECT p.accession_number, p.status FROM procedure_step p
        JOIN worklist_item i ON i.accession_number = p.accession_number
        WHERE NOT EXISTS (SELECT 1 FROM worklist_step s WHERE s.item_id = i.id
            AND s.procedure_step_uid = p.sop_instance_uid)""",
    "a commitment that is verified without its time": """
        SELECT transaction_uid FROM commitment WHERE state = 'verified' AND verified_at = 0""",
    "a request without instances": """
        SELECT transaction_uid FROM commitment_request WHERE asked = '' OR asked = '[]'""",
}


class Server(soak_run.Server):
    """The node, with the modality workflow's settings."""

    def __init__(self, folder: Path, options: argparse.Namespace, ports: tuple[int, int]) -> None:
        super().__init__("lfscp", folder, 0, 0)
        self.hl7_port = soak_run.free_port()
        self.worklist = folder / "worklist"
        self.worklist.mkdir()
        self.index_url = options.index_url or f"sqlite:///{self.data / 'index.sqlite'}"
        self.configuration = folder / "lfscp.toml"
        modality, pacs = ports
        self.configuration.write_text(
            f'data_dir = "{self.data}"\n[index]\nurl = "{options.index_url}"\n'
            f'[worklist]\nhl7_port = {self.hl7_port}\nfolder = "{self.worklist}"\n'
            f'hl7_stations = ["CT={MODALITY}"]\n'
            f'[server]\nhost = "127.0.0.1"\nport = {self.port}\n'
            f'[peers.{MODALITY}]\nhost = "127.0.0.1"\nport = {modality}\n'
            f'[peers.{PACS}]\nhost = "127.0.0.1"\nport = {pacs}\n'
        )
        self._command = [lfscp_program(), "serve", "--config", str(self.configuration)]
        self._command += ["--http-port", str(self.http_port), "--log-format", "json"]
        self._command += ["--workers", str(options.workers)]

    def wait_for_page(self) -> None:
        """Wait until the page answers, which comes after the port of DICOM."""
        deadline = time.monotonic() + soak_run.START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/healthz", timeout=30)
                return
            time.sleep(0.05)
        raise RuntimeError(f"the page does not listen: {self.log_tail()}")

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._process is not None  # noqa: S101 - asked only of a server that was started
        return self._process.pid

    def kill_one(self) -> str:
        """SIGKILL to one of its processes, or to the parent alone; which."""
        parent, *others = soak_run.family(self.pid)
        if random.random() < 0.3 or not others:
            os.kill(parent, signal.SIGKILL)
            self._process.wait()  # type: ignore[union-attr]
            deadline = time.monotonic() + PARENT_GONE_S
            while any(_is_running(each) for each in others):
                if time.monotonic() > deadline:
                    for each in others:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(each, signal.SIGKILL)
                    return "processes outlived their parent"
                time.sleep(0.05)
            return "parent alone"
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(others), signal.SIGKILL)
        return "one process"


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Run:
    """One soak from start to table."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        modality, pacs = AE(MODALITY), AE(PACS)
        modality.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        pacs.add_supported_context(StorageCommitmentPushModel)
        pacs.add_supported_context(CTImageStorage, "1.2.840.10008.1.2.1")
        modality.maximum_associations = pacs.maximum_associations = 100
        self._modality = modality.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, lambda event: self.hospital.take_report(event))],
        )
        self._pacs = pacs.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[
                (evt.EVT_C_STORE, lambda event: self.hospital.at_pacs_store(event)),
                (evt.EVT_N_ACTION, lambda event: self.hospital.at_pacs_asked(event)),
            ],
        )
        ports = self._modality.server_address[1], self._pacs.server_address[1]
        self._server = server = Server(folder, options, ports)
        command = [lfscp_program(), "worklist", "add", "--config", str(server.configuration)]
        http = f"http://127.0.0.1:{server.http_port}/"
        self.hospital = Hospital(server.port, http, server.hl7_port, command, server.worklist)
        self._engine = create_engine(server.index_url)
        self._kills: Counter[str] = Counter()
        self._samples: list[soak_run.Usage] = []
        self._threads: list[threading.Thread] = []

    def run(self) -> list[str]:
        """Soak, verify, and print the table: what failed."""
        began = time.monotonic()
        try:
            self._server.start()
            self._server.wait_for_page()
            self._begin()
            if self._options.kills:
                self._kill_again_and_again()
            else:
                self._let_it_run(began + 60 * self._options.minutes)
            self._end_clients()
            self._wait_for_reports()
            rows = self._rows_of_tables()
            self._verify()
            lasted = time.monotonic() - began
            idle = self._server.usage()
            code = self._server.stop()
            if code != 0:
                self.hospital.fail(f"the node exited {code}")
            for line in self._server.complaints()[:5]:
                self.hospital.fail(f"in the log: {line[:500]}")
        finally:
            self.hospital.stop.set()
            self.hospital.go.set()
            self._server.kill()
            self._modality.shutdown()
            self._pacs.shutdown()
        self._print(lasted, rows, idle)
        return self.hospital.failures

    def _begin(self) -> None:
        hospital = self.hospital
        work: list[tuple[Callable[[], None], float]] = [
            (hospital.order_by_api, 0.1),
            (hospital.order_by_api, 0.1),
            (hospital.order_by_hl7, 0.2),
            (hospital.order_by_command, 3.0),
            (hospital.query, 0.3),
            (hospital.look, 0.3),
            (hospital.send_on, 0.3),
        ]
        work += [(hospital.examine, 0.05)] * self._options.modalities
        self._threads = [
            threading.Thread(target=hospital.repeatedly, args=each, daemon=True) for each in work
        ]
        for each in self._threads:
            each.start()
        hospital.go.set()

    def _kill_again_and_again(self) -> None:
        options, server = self._options, self._server
        until = time.monotonic() + 60 * options.minutes
        while self._kills.total() < options.kills and time.monotonic() < until:
            time.sleep(random.uniform(0.05, options.life))
            which = "all processes"
            if options.workers > 1 and random.random() < 0.6:
                which = server.kill_one()
            if which == "all processes":
                server.kill()
            self._kills[which] += 1
            if which == "one process":
                continue
            self.hospital.go.clear()
            self._look_for_halves()
            server.start()
            self.hospital.go.set()
            if random.random() < 0.7:  # else it dies while it starts
                server.wait_for_page()
        server.wait_for_page()

    def _let_it_run(self, until: float) -> None:
        while time.monotonic() < until:
            time.sleep(SAMPLE_S)
            self._samples.append(self._server.usage())

    def _look_for_halves(self) -> None:
        with self._engine.connect() as connection:
            for what, statement in HALF.items():
                for row in connection.execute(text(statement)).fetchmany(3):
                    self.hospital.fail(f"{what}: {tuple(row)}")

    def _end_clients(self) -> None:
        self.hospital.stop.set()
        for each in self._threads:
            each.join(60)
        if any(each.is_alive() for each in self._threads):
            self.hospital.fail("a client did not end")

    # --- what was promised ---

    def _wait_for_reports(self) -> None:
        deadline = time.monotonic() + REPORTED_S
        self._began_to_wait = time.monotonic()
        while time.monotonic() < deadline and not self._all_is_reported():
            time.sleep(0.5)
        self._waited_s = time.monotonic() - self._began_to_wait

    def _all_is_reported(self) -> bool:
        hospital = self.hospital
        with hospital.lock:
            if any(each not in hospital.early for each in hospital.asked):
                return False
        with self._engine.connect() as connection:
            left = connection.execute(
                text("SELECT count(*) FROM commitment WHERE state IN ('received', 'verified')")
            ).scalar_one()
            running = connection.execute(
                text("SELECT count(*) FROM job WHERE state IN ('active', 'sleeping')")
            ).scalar_one()
        return not (left or running)

    def _verify(self) -> None:
        self._look_for_halves()
        self._verify_orders()
        self._verify_reports()
        self._verify_jobs()

    def _verify_orders(self) -> None:
        hospital = self.hospital
        with self._engine.connect() as connection:
            steps: dict[str, dict[str, Any]] = {}
            for row in connection.execute(
                text(
                    "SELECT i.id, i.accession_number, i.study_instance_uid, s.step_id, s.status "
                    "FROM worklist_item i JOIN worklist_step s ON s.item_id = i.id"
                )
            ):
                found = steps.setdefault(row.accession_number, {"id": row.id, "status": {}})
                found["study"] = row.study_instance_uid
                found["status"][row.step_id] = row.status or "SCHEDULED"
            performed = {
                row.sop_instance_uid: row.status
                for row in connection.execute(
                    text("SELECT sop_instance_uid, status FROM procedure_step")
                )
            }
        for order in hospital.orders.values():
            self._verify_order(order, steps.get(order.accession), performed)
        for order in random.sample(list(hospital.orders.values()), min(20, len(hospital.orders))):
            item_id = (steps.get(order.accession) or {}).get("id")
            if item_id:
                found = hospital.api("GET", f"api/worklist/{item_id}")["dataset"]
                name = found["00100010"]["Value"][0]["Alphabetic"]
                if name != f"Soak^{order.accession}":
                    hospital.fail(f"order {order.accession} has the name {name}")

    def _verify_order(
        self, order: Order, found: dict[str, Any] | None, performed: dict[str, str]
    ) -> None:
        fail = self.hospital.fail
        if order.is_cancelled:
            if found is not None:
                fail(f"the cancelled order {order.accession} is there")
            return
        if found is None:
            fail(f"LOST: order {order.accession}")
            return
        if found["study"] != order.study_uid:
            fail(f"order {order.accession} has another study")
        if order.item_id and found["id"] != order.item_id:
            fail(f"order {order.accession} has another number")
        status = found["status"].get(order.step_id)
        allowed = {order.status} | order.may_be
        if order.status in ("COMPLETED", "DISCONTINUED"):
            allowed = {order.status}
        elif order.status == "STARTED":
            allowed.discard("SCHEDULED")
        if status not in allowed:
            fail(f"order {order.accession} is {status}, acknowledged was {order.status}")
        if order.status != "SCHEDULED":
            wanted = {"IN PROGRESS" if each == "STARTED" else each for each in allowed}
            if performed.get(order.performed) not in wanted:
                fail(f"performed step {order.performed} is {performed.get(order.performed)}")

    def _verify_reports(self) -> None:
        hospital = self.hospital
        for transaction, asked in hospital.asked.items():
            reports = hospital.early.get(transaction, [])
            if not reports:
                hospital.fail(f"LOST: no report on {transaction}")
            if len(reports) > 1:
                hospital.count("reports that came again", len(reports) - 1)
            for good, bad in reports:
                if good != asked.committed or bad != dict.fromkeys(asked.missing, NO_SUCH_INSTANCE):
                    hospital.fail(f"UNTRUE: report on {transaction}: {good}, {bad}")
        hospital.count("commitments reported truly", len(hospital.asked))

    def _verify_jobs(self) -> None:
        hospital = self.hospital
        for job, images in hospital.jobs.items():
            found = hospital.api("GET", f"api/jobs/{job}")
            if (found["state"], found["done"]) != ("done", len(images)):
                hospital.fail(f"job {job} is {found['state']}: {found}"[:400])
            if not images <= hospital.at_pacs:
                hospital.fail(f"job {job}: an object is not at the PACS")

    def _rows_of_tables(self) -> dict[str, int]:
        with self._engine.connect() as connection:
            return {
                each: connection.execute(text(f"SELECT count(*) FROM {each}")).scalar_one()  # noqa: S608
                for each in TABLES
            }

    def _print(self, lasted: float, rows: dict[str, int], idle: soak_run.Usage) -> None:
        options = self._options
        table = [
            ("index, workers", f"{self._server.index_url.partition(':')[0]}, {options.workers}"),
            ("duration", f"{lasted / 60:.1f} min"),
            ("SIGKILLs", ", ".join(f"{n} {what}" for what, n in self._kills.items()) or "0"),
            ("until all was reported, s", f"{self._waited_s:.1f}"),
            *((what, f"{n:,}") for what, n in sorted(self.hospital.counts.items())),
            *((f"rows of {name}", f"{n:,}") for name, n in rows.items()),
        ]
        samples = self._samples
        last = len(samples) - 1
        for at in sorted({0, last // 4, last // 2, last}) if samples else ():
            table += [(f"after {(at + 1) * SAMPLE_S:.0f} s", _usage(samples[at]))]
        table.append(("idle at the end", _usage(idle)))
        table += [(f"last problem of {name}", why) for name, why in self.hospital.last.items()]
        width = max(len(name) for name, _ in table)
        for name, value in table:
            print(f"| {name:<{width}} | {value}")


def _usage(used: soak_run.Usage) -> str:
    return (
        f"{used.memory_mb:.0f} MB, {used.threads} threads, {used.sockets} sockets, "
        f"{used.files} files"
    )


def main() -> int:
    """Run it as the arguments say: the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak workflow", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--kills", type=int, default=100, help="0: none, see --minutes")
    parser.add_argument("--minutes", type=float, default=10, help="at most, before it verifies")
    parser.add_argument("--life", type=float, default=3.0, help="until a kill, seconds at most")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--modalities", type=int, default=3)
    parser.add_argument("--index-url", default="", help="of an empty PostgreSQL database")
    parser.add_argument("--folder", type=Path, help="where to put everything; it is kept")
    options = parser.parse_args()
    return in_folder(options.folder, lambda folder: Run(options, folder).run())


if __name__ == "__main__":
    sys.exit(main())
