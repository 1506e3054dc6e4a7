"""DICOMweb servers as peers in the API, on the page and for dtools; the work is pretended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lfscp.config import Settings
from lfscp.config.passwords import new_token
from lfscp.jobs.control import JobEnd
from lfscp.jobs.model import Job, JobKind
from lfscp.observe import audit
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.services.access.added_peers import AddedPeers
from lfscp.services.access.known_peers import KnownPeers
from tests.support.dicom_peer import until
from tests.support.web_app import serving

URL = "https://pacs.example.org/dicom-web"
AD_HOC = "http://169.254.169.254/latest"
SECRET = "s3cr3t-0f-the-cl0ud"  # noqa: S105 - of no one
TOKENS = {role: new_token() for role in ("read", "work", "admin")}
MATCH = {"StudyInstanceUID": "1.2.3", "PatientName": "Doe^Jane"}


class Work:
    """Pretends to do jobs, and remembers them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job, *_others: object) -> JobEnd:
        self.jobs.append(job)
        return JobEnd(result=[MATCH] if job.kind is JobKind.FIND else {"studies": ["1.2.3"]})


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def client(tmp_path: Path, work: Work) -> Iterator[TestClient]:
    web = {"tokens": [f"{role}:{role}:{hashed}" for role, (_, hashed) in TOKENS.items()]}
    cloud = {"url": URL, "token": SECRET, "tls_verify": "certificate"}
    with serving(tmp_path / "data", perform=work, web=web, peers={"CLOUD": cloud}) as served:
        yield served


def post(client: TestClient, path: str, role: str, **body: Any) -> Any:
    """Send JSON with the token of a role."""
    headers = {"Authorization": f"Bearer {TOKENS[role][0]}"}
    return client.post(path, headers=headers, **body)


def get(client: TestClient, path: str, role: str = "work", **headers: str) -> Any:
    return client.get(path, headers={"Authorization": f"Bearer {TOKENS[role][0]}", **headers})


def test_a_job_names_a_configured_server_and_has_no_login(client: TestClient, work: Work) -> None:
    answer = post(client, "/api/find", "work", json={"peer": "CLOUD", "keys": {"PatientID": "1"}})
    assert answer.status_code == 202, answer.text
    assert answer.json()["peer"]["ae_title"] == "CLOUD"
    assert answer.json()["peer"]["url"] == URL
    until(lambda: work.jobs)
    asked = work.jobs[0].peer
    assert asked == DICOMwebPeer(URL, "CLOUD", tls_check_host=False)
    for path in ("/api/jobs", "/api/peers", "/jobs", "/remote", "/api/node"):
        assert SECRET not in get(client, path).text
    assert "CLOUD" in get(client, "/jobs").text


def test_peers_are_listed_with_their_url(client: TestClient) -> None:
    assert get(client, "/api/peers").json() == [
        {
            "ae_title": "CLOUD",
            "host": "",
            "port": 0,
            "tls": False,
            "url": URL,
            "is_configured": True,
            "tls_verify": "certificate",
            "may": None,
        }
    ]
    assert URL in get(client, "/remote").text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/echo", {"peer": {"url": AD_HOC}}),
        ("/api/find", {"peer": {"url": AD_HOC}, "keys": {}}),
        ("/api/retrieve", {"peer": {"url": AD_HOC}, "keys": {"StudyInstanceUID": "1.2"}}),
        ("/api/send", {"peer": {"url": AD_HOC}, "studies": ["1.2"]}),
        ("/api/collect", {"peers": ["CLOUD", {"url": AD_HOC}], "keys": {"PatientID": "1"}}),
        ("/c-echo", {"Address": AD_HOC, "Port": "1", "ServerAE_Title": "X"}),
        ("/c-find", {"ServerSet": {"Address": AD_HOC, "Port": 1, "ServerAE_Title": "X"}}),
    ],
)
def test_only_admins_give_a_url(
    client: TestClient, work: Work, tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        refused = post(client, path, "work", json=body)
    finally:
        audit.stop()
    assert f"DICOMweb at {AD_HOC}" in trail.read_text()
    assert refused.status_code == 403
    assert "only the role admin may give a URL" in refused.json()["detail"]
    assert not work.jobs
    assert post(client, path, "admin", json=body).status_code in (200, 202)
    until(lambda: work.jobs)
    assert DICOMwebPeer(AD_HOC) in work.jobs[0].peers


@pytest.mark.parametrize("field", ["user", "password", "token"])
def test_a_login_is_not_taken_with_a_request(client: TestClient, field: str) -> None:
    asked = {"url": URL, field: SECRET}
    for path, body in (
        ("/api/echo", {"peer": asked}),
        ("/api/peers", {**asked, "ae_title": "NEW"}),
    ):
        answer = post(client, path, "admin", json=body)
        assert answer.status_code == 422
        assert "configure the peer, and name it" in answer.json()["detail"]
        assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("peer", "pointer"),
    [
        ({"ae_title": "NEW", "url": "ftp://h"}, "/url"),
        ({"ae_title": "NEW", "url": "https://anna:s3cr3t@h/"}, "/url"),
        ({"ae_title": "NEW", "url": ""}, "/url"),
        ({"ae_title": "N" * 17, "url": URL}, "/ae_title"),
        ({"url": URL}, "/ae_title"),
        ({"ae_title": "NEW", "url": URL, "host": "h"}, "/host"),
    ],
)
def test_a_wrong_server_is_not_added(
    client: TestClient, peer: dict[str, str], pointer: str
) -> None:
    answer = post(client, "/api/peers", "admin", json=peer)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert "s3cr3t" not in answer.text


def test_an_added_server_is_kept_asked_and_removed(
    client: TestClient, work: Work, tmp_path: Path
) -> None:
    peer = {"ae_title": "NEW", "url": f"{URL}/"}
    assert post(client, "/api/peers", "work", json=peer).status_code == 403
    assert post(client, "/api/peers", "admin", json=peer).json()["url"] == URL
    assert (
        post(client, "/api/peers", "admin", json={**peer, "ae_title": "CLOUD"}).status_code == 409
    )
    again = KnownPeers({}, AddedPeers(tmp_path / "data")).get("NEW")
    assert again is not None
    assert (again.url, again.address, again.is_configured) == (URL, URL, False)
    assert post(client, "/api/echo", "work", json={"peer": "NEW"}).status_code == 202
    until(lambda: work.jobs)
    assert work.jobs[0].peer == DICOMwebPeer(URL, "NEW")
    headers = {"Authorization": f"Bearer {TOKENS['admin'][0]}"}
    assert client.delete("/api/peers/NEW", headers=headers).status_code == 204


def test_the_page_adds_a_server_searches_it_and_retrieves(client: TestClient, work: Work) -> None:
    form = {"ae_title": "NEW", "url": URL}
    assert post(client, "/remote/peers", "work", data=form).status_code == 403
    assert URL in post(client, "/remote/peers", "admin", data=form).text
    wrong = post(client, "/remote/peers", "admin", data={**form, "url": "pacs"})
    assert wrong.status_code == 422
    assert "URL: expected the URL of a DICOMweb server" in wrong.text
    post(client, "/remote/find", "work", data={"peer": "NEW", "PatientName": "DOE*"})
    until(lambda: work.jobs)
    found = work.jobs[0]
    until(lambda: "Doe" in get(client, f"/remote/find/{found.id}").text)
    shown = get(client, f"/remote/find/{found.id}").text
    assert "NEW" in shown
    assert URL in shown
    post(client, "/remote/retrieve", "work", data={"study": f"{found.id}|1.2.3"})
    until(lambda: len(work.jobs) == 2)
    assert (work.jobs[1].kind, work.jobs[1].peer) == (JobKind.RETRIEVE, DICOMwebPeer(URL, "NEW"))


def test_what_a_server_does_not_have_is_refused_with_its_field(client: TestClient) -> None:
    keys = {"StudyInstanceUID": "1.2.3"}
    for path, body, pointer in (
        ("/api/send", {"studies": ["1.2.3"], "commit": True}, "/commit"),
        ("/api/retrieve", {"keys": keys, "method": "move"}, "/method"),
        ("/api/retrieve", {"keys": keys, "destination": "WS"}, "/destination"),
    ):
        answer = post(client, path, "work", json={"peer": "CLOUD", **body})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == pointer
        assert "DICOMweb server" in answer.json()["detail"]


def test_peers_of_an_older_file_are_read(tmp_path: Path) -> None:
    entries = [{"ae_title": "OLD", "host": "h", "port": 104, "tls": True}]
    (tmp_path / "peers.json").write_text(json.dumps(entries))
    known = KnownPeers(Settings().peers, AddedPeers(tmp_path)).get("OLD")
    assert known is not None
    assert known.address == "h:104 TLS"


def changes_told(trail: Path) -> list[tuple[str, str, str]]:
    """Who changed which peer, and how, in each security alert of the type Network Configuration."""
    found = []
    for line in trail.read_text().splitlines():
        message = json.loads(line)
        event = message["EventIdentification"]
        if [each["csd-code"] for each in event.get("EventTypeCode", ())] == ["110128"]:
            assert event["EventID"]["csd-code"] == "110113"
            assert event["EventOutcomeIndicator"] == 0
            (peer,) = message["ParticipantObjectIdentification"]
            (what,) = peer["ParticipantObjectDetail"]
            who = message["ActiveParticipant"][0]["UserID"]
            found.append((who, peer["ParticipantObjectID"], what["value"]))
    return found


def test_the_audit_trail_names_who_added_changed_and_removed_a_peer(
    client: TestClient, tmp_path: Path
) -> None:
    admin = {"Authorization": f"Bearer {TOKENS['admin'][0]}"}
    place = {"ae_title": "CT1", "host": "10.0.0.7", "port": 104}
    tls = {"says_rights": "1", "tls": "1", "tls_verify": "none", "may": ["store", "echo"]}
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        added = client.post("/api/peers", headers=admin, json={"ae_title": "WEB", "url": URL})
        assert added.status_code == 201, added.text
        client.post("/remote/peers", headers=admin, data=place).raise_for_status()
        client.post("/remote/peers", headers=admin, data={**place, **tls}).raise_for_status()
        client.post("/remote/peers/CT1/remove", headers=admin).raise_for_status()
        client.delete("/api/peers/WEB", headers=admin).raise_for_status()
        assert client.delete("/api/peers/CLOUD", headers=admin).status_code == 409
        assert post(client, "/api/peers", "work", json=place).status_code == 403
    finally:
        audit.stop()
    secure = "10.0.0.7:104 TLS, verified: none, may: store, echo"
    assert changes_told(trail) == [
        ("admin", "WEB", f"added: {URL}"),
        ("admin", "CT1", "added: 10.0.0.7:104"),
        ("admin", "CT1", f"changed from 10.0.0.7:104 to {secure}"),
        ("admin", "CT1", f"removed: {secure}"),
        ("admin", "WEB", f"removed: {URL}"),
    ]
    assert SECRET not in trail.read_text()
