"""What one visitor may have of the page's memory and threads, and what he is told beyond it."""

from __future__ import annotations

import asyncio
import io
import tempfile
import zipfile
from typing import Any

import pytest

from lfscp.dicom.part10.file_meta import part10_header
from lfscp.web.api.upload import MAX_FORMS_OF_VISITOR, most_forms
from lfscp.web.problems import MAX_ERRORS
from lfscp.web.security.bodies import MAX_BYTES_OF_ALL, MAX_BYTES_OF_VISITOR, MAX_VALUES
from lfscp.web.security.forms import MAX_FIELDS, MAX_FILES
from lfscp.web.security.guard import MAX_HEADERS
from lfscp.web.security.shares import Share
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.raw_http import refused
from tests.support.web_app import serving

FILE = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT) + encoded(1)
ADDRESS = "testclient"


def test_a_share_is_given_to_all_and_to_each():
    share = Share(of_all=5, of_each=3)

    assert [share.take("a") for _ in range(4)] == ["", "", "", "each"]
    assert [share.take("b", 2), share.take("c", 1)] == ["", "all"]
    share.give("a", 3)
    assert [share.take("c", 3), share.take("a", 1)] == ["", "all"]
    share.give("b", 2)
    share.give("c", 3)
    assert share.taken == 0
    assert share.take("b", 4) == "each"


@pytest.mark.parametrize(
    "body",
    [
        b'{"keys": {"PatientName": [' + b"[]," * MAX_VALUES + b"[]]}}",
        b"[" * (MAX_VALUES + 1),
        b'{"peer": "A", "studies": [' + b"1," * MAX_VALUES + b"1]}",
    ],
    ids=["lists", "deep", "numbers"],
)
@pytest.mark.parametrize("path", ["/api/find", "/c-find"])
def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(client, path, body):
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 413
    assert "values" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/api/find", "/c-find"])
def test_a_body_that_is_deep_is_no_error_of_ours(client, path):
    body = b'{"peer": "A", "keys": {"PatientName": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}"
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422)


def test_of_a_long_list_of_faults_the_first_is_named(client):
    answer = client.post("/api/send", json={"peer": "A", "studies": [1] * 10_000})

    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/studies/0"]


def test_an_answer_names_a_hundred_of_many_faults(client):
    answer = client.post("/api/send", json={"peer": "A", **{f"x{n}": 1 for n in range(500)}})

    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == MAX_ERRORS
    assert "(and 499 more)" in answer.json()["detail"]


def test_bodies_that_wait_for_their_answer_are_counted_together(client, monkeypatch):
    assert MAX_BYTES_OF_VISITOR < MAX_BYTES_OF_ALL
    monkeypatch.setattr("lfscp.web.security.bodies.MAX_BYTES_OF_VISITOR", 1000)
    client.app.middleware_stack = None  # it is built anew, with the number above
    before = refused("bodies")
    answer = client.post("/api/send", json={"peer": "A", "studies": ["1.2"] * 1000})

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert refused("bodies") == before + 1
    # What was counted is given back: this is asked as often as one likes.
    for _ in range(50):
        assert (
            client.post("/api/send", json={"peer": "A", "studies": ["1"] * 50}).status_code != 503
        )


def test_more_headers_than_anybody_needs_are_refused(client):
    headers = {f"x-{number}": "1" for number in range(MAX_HEADERS + 1)}
    assert client.get("/api/studies", headers=headers).status_code == 431


def test_more_requests_at_once_than_one_may_have_are_told_to_come_again(tmp_path):
    with serving(tmp_path, web={"max_connections_per_address": 2}) as client:
        found = asyncio.run(at_once(client.app, "/api/events", 3))

    assert sorted(found) == [200, 200, 429]


def test_live_views_of_one_visitor_are_so_many(tmp_path):
    before = refused("event_streams")
    with serving(tmp_path, web={"max_event_streams": 2}) as client:
        found = asyncio.run(at_once(client.app, "/api/events", 3))
        share = client.app.state.web.event_streams

        assert sorted(found) == [200, 200, 429]
        assert share.taken == 0, "a place is free again when a view has ended"
        assert refused("event_streams") == before + 1


async def at_once(app: Any, path: str, number: int) -> list[int]:
    """The statuses of some requests whose answers are read a little, then given up together."""
    found: list[int] = []
    all_there = asyncio.Event()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8080")],
        "client": (ADDRESS, 1),
        "server": ("127.0.0.1", 8080),
    }

    async def one() -> None:
        async def receive() -> dict[str, Any]:
            await all_there.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])
                if len(found) == number:
                    all_there.set()

        await app(dict(scope), receive, send)

    await asyncio.gather(*(one() for _ in range(number)))
    return found


def form(files: int = 1, fields: int = 0, field: str = "x") -> dict[str, Any]:
    return {
        "files": [("files", (f"{number}", FILE)) for number in range(files)],
        "data": {f"field-{number}": field for number in range(fields)},
    }


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (form(files=MAX_FILES + 1), "Too many files"),
        (form(fields=MAX_FIELDS + 1), "Too many fields"),
        (form(fields=1, field="x" * 100_000), "Part exceeded maximum size"),
    ],
    ids=["files", "fields", "long field"],
)
def test_a_form_of_too_much_is_refused(client, asked, reason):
    answer = client.post("/api/instances", **asked)

    assert answer.status_code == 400
    assert reason in answer.json()["detail"]
    assert client.get("/api/statistics").json()["instances"] == 0


@pytest.mark.parametrize(
    "content",
    [
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n' + b"a: b\r\n" * 100_000,
        b"--x\r\nContent-Disposition: " + b"x" * 1_000_000,
        b"--x\r\n\r\n--x--",
        b"no form",
    ],
    ids=["headers", "long header", "no name", "nothing"],
)
def test_a_form_that_is_none_is_refused(client, content):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/api/instances", content=content, headers=headers)

    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


@pytest.mark.parametrize("path", ["/login", "/api/instances"])
@pytest.mark.parametrize("charset", ["punycode", "undefined", "utf-8; charset=idna"])
def test_a_form_does_not_choose_how_it_is_decoded(client, path, charset):
    content = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff-9a9a\r\n--x--\r\n'
    headers = {"Content-Type": f"Multipart/form-data; boundary=x; charset={charset}"}
    answer = client.post(path, content=content, headers=headers)

    assert answer.status_code == 415
    assert answer.json()["detail"] == "a form is read as UTF-8; leave out the charset"


def test_a_form_that_says_that_it_is_in_utf_8_is_read(client):
    content = (
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n%b\r\n--x--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x; charset=UTF-8"}
    answer = client.post("/api/instances", content=content % FILE, headers=headers)

    assert len(answer.json()["stored"]) == 1


@pytest.mark.parametrize("kind", ["form", "zip"])
def test_so_many_forms_and_zips_of_one_visitor_are_worked_on_at_once(client, kind):
    share = client.app.state.web.forms
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr("a", FILE)
    asked = form() if kind == "form" else {"content": made.getvalue()}
    for _ in range(MAX_FORMS_OF_VISITOR):
        assert share.take(ADDRESS) == ""
    answer = client.post("/api/instances", **asked)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert client.post("/api/instances", content=FILE).status_code == 201, "a file is none"
    for _ in range(MAX_FORMS_OF_VISITOR):
        share.give(ADDRESS)
    assert client.post("/api/instances", **asked).status_code == 201
    assert share.taken == 0


def test_files_of_forms_take_no_more_descriptors_than_connections_may():
    assert [most_forms(connections) for connections in (10, 256, 5000)] == [1, 2, 16]


def test_files_of_forms_wait_on_the_archive_s_volume(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # what TMPDIR decides
    large = FILE + bytes(100_000)
    answer = client.post("/api/instances", files=[("files", ("a", large))])

    assert answer.status_code == 201
    assert [each["size"] for each in answer.json()["stored"]] != []


@pytest.mark.parametrize(
    "asked",
    [{"content": bytes(17 << 20)}, {"files": [("files", ("a", bytes(17 << 20)))]}],
    ids=["file", "form"],
)
def test_an_upload_ends_when_the_reserve_is_reached(tmp_path, asked):
    with serving(tmp_path / "data", storage={"reserve_mb": 1}) as client:
        space = client.app.state.web.archive.space
        space._reserve_mb = 10**12  # no disk has so much
        answer = client.post("/api/instances", **asked)

        assert answer.status_code == 507
        assert "refused" not in answer.json(), "it is not read to its end"
        assert "below the reserve" in answer.json()["detail"]
        assert list((tmp_path / "data").rglob("upload-*")) == []


def test_a_file_in_thousands_of_ranges_is_answered_at_once(filled):
    rows = filled.get("/api/studies").json()["rows"]
    series = filled.get(f"/api/studies/{rows[0]['study_instance_uid']}/series").json()[0]
    uid = series["middle_instance_uid"]
    whole = filled.get(f"/api/instances/{uid}/file").content
    ranges = ",".join(f"{start}-{start}" for start in range(0, 4000, 2))
    answer = filled.get(f"/api/instances/{uid}/file", headers={"Range": f"bytes={ranges}"})

    assert answer.status_code in (200, 206, 400, 416)
    assert len(answer.content) < len(whole) + 2000 * 300


def test_a_cookie_of_any_form_is_read_in_no_time(client):
    cookie = 'x="' + "\\" * 15_000 + '"; lfscp_session=none'
    assert client.get("/api/studies", headers={"Cookie": cookie}).status_code == 200
