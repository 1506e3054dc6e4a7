"""Our DICOMweb client and a node of ours: what went in is found and comes out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless

from lfscp.archive.archive import Archive
from lfscp.archive.store.received_objects import Received, StoredInstance
from lfscp.scu.dicomweb import find as searching
from lfscp.scu.dicomweb import send as sending
from lfscp.scu.dicomweb.echo import echo
from lfscp.scu.dicomweb.find import find
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.retrieve import get
from lfscp.scu.dicomweb.send import send
from lfscp.scu.identifiers import identifier
from lfscp.scu.send import objects_in
from lfscp.services.sending.sub_operations import SubOperationOutcome
from tests.support.dicomweb_server import web_node
from tests.support.retrieved_objects import as_file, multi_frame
from tests.support.web_objects import CT_SERIES, CT_STUDY, LOOP_STUDY, colour_loop, ct_slice, report

COMPRESSED = "1.2.826.0.1.3680043.10.1.7"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    compressed = multi_frame(COMPRESSED)
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    objects = [*(ct_slice(number, 3) for number in (1, 2, 3)), colour_loop(), report(), compressed]
    for number, each in enumerate(objects):
        (folder / f"{number}.dcm").write_bytes(as_file(each))
    return folder


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, files: Path
) -> Iterator[tuple[DICOMwebPeer, Archive]]:
    """A node that was sent the files, by our client."""
    with web_node(tmp_path_factory.mktemp("node") / "data") as served:
        peer = DICOMwebPeer(served.url, timeout_s=30)
        result = send(peer, in_folder(files))
        assert (result.completed, result.failed) == (6, [])
        yield peer, served.archive


def in_folder(folder: Path) -> list[StoredInstance]:
    return objects_in([folder], on_other=lambda file, why: pytest.fail(f"{file}: {why}"))


def dataset_of(file: Path | bytes) -> bytes:
    """The bytes of the dataset of a DICOM file."""
    content = file if isinstance(file, bytes) else file.read_bytes()
    stream = BytesIO(content)
    dcmread(stream, stop_before_pixels=True, specific_tags=[])
    meta = dcmread(BytesIO(content), specific_tags=[]).file_meta
    return content[132 + 12 + meta.FileMetaInformationGroupLength :]


class Folder:
    """Keeps the objects of a retrieve in memory."""

    def __init__(self) -> None:
        self.datasets: dict[str, bytes] = {}
        self.syntaxes: dict[str, str] = {}
        self.refused: list[str] = []

    def take(self, received: Received) -> int:
        content = received.dataset
        if content is None:
            spooled = Path(received.spooled_path or "").read_bytes()
            content = spooled[received.dataset_offset :]
        self.datasets[received.sop_instance_uid] = bytes(content)
        self.syntaxes[received.sop_instance_uid] = received.transfer_syntax_uid
        return 0

    def get(self, peer: DICOMwebPeer, level: str, **keys: Any) -> Any:
        return get(
            peer,
            identifier(keys, level),
            on_object=self.take,
            on_refused=lambda uid, reason: self.refused.append(f"{uid} {reason}"),
        )


def matches(peer: DICOMwebPeer, level: str, **keys: Any) -> list[Dataset]:
    return list(find(peer, identifier(keys, level)))


def test_a_node_answers(node: tuple[DICOMwebPeer, Archive]) -> None:
    assert echo(node[0]).duration_ms > 0


def test_what_is_sent_is_stored_byte_for_byte(
    node: tuple[DICOMwebPeer, Archive], files: Path
) -> None:
    sent = {each.sop_instance_uid: dataset_of(Path(each.path)) for each in in_folder(files)}
    folder = Folder()
    for study in (
        CT_STUDY,
        LOOP_STUDY,
        *{str(dcmread(f).StudyInstanceUID) for f in files.iterdir()},
    ):
        assert not folder.get(node[0], "STUDY", StudyInstanceUID=study).failed
    assert folder.datasets == sent
    assert folder.syntaxes[COMPRESSED] == JPEG2000Lossless


@pytest.mark.parametrize("above", [4 << 20, 100])
def test_an_object_comes_the_same_through_memory_and_file(
    node: tuple[DICOMwebPeer, Archive],
    files: Path,
    above: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("lfscp.scu.dicomweb.retrieved_parts.SPOOL_ABOVE_BYTES", above)
    folder = Folder()
    get(
        node[0],
        identifier({"StudyInstanceUID": CT_STUDY}, "STUDY"),
        on_object=folder.take,
        spool_dir=tmp_path,
    )
    assert folder.datasets[f"{CT_SERIES}.2"] == dataset_of(files / "1.dcm")
    assert not list(tmp_path.iterdir())


def test_series_instances_and_patients_are_retrieved(
    node: tuple[DICOMwebPeer, Archive],
) -> None:
    peer = node[0]
    one = Folder()
    uids = {"StudyInstanceUID": CT_STUDY, "SeriesInstanceUID": CT_SERIES}
    result = one.get(peer, "IMAGE", **uids, SOPInstanceUID=[f"{CT_SERIES}.1", f"{CT_SERIES}.3"])
    assert sorted(one.datasets) == [f"{CT_SERIES}.1", f"{CT_SERIES}.3"]
    assert (result.completed, result.failed) == (2, 0)
    series = Folder()
    series.get(peer, "SERIES", **uids)
    assert len(series.datasets) == 3
    patient = Folder()
    patient.get(peer, "PATIENT", PatientID="P-0007")
    assert set(patient.datasets) >= set(series.datasets)


def test_what_is_not_there_is_nothing(node: tuple[DICOMwebPeer, Archive]) -> None:
    result = Folder().get(node[0], "STUDY", StudyInstanceUID="1.2.3.99")
    assert (result.status, result.completed, result.failed) == (0, 0, 0)
    assert not Folder().get(node[0], "PATIENT", PatientID="NOBODY").completed
    assert matches(node[0], "SERIES", StudyInstanceUID="1.2.3.99", Modality="") == []
    assert matches(node[0], "STUDY", PatientName="NOBODY*") == []


def test_a_query_gives_the_keys_that_were_asked_for(node: tuple[DICOMwebPeer, Archive]) -> None:
    (found,) = matches(
        node[0],
        "STUDY",
        PatientName="müller*",
        StudyInstanceUID="",
        NumberOfStudyRelatedInstances="",
    )
    assert found.PatientName == "Müller^Johanna^^Dr."
    assert found.StudyInstanceUID == CT_STUDY
    assert found.NumberOfStudyRelatedInstances == 3
    assert set(found.dir()) == {
        *("NumberOfStudyRelatedInstances", "PatientName", "QueryRetrieveLevel"),
        *("SpecificCharacterSet", "StudyInstanceUID"),
    }


def test_lists_ranges_and_levels_match_as_in_a_c_find(node: tuple[DICOMwebPeer, Archive]) -> None:
    peer = node[0]
    found = matches(peer, "STUDY", StudyInstanceUID=[CT_STUDY, "1.9", LOOP_STUDY], StudyDate="")
    assert {str(each.StudyInstanceUID) for each in found} == {CT_STUDY, LOOP_STUDY}
    assert len(matches(peer, "STUDY", StudyDate="20240517-20240517", PatientID="P-0007")) == 1
    (series,) = matches(peer, "SERIES", StudyInstanceUID=CT_STUDY, SeriesInstanceUID="")
    assert (series.StudyInstanceUID, series.SeriesInstanceUID) == (CT_STUDY, CT_SERIES)
    uids = {"StudyInstanceUID": CT_STUDY, "SeriesInstanceUID": CT_SERIES}
    images = matches(peer, "IMAGE", **uids, InstanceNumber="", SOPInstanceUID="")
    assert sorted(int(each.InstanceNumber) for each in images) == [1, 2, 3]
    patients = matches(peer, "PATIENT", PatientID="P-*", PatientName="")
    assert len({str(each.PatientID) for each in patients}) == len(patients)
    assert "Müller^Johanna^^Dr." in {str(each.PatientName) for each in patients}


def test_all_pages_are_asked_for(
    node: tuple[DICOMwebPeer, Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "PAGE", 1)
    found = matches(node[0], "IMAGE", StudyInstanceUID=CT_STUDY, SOPInstanceUID="")
    assert sorted(str(each.SOPInstanceUID) for each in found) == [
        f"{CT_SERIES}.{number}" for number in (1, 2, 3)
    ]


def test_each_object_has_its_outcome(
    node: tuple[DICOMwebPeer, Archive], files: Path, tmp_path: Path
) -> None:
    """One that was there already, one that is damaged, one whose file has gone, a new one."""
    there = in_folder(files / "0.dcm")
    new = ct_slice(9, 9)
    new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = f"{CT_SERIES}.9"
    (tmp_path / "new.dcm").write_bytes(as_file(new))
    gone = tmp_path / "gone.dcm"
    gone.write_bytes(as_file(ct_slice(8, 9)))
    damaged = as_file(ct_slice(7, 9))
    (tmp_path / "damaged.dcm").write_bytes(damaged[: len(damaged) // 2])
    instances = [*there, *in_folder(tmp_path)]
    gone.unlink()
    outcomes: dict[str, tuple[SubOperationOutcome, str]] = {}
    result = send(
        node[0],
        instances,
        on_sent=lambda each, outcome, why: outcomes.update({Path(each.path).name: (outcome, why)}),
    )
    assert outcomes["0.dcm"][0] is SubOperationOutcome.COMPLETED
    assert outcomes["new.dcm"][0] is SubOperationOutcome.COMPLETED
    assert outcomes["gone.dcm"] == (SubOperationOutcome.FAILED, "No such file or directory")
    assert outcomes["damaged.dcm"][0] is SubOperationOutcome.FAILED
    assert outcomes["damaged.dcm"][1].startswith("the server answered 0xC000")
    assert (result.completed, len(result.failed), result.left) == (2, 2, 0)


def test_a_file_without_meta_information_is_sent_with_one(
    node: tuple[DICOMwebPeer, Archive], tmp_path: Path
) -> None:
    bare = ct_slice(5, 9)
    bare.SOPInstanceUID = bare.file_meta.MediaStorageSOPInstanceUID = f"{CT_SERIES}.55"
    (tmp_path / "bare").write_bytes(dataset_of(as_file(bare)))
    assert send(node[0], in_folder(tmp_path)).completed == 1
    folder = Folder()
    uids = {"StudyInstanceUID": CT_STUDY, "SeriesInstanceUID": CT_SERIES}
    folder.get(node[0], "IMAGE", **uids, SOPInstanceUID=f"{CT_SERIES}.55")
    assert folder.datasets[f"{CT_SERIES}.55"] == (tmp_path / "bare").read_bytes()


def test_requests_have_as_many_objects_as_fit(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instances = in_folder(files)
    monkeypatch.setattr(sending, "MAX_OBJECTS", 4)
    assert [len(each) for each in sending.batches_of(instances)] == [4, 2]
    monkeypatch.setattr(sending, "MAX_BYTES", instances[0].size)
    sizes = [sum(one.size for one in each) for each in sending.batches_of(instances)]
    assert all(size <= instances[0].size for size in sizes if size != max(sizes))
    assert sum(sizes) == sum(each.size for each in instances)


def test_a_retrieve_that_is_cancelled_says_what_it_has(
    node: tuple[DICOMwebPeer, Archive],
) -> None:
    cancel = threading.Event()

    def take(_received: Received) -> int:
        cancel.set()
        return 0

    result = get(
        node[0],
        identifier({"StudyInstanceUID": CT_STUDY}, "STUDY"),
        on_object=take,
        cancel=cancel,
    )
    assert result.is_cancelled
    assert result.completed >= 1
