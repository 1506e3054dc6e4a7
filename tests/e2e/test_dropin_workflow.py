"""The workflow of modalities with own handlers: behind this server as behind pynetdicom's."""

import threading
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from tests.support.pynetdicom_client import close
from tests.support.pynetdicom_reactor import well_paused
from tests.support.serving import serving

CLASSES = (
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    ModalityWorklistInformationFind,
    StorageCommitmentPushModel,
)
STEP, TRANSACTION, IMAGE = "1.2.3.4", "1.2.3.5", "1.2.3.6"
ALL_COMMITTED = 1
PATIENCE_S = 20


def patient_ae(title):
    ae = AE(title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
    return ae


def supporting_ae():
    ae = patient_ae("WORKFLOW")
    for each in CLASSES:
        ae.add_supported_context(each)
    return ae


@contextmanager
def served_by_pynetdicom(handlers):
    server = supporting_ae().start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@contextmanager
def served_by_lfscp(handlers):
    with serving(*handlers, ae=supporting_ae()) as server:
        yield server.server_address[1]


@pytest.fixture(params=[served_by_pynetdicom, served_by_lfscp], ids=["pynetdicom", "lfscp"])
def served(request):
    return request.param


@contextmanager
def associated(port, sop_class, handlers=(), **options):
    ae = patient_ae("MODALITY")
    ae.add_requested_context(sop_class)
    assoc = ae.associate("127.0.0.1", port, evt_handlers=list(handlers), **options)
    assert assoc.is_established
    try:
        yield well_paused(assoc)
    finally:
        if assoc.is_established:
            assoc.release()
        close(assoc)


class Steps:
    """An application's performed procedure steps, in a dictionary."""

    def __init__(self):
        self.steps = {}

    def create(self, event):
        uid = event.request.AffectedSOPInstanceUID
        if uid in self.steps:
            return 0x0111, None
        self.steps[uid] = event.attribute_list
        return 0x0000, event.attribute_list

    def set(self, event):
        step = self.steps.get(event.request.RequestedSOPInstanceUID)
        if step is None:
            return 0x0112, None
        step.update(event.modification_list)
        return 0x0000, step

    def get(self, event):
        step = self.steps[event.request.RequestedSOPInstanceUID]
        answer = Dataset()
        for tag in event.attribute_identifiers or ():
            answer[tag] = step[tag]
        return 0x0000, answer

    @property
    def handlers(self):
        return [
            (evt.EVT_N_CREATE, self.create),
            (evt.EVT_N_SET, self.set),
            (evt.EVT_N_GET, self.get),
        ]


def begun():
    step = Dataset()
    step.PatientID = "P-1"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    return step


def ended():
    changes = Dataset()
    changes.PerformedProcedureStepStatus = "COMPLETED"
    return changes


def test_a_step_is_created_once_and_changed(served):
    steps = Steps()
    mpps = ModalityPerformedProcedureStep
    with served(steps.handlers) as port, associated(port, mpps) as assoc:
        status, answer = assoc.send_n_create(begun(), mpps, STEP)
        assert (status.Status, answer.PatientID) == (0x0000, "P-1")
        status, _ = assoc.send_n_create(begun(), mpps, STEP)
        assert status.Status == 0x0111
        status, answer = assoc.send_n_set(ended(), mpps, STEP)
        assert (status.Status, answer.PerformedProcedureStepStatus) == (0x0000, "COMPLETED")
        status, _ = assoc.send_n_set(ended(), mpps, "1.2.3.99")
        assert status.Status == 0x0112


def test_a_step_is_given(served):
    steps = Steps()
    steps.steps[STEP] = begun()
    retrieve = ModalityPerformedProcedureStepRetrieve
    with served(steps.handlers) as port, associated(port, retrieve) as assoc:
        status, answer = assoc.send_n_get([(0x0010, 0x0020)], retrieve, STEP)
    assert (status.Status, answer.PatientID, len(answer)) == (0x0000, "P-1", 1)


def raising(event):
    raise RuntimeError("on purpose")


def no_status(event):
    return "no status", None


@pytest.mark.parametrize("handle", [raising, no_status], ids=lambda each: each.__name__)
def test_a_handler_that_fails_ends_in_the_same_status(handle):
    statuses = []
    mpps = ModalityPerformedProcedureStep
    for served in (served_by_pynetdicom, served_by_lfscp):
        bound = [(evt.EVT_N_CREATE, handle)]
        with served(bound) as port, associated(port, mpps) as assoc:
            status, _ = assoc.send_n_create(begun(), mpps, STEP)
        statuses.append(status.Status)
    assert statuses[0] == statuses[1] != 0x0000


def test_worklist_items_are_found(served):
    asked = []

    def find(event):
        asked.append(event.identifier)
        for name in ("A", "B"):
            item = Dataset()
            item.PatientName = name
            yield 0xFF00, item

    worklist = ModalityWorklistInformationFind
    keys = Dataset()
    keys.PatientName = ""
    step = Dataset()
    step.Modality = "CT"
    keys.ScheduledProcedureStepSequence = Sequence([step])
    with served([(evt.EVT_C_FIND, find)]) as port, associated(port, worklist) as assoc:
        answers = list(assoc.send_c_find(keys, worklist))
    assert [status.Status for status, _ in answers] == [0xFF00, 0xFF00, 0x0000]
    assert [str(item.PatientName) for _, item in answers[:2]] == ["A", "B"]
    assert asked[0].ScheduledProcedureStepSequence[0].Modality == "CT"


# --- storage commitment ---


def references():
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, IMAGE
    information = Dataset()
    information.TransactionUID = TRANSACTION
    information.ReferencedSOPSequence = [item]
    return information


class Reports:
    """What has been reported, and a handler that takes it."""

    def __init__(self):
        self.taken = []

    def take(self, event):
        self.taken.append((event.event_type, str(event.event_information.TransactionUID)))
        return 0x0000, None

    @property
    def handlers(self):
        return [(evt.EVT_N_EVENT_REPORT, self.take)]


def report_on(assoc, statuses):
    status, _ = assoc.send_n_event_report(
        references(), ALL_COMMITTED, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    statuses.append(status.Status)


def ask(assoc):
    status, _ = assoc.send_n_action(
        references(), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return status.Status


def test_a_thread_that_the_handler_starts_reports_on_the_same_association(served):
    """It need not wait for the answer to the request: the report goes out behind it."""
    statuses, threads, reports = [], [], Reports()

    def action(event):
        assert event.action_type == 1
        assert event.action_information.TransactionUID == TRANSACTION
        threads.append(threading.Thread(target=report_on, args=(event.assoc, statuses)))
        threads[-1].start()
        threads[-1].join(0.1)  # so that it is ready to send
        return 0x0000, None

    bound = [(evt.EVT_N_ACTION, action)]
    with (
        served(bound) as port,
        associated(port, StorageCommitmentPushModel, reports.handlers) as assoc,
    ):
        for count in (1, 2):  # the association goes on
            assert ask(assoc) == 0x0000
            threads[-1].join(PATIENCE_S)
            assert statuses == [0x0000] * count
    assert reports.taken == [(ALL_COMMITTED, TRANSACTION)] * 2


def test_a_report_of_a_peer_reaches_the_handler(served):
    """As the SCU of storage commitment, one takes reports on associations that the SCP opens."""
    statuses, reports = [], Reports()
    with (
        served(reports.handlers) as port,
        associated(port, StorageCommitmentPushModel) as assoc,
    ):
        report_on(assoc, statuses)
    assert statuses == [0x0000]
    assert reports.taken == [(ALL_COMMITTED, TRANSACTION)]
