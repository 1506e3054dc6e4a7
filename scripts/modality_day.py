#!/usr/bin/env python3
"""Play the day of a modality against a node: an example, and a test of one's own node.

The API puts an item on the worklist. The modality, which is made of pynetdicom, finds it, says that
it has begun (MPPS), stores its images, says that it is done, and asks whether it may delete its own
copy (storage commitment). The node needs no configuration:

    scripts/serve --host 127.0.0.1
    .venv/bin/python scripts/modality_day.py LFSCP@127.0.0.1:11112 http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

STATION = "CT01"  # the modality's AE title
REQUEST_COMMITMENT = 1  # the action type (PS3.4 table J.3-1)
ALL_COMMITTED = 1  # the event type
ANSWER_S = 30.0


class Day:
    """One examination, step by step.

    Args:
        node: AE title, host and port.
        http: the beginning of the node's URLs.
        images: how many the modality makes.
        token: for the API, when the node asks for one.
    """

    def __init__(
        self, node: tuple[str, str, int], http: str, *, images: int = 3, token: str = ""
    ) -> None:
        self._title, self._host, self._port = node
        self._http = http.rstrip("/")
        self._token = token
        self._count = images
        self._reported = threading.Event()
        self._report = (0, Dataset())
        self.images: list[Dataset] = []

    def run(self) -> None:
        """All steps, each with a line."""
        number = self.put_on_the_worklist()
        say(f"item {number} is on the worklist")
        item = self.ask_the_worklist()
        step = item.ScheduledProcedureStepSequence[0]
        say(f"the modality examines {item.PatientName}: {step.ScheduledProcedureStepDescription}")
        performed = self.begin(item)
        say(f"performed procedure step in progress; the worklist says {self.state_of(number)}")
        self.store(item)
        say(f"{len(self.images)} images stored")
        self.complete(performed)
        say(f"performed procedure step completed; the worklist says {self.state_of(number)}")
        failed = self.commit()
        say(f"the node committed to {len(self.images) - failed} of {len(self.images)} images")

    # --- the worklist ---

    def put_on_the_worklist(self) -> int:
        """Make an item for now, as an information system would; gives its number."""
        now = datetime.now().astimezone()
        step = Dataset()
        step.Modality = "CT"
        step.ScheduledStationAETitle = STATION
        step.ScheduledProcedureStepStartDate = now.strftime("%Y%m%d")
        step.ScheduledProcedureStepStartTime = now.strftime("%H%M%S")
        step.ScheduledProcedureStepDescription = "CT of the head"
        step.ScheduledProcedureStepID = "S1"
        item = Dataset()
        item.SpecificCharacterSet = "ISO_IR 192"
        item.AccessionNumber = now.strftime("%H%M%S%f")
        item.PatientName = "Müller^Jörg"
        item.PatientID = "4711"
        item.PatientBirthDate = "19700101"
        item.PatientSex = "M"
        item.StudyInstanceUID = generate_uid()
        item.RequestedProcedureID = "R1"
        item.RequestedProcedureDescription = "CT of the head"
        item.ScheduledProcedureStepSequence = [step]
        self._accession_number = item.AccessionNumber
        return int(self._api("POST", "/api/worklist", item.to_json_dict())["id"])

    def state_of(self, number: int) -> str:
        """The state of an item's first step, as the API says it."""
        found = self._api("GET", f"/api/worklist/{number}")
        item = Dataset.from_json(json.dumps(found["dataset"]))
        return str(item.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus)

    def _api(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(self._http + path, method=method)  # noqa: S310 - as given
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/dicom+json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            return json.load(answer)

    def ask_the_worklist(self) -> Dataset:
        """Find the item for this station and day (PS3.4 annex K)."""
        step = Dataset()
        step.ScheduledStationAETitle = STATION
        step.ScheduledProcedureStepStartDate = datetime.now().astimezone().strftime("%Y%m%d")
        step.Modality = "CT"
        for keyword in (
            "ScheduledProcedureStepStartTime",
            "ScheduledProcedureStepDescription",
            "ScheduledProcedureStepID",
        ):
            setattr(step, keyword, "")
        query = Dataset()
        query.AccessionNumber = self._accession_number
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyInstanceUID",
            "RequestedProcedureID",
            "RequestedProcedureDescription",
        ):
            setattr(query, keyword, "")
        query.ScheduledProcedureStepSequence = [step]
        with self._associated(ModalityWorklistInformationFind) as association:
            answers = association.send_c_find(query, ModalityWorklistInformationFind)
            items = [item for status, item in answers if status.Status in (0xFF00, 0xFF01)]
        if len(items) != 1:
            raise SystemExit(f"the worklist has {len(items)} items for {STATION}, expected one")
        return items[0]

    # --- the performed procedure step ---

    def begin(self, item: Dataset) -> str:
        """Say that the examination has begun (PS3.4 annex F); gives the step's UID."""
        scheduled = item.ScheduledProcedureStepSequence[0]
        attributes = Dataset()
        attributes.StudyInstanceUID = item.StudyInstanceUID
        attributes.AccessionNumber = item.AccessionNumber
        attributes.RequestedProcedureID = item.RequestedProcedureID
        attributes.RequestedProcedureDescription = item.RequestedProcedureDescription
        attributes.ScheduledProcedureStepID = scheduled.ScheduledProcedureStepID
        attributes.ScheduledProcedureStepDescription = scheduled.ScheduledProcedureStepDescription
        attributes.ScheduledProtocolCodeSequence = []
        attributes.ReferencedStudySequence = []
        now = datetime.now().astimezone()
        step = Dataset()
        step.SpecificCharacterSet = "ISO_IR 192"
        step.ScheduledStepAttributesSequence = [attributes]
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
            setattr(step, keyword, item.get(keyword, ""))
        step.ReferencedPatientSequence = []
        step.PerformedProcedureStepID = "P1"
        step.PerformedStationAETitle = STATION
        step.PerformedStationName = step.PerformedLocation = ""
        step.PerformedProcedureStepStartDate = now.strftime("%Y%m%d")
        step.PerformedProcedureStepStartTime = now.strftime("%H%M%S")
        step.PerformedProcedureStepStatus = "IN PROGRESS"
        step.PerformedProcedureStepDescription = attributes.ScheduledProcedureStepDescription
        step.PerformedProcedureTypeDescription = ""
        step.ProcedureCodeSequence = []
        step.PerformedProcedureStepEndDate = step.PerformedProcedureStepEndTime = ""
        step.Modality = "CT"
        step.StudyID = "1"
        step.PerformedProtocolCodeSequence = []
        step.PerformedSeriesSequence = []
        uid = generate_uid()
        with self._associated(ModalityPerformedProcedureStep) as association:
            status, _ = association.send_n_create(step, ModalityPerformedProcedureStep, uid)
        require_success("N-CREATE", status)
        return uid

    def complete(self, uid: str) -> None:
        """Say that the examination is done, and which images it has made."""
        series = Dataset()
        series.PerformingPhysicianName = series.OperatorsName = ""
        series.ProtocolName = "Head"
        series.SeriesInstanceUID = self.images[0].SeriesInstanceUID
        series.SeriesDescription = ""
        series.RetrieveAETitle = ""
        series.ReferencedImageSequence = references(self.images)
        series.ReferencedNonImageCompositeSOPInstanceSequence = []
        now = datetime.now().astimezone()
        changes = Dataset()
        changes.PerformedProcedureStepStatus = "COMPLETED"
        changes.PerformedProcedureStepEndDate = now.strftime("%Y%m%d")
        changes.PerformedProcedureStepEndTime = now.strftime("%H%M%S")
        changes.PerformedSeriesSequence = [series]
        with self._associated(ModalityPerformedProcedureStep) as association:
            status, _ = association.send_n_set(changes, ModalityPerformedProcedureStep, uid)
        require_success("N-SET", status)

    # --- images, and their commitment ---

    def store(self, item: Dataset) -> None:
        """Make the images and send them (PS3.4 annex B)."""
        series_uid = generate_uid()
        with self._associated(CTImageStorage) as association:
            for number in range(1, self._count + 1):
                image = make_image(item, series_uid, number)
                require_success("C-STORE", association.send_c_store(image))
                self.images.append(image)

    def commit(self) -> int:
        """Ask the node to keep the images (PS3.4 annex J); gives how many it will not."""
        request = Dataset()
        request.TransactionUID = generate_uid()
        request.ReferencedSOPSequence = references(self.images)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take_report)]
        with self._associated(StorageCommitmentPushModel, handlers) as association:
            status, _ = association.send_n_action(
                request,
                REQUEST_COMMITMENT,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
            require_success("N-ACTION", status)
            if not self._reported.wait(ANSWER_S):
                raise SystemExit(f"no report on the commitment within {ANSWER_S:g} s")
            # pynetdicom's thread that answers the report; if it ends in the midst of the release,
            # the release never does.
            for thread in threading.enumerate():
                if "_serve_request" in thread.name:
                    thread.join(ANSWER_S)
        event_type, report = self._report
        if report.TransactionUID != request.TransactionUID:
            raise SystemExit("the report is about another transaction")
        return 0 if event_type == ALL_COMMITTED else len(report.FailedSOPSequence)

    def _take_report(self, event: evt.Event) -> tuple[int, None]:
        self._report = event.event_type, event.event_information
        self._reported.set()
        return 0x0000, None

    @contextmanager
    def _associated(self, sop_class: str, handlers: Sequence[Any] = ()) -> Iterator[Association]:
        ae = AE(ae_title=STATION)
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
        association = ae.associate(
            self._host, self._port, ae_title=self._title, evt_handlers=list(handlers)
        )
        if not association.is_established:
            raise SystemExit(f"{self._title} at {self._host}:{self._port} takes no association")
        try:
            yield association
        finally:
            association.release()


def make_image(item: Dataset, series_uid: str, number: int) -> Dataset:
    """A small CT image of the patient on the worklist."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = generate_uid()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(image, keyword, item.get(keyword, ""))
    image.StudyInstanceUID = item.StudyInstanceUID
    image.AccessionNumber = item.AccessionNumber
    image.SeriesInstanceUID = series_uid
    image.Modality = "CT"
    image.SeriesNumber, image.InstanceNumber = 1, number
    image.Rows = image.Columns = 16
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = bytes(range(256)) * 2
    return image


def references(images: Sequence[Dataset]) -> list[Dataset]:
    """A Referenced SOP Sequence of these images."""
    items = []
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID = image.SOPClassUID
        item.ReferencedSOPInstanceUID = image.SOPInstanceUID
        items.append(item)
    return items


def require_success(service: str, status: Dataset) -> None:
    """End the day when the node has not done what it was asked."""
    code = status.get("Status")
    if code != 0x0000:
        comment = status.get("ErrorComment", "")
        answer = "no answer" if code is None else f"status 0x{code:04X} {comment}"
        raise SystemExit(f"{service}: {answer}")


def say(line: str) -> None:
    """Print a step."""
    print(f"- {line}", flush=True)


def main() -> None:
    """Read the command line, and play the day."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("node", help="AE_TITLE@HOST:PORT")
    parser.add_argument("http", help="the address of its page, such as http://127.0.0.1:8080")
    parser.add_argument("--images", type=int, default=3, help="how many (3)")
    parser.add_argument("--token", default="", help="a token, when the API asks for one")
    arguments = parser.parse_args()
    title, _, address = arguments.node.partition("@")
    host, _, port = address.rpartition(":")
    if not (title and host and port.isdigit()):
        parser.error("node: expected AE_TITLE@HOST:PORT")
    day = Day(
        (title, host, int(port)), arguments.http, images=arguments.images, token=arguments.token
    )
    day.run()


if __name__ == "__main__":
    sys.exit(main())
