"""What is done with studies and objects: exported, deleted, protected, labelled."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lfscp.jobs.file_sets import package
from tests.support.web_app import serving
from tests.support.web_objects import CT_SERIES, CT_STUDY, LOOP_INSTANCE, LOOP_STUDY

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "out").mkdir(parents=True)
    return folder


@pytest.fixture
def client(tmp_path: Path, filled_data: Path, root: Path) -> Iterator[TestClient]:
    shutil.copytree(filled_data, tmp_path / "data")
    with serving(tmp_path / "data", web={"roots": [str(root)]}) as client:
        yield client


def ended(client: TestClient, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/api/jobs/{job_id}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.05)
    raise AssertionError(f"the job does not end: {job}")


def key_of(client: TestClient, study_uid: str) -> str:
    return str(client.get(f"/api/studies/{study_uid}").json()["key"])


def test_a_study_and_a_series_are_exported_as_they_are_stored(
    client: TestClient, root: Path, trail: Path
) -> None:
    out = root / "out"
    asked = {"studies": [LOOP_STUDY], "series": [CT_SERIES], "folder": str(out)}
    answer = client.post("/api/export", json=asked)
    assert answer.status_code == 202, answer.text
    job = ended(client, answer.json()["id"])
    assert (job["state"], job["done"], job["failed"], job["peer"]) == ("done", 6, 0, None)
    assert job["reason"] == f"6 files written to {out}"
    loop = out / LOOP_STUDY / f"{LOOP_INSTANCE}.dcm"
    stored = client.get(f"/api/instances/{LOOP_INSTANCE}/file").content
    assert loop.read_bytes() == stored
    assert len(list((out / CT_STUDY).iterdir())) == 4
    assert client.get("/jobs").status_code == 200
    assert f"exported to {out}" in trail.read_text()


def test_the_page_exports_what_is_selected(client: TestClient, root: Path) -> None:
    page = client.get("/").text
    assert 'hx-post="/archive/export"' in page
    answer = client.post(
        "/archive/export",
        data={"select": key_of(client, LOOP_STUDY), "folder": f" {root}/out "},
    )
    said = json.loads(answer.headers["hx-trigger"])["toast"]
    assert said["text"] == f"Exporting 1 study to {root}/out."
    assert ended(client, said["href"].removeprefix("/jobs#job-"))["state"] == "done"


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"studies": [CT_STUDY], "folder": "/etc"}, "/folder"),
        ({"studies": [CT_STUDY], "folder": ""}, "/folder"),
        ({"studies": [], "folder": "ROOT"}, ""),
        ({"studies": [CT_STUDY], "folder": "ROOT", "paths": ["ROOT"]}, "/paths"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    client: TestClient, root: Path, asked: dict[str, Any], pointer: str
) -> None:
    text = json.dumps(asked).replace("ROOT", str(root))
    answer = client.post("/api/export", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0].get("pointer", "") == pointer


def test_an_export_of_nothing_and_one_to_a_full_place_fail_with_the_reason(
    client: TestClient, root: Path
) -> None:
    def run(study: str) -> dict[str, Any]:
        asked = {"studies": [study], "folder": str(root)}
        return ended(client, client.post("/api/export", json=asked).json()["id"])

    none = run("1.2.3.4")
    assert (none["state"], none["reason"]) == ("failed", "there is no DICOM object to export")
    (root / LOOP_STUDY).write_text("a file stands where the folder goes")
    failed = run(LOOP_STUDY)
    assert failed["state"] == "failed"
    assert failed["reason"].startswith("2 of 2 objects were not written: not written: ")


def test_an_object_is_deleted_on_its_page(client: TestClient) -> None:
    path = f"/instances/{LOOP_INSTANCE}"
    assert f'hx-post="{path}/delete"' in client.get(path).text
    client.put(f"/api/studies/{LOOP_STUDY}/protection")
    assert f'hx-post="{path}/delete"' not in client.get(path).text
    assert client.post(f"{path}/delete").status_code == 409
    client.delete(f"/api/studies/{LOOP_STUDY}/protection")

    left = client.post(f"{path}/delete").headers["hx-redirect"]
    assert left == f"/studies/{LOOP_STUDY}?key={key_of(client, LOOP_STUDY)}"
    assert client.get(left).status_code == 200
    assert client.get(path).status_code == 404
    (series,) = (
        each["series_instance_uid"]
        for each in client.get(f"/api/studies/{LOOP_STUDY}/series").json()
        if each["number_of_instances"]
    )
    (last,) = client.get(f"/api/series/{series}/instances").json()["rows"]
    answer = client.post(f"/instances/{last['sop_instance_uid']}/delete")
    assert answer.headers["hx-redirect"] == "/", "nothing is left of the study"


def test_protection_and_labels_are_in_the_audit_trail(client: TestClient, trail: Path) -> None:
    for _ in range(2):  # the second changes nothing
        client.put(f"/api/studies/{CT_STUDY}/protection")
    client.post("/archive/label", data={"select": key_of(client, LOOP_STUDY), "label": "teaching"})
    client.delete(f"/api/studies/{LOOP_STUDY}/labels/teaching")
    client.delete(f"/api/studies/{CT_STUDY}/protection")
    text = trail.read_text()
    said = [text.count(f'"{each}"') for each in ("protected", "no longer protected")]
    said += [text.count(f'"{each}"') for each in ("labelled", "label taken away", "teaching")]
    assert said == [1, 1, 1, 1, 2], text


def test_a_link_to_a_zip_that_cannot_be_made_shows_words_to_people(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MAX_PACKED", 2)
    path = f"/api/studies/{CT_STUDY}/zip"
    page = client.get(path, headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (413, "text/html; charset=utf-8")
    assert "a ZIP holds at most 2 objects, and these are 4; select fewer, or export" in page.text
    program = client.get(path)
    assert program.status_code == 413
    assert program.headers["content-type"] == "application/problem+json"
    assert client.get("/api/studies/1.2.3", headers=HTML).headers["content-type"] == (
        "application/problem+json"
    )
