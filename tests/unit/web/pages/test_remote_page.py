"""Remote PACS: series and models of a search, lists to work off, and peers that are changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job
from tests.support.dicom_peer import until
from tests.support.web_app import serving

STUDY = {"StudyInstanceUID": "1.2.3", "PatientName": "Doe^Jane", "PatientID": "P1"}
OTHER = {"StudyInstanceUID": "1.2.4", "PatientName": "Roe^Richard", "PatientID": "P2"}
SERIES = [
    {"SeriesInstanceUID": "1.2.3.10", "SeriesNumber": "10", "SeriesDescription": "Lung"},
    {"SeriesInstanceUID": "1.2.3.2", "SeriesNumber": "2", "SeriesDescription": "Scout"},
]


class Work:
    """Pretends to ask a peer; remembers the jobs."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job, control: Control, *_: Any) -> JobEnd:
        self.jobs.append(job)
        is_of_series = job.parameters.get("level") == "SERIES"
        found = [{**STUDY, **each} for each in SERIES] if is_of_series else [STUDY, OTHER]
        return JobEnd(result=found if job.kind == "find" else {"studies": []})


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def client(tmp_path: Path, work: Work) -> Iterator[TestClient]:
    peers = {"PACS": {"host": "127.0.0.1", "port": 9}, "OLD": {"host": "127.0.0.1", "port": 8}}
    with serving(tmp_path / "data", perform=work, peers=peers) as client:
        yield client


def found_by(client: TestClient, **asked: str) -> str:
    """Search on the page; the id of the job once it has ended."""
    answer = client.post("/remote/find", data={"peer": "PACS", **asked})
    assert answer.status_code == 200, answer.text
    job_id = client.get("/api/jobs").json()[0]["id"]
    until(lambda: client.get(f"/api/jobs/{job_id}").json()["ended_at"])
    return str(job_id)


def parameters(client: TestClient, job: int = 0) -> dict[str, Any]:
    return dict(client.get("/api/jobs").json()[job]["parameters"])


def test_series_are_searched_and_only_the_chosen_ones_retrieved(client, work):
    search = found_by(client, level="SERIES", ModalitiesInStudy="ct", PatientName="DOE*")
    asked = parameters(client)
    assert (asked["level"], asked["hierarchical"]) == ("SERIES", True)
    assert asked["keys"]["Modality"] == asked["keys"]["ModalitiesInStudy"] == "CT"
    page = client.get(f"/remote/find/{search}").text
    assert page.index("Scout") < page.index("Lung"), "by their numbers"

    chosen = [f"{search}|1.2.3|1.2.3.10"]
    answer = client.post("/remote/retrieve", data={"study": chosen})
    assert "Retrieving 1 series." in answer.headers["HX-Trigger"]
    asked = parameters(client)
    assert asked["level"] == "SERIES"
    assert asked["keys"] == {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": ["1.2.3.10"]}
    assert [each["SeriesDescription"] for each in asked["about"]] == ["Lung"]
    refused = client.post("/remote/collect", data={"study": chosen})
    assert refused.json()["detail"] == "a ZIP has whole studies; choose studies, not series"


def test_the_series_of_a_match_are_shown_before_it_is_retrieved(client):
    search = found_by(client)
    assert "/remote/series?study=" in client.get(f"/remote/find/{search}").text

    client.post("/remote/series", params={"study": f"{search}|1.2.3"}).raise_for_status()
    job = client.get("/api/jobs").json()[0]
    assert job["parameters"]["keys"]["StudyInstanceUID"] == "1.2.3"
    until(lambda: client.get(f"/api/jobs/{job['id']}").json()["ended_at"])
    preview = client.get(f"/remote/series/{job['id']}").text
    assert re.findall(r'value="[^|]+[|]1.2.3[|]([\d.]+)"', preview) == ["1.2.3.2", "1.2.3.10"]


def test_the_model_patient_root_retrieves_by_patient(client):
    search = found_by(client, model="patient", PatientName="*")
    asked = parameters(client)
    assert (asked["model"], asked["hierarchical"]) == ("patient", True)

    client.post("/remote/retrieve", data={"study": [f"{search}|1.2.3", f"{search}|1.2.4"]})
    keys = sorted(str(parameters(client, each)["keys"]) for each in (0, 1))
    assert keys == [
        "{'PatientID': 'P1', 'StudyInstanceUID': ['1.2.3']}",
        "{'PatientID': 'P2', 'StudyInstanceUID': ['1.2.4']}",
    ]


LISTS = [
    ("A1\nA2\n\n A1 \n", "", ["A1", "A2"]),
    ("", "Name;Accession No.;Date\nDoe;A1;2024\nRoe;A2;2024", ["A1", "A2"]),
    ("", "A1,x\r\nA2,y\r\n", ["A1", "A2"]),
    ("A3", '"A1"\t"x"\nA2\ty', ["A1", "A2", "A3"]),
]


@pytest.mark.parametrize(("pasted", "file", "values"), LISTS)
def test_a_list_is_pasted_or_uploaded_and_becomes_one_job(client, pasted, file, values):
    data = {"peer": "PACS", "keyword": "AccessionNumber", "values": pasted}
    files = {"file": ("list.csv", file.encode("utf-8-sig"))} if file else None
    answer = client.post("/remote/list", data=data, files=files)

    assert answer.status_code == 200, answer.text
    assert sorted(parameters(client)["keys"]["AccessionNumber"]) == values
    assert len(client.get("/api/jobs").json()) == 1


def test_a_list_is_asked_of_several_servers_in_one_job(client):
    data = {"peer": ["PACS", "OLD"], "keyword": "PatientID", "values": "P1\nP2", "model": "patient"}
    client.post("/remote/list", data=data).raise_for_status()

    (job,) = client.get("/api/jobs").json()
    assert (job["kind"], len(job["peers"])) == ("collect", 2)
    assert job["parameters"] == {"keys": {"PatientID": ["P1", "P2"]}, "model": "patient"}


@pytest.mark.parametrize(
    ("keyword", "content", "reason"),
    [
        ("AccessionNumber", b"", "the list is empty"),
        ("AccessionNumber", b"A1\nA*\n", "line 2: 'A*' has a wildcard"),
        ("AccessionNumber", b"A1\n\n" + b"9" * 17, "is longer than 16 characters"),
        ("AccessionNumber", b"MRN,Date\n1,2", "line 1 names no column for accession numbers"),
        ("AccessionNumber", b"PK\3\4\0\0", "the file is no text"),
        ("AccessionNumber", b"\n".join(b"%d" % n for n in range(10_001)), "at most 10000"),
        ("StudyDate", b"2024", "keyword: expected one of"),
    ],
)
def test_a_list_that_cannot_be_worked_off_says_where_it_is_wrong(client, keyword, content, reason):
    data = {"peer": "PACS", "keyword": keyword}
    answer = client.post("/remote/list", data=data, files={"file": ("list.csv", content)})

    assert answer.status_code == 422
    assert reason in answer.json()["detail"]
    assert client.get("/api/jobs").json() == []


def test_the_api_takes_a_list_too(client):
    keys = {"AccessionNumber": ["A1", "A2"]}
    answer = client.post("/api/retrieve", json={"peer": "PACS", "keys": keys})
    assert answer.status_code == 202
    keys["AccessionNumber"].append("A*")
    refused = client.post("/api/retrieve", json={"peer": "PACS", "keys": keys})
    assert refused.json()["errors"][0]["pointer"] == "/keys/AccessionNumber"


FORM = {"ae_title": "CT1", "host": "10.0.0.7", "port": "104", "says_rights": "1"}


def test_a_peer_is_added_changed_and_removed(client):
    given = FORM | {"tls": "1", "tls_verify": "certificate", "may": ["store", "echo"]}
    page = client.post("/remote/peers", data=given).text
    assert "10.0.0.7:104 TLS" in page
    assert "may store objects, be pinged" in page
    (peer,) = (each for each in client.get("/api/peers").json() if each["ae_title"] == "CT1")
    assert (peer["tls_verify"], peer["may"]) == ("certificate", ["store", "echo"])
    form = client.get("/remote/peers/CT1/edit").text
    assert re.search(r'value="store" checked', form)
    assert not re.search(r'value="query" checked', form)
    assert 'value="certificate" selected' in form

    client.post("/remote/peers", data=FORM | {"port": "11112"}).raise_for_status()
    (peer,) = (each for each in client.get("/api/peers").json() if each["ae_title"] == "CT1")
    assert (peer["port"], peer["tls"], peer["may"]) == (11112, False, [])
    assert "may ask for nothing" in client.get("/remote/peers").text
    client.post("/remote/peers/CT1/remove").raise_for_status()
    assert "CT1" not in client.get("/remote/peers").text


def test_a_configured_peer_is_changed_in_the_configuration_only(client):
    assert client.get("/remote/peers/PACS/edit").status_code == 409
    assert client.post("/remote/peers", data=FORM | {"ae_title": "PACS"}).status_code == 409
    assert client.get("/remote/peers/NOBODY/edit").status_code == 404


def test_a_peer_is_tested_before_it_is_saved(client, work):
    client.post("/remote/peers/test", data=FORM | {"tls": "1", "tls_verify": "none"})

    until(lambda: work.jobs)
    peer = work.jobs[0].peer
    assert (str(peer), peer.tls, peer.tls_verify) == ("CT1@10.0.0.7:104", True, False)
    assert "CT1" not in client.get("/remote/peers").text
    wrong = client.post("/remote/peers/test", data=FORM | {"port": "0"})
    assert wrong.json()["detail"].startswith("port: expected")


def test_without_any_server_the_hint_is_to_add_one(tmp_path):
    with serving(tmp_path / "data") as client:
        detail = client.post("/remote/find").json()["detail"]
    assert detail.startswith("no server is known yet: add one")
