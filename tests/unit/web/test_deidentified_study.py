"""A study of the archive as a ZIP without the people, over the API."""

from __future__ import annotations

import io
import zipfile

import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread
from starlette.requests import ClientDisconnect

from lfscp.dicom.values.attributes import Level
from tests.support.web_objects import CT_STUDY, LOOP_STUDY

KEY = "the secret of the project"
PATH = f"/api/studies/{CT_STUDY}/deidentify"


def unpacked(answer) -> dict[str, bytes]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    packed = zipfile.ZipFile(io.BytesIO(answer.content))
    assert packed.testzip() is None
    return {name: packed.read(name) for name in packed.namelist()}


def test_a_study_comes_as_a_zip_without_the_people(filled: TestClient) -> None:
    files = unpacked(filled.post(PATH, json={"key": KEY}))
    originals = filled.get("/api/studies").json()["rows"]
    assert len(files) == 4
    for name, content in files.items():
        dicom = dcmread(io.BytesIO(content))
        assert dicom.PatientIdentityRemoved == "YES"
        assert dicom.StudyInstanceUID != CT_STUDY
        assert name.startswith(dicom.StudyInstanceUID + "/")
        assert dicom.pixel_array.size
        for row in originals:
            assert row["patient_name"].encode() not in content
            assert row["study_instance_uid"].encode() not in content
    assert unpacked(filled.post(PATH, json={"key": KEY})) == files
    assert unpacked(filled.post(PATH, json={})).keys().isdisjoint(files)


@pytest.mark.parametrize("place", [0, -1])
def test_a_zip_that_lacks_an_object_does_not_look_whole(filled: TestClient, place: int) -> None:
    archive = filled.app.state.web.archive
    found = list(archive.select(Level.STUDY, {Level.STUDY: [CT_STUDY]}))
    path = found[place].path
    path.unlink()
    path.symlink_to(path)  # it cannot be opened
    try:
        answer = filled.post(PATH, json={})
    except ClientDisconnect:  # the test's client has it from the application
        return
    assert answer.status_code == 503 or not zipfile.is_zipfile(io.BytesIO(answer.content))


def test_options_are_used(filled: TestClient) -> None:
    files = unpacked(filled.post(PATH, json={"options": ["retain-uids"]}))
    assert all(name.startswith(CT_STUDY) for name in files)


def test_a_study_of_which_all_is_held_back_is_no_zip(filled: TestClient) -> None:
    """The loop is of a class into which devices draw text, and the report has no tree."""
    path = f"/api/studies/{LOOP_STUDY}/deidentify"
    answer = filled.post(path, json={})
    assert answer.status_code == 422
    assert "1 held back: text may be burned into its pixels" in answer.json()["detail"]
    devices = [{"modality": "US", "rectangles": []}]
    names = list(unpacked(filled.post(path, json={"devices": devices})))
    assert len(names) == 2
    assert names[1] == "HELD_BACK.txt"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"key": "short"}, "5 bytes"),
        ({"options": ["retain-all"]}, "retain-all"),
        ({"options": ["retain-full-dates", "retain-modified-dates"]}, "contradict"),
        ({"devices": [{"maker": "A", "rectangles": []}]}, "unknown key maker"),
        ({"devices": [{"model": "A"}]}, "rectangles"),
        ({"option": []}, "option"),
    ],
)
def test_wrong_wishes_are_refused(filled: TestClient, body: dict, words: str) -> None:
    answer = filled.post(PATH, json=body)
    assert answer.status_code == 422
    assert words in answer.text


def test_a_study_that_is_not_there(filled: TestClient) -> None:
    assert filled.post("/api/studies/1.2.3/deidentify", json={}).status_code == 404


def test_only_a_part_that_is_held_back_is_counted_in_the_zip(filled: TestClient, files) -> None:
    odd = dcmread(next(iter(sorted(files.glob("*.dcm")))))
    assert odd.StudyInstanceUID
    odd.StudyInstanceUID = CT_STUDY
    odd.SeriesInstanceUID += ".9"
    odd.SOPInstanceUID += ".9"
    odd.file_meta.MediaStorageSOPInstanceUID = odd.SOPInstanceUID
    odd.BurnedInAnnotation = "YES"
    content = io.BytesIO()
    odd.save_as(content, enforce_file_format=True)
    assert filled.post("/api/instances", content=content.getvalue()).status_code == 201
    files_of_zip = unpacked(filled.post(PATH, json={"key": KEY}))
    assert len(files_of_zip) == 5
    assert files_of_zip["HELD_BACK.txt"].startswith(b"1 held back: text may be burned")


def test_the_page_of_a_study_has_a_form_that_gives_the_same_zip(filled: TestClient) -> None:
    page = filled.get(f"/studies/{CT_STUDY}").text
    assert f'action="/studies/{CT_STUDY}/deidentify"' in page
    assert 'value="clean-structured-content"' in page
    given = {"option": ["retain-modified-dates", "retain-device"], "key": KEY}
    wanted = {"options": given["option"], "key": KEY}
    files = unpacked(filled.post(f"/studies/{CT_STUDY}/deidentify", data=given))
    assert files == unpacked(filled.post(PATH, json=wanted))
    assert unpacked(filled.post(f"/studies/{CT_STUDY}/deidentify", data={}))


def test_the_page_says_what_is_wrong_in_words(filled: TestClient) -> None:
    answer = filled.post(f"/studies/{CT_STUDY}/deidentify", data={"key": "short"})
    assert answer.status_code == 422
    assert "the key has 5 bytes" in answer.text
