"""Queries and retrieves by every information model, against lfscp and DCMTK's dcmqrscp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from lfscp.dicom.values.attributes import Level
from lfscp.jobs.model import Job, State
from lfscp.jobs.request import JobRequest
from lfscp.jobs.service import JobService
from lfscp.scu.peer import Peer
from tests.e2e.test_jobs_retrieve import RLE, STUDY, jobs_of, retrieve, wait
from tests.support.dcmqrscp import AE_TITLE, dcmqrscp, fill
from tests.support.served_archive import compressed, image, served

MODELS = ("study", "patient", "patient-study")
OTHER = "1.2.826.0.1.3680043.8.498.9"


def objects() -> list[Dataset]:
    """Two studies of Doe, one of Roe."""
    of_doe = {"PatientID": "P1", "PatientName": "Doe^Jane"}
    return [
        image(study=f"{STUDY}.1", series=f"{STUDY}.1.1", **of_doe),
        image(study=f"{STUDY}.2", series=f"{STUDY}.2.1", **of_doe),
        image(study=OTHER, series=f"{OTHER}.1", PatientID="P2", PatientName="Roe"),
    ]


def written(folder: Path, datasets: list[Dataset]) -> list[Path]:
    folder.mkdir(parents=True)
    files = []
    for number, dataset in enumerate(datasets):
        dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20240101", "120000", "1"
        dataset.AccessionNumber, dataset.SeriesNumber = "A", 1
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        files.append(folder / f"{number}.dcm")
    return files


@pytest.fixture(scope="module", params=["lfscp", "dcmqrscp"])
def peer(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A PACS that has these objects."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "lfscp":
        with served(folder / "theirs") as theirs:
            for each in objects():
                theirs.store(each)
            yield Peer("LFSCP", "127.0.0.1", theirs.port)
    else:
        with dcmqrscp(folder / "qr") as port:
            fill(port, *written(folder / "in", objects()))
            yield Peer(AE_TITLE, "127.0.0.1", port)


def find(service: JobService, peer: Peer, **parameters: Any) -> Job:
    return wait(service, service.submit(JobRequest("find", peer, parameters)))


@pytest.mark.parametrize("model", MODELS)
def test_studies_of_a_patient_are_found_by_every_model(
    peer: Peer, model: str, tmp_path: Path
) -> None:
    keys = {"PatientID": "P1", "StudyInstanceUID": ""}
    with jobs_of(tmp_path / "mine") as (service, _):
        ended = find(service, peer, keys=keys, model=model)
    assert (ended.state, ended.reason) == (State.DONE, "")
    found = sorted(match["StudyInstanceUID"] for match in ended.result)
    assert found == [f"{STUDY}.1", f"{STUDY}.2"]


@pytest.mark.parametrize("model", ["patient", "patient-study"])
def test_patients_are_found_by_name(peer: Peer, model: str, tmp_path: Path) -> None:
    keys = {"PatientName": "Do*", "PatientID": ""}
    with jobs_of(tmp_path / "mine") as (service, _):
        ended = find(service, peer, keys=keys, model=model, level="PATIENT")
    assert [match["PatientID"] for match in ended.result] == ["P1"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("keys", "studies"),
    [
        ({"PatientID": "P1"}, [f"{STUDY}.1", f"{STUDY}.2"]),
        ({"PatientID": "P1", "StudyInstanceUID": f"{STUDY}.2"}, [f"{STUDY}.2"]),
        ({"PatientName": "D*"}, [f"{STUDY}.1", f"{STUDY}.2"]),
    ],
    ids=["everything of a patient", "one study", "by name"],
)
def test_studies_are_retrieved_by_every_model(
    peer: Peer, model: str, keys: dict[str, str], studies: list[str], tmp_path: Path
) -> None:
    with jobs_of(tmp_path / "mine") as (service, archive):
        ended = retrieve(service, peer, keys=keys, model=model)
        assert (ended.state, ended.reason) == (State.DONE, "")
        assert sorted(ended.result["studies"]) == studies
        assert archive.statistics().instances == len(studies)


@pytest.mark.parametrize("model", ["study", "patient"])
def test_series_are_found_level_by_level_without_the_uid_of_a_study(
    peer: Peer, model: str, tmp_path: Path
) -> None:
    keys = {"PatientName": "Do*", "StudyDate": "", "Modality": "", "SeriesInstanceUID": ""}
    asked = {"keys": keys, "model": model, "level": "SERIES", "hierarchical": True}
    with jobs_of(tmp_path / "mine") as (service, _):
        ended = find(service, peer, **asked)
        of_one = find(
            service, peer, **asked | {"keys": {**keys, "StudyInstanceUID": OTHER}, "model": "study"}
        )
    assert (ended.state, ended.reason) == (State.DONE, "")
    found = sorted(match["SeriesInstanceUID"] for match in ended.result)
    assert found == [f"{STUDY}.1.1", f"{STUDY}.2.1"]
    assert {match["PatientName"] for match in ended.result} == {"Doe^Jane"}, "of the study"
    assert {match["StudyInstanceUID"] for match in ended.result} == {f"{STUDY}.1", f"{STUDY}.2"}
    assert [match["SeriesInstanceUID"] for match in of_one.result] == [f"{OTHER}.1"]


@pytest.mark.parametrize("model", ["study", "patient"])
def test_a_list_of_patient_ids_is_worked_off_and_what_is_missing_is_named(
    peer: Peer, model: str, tmp_path: Path
) -> None:
    keys = {"PatientID": ["P1", "P9", " P2", "P1", "P8"]}
    with jobs_of(tmp_path / "mine") as (service, archive):
        ended = retrieve(service, peer, keys=keys, model=model)
        assert (ended.state, ended.done, ended.left) == (State.DONE, 3, 0)
        assert ended.reason == "no study for 2 of 4 values: P9, P8"
        assert ended.result["missing"] == ["P9", "P8"]
        assert sorted(ended.result["studies"]) == [f"{STUDY}.1", f"{STUDY}.2", OTHER]
        assert archive.statistics().instances == 3
        nothing = retrieve(service, peer, keys={"AccessionNumber": ["X", "Y"]})
        assert (nothing.state, nothing.reason) == (State.FAILED, "nothing matches the keys")


def test_what_a_c_get_cannot_send_comes_by_c_move_if_the_peer_knows_us(
    dcmtk: Any, tmp_path: Path
) -> None:
    """dcmqrscp sends a compressed object only where its class has no other context.

    In place of our own SCP, of which it would take an uncompressed context as well: storescp.
    """
    plain = [image(study=STUDY, series=f"{STUDY}.{number}") for number in range(2)]
    small = [compressed(image(study=STUDY, series=f"{STUDY}.{number}"), RLE) for number in range(2)]
    there = tmp_path / "there"
    with (
        dcmtk.storescp(there, "+xr") as own_port,
        dcmqrscp(tmp_path / "qr", "+xr", "-xr", LFSCP=own_port) as port,
        jobs_of(tmp_path / "mine") as (service, archive),
        jobs_of(tmp_path / "nobody", server={"ae_title": "NOBODY"}) as (unknown, _),
    ):
        fill(port, *written(tmp_path / "plain", plain))
        fill(port, *written(tmp_path / "small", small), propose="-xr")
        peer = Peer(AE_TITLE, "127.0.0.1", port)
        ended = retrieve(service, peer)
        assert (ended.state, ended.done, ended.failed, ended.left) == (State.DONE, 4, 0, 0), ended
        assert ended.result["methods"] == {str(peer): "get and move"}
        assert ended.result["problems"] == []
        here = archive.select(Level.STUDY, {Level.STUDY: [STUDY]})
        assert {each.sop_instance_uid for each in here} == {each.SOPInstanceUID for each in plain}
        moved = dcmtk.contents(there)
        assert set(moved) == {str(each.SOPInstanceUID) for each in small}
        assert {syntax for syntax, _ in moved.values()} == {RLE}

        alone = retrieve(unknown, peer)
        assert (alone.state, alone.done, alone.failed) == (State.FAILED, 2, 2), alone
        assert alone.result["methods"] == {str(peer): "get"}
        assert len(alone.result["problems"]) == 2
