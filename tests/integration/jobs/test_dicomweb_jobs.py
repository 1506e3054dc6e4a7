"""Jobs with a DICOMweb server: a node's application on a real port, or one that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from lfscp.archive.archive import Archive, Received
from lfscp.config import Settings
from lfscp.config.passwords import hash_password, new_token
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.model import Job, State
from lfscp.jobs.peers.described import configured_peer
from lfscp.jobs.request import InvalidRequestError, JobRequest
from lfscp.jobs.service import JobService
from lfscp.scu.dicomweb import send as stow
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.peer import Peer
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.dicomweb_server import WebNode, scripted, web_node
from tests.support.halting_proxy import halting_proxy

STUDY, OTHER_STUDY = "1.2.3", "1.2.4"
KEYS = {"StudyInstanceUID": STUDY}
TOKEN, HASHED = new_token()
COUNT = 5


def fill(archive: Archive, study: str = STUDY, pixels: bytes = b"\1\2" * 64) -> dict[str, bytes]:
    """Put a study into an archive; its objects' bytes by UID."""
    objects = {}
    for number in range(1, COUNT + 1):
        uid = f"{study}.1.{number}"
        data = encoded(
            number, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", SOPInstanceUID=uid,
            pixels=pixels,
        )  # fmt: skip
        archive.store(Received(CT_IMAGE, uid, EXPLICIT, "ANY", memoryview(data)))
        objects[uid] = data
    return objects


def kept(archive: Archive, study: str = STUDY) -> dict[str, bytes]:
    found = archive.select(Level.STUDY, {Level.STUDY: [study]})
    return {each.sop_instance_uid: each.path.read_bytes()[each.dataset_offset :] for each in found}


class Here:
    """The node whose jobs are tested."""

    def __init__(self, folder: Path, archive: Archive, url: str, **peer: Any) -> None:
        self.archive = archive
        self._folder = folder
        self.settings = self._settings(url, **peer)
        self.service = JobService(archive, self.settings)

    def _settings(self, url: str, **peer: Any) -> Settings:
        cloud = {"url": url, **peer}
        jobs = {"retry_delay_s": 600}
        return Settings.model_validate(
            {"data_dir": str(self._folder), "jobs": jobs, "peers": {"CLOUD": cloud}}
        )

    @property
    def cloud(self) -> Peer | DICOMwebPeer:
        return configured_peer("CLOUD", self.settings.peers["CLOUD"], self.settings.server)

    def reconfigure(self, url: str, **peer: Any) -> None:
        self.settings = self._settings(url, **peer)
        self.service.renew(self.settings)

    def run(self, kind: str, **parameters: Any) -> Job:
        return self.wait(self.service.submit(JobRequest(kind, self.cloud, parameters)).id)

    def wait(self, job_id: str, *states: State) -> Job:
        with self.service.subscribe() as news:
            for _ in range(1000):
                job = self.service.job(job_id)
                is_due = job.state is State.SLEEPING and job.next_attempt_at is not None
                if job.state in states or (not states and (job.state.is_end or is_due)):
                    return job
                news.next(1)
        raise AssertionError(job)


@contextmanager
def here(folder: Path, url: str, **peer: Any) -> Iterator[Here]:
    with Archive.open(folder / "here", durability="os") as archive:
        node = Here(folder / "here", archive, url, **peer)
        node.service.start()
        try:
            yield node
        finally:
            node.service.terminate(5)


def at(port: int) -> str:
    return f"http://127.0.0.1:{port}/dicom-web"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[WebNode]:
    """The server: it has a login by token, and one by password."""
    web = {"tokens": [f"jobs:work:{HASHED}"], "users": [f"anna:work:{hash_password('s3cret')}"]}
    with web_node(tmp_path / "there", web=web) as node:
        yield node


def test_a_server_is_verified_and_searched(tmp_path: Path, there: WebNode) -> None:
    fill(there.archive)
    fill(there.archive, OTHER_STUDY)
    with here(tmp_path, there.url, token=TOKEN) as node:
        verified = node.run("echo")
        assert (verified.state, verified.done) == (State.DONE, 1)
        assert verified.result["duration_ms"] > 0
        found = node.run("find", keys={"StudyInstanceUID": "", "PatientID": ""})
        assert (found.state, found.done, found.reason) == (State.DONE, 2, "")
        assert {each["StudyInstanceUID"] for each in found.result} == {STUDY, OTHER_STUDY}
        series = node.run("find", keys={**KEYS, "SeriesInstanceUID": ""}, level="SERIES")
        assert [each["SeriesInstanceUID"] for each in series.result] == [f"{STUDY}.1"]
        first = node.run("find", keys={"StudyInstanceUID": ""}, limit=1)
        assert (first.done, first.reason) == (1, "only the first 1 matches, there are more")


def test_a_study_comes_and_goes_byte_for_byte(tmp_path: Path, there: WebNode) -> None:
    objects = fill(there.archive)
    fill(there.archive, OTHER_STUDY)
    with here(tmp_path, there.url, user="anna", password="s3cret") as node:  # noqa: S106
        came = node.run("retrieve", keys=KEYS)
        assert (came.state, came.reason) == (State.DONE, "")
        assert (came.done, came.failed, came.left) == (COUNT, 0, 0)
        assert came.bytes == sum(map(len, objects.values()))
        assert came.result["methods"] == {"CLOUD": "wado-rs"}
        assert kept(node.archive) == objects
        assert kept(node.archive, OTHER_STUDY) == {}
        third = fill(node.archive, "1.2.5")
        went = node.run("send", studies=["1.2.5"])
        assert (went.state, went.done, went.failed, went.left) == (State.DONE, COUNT, 0, 0)
        assert went.bytes == sum(map(len, third.values()))
    assert kept(there.archive, "1.2.5") == third


def test_one_server_of_several_may_be_a_dicomweb_server(tmp_path: Path, there: WebNode) -> None:
    fill(there.archive)
    with here(tmp_path, there.url, token=TOKEN) as node:
        down = Peer("DOWN", "127.0.0.1", 1)
        request = JobRequest("collect", [down, node.cloud], {"keys": KEYS, "retries": 0})
        job = node.wait(node.service.submit(request).id)
        assert job.state is State.FAILED
        assert job.reason.startswith("DOWN@127.0.0.1:1 cannot be reached")
        assert len(kept(node.archive)) == COUNT


def test_a_paused_send_goes_on_where_it_was_with_the_settings_of_then(
    tmp_path: Path, there: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow, "MAX_OBJECTS", 1)  # of one request
    with (
        halting_proxy(there.port, halt_after=50_000) as proxy,
        here(tmp_path, at(proxy.port), token=TOKEN) as node,
    ):
        objects = fill(node.archive, pixels=b"\1\2" * 10_000)
        request = JobRequest("send", node.cloud, {"studies": [STUDY]})
        job = node.service.submit(request)
        assert proxy.halted.wait(60)
        node.service.pause(job.id)
        paused = node.wait(job.id, State.PAUSED)
        assert 0 < paused.done < COUNT
        node.reconfigure(there.url, token=TOKEN)
        node.service.resume(job.id)
        ended = node.wait(job.id)
        assert (ended.state, ended.done, ended.left) == (State.DONE, COUNT, 0)
        size = len(objects[f"{STUDY}.1.1"])
        assert ended.bytes == COUNT * size, "each object once, in two runs"
    assert kept(there.archive) == objects


def test_a_paused_retrieve_goes_on(tmp_path: Path, there: WebNode) -> None:
    objects = fill(there.archive, pixels=b"\1\2" * 10_000)
    with (
        halting_proxy(there.port, halt_answers_after=50_000) as proxy,
        here(tmp_path, at(proxy.port), token=TOKEN) as node,
    ):
        keys = {**KEYS, "SeriesInstanceUID": f"{STUDY}.1"}  # no search comes first
        request = JobRequest("retrieve", node.cloud, {"keys": keys, "level": "SERIES"})
        job = node.service.submit(request)
        assert proxy.halted.wait(60)
        node.service.pause(job.id)
        assert node.wait(job.id, State.PAUSED).done < COUNT
        node.reconfigure(there.url, token=TOKEN)
        node.service.resume(job.id)
        assert node.wait(job.id).state is State.DONE
        assert kept(node.archive) == objects


@pytest.mark.parametrize(
    ("login", "reason"),
    [({}, "401"), ({"token": "wrong"}, "401"), ({"user": "anna", "password": "no"}, "401")],
)
def test_a_wrong_login_is_said_and_not_tried_again(
    tmp_path: Path, there: WebNode, login: dict[str, str], reason: str
) -> None:
    fill(there.archive)
    with here(tmp_path, there.url, **login) as node:
        fill(node.archive)
        for job in (
            node.run("echo"),
            node.run("find", keys=KEYS),
            node.run("retrieve", keys=KEYS),
            node.run("send", studies=[STUDY]),
        ):
            assert job.state is State.FAILED
            assert job.reason.startswith("CLOUD ")
            assert reason in job.reason


def test_a_role_that_is_too_low_is_said(tmp_path: Path) -> None:
    web = {"tokens": [f"viewer:read:{HASHED}"]}
    with (
        web_node(tmp_path / "there", web=web) as there,
        here(tmp_path, there.url, token=TOKEN) as node,
    ):
        fill(node.archive)
        job = node.run("send", studies=[STUDY])
        assert job.state is State.FAILED
        assert "403" in job.reason


def answering(status: int, body: bytes = b"", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: (status, named, body)


@pytest.mark.parametrize("kind", ["retrieve", "send"])
def test_a_server_that_is_busy_is_tried_again(tmp_path: Path, kind: str) -> None:
    with scripted(answering(503, b"later")) as url, here(tmp_path, url) as node:
        fill(node.archive)
        parameters = {"keys": KEYS} if kind == "retrieve" else {"studies": [STUDY]}
        job = node.run(kind, **parameters)
        assert (job.state, job.failures) == (State.SLEEPING, 1)
        assert "503" in job.reason
        assert "next attempt in" in job.reason


PAGE = answering(200, b"<html>It works!</html>", Content_Type="text/html")
GARBLED = answering(200, b"[{]", Content_Type="application/dicom+json")
NOTHING = answering(404, b"nothing here")
ELSEWHERE = answering(302, Location="http://169.254.169.254/latest")


@pytest.mark.parametrize(
    ("kind", "respond"),
    [
        *((kind, respond) for kind in ("find", "send") for respond in (PAGE, GARBLED)),
        *((kind, respond) for kind in ("echo", "find", "send") for respond in (NOTHING, ELSEWHERE)),
        ("echo", PAGE),
    ],
)
def test_what_is_no_dicomweb_server_is_said(tmp_path: Path, kind: str, respond: Any) -> None:
    with scripted(respond) as url, here(tmp_path, url) as node:
        fill(node.archive)
        parameters = {"find": {"keys": KEYS}, "send": {"studies": [STUDY]}}.get(kind, {})
        job = node.run(kind, **parameters)
        assert job.state is State.FAILED, job
        assert job.reason
        assert "internal error" not in job.reason
        assert "Error" not in job.reason
        assert job.done == 0


def of_study(study: str, count: int) -> bytes:
    """A search's answer: a study with so many objects."""
    match = {
        "0020000D": {"vr": "UI", "Value": [study]},
        "00201208": {"vr": "IS", "Value": [count]},
    }
    return json.dumps([match]).encode()


def retrieved(study: str, count: int) -> Callable[[BaseHTTPRequestHandler], Any]:
    """Answers a search with one study, a retrieve with one object of the same or another."""
    data = encoded(
        1, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", SOPInstanceUID=f"{study}.1.1"
    )
    part = part10_header(CT_IMAGE, f"{study}.1.1", EXPLICIT) + data
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n--b--\r\n"

    def respond(request: BaseHTTPRequestHandler) -> Any:
        if "?" not in request.path:
            kind = 'multipart/related; type="application/dicom"; boundary=b'
            return 200, {"Content-Type": kind}, body
        is_first = "offset=0" in request.path or "offset" not in request.path
        found = of_study(STUDY, count) if is_first else b"[]"
        return 200, {"Content-Type": "application/dicom+json"}, found

    return respond


def test_an_object_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    with scripted(retrieved(OTHER_STUDY, 1)) as url, here(tmp_path, url) as node:
        job = node.run("retrieve", keys=KEYS)
        assert (job.state, job.done, job.failed) == (State.FAILED, 0, 1)
        assert "which was not requested" in job.reason
        assert kept(node.archive, OTHER_STUDY) == {}


@pytest.mark.parametrize("keys", [KEYS, {"PatientID": "P1"}, {"AccessionNumber": "A1"}])
def test_a_server_that_passes_over_the_keys_does_not_fill_the_archive(
    tmp_path: Path, keys: dict[str, str]
) -> None:
    """Of all studies that it names only the one that was asked for is retrieved."""
    others = {"PatientID": "00100020", "AccessionNumber": "00080050"}
    matches = [json.loads(of_study(study, 1))[0] for study in (OTHER_STUDY, STUDY)]
    for match, own in zip(matches, ("2", "1"), strict=True):
        match |= {
            tag: {"vr": "LO", "Value": [f"{keyword[0]}{own}"]} for keyword, tag in others.items()
        }
    objects = retrieved(STUDY, 1)

    def respond(request: BaseHTTPRequestHandler) -> Any:
        if "?" not in request.path or "offset" in request.path:
            return objects(request)
        return 200, {"Content-Type": "application/dicom+json"}, json.dumps(matches).encode()

    with scripted(respond) as url, here(tmp_path, url) as node:
        job = node.run("retrieve", keys=keys)
        assert (job.state, job.done, job.result["studies"]) == (State.DONE, 1, [STUDY])
        (problem,) = job.result["problems"]
        assert problem["reason"].startswith("sent a match with another ")
        assert kept(node.archive, OTHER_STUDY) == {}


def test_a_server_that_sends_fewer_objects_than_it_has_fails_the_job(tmp_path: Path) -> None:
    with scripted(retrieved(STUDY, 3)) as url, here(tmp_path, url) as node:
        job = node.run("retrieve", keys=KEYS)
        assert (job.state, job.done, job.failed, job.left) == (State.FAILED, 1, 2, 0)
        assert "the server says that it has 3" in job.reason


def test_a_login_is_nowhere_but_in_the_configuration(
    tmp_path: Path, there: WebNode, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(there.archive)
    with here(tmp_path, there.url, token=TOKEN) as node:
        job = node.run("retrieve", keys=KEYS)
        assert job.state is State.DONE
        assert TOKEN not in json.dumps(job.to_json()) + repr(job)
        assert job.to_json()["peer"]["ae_title"] == "CLOUD"
        assert not {"user", "password", "token"} & set(job.to_json()["peer"])
        with node.archive.index.engine.connect() as connection:
            rows = connection.execute(text("SELECT * FROM job")).mappings().all()
        assert "CLOUD" in str(rows)
        assert TOKEN not in str(rows)
        told = DICOMwebPeer(there.url, token=TOKEN)
        with pytest.raises(InvalidRequestError, match="stored without a login") as refused:
            node.service.submit(JobRequest("echo", told))
        assert TOKEN not in str(refused.value)
    assert TOKEN not in capfd.readouterr().err


def test_a_login_whose_file_has_gone_is_said(tmp_path: Path, there: WebNode) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with here(tmp_path, there.url, token_file=str(file)) as node:
        assert node.run("echo").state is State.DONE
        file.unlink()
        job = node.run("echo")
        assert job.state is State.FAILED
        assert job.reason == (
            "CLOUD cannot be asked: the file with the login for it cannot be used: "
            "No such file or directory"
        )


@pytest.mark.parametrize(
    ("kind", "parameters", "field"),
    [
        ("send", {"studies": [STUDY], "commit": True}, "parameters.commit"),
        ("retrieve", {"keys": KEYS, "method": "move"}, "parameters.method"),
        ("retrieve", {"keys": KEYS, "destination": "WS"}, "parameters.destination"),
    ],
)
def test_what_dicomweb_does_not_have_is_refused(
    kind: str, parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        JobRequest(kind, DICOMwebPeer("https://h/dicom-web", "CLOUD"), parameters).check("LFSCP")
    assert caught.value.field == field
    assert "DICOMweb server" in caught.value.reason


def test_objects_that_come_here_may_name_this_node() -> None:
    parameters = {"keys": KEYS, "destination": "LFSCP", "method": "auto"}
    JobRequest("retrieve", DICOMwebPeer("https://h/dicom-web"), parameters).check("LFSCP")
