"""pynetdicom's own applications' handlers, unchanged, behind this server, asked by real clients."""

import argparse
import logging
import subprocess

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_role, evt
from pynetdicom.apps.common import handle_store as storescp_store
from pynetdicom.apps.qrscp import db, handlers
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from sqlalchemy import create_engine

from tests.support.dicom_peer import until
from tests.support.serving import serving

LOGGER = logging.getLogger("qrscp")
# The handlers write the old way.
pytestmark = pytest.mark.filterwarnings("ignore:.*write_like_original:DeprecationWarning")


def image(number):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"1.2.3.4.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.PatientID, ds.PatientName, ds.Modality = "P1", "Doe^John", "CT"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260101", "1200", "S1", "A1"
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = bytes(range(256)) * 2
    return ds


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 3):
        image(number).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


def archive_ae(title):
    ae = AE(ae_title=title)
    ae.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(
            context.abstract_syntax, ALL_TRANSFER_SYNTAXES, scu_role=True, scp_role=True
        )
    for model in (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
    ):
        ae.add_supported_context(model)
    return ae


@pytest.fixture
def destination(tmp_path):
    """storescp's handler; the folder it writes to."""
    folder = tmp_path / "moved"
    args = argparse.Namespace(ignore=False, output_directory=str(folder))
    bound = (evt.EVT_C_STORE, storescp_store, [args, LOGGER])
    with serving(bound, ae=archive_ae("DEST")) as server:
        server.folder = folder
        yield server


@pytest.fixture
def engines(monkeypatch):
    """The databases that the handlers opened: they leave closing them to the garbage collector.

    It would do so in a later test, and that would fail from Python 3.13 on.
    """
    opened = []

    def note(*args, **options):
        opened.append(create_engine(*args, **options))
        return opened[-1]

    monkeypatch.setattr(handlers, "create_engine", note)
    yield opened
    for each in opened:
        each.dispose()


@pytest.fixture
def qrscp(tmp_path, destination, engines):
    """qrscp's handlers over its own database."""
    folder = tmp_path / "objects"
    folder.mkdir()
    db_path = f"sqlite:///{tmp_path}/qrscp.sqlite"
    db.create(db_path).dispose()
    destinations = {"DEST": ("127.0.0.1", destination.server_address[1])}
    bound = [
        (evt.EVT_C_ECHO, handlers.handle_echo, [None, LOGGER]),
        (evt.EVT_C_FIND, handlers.handle_find, [db_path, None, LOGGER]),
        (evt.EVT_C_GET, handlers.handle_get, [db_path, None, LOGGER]),
        (evt.EVT_C_MOVE, handlers.handle_move, [destinations, db_path, None, LOGGER]),
        (evt.EVT_C_STORE, handlers.handle_store, [str(folder), db_path, None, LOGGER]),
    ]
    with serving(*bound, ae=archive_ae("QRSCP")) as server:
        yield server


def run(client, server, *arguments):
    host, port = server.server_address[:2]
    done = subprocess.run(
        [f"/usr/bin/{client}", "-v", "-aec", "QRSCP", host, str(port), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


STUDY_KEYS = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3")


def instance_uids(folder):
    return sorted(str(dcmread(path).SOPInstanceUID) for path in folder.iterdir())


ALL_THREE = ["1.2.3.4.1", "1.2.3.4.2", "1.2.3.4.3"]


def test_dcmtk_echoes(qrscp):
    assert "Received Echo Response (Success)" in run("echoscu", qrscp)


def test_dcmtk_stores_finds_moves_and_gets(qrscp, destination, files, tmp_path):
    assert run("storescu", qrscp, *files).count("Received Store Response (Success)") == 3

    found = run("findscu", qrscp, "-S", *STUDY_KEYS, "-k", "PatientName=Doe*")
    assert found.count("Find Response: ") == 3, "qrscp answers once an instance"
    assert "Doe^John" in found

    run("movescu", qrscp, "-S", "-aem", "DEST", *STUDY_KEYS)
    assert instance_uids(destination.folder) == ALL_THREE

    (got := tmp_path / "got").mkdir()
    run("getscu", qrscp, "-S", "-od", got, *STUDY_KEYS)
    assert instance_uids(got) == ALL_THREE


def test_pynetdicoms_client_stores_finds_moves_and_gets(qrscp, destination, files):
    got = []

    def keep(event):
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    ae = AE()
    for model in (
        Verification,
        CTImageStorage,
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
    ):
        ae.add_requested_context(model)
    ae.requested_contexts[1].transfer_syntax = [ExplicitVRLittleEndian]
    role = build_role(CTImageStorage, scu_role=True, scp_role=True)
    assoc = ae.associate(
        *qrscp.server_address[:2], ext_neg=[role], evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0x0000
    for path in files:
        assert assoc.send_c_store(path).Status == 0x0000

    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID, keys.PatientName = "STUDY", "1.2.3", "Doe*"
    answers = list(assoc.send_c_find(keys, StudyRootQueryRetrieveInformationModelFind))
    assert [status.Status for status, _ in answers] == [0xFF00] * 3 + [0x0000]
    assert answers[0][1].PatientName == "Doe^John"

    del keys.PatientName
    moved = list(assoc.send_c_move(keys, "DEST", StudyRootQueryRetrieveInformationModelMove))
    assert moved[-1][0].Status == 0x0000
    assert moved[-1][0].NumberOfCompletedSuboperations == 3
    assert instance_uids(destination.folder) == ALL_THREE

    answers = list(assoc.send_c_get(keys, StudyRootQueryRetrieveInformationModelGet))
    assert answers[-1][0].Status == 0x0000
    assert sorted(got) == ALL_THREE
    assoc.release()
    assert until(lambda: not qrscp.active_associations)


def test_a_move_to_an_unknown_destination_is_refused(qrscp, files):
    run("storescu", qrscp, files[0])
    ae = AE()
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    assoc = ae.associate(*qrscp.server_address[:2])
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", "1.2.3"
    answers = list(assoc.send_c_move(keys, "NOBODY", StudyRootQueryRetrieveInformationModelMove))
    assert [status.Status for status, _ in answers] == [0xA801]
    assoc.release()
