"""Corrections by the API and the page: asked for, shown, confirmed, undone."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.correctable import studies_named
from lfscp.archive.correcting import Correction
from lfscp.archive.index.correction_states import CorrectionEndedError
from lfscp.config import Settings
from tests.support.archive_datasets import received
from tests.support.dicom_peer import until
from tests.support.web_app import serving_archive

HEADERS = {"HX-Request": "true"}


@pytest.fixture(params=["sqlite", "postgresql"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    with Archive.open(tmp_path, index_url=url, durability="os") as opened:
        for number in (1, 2):
            opened.store(received(number, AccessionNumber="A1"))
        other = {"StudyInstanceUID": "1.2.9", "SeriesInstanceUID": "1.2.9.1", "PatientID": "P9"}
        opened.store(received(3, **other, PatientName="Roe^Mary", PatientSex="F"))
        yield opened


@pytest.fixture
def page(archive: Archive) -> Iterator[Any]:
    settings = Settings.model_validate({"data_dir": str(archive.data_dir)})
    with serving_archive(archive, settings) as client:
        yield client


def patients(page: Any) -> dict[str, int]:
    return {row["patient_id"]: row["id"] for row in page.get("/api/patients").json()["rows"]}


def done(page: Any, answer: Any, state: str = "done") -> str:
    """Wait for the job of a correction; gives its name."""
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = page.get(f"/api/jobs/{job}").json()
        if found["state"] in ("done", "failed", "cancelled"):
            assert found["state"] == state, found
            return str(job)
        time.sleep(0.02)
    raise AssertionError("the job did not end")


def test_a_study_is_corrected_and_the_correction_undone(page: Any) -> None:
    asked = {"changes": {"PatientName": "Doe^John", "StudyDescription": "Knee"}}
    name = done(page, page.post("/api/studies/1.2.3/correct", json=asked))
    row = page.get("/api/studies/1.2.3").json()
    assert (row["patient_name"], row["study_description"]) == ("Doe^John", "Knee")
    found = page.get(f"/api/corrections/{name}").json()
    assert found["state"] == "to confirm"
    assert found["studies"][0]["before"]["PatientName"] == "Doe^Jane"
    assert found["studies"][0]["after"]["PatientName"] == "Doe^John"
    assert found["kept_bytes"] > 0
    assert page.post(f"/api/corrections/{name}/undo").json()["state"] == "undone"
    assert page.get("/api/studies/1.2.3").json()["patient_name"] == "Doe^Jane"
    assert page.post(f"/api/corrections/{name}/undo").status_code == 409
    assert page.post(f"/api/corrections/{name}/confirm").status_code == 409


def test_a_study_is_moved_to_another_patient(page: Any) -> None:
    asked = {"patient": patients(page)["P9"]}
    name = done(page, page.post("/api/studies/1.2.3/correct", json=asked))
    row = page.get("/api/studies/1.2.3").json()
    assert (row["patient_id"], row["patient_name"], row["patient_sex"]) == ("P9", "Roe^Mary", "F")
    assert list(patients(page)) == ["P9"]
    assert page.post(f"/api/corrections/{name}/confirm").json()["kept_bytes"] == 0


def test_two_patients_are_merged(page: Any) -> None:
    known = patients(page)
    asked = {"patient": known["P9"], "into": known["P1"]}
    done(page, page.post("/api/patients/merge", json=asked))
    assert list(patients(page)) == ["P1"]
    assert page.get("/api/studies/1.2.9").json()["patient_name"] == "Doe^Jane"
    asked = {"patient": known["P1"], "into": known["P1"]}
    assert page.post("/api/patients/merge", json=asked).status_code == 422


def test_all_studies_of_a_patient_are_corrected(page: Any, archive: Archive) -> None:
    more = {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.4.1"}
    archive.store(received(7, **more))
    asked = {"changes": {"PatientName": "Doe^John"}}
    done(page, page.post(f"/api/patients/{patients(page)['P1']}/correct", json=asked))
    for uid in ("1.2.3", "1.2.4"):
        assert page.get(f"/api/studies/{uid}").json()["patient_name"] == "Doe^John"


def test_metadata_and_queries_say_what_is_right(page: Any) -> None:
    url = "/dicom-web/studies/1.2.3/metadata"
    before = page.get(url)
    assert before.json()[0]["00100010"]["Value"][0]["Alphabetic"] == "Doe^Jane"
    asked = {"changes": {"PatientName": "Doe^John"}}
    name = done(page, page.post("/api/studies/1.2.3/correct", json=asked))
    after = page.get(url, headers={"If-None-Match": before.headers.get("etag", "")})
    assert after.status_code == 200
    assert after.json()[0]["00100010"]["Value"][0]["Alphabetic"] == "Doe^John"
    (match,) = page.get("/dicom-web/studies?PatientName=Doe^John").json()
    assert match["0020000D"]["Value"] == ["1.2.3"]
    file = page.get("/api/instances/1.2.3.1.1/file").content
    assert b"Doe^John" in file
    page.post(f"/api/corrections/{name}/undo")
    assert page.get(url).json()[0]["00100010"]["Value"][0]["Alphabetic"] == "Doe^Jane"


@pytest.mark.parametrize(
    ("path", "asked", "status", "words"),
    [
        ("studies/1.2.3/correct", {}, 422, "something to change"),
        ("studies/1.2.3/correct", {"changes": {"PatientSex": "X"}}, 422, "PatientSex"),
        ("studies/1.2.3/correct", {"changes": {"Modality": "CT"}}, 422, "one of PatientName"),
        ("studies/1.2.3/correct", {"changes": {"PatientID": "P1"}}, 422, "nothing would change"),
        ("studies/1.2.3/correct", {"patient": 4711}, 404, "patient"),
        ("studies/1.2.3/correct", {"other": 1}, 422, "other"),
        ("studies/9.9/correct", {"changes": {"PatientID": "P2"}}, 404, "9.9"),
        ("patients/4711/correct", {"changes": {"PatientID": "P2"}}, 404, "4711"),
        ("patients/1/correct", {"changes": {"StudyDescription": "x"}}, 422, "all studies"),
    ],
)
def test_what_cannot_be_is_refused(
    page: Any, path: str, asked: dict[str, Any], status: int, words: str
) -> None:
    answer = page.post(f"/api/{path}", json=asked)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert page.get("/api/corrections").json() == []


def test_a_protected_study_is_refused(page: Any) -> None:
    page.put("/api/studies/1.2.3/protection")
    asked = {"changes": {"PatientName": "Doe^John"}}
    answer = page.post("/api/studies/1.2.3/correct", json=asked)
    assert answer.status_code == 409
    assert "protected" in answer.text


def test_an_object_that_is_missing_fails_the_study_and_nothing_changes(
    page: Any, archive: Archive
) -> None:
    row = archive.index.find("1.2.3.1.2")
    assert row is not None
    archive.files.file_of(row).unlink()  # type: ignore[attr-defined]
    asked = {"changes": {"PatientName": "Doe^John"}}
    done(page, page.post("/api/studies/1.2.3/correct", json=asked), "failed")
    assert page.get("/api/studies/1.2.3").json()["patient_name"] == "Doe^Jane"
    assert page.get("/api/corrections").json() == []
    assert not [path for path in archive.files.incoming.iterdir() if path.is_file()]


def test_the_page_shows_what_changes_before_it_is_done(page: Any) -> None:
    token = page.get("/studies/1.2.3/correct").text.partition('data-csrf="')[2].partition('"')[0]
    headers = {**HEADERS, "X-CSRF-Token": token}
    form = {"PatientName": "Doe^John", "PatientID": "P1", "scope": "study", "PatientSex": ""}
    shown = page.post("/studies/1.2.3/correct", data=form, headers=headers)
    assert shown.status_code == 200, shown.text
    assert "Doe^Jane" in shown.text
    assert "Doe^John" in shown.text
    assert page.get("/api/corrections").json() == []
    answer = page.post("/studies/1.2.3/correct", data={**form, "step": "do"}, headers=headers)
    assert answer.headers["HX-Redirect"] == "/corrections"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = page.get("/api/corrections").json()
        if found and found[0]["state"] == "to confirm":
            break
        time.sleep(0.02)
    name = found[0]["id"]
    assert "Doe^Jane" in page.get("/corrections").text
    while page.post(f"/corrections/{name}/undo", headers=headers).status_code == 409:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "undone" in page.get("/corrections/rows").text
    assert page.get("/api/studies/1.2.3").json()["patient_name"] == "Doe^Jane"


def fields_of(text: str) -> dict[str, str]:
    """The fields of the form as a browser gives them back."""
    given = dict(re.findall(r'<input name="(\w+)" value="([^"]*)"', text))
    given |= re.findall(r'<select name="(\w+)">.*<option value="([^"]*)" selected>', text)
    return {name: html.unescape(value) for name, value in given.items()}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_fields_that_nobody_changed_stay_though_the_page_cannot_show_them(
    page: Any, archive: Archive
) -> None:
    odd = {"PatientName": "Doe\x07^Jane", "AccessionNumber": "A\x7f1", "PatientSex": "F\x08"}
    uids = {"StudyInstanceUID": "1.2.5", "SeriesInstanceUID": "1.2.5.1", "PatientID": "P5"}
    archive.store(received(5, **odd, **uids))
    before = page.get("/api/studies/1.2.5").json()
    assert before["patient_name"] == odd["PatientName"]
    text = page.get("/studies/1.2.5/correct").text
    token = text.partition('data-csrf="')[2].partition('"')[0]
    headers = {**HEADERS, "X-CSRF-Token": token}
    fields = fields_of(text)
    assert fields["PatientName"] == "Doe\ufffd^Jane"
    unchanged = page.post("/studies/1.2.5/correct", data=fields, headers=headers)
    assert "something to change" in unchanged.text

    form = {**fields, "StudyDescription": "Knee", "step": "do"}
    answer = page.post("/studies/1.2.5/correct", data=form, headers=headers)
    assert answer.headers["HX-Redirect"] == "/corrections", answer.text
    assert until(
        lambda: [each["state"] for each in page.get("/api/corrections").json()] == ["to confirm"]
    )
    (found,) = page.get("/api/corrections").json()
    assert found["changes"] == {"StudyDescription": "Knee"}
    after = page.get("/api/studies/1.2.5").json()
    for name in ("patient_name", "accession_number", "patient_sex"):
        assert after[name] == before[name]
    file = page.get("/api/instances/1.2.3.1.5/file").content
    assert b"Doe\x07^Jane" in file
    assert "\ufffd".encode() not in file


def test_a_correction_that_a_command_runs_can_be_undone_and_not_be_confirmed(
    page: Any, archive: Archive
) -> None:
    with archive.index.engine.connect() as connection:
        found = [studies_named(connection, uid) for uid in ("1.2.3", "1.2.9")]
    keys = [row["id"] for (row,) in found]
    running = Correction(archive, "c9", {"PatientName": "Doe^John"}, "LFSCP", "uid 0")
    running.begin()
    running.correct(keys[0])
    refused = page.post("/api/corrections/c9/confirm")
    assert refused.status_code == 409
    assert "running cannot be confirmed" in refused.json()["detail"]
    assert page.post("/api/corrections/c9/undo").json()["state"] == "undone"
    with pytest.raises(CorrectionEndedError):
        running.correct(keys[1])
    running.end()
    names = {page.get(f"/api/studies/{uid}").json()["patient_name"] for uid in ("1.2.3", "1.2.9")}
    assert names == {"Doe^Jane", "Roe^Mary"}
