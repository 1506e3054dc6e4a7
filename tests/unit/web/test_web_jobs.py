"""Jobs through the API, the page and dtools' messages; the work itself is pretended."""

from __future__ import annotations

import json
import threading

import pytest

from lfscp.jobs.control import JobEnd
from lfscp.jobs.matches import EncodedJSON
from lfscp.jobs.model import JobKind
from lfscp.scu.errors import PeerError
from lfscp.scu.errors import PeerErrorKind as Failure
from tests.support.dicom_peer import until
from tests.support.web_app import serving

MATCH = {
    "PatientName": "Doe^Jane",
    "PatientID": "P1",
    "StudyInstanceUID": "1.2.3",
    "PatientBirthDate": "19700101",
    "StudyDate": "20240101",
    "ModalitiesInStudy": ["CT", "SR"],
}
SERVER = {
    "Address": "10.0.0.1",
    "Port": "104",
    "ServerAE_Title": "PACS",
    "ClientAE_Title": "ME",
}


class Work:
    """Pretends to do jobs: remembers them, and answers what a peer would."""

    found = (MATCH,)

    def __init__(self):
        self.jobs = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, job, control, archive, settings):
        self.jobs.append(job)
        self.go.wait(30)
        if job.peer.host == "down":
            raise PeerError(Failure.UNREACHABLE, job.peer, "cannot be reached: refused")
        return JobEnd(
            result=self._matches() if job.kind is JobKind.FIND else {"studies": ["1.2.3"]}
        )

    def _matches(self):
        return list(self.found) if isinstance(self.found, tuple) else self.found


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def roots(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.dcm").write_bytes(b"x" * 10)
    (tmp_path / "secret").mkdir()
    (folder / "way-out").symlink_to(tmp_path / "secret")
    return folder


@pytest.fixture
def client(tmp_path, work, roots):
    peers = {"PACS": {"host": "10.0.0.1", "port": 104}, "DOWN": {"host": "down", "port": 104}}
    web = {"roots": [str(roots)]}
    with serving(tmp_path / "data", perform=work, web=web, peers=peers) as client:
        yield client
        work.go.set()


def ended(client, job_id):
    with client.app.state.web.jobs.subscribe() as news:
        while True:
            job = client.get(f"/api/jobs/{job_id}").json()
            if job["state"] in ("done", "failed", "cancelled"):
                return job
            news.next(10)


def test_a_job_is_accepted_done_and_dropped(client, work):
    answer = client.post("/api/echo", json={"peer": "PACS"})
    job = answer.json()

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert ended(client, job["id"])["state"] == "done"
    assert work.jobs[0].peer.calling_ae_title == "LFSCP"
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert client.get("/api/jobs").json() == []


def test_a_peer_may_be_given_in_full(client, work):
    peer = {"ae_title": "X", "host": "10.1.1.1", "port": 11112, "calling_ae_title": "ME"}
    job = client.post("/api/find", json={"peer": peer, "keys": {"PatientName": "D*"}}).json()

    assert ended(client, job["id"])["result"] == [MATCH]
    assert (str(work.jobs[0].peer), work.jobs[0].peer.calling_ae_title) == (
        "X@10.1.1.1:11112",
        "ME",
    )


def test_a_failed_job_says_why_and_cannot_be_cancelled_but_tried_again(client, work):
    job = client.post("/api/echo", json={"peer": "DOWN"}).json()

    assert "cannot be reached" in ended(client, job["id"])["reason"]
    assert client.post(f"/api/jobs/{job['id']}/cancel").status_code == 409
    assert client.post(f"/api/jobs/{job['id']}/retry").status_code == 200
    ended(client, job["id"])
    assert len(work.jobs) == 2


def test_only_collected_or_retrieved_studies_make_a_zip(client):
    job = client.post("/api/echo", json={"peer": "DOWN"}).json()
    ended(client, job["id"])

    assert client.get(f"/api/jobs/{job['id']}/zip").status_code == 409


def test_studies_that_are_not_in_the_archive_make_no_empty_zip(client):
    asked = {"peer": "PACS", "keys": {"StudyInstanceUID": "1.2.3"}}
    job = client.post("/api/retrieve", json=asked).json()
    ended(client, job["id"])

    answer = client.get(f"/api/jobs/{job['id']}/zip")

    assert answer.status_code == 409
    assert "in the archive" in answer.json()["detail"]


def test_the_page_searches_retrieves_and_collects_what_was_found(client, work):
    client.post(
        "/remote/find", data={"peer": "PACS", "PatientName": "D*", "StudyDateFrom": "2024-01-01"}
    )
    found = client.get("/api/jobs").json()[0]
    ended(client, found["id"])
    rows = client.get(f"/remote/find/{found['id']}").text
    choice = {"study": f"{found['id']}|1.2.3"}

    assert found["parameters"]["keys"]["StudyDate"] == "20240101-"
    assert f'value="{choice["study"]}"' in rows
    assert "Doe, Jane" in rows
    assert client.post("/remote/retrieve", data=choice).status_code == 200
    assert client.post("/remote/collect", data=choice).status_code == 200
    asked = [(job["kind"], job["parameters"]["keys"]) for job in client.get("/api/jobs").json()[:2]]
    assert asked == [(kind, {"StudyInstanceUID": ["1.2.3"]}) for kind in ("collect", "retrieve")]


def test_the_page_retrieves_into_a_folder_of_the_roots_only(client, work, roots):
    found = client.post("/api/find", json={"peer": "PACS", "keys": {"PatientID": "1"}}).json()
    choice = {"study": f"{found['id']}|1.2.3"}

    assert f'<option value="{roots}">' in client.get("/remote").text
    assert client.post("/remote/retrieve", data=choice | {"folder": "/etc"}).status_code == 422
    assert client.post("/remote/retrieve", data=choice | {"folder": str(roots)}).status_code == 200
    assert client.get("/api/jobs").json()[0]["parameters"]["folder"] == str(roots)
    assert f"into the folder {roots}" in client.get("/jobs").text


def test_the_page_refuses_what_it_cannot_ask(client):
    def detail(address, **data):
        answer = client.post(address, data=data)
        assert answer.status_code == 422
        return answer.json()["detail"]

    hint = "choose a server in the list first, or give another one for this search"
    assert detail("/remote/find") == detail("/remote/list", values="A1") == hint
    other = {"peer": "(other)", "other_ae_title": "X", "other_host": "h", "other_port": "x"}
    assert detail("/remote/find", **other).startswith("port: expected")
    nothing = "choose at least one study or series in the results"
    assert detail("/remote/retrieve", study="x") == nothing
    assert detail("/remote/retrieve") == detail("/remote/collect") == nothing
    assert detail("/remote/find", peer="PACS", level="IMAGE").startswith("level: expected")
    assert detail("/folders/send", path="/etc/passwd", peer="NOBODY") == "choose a peer first"


@pytest.mark.parametrize("commit", [True, False])
def test_a_send_asks_for_storage_commitment_if_it_is_told_to(client, roots, commit):
    form = {"peer": "PACS"} | ({"commit": "1"} if commit else {})
    client.post("/studies/1.2.3/send", data=form).raise_for_status()
    client.post("/folders/send", data=form | {"path": str(roots / "a.dcm")}).raise_for_status()
    asked = {"peer": "PACS", "studies": ["1.2.3"], "commit": commit}
    client.post("/api/send", json=asked).raise_for_status()

    parameters = [job["parameters"] for job in client.get("/api/jobs").json()]
    assert [each["commit"] for each in parameters] == [commit] * 3


# dtools


def test_dtools_pings(client, work):
    assert client.post("/c-echo", json=SERVER).json() == {"IsAlive": True}
    assert client.post("/c-echo", json=SERVER | {"Port": 104}).json() == {"IsAlive": True}
    assert client.post("/c-echo", json=SERVER | {"Address": "down"}).json() == {"IsAlive": False}
    assert work.jobs[0].peer.calling_ae_title == "ME"


def test_dtools_need_not_say_that_it_sends_json(client):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/c-echo", content=json.dumps(SERVER), headers=form)

    assert answer.json() == {"IsAlive": True}
    broken = client.post("/c-echo", content=b"{", headers=form)
    assert broken.status_code == 400
    assert "the body is not JSON" in broken.json()["detail"]


def test_dtools_searches(client, work):
    asked = {"ServerSet": SERVER, "PatientName": "D*", "StudyDate": "*", "PatienDateOfBirth": ""}
    rows = client.post("/c-find", json=asked).json()

    assert rows == [
        {
            "StudyInstanceUID": "1.2.3",
            "PatientName": "Doe^Jane",
            "PatientID": "P1",
            "AccessionNumber": "",
            "PatienDateOfBirth": "19700101",
            "StudyDate": "20240101",
        }
    ]
    assert work.jobs[0].parameters["keys"]["PatientName"] == "D*"
    assert work.jobs[0].parameters["keys"]["StudyDate"] == ""
    down = asked | {"ServerSet": SERVER | {"Address": "down"}}
    assert "cannot be reached" in client.post("/c-find", json=down).json()["detail"]


def test_dtools_downloads_uploads_and_lists_jobs(client, work, roots):
    work.go.clear()
    get = {"FindReq": {"ServerSet": SERVER, "StudyInstanceUID": "1.2.3"}, "Folder": str(roots)}
    got = client.post("/c-get", json=get).raise_for_status()
    store = {"ServerSet": SERVER, "File": str(roots / "a.dcm")}
    stored = client.post("/c-ctore", json=store).raise_for_status()

    ids = {each["kind"]: each["id"] for each in client.get("/api/jobs").json()}
    for answer, kind in ((got, "retrieve"), (stored, "send")):
        assert answer.headers["content-type"] == "application/json"
        assert answer.text == f'"{ids[kind]}"'
    active = {"active job: C-Get", "active job: C-Store"}
    assert until(  # a job sleeps for a moment before it is active
        lambda: {line.split(" request: ")[0] for line in client.post("/jobs").json()} == active
    )
    asked = {each["kind"]: each["parameters"] for each in client.get("/api/jobs").json()}
    assert asked["retrieve"]["folder"] == str(roots)
    assert asked["send"]["paths"] == [str(roots / "a.dcm")]
    work.go.set()


def test_dtools_changes_folders_below_the_roots_only(client, roots):
    top = client.post("/chd", json={"New": "", "CurDir": ""}).json()
    below = client.post("/chd", json={"New": "sub", "CurDir": str(roots)}).json()

    assert top["CurDir"] == str(roots)
    assert [(each["Name"], each["IsDir"]) for each in top["Files"]] == [
        ("sub", True),
        ("a.dcm", False),
    ]
    assert below["CurDir"] == str(roots / "sub")
    assert client.post("/chd", json={"New": "..", "CurDir": below["CurDir"]}).json() == top
    assert client.post("/chd", json={"New": "..", "CurDir": str(roots)}).json() == top


@pytest.mark.parametrize(
    "path", ["/etc", "{roots}/../secret", "{roots}/way-out", "{roots}/none", "\0"]
)
def test_nothing_outside_the_roots_is_shown_sent_or_written(client, roots, path):
    path = path.format(roots=roots)

    assert client.post("/chd", json={"New": "", "CurDir": path}).status_code == 403
    assert client.get("/api/folders", params={"path": path}).status_code == 403
    store = {"ServerSet": SERVER, "File": path}
    assert client.post("/c-ctore", json=store).status_code == 403
    get = {"FindReq": {"ServerSet": SERVER, "StudyInstanceUID": "1"}, "Folder": path}
    assert client.post("/c-get", json=get).status_code == 403
    sent = client.post("/api/send", json={"peer": "PACS", "paths": [path]})
    assert (sent.status_code, sent.json()["errors"][0]["pointer"]) == (422, "/paths/0")
    asked = {"peer": "PACS", "keys": {"StudyInstanceUID": "1"}, "folder": path}
    retrieved = client.post("/api/retrieve", json=asked)
    assert (retrieved.status_code, retrieved.json()["errors"][0]["pointer"]) == (422, "/folder")
    assert client.get("/api/jobs").json() == []


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/c-echo", SERVER | {"Port": "x"}, "/Port"),
        ("/c-echo", SERVER | {"Port": 0}, "/Port"),
        ("/c-echo", {"Address": "h"}, "/Port: Field required"),
        ("/c-echo", SERVER | {"Port": True}, "/Port: expected a number from 1 to 65535"),
        ("/c-echo", SERVER | {"Port": "9" * 5000}, "/Port: expected a number from 1 to 65535"),
        ("/c-echo", SERVER | {"ServerAE_Title": "X" * 17}, "ServerAE_Title: expected an AE title"),
        ("/c-echo", SERVER | {"ClientAE_Title": "X" * 17}, "ClientAE_Title: expected an AE title"),
        ("/c-get", {"FindReq": {"ServerSet": SERVER, "PatientName": "*"}}, "at least one key"),
        ("/c-ctore", {"ServerSet": SERVER}, "/File"),
    ],
)
def test_dtools_is_told_what_is_wrong(client, path, body, detail):
    answer = client.post(path, json=body)

    assert answer.status_code == 422
    assert detail in answer.json()["detail"]
    assert "pydantic" not in answer.text


def test_a_configured_peer_is_asked_with_its_own_tls(tmp_path, work):
    peer = {"host": "127.0.0.1", "port": 9, "tls": True, "tls_verify": "certificate"}
    with serving(tmp_path / "data", work, peers={"SECURE": peer}) as client:
        asked = client.post("/api/echo", json={"peer": "SECURE"}).json()["peer"]

    assert (asked["tls"], asked["tls_verify"], asked["tls_check_host"]) == (True, True, False)


def test_what_was_searched_for_is_shown_as_text(client, work):
    evil = "<script>alert(1)</script>"
    client.post("/remote/find", data={"peer": "PACS", "PatientName": evil})
    found = client.get("/api/jobs").json()[0]
    ended(client, found["id"])

    assert found["parameters"]["keys"]["PatientName"] == evil
    for path in ("/jobs", "/jobs/rows", f"/remote/find/{found['id']}"):
        shown = client.get(path)
        assert evil not in shown.text, path
    assert "&lt;script&gt;" in client.get("/jobs").text
    for search in (f"/?q={evil}", f"/archive/rows?q={evil}&modality={evil}"):
        assert evil not in client.get(search).text
    refused = client.post("/api/echo", json={"peer": evil})
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_no_more_jobs_are_taken_than_can_be_held(client, work, monkeypatch):
    monkeypatch.setattr("lfscp.jobs.service.MAX_UNFINISHED", 2)
    work.go.clear()
    answers = [client.post("/api/echo", json={"peer": "PACS"}) for _ in range(3)]
    assert [each.status_code for each in answers] == [202, 202, 503]
    assert answers[2].json()["detail"] == "2 jobs have not ended yet; wait, or cancel some"


@pytest.fixture
def many(client, work, monkeypatch):
    """A search whose matches are too many to be carried with its job."""
    matches = [
        {**MATCH, "StudyInstanceUID": f"1.2.{number}", "OtherPatientIDs": "x" * 500}
        for number in range(1200)
    ]
    encoded = EncodedJSON("[" + ",\n".join(map(json.dumps, matches)) + "]")
    monkeypatch.setattr(Work, "found", encoded)
    job = client.post("/api/find", json={"peer": "PACS", "keys": {"PatientID": "1"}}).json()
    assert ended(client, job["id"])["state"] == "done"
    return job["id"], matches


def test_a_long_result_comes_with_its_job_alone(client, many):
    job_id, matches = many
    assert client.get(f"/api/jobs/{job_id}").json()["result"] == matches
    assert [each["result"] for each in client.get("/api/jobs").json()] == [None]


def test_a_page_shows_the_first_of_many_matches_and_only_what_it_needs(client, many):
    job_id, _ = many
    rows = client.get(f"/remote/find/{job_id}").text
    assert rows.count("<tr>") - 1 == 1000
    assert "x" * 100 not in rows


def test_dtools_gets_all_of_many_matches(client, many):
    _, matches = many
    rows = client.post("/c-find", json={"ServerSet": SERVER, "PatientID": "1"}).json()
    assert [each["StudyInstanceUID"] for each in rows] == [
        each["StudyInstanceUID"] for each in matches
    ]
