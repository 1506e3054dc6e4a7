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
from pydicom.uid import RLELossless

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.dicom.values.attributes import Level
from lfscp.services.transcoding.ahead import Ahead
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
        ("lfscp.web.api.studies.file_of", f"{API}/file"),
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
    assert changed(1).PixelData in answer.content or "rendered" in path


def test_of_a_study_too(node: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = once(objects.object_pieces, lambda: store(node, changed(2)))
    monkeypatch.setattr(objects, "object_pieces", made)
    [_, second] = parts_of(node.get(STUDY, headers=DICOM))

    assert dcmread(BytesIO(second.content)).PixelData == changed(2).PixelData


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
