"""The list of jobs speaks of patients and studies, and says why a job failed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.web.actions.jobs import submit
from lfscp.web.actions.peers import peer_of
from tests.support.dicom_peer import until
from tests.support.web_app import serving
from tests.support.web_objects import CT_STUDY, EVIL_NAME, LOOP_STUDY

PEERS = {"PACS": {"host": "127.0.0.1", "port": 9}}
REASON = "2 of 3 objects could not be retrieved: the disk is full"


def perform(job: Job, control: Control, *_: object) -> JobEnd:
    """Fails in part, with two reasons."""
    if job.kind == "find":
        return JobEnd(result=[])
    for number in range(5):
        control.problem(f"1.2.{number}", "the disk is full")
    control.problem("1.2.9", "refused")
    result = {"studies": [], "problems": control.progress.problems}
    return JobEnd(State.FAILED, REASON, result)


@pytest.fixture
def client(filled_data: Path, tmp_path: Path) -> Iterator[TestClient]:
    shutil.copytree(filled_data, tmp_path / "data")
    with serving(tmp_path / "data", perform=perform, peers=PEERS) as client:
        yield client


def rows(client: TestClient, query: str = "") -> list[str]:
    """The text of each row, without its markup."""
    page = client.get(f"/jobs/rows{query}").text
    found = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", each).split()) for each in found]


def ended(client: TestClient, kind: str, **asked: object) -> str:
    """Submit a job, and wait for its end; its row."""
    job = client.post(f"/api/{kind}", json={"peer": "PACS", **asked}).json()
    until(lambda: client.get(f"/api/jobs/{job['id']}").json()["ended_at"])
    return rows(client)[0]


def test_a_job_names_patient_date_and_description_of_a_study_that_is_here(client):
    row = ended(client, "send", studies=[CT_STUDY, "1.2.3"])

    assert "Müller, Johanna Dr." in row
    assert "CT Thorax with contrast" in row
    assert CT_STUDY not in row
    assert "study 1.2.3" in row, "nothing else is known of it"


def test_a_retrieve_of_the_page_names_what_the_search_has_told(client):
    told = {"StudyInstanceUID": "1.2.7", "PatientName": EVIL_NAME, "StudyDescription": "Knee"}
    keys = {"StudyInstanceUID": ["1.2.7"]}
    parameters = {"keys": keys, "about": [told]}
    web = client.app.state.web  # type: ignore[attr-defined]
    submit(web, "retrieve", peer_of(web, "PACS"), parameters)

    assert "&lt;b&gt;Evil&lt;/b&gt;" in client.get("/jobs").text
    assert "Knee" in rows(client)[0]


def test_a_failed_job_says_the_reason_and_how_often_each_was_met(client):
    row = ended(client, "retrieve", keys={"StudyInstanceUID": LOOP_STUDY})

    assert REASON in row
    assert "6 problems" in row
    assert "the disk is full: 1.2.0 , 1.2.1 , 1.2.2 and 2 more" in row
    assert "refused: 1.2.9" in row


def test_the_list_is_limited_to_a_state_and_times_have_their_zone(client):
    ended(client, "retrieve", keys={"StudyInstanceUID": LOOP_STUDY})
    found = ended(client, "find", keys={"PatientName": "M*", "StudyDate": ""})

    assert "name: M*" in found
    assert "study date" not in found
    assert len(rows(client)) == 2
    assert [row.split()[0] for row in rows(client, "?state=failed")] == ["failed"]
    assert "No job is open" in rows(client, "?state=open")[0]
    assert client.get("/jobs?state=lost").status_code == 422
    page = client.get("/jobs").text
    assert re.search(r'<time datetime="\d{4}-\d\d-\d\dT[\d:]{8}Z">[^<]+ UTC</time>', page)
