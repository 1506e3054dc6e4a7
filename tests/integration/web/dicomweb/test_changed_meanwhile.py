"""Objects that are replaced or deleted between the row of the index and the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.dicom.values.attributes import Level
from lfscp.services.transcoding.ahead import Ahead
from lfscp.web.api.opened_file import OpenedFile
from lfscp.web.dicomweb import targets
from lfscp.web.dicomweb.retrieving import objects
from tests.support.bucket_requests import bucket, open_archive, relay
from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving, serving_archive
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice

__all__ = ["bucket", "open_archive", "relay"]
STUDY = f"/dicom-web/studies/{CT_STUDY}"
FIRST, SECOND = (f"{CT_SERIES}.{number}" for number in (1, 2))
INSTANCE = f"{STUDY}/series/{CT_SERIES}/instances/{FIRST}"
API = f"/api/instances/{FIRST}"
DICOM = {"Accept": 'multipart/related; type="application/dicom"'}
EDGE = 64


def changed(number: int) -> Any:
    dataset = ct_slice(number, 2, EDGE)
    dataset.PixelData = bytes(len(dataset.PixelData))
    return dataset


def compressed(number: int) -> Any:
    dataset = ct_slice(number, 2, EDGE)
    dataset.compress(RLELossless, generate_instance_uid=False)
    return dataset


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TestClient]:
    with serving(tmp_path, duplicates="replace") as client:
        for number in (1, 2):
            store(client, ct_slice(number, 2, EDGE))
        yield client


def store(client: TestClient, dataset: Any) -> None:
    assert client.post("/api/instances", content=as_file(dataset)).status_code in (200, 201)


def once(after: Callable[..., Any], act: Callable[[], object]) -> Callable[..., Any]:
    """The same function, which acts after its first call, before that returns."""
    left = [act]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        found = after(*arguments, **options)
        if left:
            left.pop()()
        return found

    return wrapped


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("lfscp.web.dicomweb.targets.file_of", f"{INSTANCE}/frames/1"),
        ("lfscp.web.dicomweb.targets.file_of", f"{INSTANCE}/pixeldata"),
        ("lfscp.web.dicomweb.targets.file_of", f"{INSTANCE}/rendered"),
        ("lfscp.web.dicomweb.targets.file_of", f"{INSTANCE}/frames/1/rendered"),
        ("lfscp.archive.archive.Archive.select", INSTANCE),
        ("lfscp.web.actions.studies.file_of", f"{API}/file"),
        ("lfscp.web.actions.studies.file_of", f"{API}/picture"),
        ("lfscp.web.actions.studies.file_of", f"{API}/frames/1"),
        ("lfscp.web.actions.studies.file_of", f"{API}/frames/1/values"),
        ("lfscp.web.actions.studies.file_of", f"{API}/thumbnail"),
        ("lfscp.web.actions.studies.file_of", f"{API}/elements"),
        ("lfscp.web.actions.studies.file_of", f"/instances/{FIRST}"),
    ],
)
def test_an_object_that_is_replaced_just_now_is_the_new_one(
    node: TestClient, monkeypatch: pytest.MonkeyPatch, place: str, path: str
) -> None:
    old = node.get(path)
    module, name = place.rsplit(".", 1)
    owner = Archive if name == "select" else __import__(module, fromlist=[name])
    after = getattr(owner, name)
    monkeypatch.setattr(owner, name, once(after, lambda: store(node, changed(1))))
    answer = node.get(path)

    assert (old.status_code, answer.status_code) == (200, 200)
    assert answer.content == node.get(path).content or "multipart" in answer.headers["content-type"]
    holds_pixels = (path.startswith(INSTANCE) and "rendered" not in path) or path.endswith("/file")
    assert changed(1).PixelData in answer.content or not holds_pixels


@pytest.mark.parametrize("path", ["frames/1", "pixeldata", "bulkdata/7fe00010"])
def test_also_if_its_file_has_the_same_name(
    node: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def store_again() -> None:
        assert node.delete(API).status_code == 200
        store(node, compressed(1))

    monkeypatch.setattr(targets, "file_of", once(targets.file_of, store_again))
    answers = [node.get(f"{INSTANCE}/{path}") for _ in range(2)]

    assert [each.status_code for each in answers] == [200, 200]
    found, again = ([part.content for part in parts_of(each)] for each in answers)
    assert found == again


def test_a_file_that_is_removed_before_it_is_sent_is_sent_all_the_same(
    node: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = node.get(f"{API}/file").content
    opened = once(OpenedFile, lambda: node.delete(API))
    monkeypatch.setattr("lfscp.web.api.studies.OpenedFile", opened)
    answer = node.get(f"{API}/file")

    assert (answer.status_code, answer.content == old) == (200, True)
    assert node.get(f"{API}/file").status_code == 404


def test_a_file_is_sent_in_parts_too(node: TestClient) -> None:
    whole = node.get(f"{API}/file")
    part = node.get(
        f"{API}/file", headers={"Range": "bytes=128-131", "If-Range": whole.headers["etag"]}
    )

    assert (part.status_code, part.content) == (206, b"DICM")


def test_a_picture_of_each_object_has_those_that_are_replaced_just_now(
    node: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archive, "select", once(Archive.select, lambda: store(node, changed(1))))
    answer = node.get(f"{STUDY}/rendered", headers={"Accept": "multipart/related; type=image/png"})

    assert len(parts_of(answer)) == 2


@pytest.mark.parametrize("path", [f"{STUDY}/metadata", f"{INSTANCE}/metadata"])
@pytest.mark.parametrize("is_same_name", [False, True])
def test_metadata_have_those_that_are_replaced_just_now(
    node: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, is_same_name: bool
) -> None:
    def replace() -> None:
        if is_same_name:
            node.delete(API)
        other = compressed(1)
        other.ImageComments = "new"
        store(node, other)

    count = len(node.get(path).json())
    store(node, ct_slice(3, 3, EDGE))  # else its metadata are kept
    node.delete(f"/api/instances/{CT_SERIES}.3")
    monkeypatch.setattr(Archive, "select", once(Archive.select, replace))
    found = {each["00080018"]["Value"][0]: each for each in node.get(path).json()}

    assert len(found) == count
    assert found[FIRST]["00204000"]["Value"] == ["new"]


def test_a_moving_picture_is_of_the_new_one(
    node: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "file_of", once(targets.file_of, lambda: store(node, changed(1))))

    assert node.get(f"{INSTANCE}/rendered", headers={"Accept": "image/gif"}).status_code == 200


def test_of_a_study_too(node: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = once(objects.object_pieces, lambda: store(node, changed(2)))
    monkeypatch.setattr(objects, "object_pieces", made)
    [_, second] = parts_of(node.get(STUDY, headers=DICOM))

    assert dcmread(BytesIO(second.content)).PixelData == changed(2).PixelData


@pytest.mark.parametrize("syntax", ["*", ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_whose_name_was_given_to_other_content_is_sent_whole(
    node: TestClient, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    def store_again() -> None:
        assert node.delete(f"/api/instances/{SECOND}").status_code == 200
        store(node, longer)

    longer = changed(2)
    longer.ImageComments = "longer than before. " * 50 + "X"
    made = once(objects.object_pieces, store_again)
    monkeypatch.setattr(objects, "object_pieces", made)
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    [_, second] = parts_of(node.get(STUDY, headers={"Accept": accept}))

    found = dcmread(BytesIO(second.content))
    assert (found.ImageComments, found.PixelData) == (longer.ImageComments, longer.PixelData)


def test_an_object_that_is_filed_elsewhere_meanwhile_is_not_sent(
    node: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store_elsewhere() -> None:
        assert node.delete(f"/api/instances/{SECOND}").status_code == 200
        other = changed(2)
        other.StudyInstanceUID, other.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        other.PatientID, other.PatientName = "Q", "Other^Patient"
        store(node, other)

    made = once(objects.object_pieces, store_elsewhere)
    monkeypatch.setattr(objects, "object_pieces", made)

    assert b"Other^Patient" not in node.get(STUDY, headers=DICOM).content


def test_an_object_of_a_bucket_that_was_deleted_after_it_was_decoded_is_not_sent(
    open_archive: Callable[..., Archive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(timeout_s=60.0)
    settings = Settings.model_validate({"data_dir": str(tmp_path / "a")})
    prepared: list[Ahead] = []

    def noted(owner: object) -> Ahead:
        prepared.append(Ahead(owner))
        return prepared[-1]

    def delete_second() -> None:
        while not all(job.done() for job in prepared[0]._jobs.values()):
            time.sleep(0.01)
        assert prepared[0]._jobs
        archive.index.delete(Level.IMAGE, SECOND, None)  # as another node does: copies stay

    monkeypatch.setattr(objects, "Ahead", noted)
    made = once(objects.object_pieces, delete_second)
    monkeypatch.setattr(objects, "object_pieces", made)
    with serving_archive(archive, settings) as client:
        for number in (1, 2):
            store(client, compressed(number))
        [first] = parts_of(client.get(STUDY, headers=DICOM))

    assert dcmread(BytesIO(first.content)).SOPInstanceUID == FIRST
