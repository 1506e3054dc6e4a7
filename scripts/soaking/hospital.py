"""Who comes to a node during a soak of the modality workflow, and what they were promised.

An information system makes orders (API, HL7, command), modalities examine them (MPPS), store images
and ask for commitment, a PACS is sent studies and reports on them. Each is a thread that goes on
until the soak says stop. What the node acknowledged is noted, and held against the node at the end.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from tests.support.pynetdicom_reactor import well_paused

MODALITY, PACS, NODE = "MODALITY", "PACS", "LFSCP"
NO_SUCH_INSTANCE = 0x0112
DUPLICATE_INSTANCE, NO_LONGER_UPDATED = 0x0111, 0x0110
ANSWER_S = 20.0
GONE = (OSError, EOFError, RuntimeError, http.client.HTTPException)


class NoAnswerError(RuntimeError):
    """The node went away before it answered."""


@dataclass
class Order:
    """A worklist item that the node acknowledged.

    Attributes:
        item_id: its number, when it was told.
        performed: UID of the performed procedure step.
        status: the last one of it that was acknowledged, and those that may be instead.
        images: SOP Instance UIDs that were acknowledged.
    """

    accession: str
    study_uid: str
    step_id: str = "S1"
    item_id: int = 0
    is_cancelled: bool = False
    performed: str = ""
    status: str = "SCHEDULED"
    may_be: set[str] = field(default_factory=set)
    images: list[str] = field(default_factory=list)


@dataclass
class Asked:
    """A commitment that the node took: what its report has to say."""

    committed: frozenset[str]
    missing: frozenset[str]
    reports: int = 0


@dataclass
class Hospital:
    """What the clients share.

    Args:
        port, http, hl7_port: of the node.
        command: `lfscp worklist add` and where.
        folder: of worklist files, that the node watches.
    """

    port: int
    http: str
    hl7_port: int
    command: Sequence[str]
    folder: Path
    orders: dict[str, Order] = field(default_factory=dict)
    to_do: deque[Order] = field(default_factory=deque)
    to_send: deque[Order] = field(default_factory=deque)
    asked: dict[str, Asked] = field(default_factory=dict)
    jobs: dict[str, frozenset[str]] = field(default_factory=dict)
    told: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)
    at_pacs: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    last: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    early: dict[str, list[tuple[set[str], dict[str, int]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def count(self, what: str, number: int = 1) -> None:
        """So many more of something."""
        with self.lock:
            self.counts[what] += number

    def fail(self, reason: str) -> None:
        """Something that must not be."""
        with self.lock:
            self.failures.append(reason)

    def ordered(self, order: Order, way: str) -> None:
        """The node has acknowledged an order."""
        with self.lock:
            self.counts[f"orders by {way}"] += 1
            self.orders[order.accession] = order
            self.to_do.append(order)

    def repeatedly(self, work: Callable[[], None], pause_s: float) -> None:
        """Do something again and again, whatever happens to the node meanwhile."""
        while not self.stop.wait(random.random() * 2 * pause_s):
            self.go.wait()
            try:
                work()
            except GONE as problem:
                self.count(f"cut off: {work.__name__}")
                self.last[work.__name__] = repr(problem)
                time.sleep(0.05)
            except Exception as problem:  # noqa: BLE001 - whatever went wrong is a failure
                self.fail(f"{work.__name__}: {problem!r}")

    # --- the ways to the node ---

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API; what it answers.

        Raises:
            NoAnswerError: it did not.
        """
        request = urllib.request.Request(self.http + path, method=method)  # noqa: S310 - the node's
        request.add_header("Content-Type", "application/json")
        if body is not None:
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            if error.code != 503:  # it stops or starts
                self.fail(f"{method} {path}: {error.code} {text[:300]}")
            raise NoAnswerError(path) from None
        except OSError as error:
            raise NoAnswerError(str(error)) from None
        return json.loads(text) if text else None

    @contextmanager
    def associated(self, sop_class: str, handlers: Sequence[Any] = ()) -> Iterator[Association]:
        """An association of the modality."""
        ae = AE(MODALITY)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_S
        ae.connection_timeout = ANSWER_S
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate(
            "127.0.0.1", self.port, ae_title=NODE, evt_handlers=list(handlers)
        )
        if not association.is_established:
            raise NoAnswerError("no association")
        try:
            yield well_paused(association)  # reports may come, and it may be released meanwhile
        finally:
            if association.is_established:
                association.release()

    def until_answered(self, ask: Callable[[Association], int | None], sop_class: str) -> int:
        """Ask until there is an answer; the status."""
        while not self.stop.is_set():
            self.go.wait()
            with suppress(NoAnswerError), self.associated(sop_class) as association:
                status = ask(association)
                if status is not None:
                    return status
            time.sleep(0.05)
        raise NoAnswerError("the soak ends")

    # --- the information system ---

    def order_by_api(self) -> None:
        """One order, with two steps now and then."""
        order = _new_order("A")
        step = {"Modality": "CT", "ScheduledStationAETitle": MODALITY}
        step |= {"ScheduledProcedureStepStartDate": "20261201"}
        step |= {"ScheduledProcedureStepStartTime": "1000", "ScheduledProcedureStepID": "S1"}
        steps = [step]
        if random.random() < 0.3:
            steps.append(step | {"ScheduledProcedureStepID": "S2"})
        body = _patient(order) | {"ScheduledProcedureStepSequence": steps}
        order.item_id = self.api("POST", "api/worklist", body)["id"]
        self.ordered(order, "API")

    def order_by_hl7(self) -> None:
        """Some orders on one connection; a few of them are cancelled."""
        with socket.create_connection(("127.0.0.1", self.hl7_port), ANSWER_S) as connection:
            for _ in range(3):
                order = _new_order("H")
                if _hl7(connection, _orm(order, "NW")) != "AA":
                    self.fail("HL7: a new order was not accepted")
                    return
                order.is_cancelled = random.random() < 0.2
                if not order.is_cancelled:
                    self.ordered(order, "HL7")
                    continue
                code = _hl7(connection, _orm(order, "CA"))
                if code != "AA":
                    self.fail(f"HL7: a cancellation was answered {code}")
                    return
                with self.lock:
                    self.orders[order.accession] = order
                    self.counts["orders cancelled by HL7"] += 1

    def order_by_command(self) -> None:
        """One order by `lfscp worklist add`."""
        order = _new_order("C")
        words = [f"{keyword}={value}" for keyword, value in _patient(order).items()]
        words += [f"ScheduledStationAETitle={MODALITY}", "Modality=CT"]
        words += ["ScheduledProcedureStepStartDate=20261201", "ScheduledProcedureStepID=S1"]
        words += ["ScheduledProcedureStepStartTime=1000"]
        done = subprocess.run(
            [*self.command, *words], capture_output=True, text=True, timeout=120, check=False
        )
        if "Traceback" in done.stderr:
            self.fail(f"lfscp worklist add: {done.stderr[-500:]}")
        if done.returncode == 0:
            self.ordered(order, "command")
        else:
            self.count("commands that failed")

    def query(self) -> None:
        """Ask the worklist."""
        step = Dataset()
        step.ScheduledStationAETitle, step.ScheduledProcedureStepID = MODALITY, ""
        keys = Dataset()
        keys.AccessionNumber, keys.PatientID = "A*", ""
        keys.ScheduledProcedureStepSequence = [step]
        sop_class = ModalityWorklistInformationFind
        with self.associated(sop_class) as association:
            for answer, item in association.send_c_find(keys, sop_class):
                if item is not None and not item.ScheduledProcedureStepSequence:
                    self.fail(f"item {item.AccessionNumber} has no steps")
                if answer.get("Status") == 0x0000:
                    self.count("worklist queries")

    def look(self) -> None:
        """Look at the page as a browser does."""
        for path in ("worklist", "procedure-steps", "commitments", "jobs", "metrics"):
            request = urllib.request.Request(self.http + path)  # noqa: S310 - the node's
            with suppress(urllib.error.HTTPError, OSError):
                with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
                    answer.read()
                self.count("pages")

    # --- the modality ---

    def examine(self) -> None:
        """Perform one order: begin, end, store, ask for commitment."""
        with self.lock:
            if not self.to_do:
                return
            order = self.to_do.popleft()
        self._perform(order)
        if order.status == "COMPLETED":
            self._store(order)
            self._ask(order)
            with self.lock:
                self.to_send.append(order)

    def _perform(self, order: Order) -> None:
        uid = str(generate_uid())
        sop_class = ModalityPerformedProcedureStep
        order.performed, order.may_be = uid, {"STARTED", "SCHEDULED"}

        def create(association: Association) -> int | None:
            status: int | None = association.send_n_create(_begun(order), sop_class, uid)[0].get(
                "Status"
            )
            return status

        status = self.until_answered(create, sop_class)
        if status not in (0x0000, DUPLICATE_INSTANCE):
            self.fail(f"N-CREATE: 0x{status:04X}")
            return
        order.status = "STARTED"
        self.count("N-CREATE")
        end = random.choice(["COMPLETED", "COMPLETED", "COMPLETED", "DISCONTINUED"])
        order.may_be = {"STARTED", end}

        def change(association: Association) -> int | None:
            status: int | None = association.send_n_set(_ended(order, end), sop_class, uid)[0].get(
                "Status"
            )
            return status

        status = self.until_answered(change, sop_class)
        if status not in (0x0000, NO_LONGER_UPDATED):
            self.fail(f"N-SET: 0x{status:04X}")
            return
        order.status, order.may_be = end, {end}
        self.count("N-SET")

    def _store(self, order: Order) -> None:
        for number in (1, 2):
            image = _image(order, number)

            def store(association: Association, image: Dataset = image) -> int | None:
                status: int | None = association.send_c_store(image).get("Status")
                return status

            status = self.until_answered(store, CTImageStorage)
            if status != 0x0000:
                self.fail(f"C-STORE: 0x{status:04X}")
                return
            order.images.append(str(image.SOPInstanceUID))
            self.count("C-STORE")

    def _ask(self, order: Order) -> None:
        """Ask for commitment once, and leave at once, soon, or with the report."""
        missing = frozenset({str(generate_uid())} if random.random() < 0.3 else ())
        transaction = str(generate_uid())
        information = Dataset()
        information.TransactionUID = transaction
        information.ReferencedSOPSequence = [_item(uid) for uid in (*order.images, *missing)]
        handlers = [(evt.EVT_N_EVENT_REPORT, self.take_report)]
        with self.associated(StorageCommitmentPushModel, handlers) as association:
            answer, _ = association.send_n_action(
                information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            status = answer.get("Status")
            if status is None:
                raise NoAnswerError("N-ACTION")
            if status != 0x0000:
                self.fail(f"N-ACTION: 0x{status:04X}")
                return
            with self.lock:
                self.asked[transaction] = Asked(frozenset(order.images), missing)
                self.counts["N-ACTION"] += 1
            time.sleep(random.choice([0, 0, 0.2, 1.0]))

    def take_report(self, event: evt.Event) -> tuple[int, None]:
        """A report of the node, to the modality."""
        found = event.event_information
        good = {str(each.ReferencedSOPInstanceUID) for each in found.get(_REFERENCED, ())}
        bad = {
            str(each.ReferencedSOPInstanceUID): int(each.FailureReason)
            for each in found.get("FailedSOPSequence", ())
        }
        with self.lock:  # it may come before the answer, and then it counts later
            self.early[str(found.TransactionUID)].append((good, bad))
        return 0x0000, None

    # --- the PACS ---

    def send_on(self) -> None:
        """Have the node send a study on, and the PACS commit to it."""
        with self.lock:
            if not self.to_send:
                return
            order = self.to_send.popleft()
        body = {"peer": PACS, "studies": [order.study_uid], "commit": True, "retries": 100}
        job = self.api("POST", "api/send", body)["id"]
        with self.lock:
            self.jobs[job] = frozenset(order.images)
            self.counts["jobs"] += 1

    def at_pacs_store(self, event: evt.Event) -> int:
        """An object that the node sends on."""
        with self.lock:
            self.at_pacs.add(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def at_pacs_asked(self, event: evt.Event) -> tuple[int, None]:
        """The node asks to commit: it is told later, on another association or on this one."""
        information = event.action_information
        uids = frozenset(
            str(each.ReferencedSOPInstanceUID) for each in information.ReferencedSOPSequence
        )
        now = time.monotonic()
        with self.lock:
            self.counts["N-ACTION of the node"] += 1
            for uid in uids & self.told.keys():
                if now - self.told[uid][0] > 10:
                    self.failures.append(f"the node asks again for {uid}, which it was told of")
        is_here = random.random() < 0.3
        where = event.assoc if is_here else None
        threading.Thread(target=self._tell, args=(information, uids, where), daemon=True).start()
        return 0x0000, None

    def _tell(self, asked: Dataset, uids: frozenset[str], here: Association | None) -> None:
        """Report until the node has taken it."""
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        report.ReferencedSOPSequence = [_item(uid) for uid in sorted(uids)]
        time.sleep(random.choice([0.05, 0.3, 2.0]))
        while True:
            with suppress(Exception):
                status = self._tell_once(report, here)
                if status == 0x0000:
                    break
                if status is not None:
                    self.fail(f"the node answered a report with 0x{status:04X}")
                    return
            here = None
            time.sleep(0.1)
        with self.lock:
            self.counts["reports that the node took"] += 1
            for uid in uids:
                self.told.setdefault(uid, (time.monotonic(), uids))

    def _tell_once(self, report: Dataset, here: Association | None) -> int | None:
        words = (report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        if here is not None:
            status: int | None = here.send_n_event_report(*words)[0].get("Status")
            return status
        ae = AE(PACS)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_S
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate("127.0.0.1", self.port, ae_title=NODE, ext_neg=[role])
        if not association.is_established:
            return None
        try:
            status = association.send_n_event_report(*words)[0].get("Status")
        finally:
            if association.is_established:
                association.release()
        return status


_REFERENCED = "ReferencedSOPSequence"
_ROOT = "1.2.826.0.1.3680043.9.7433"
_RUN = int(time.time())
_numbers = iter(range(1, 10**9))


def _new_order(way: str) -> Order:
    number = next(_numbers)
    return Order(f"{way}{number}", f"{_ROOT}.{_RUN}.{number}")


def _series_of(order: Order) -> str:
    return f"{order.study_uid}.1"


def _patient(order: Order) -> dict[str, str]:
    return {
        "PatientName": f"Soak^{order.accession}",
        "PatientID": f"P{order.accession}",
        "AccessionNumber": order.accession,
        "StudyInstanceUID": order.study_uid,
        "RequestedProcedureID": f"R{order.accession}",
        "RequestedProcedureDescription": "CT of the head",
    }


def _orm(order: Order, control: str) -> bytes:
    number = order.accession
    obr = [""] * 37
    obr[0], obr[1], obr[2], obr[3] = "OBR", "1", f"P{number}^HIS", f"F{number}^RIS"
    obr[4] = "CT1^CT of the head^RIS^CT1^CT of the head^RIS"
    obr[18], obr[19], obr[20], obr[24] = number, f"R{number}", order.step_id, "CT"
    obr[27] = "^^^202612011030^^S"
    status = "CA" if control == "CA" else "SC"
    segments = (
        f"MSH|^~\\&|RIS|HOSPITAL|LFSCP|PACS|20261128081500||ORM^O01|{number}{control}|P|2.3.1",
        f"PID|1||P{number}^^^HOSP^MR||Soak^{number}||19700102|M",
        f"ORC|{control}|P{number}^HIS|F{number}^RIS||{status}||^^^202612011030^^S",
        "|".join(obr),
        f"ZDS|{order.study_uid}^LFSCP^Application^DICOM",
    )
    return "".join(f"{each}\r" for each in segments).encode()


def _hl7(connection: socket.socket, message: bytes) -> str:
    """Send a message; the code of its acknowledgement."""
    connection.sendall(b"\x0b" + message + b"\x1c\r")
    answer = b""
    while not answer.endswith(b"\x1c\r"):
        part = connection.recv(65536)
        if not part:
            raise NoAnswerError("HL7")
        answer += part
    line = next(each for each in answer.decode().split("\r") if each.startswith("MSA"))
    return line.split("|")[1]


def _begun(order: Order) -> Dataset:
    scheduled = Dataset()
    scheduled.StudyInstanceUID = order.study_uid
    scheduled.ReferencedStudySequence = []
    scheduled.AccessionNumber = order.accession
    scheduled.RequestedProcedureID = f"R{order.accession}"
    scheduled.RequestedProcedureDescription = "CT of the head"
    scheduled.ScheduledProcedureStepID = order.step_id
    scheduled.ScheduledProcedureStepDescription = ""
    scheduled.ScheduledProtocolCodeSequence = []
    step = Dataset()
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName, step.PatientID = f"Soak^{order.accession}", f"P{order.accession}"
    step.PatientBirthDate = step.PatientSex = ""
    step.ReferencedPatientSequence = []
    step.PerformedProcedureStepID = "P1"
    step.PerformedStationAETitle = MODALITY
    step.PerformedStationName = step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate = "20261201"
    step.PerformedProcedureStepStartTime = "100312"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepDescription = step.PerformedProcedureTypeDescription = ""
    step.ProcedureCodeSequence = []
    step.PerformedProcedureStepEndDate = step.PerformedProcedureStepEndTime = ""
    step.Modality, step.StudyID = "CT", ""
    step.PerformedProtocolCodeSequence = []
    step.PerformedSeriesSequence = []
    return step


def _ended(order: Order, status: str) -> Dataset:
    series = Dataset()
    series.PerformingPhysicianName = series.OperatorsName = ""
    series.ProtocolName = "Head"
    series.SeriesInstanceUID = _series_of(order)
    series.SeriesDescription = series.RetrieveAETitle = ""
    series.ReferencedImageSequence = []
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    changes = Dataset()
    changes.PerformedProcedureStepStatus = status
    changes.PerformedProcedureStepEndDate = "20261201"
    changes.PerformedProcedureStepEndTime = "101500"
    changes.PerformedSeriesSequence = [series]
    return changes


def _image(order: Order, number: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = generate_uid()
    image.PatientName, image.PatientID = f"Soak^{order.accession}", f"P{order.accession}"
    image.AccessionNumber, image.StudyInstanceUID = order.accession, order.study_uid
    image.SeriesInstanceUID = _series_of(order)
    image.Modality, image.InstanceNumber = "CT", number
    image.Rows = image.Columns = 16
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = bytes(512)
    return image


def _item(sop_instance_uid: str) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID = CTImageStorage
    made.ReferencedSOPInstanceUID = sop_instance_uid
    return made
