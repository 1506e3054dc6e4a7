"""The JSON API over a small archive: browsing, pictures, uploads, deleting, and clear refusals."""

from __future__ import annotations

import base64
import io
import re
import zipfile

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from lfscp.dicom.part10.file_meta import part10_header, read_part10
from lfscp.web.actions import cursors
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.images import image, save
from tests.support.web_app import HOME, serving
from tests.support.web_objects import (
    CT_SERIES,
    CT_STUDY,
    EVIL_NAME,
    LOOP_INSTANCE,
    LOOP_STUDY,
    REPORT_INSTANCE,
)


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["title"]
    return body


def test_patients_studies_series_and_instances_are_browsed(filled):
    patients = filled.get("/api/patients").json()["rows"]
    studies = filled.get("/api/studies").json()["rows"]
    series = filled.get(f"/api/studies/{LOOP_STUDY}/series").json()
    instances = filled.get(f"/api/series/{CT_SERIES}/instances").json()["rows"]

    assert [each["patient_name"] for each in patients] == [EVIL_NAME, "Müller^Johanna^^Dr."]
    assert [each["study_instance_uid"] for each in studies] == [LOOP_STUDY, CT_STUDY]
    assert studies[0]["modalities"] == ["SR", "US"]
    assert (studies[1]["number_of_series"], studies[1]["number_of_instances"]) == (1, 4)
    assert [each["modality"] for each in series] == ["US", "SR"]
    assert [each["instance_number"] for each in instances] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=MÜLLER", [CT_STUDY]),
        ("q=johanna", [CT_STUDY]),
        ("q=p-00", [CT_STUDY]),
        ("q=thorax+müller", [CT_STUDY]),
        ("q=thorax+evil", []),
        ("q=A-10442", [CT_STUDY]),
        (f"q={LOOP_STUDY}", [LOOP_STUDY]),
        ("q=%25", []),
        ("q=_", []),
        ("modality=SR", [LOOP_STUDY]),
        ("date_from=20240517&date_to=20240517", [CT_STUDY]),
        ("date_from=20240518", [LOOP_STUDY]),
        ("date_to=20240518", [CT_STUDY]),
    ],
)
def test_studies_are_searched_by_words_modality_and_date(filled, query, found):
    rows = filled.get(f"/api/studies?{query}").json()["rows"]

    assert [row["study_instance_uid"] for row in rows] == found


@pytest.mark.parametrize(
    "path", ["/api/studies", "/api/patients", f"/api/series/{CT_SERIES}/instances"]
)
def test_pages_of_one_row_give_every_row_once(filled, path):
    every = filled.get(path).json()["rows"]
    rows, after = [], ""
    while after is not None:
        page = filled.get(path, params={"limit": 1, "after": after}).json()
        rows += page["rows"]
        after = page["next"]

    assert rows == every


TOO_LONG = cursors.to_text(("20260101", "1.2", 2**63))


@pytest.mark.parametrize("after", ["x", "bm9uZQ", "W10", "WzEsMiwzXQ", TOO_LONG])
def test_a_cursor_that_is_none_is_refused(client, after):
    answer = client.get("/api/studies", params={"after": after})

    assert problem(answer)["detail"] == "after: take `next` of the page before, unchanged"


def test_a_frame_is_rendered_with_its_own_window_or_another(filled):
    def picture(query=""):
        answer = filled.get(f"/api/instances/{CT_SERIES}.2/frames/1?encoding=png{query}")
        assert answer.headers["content-type"] == "image/png"
        return Image.open(io.BytesIO(answer.content))

    own, lung = picture(), picture("&center=-600&width=1500")

    assert own.size == (192, 192)
    assert own.getpixel((2, 2)) == 0  # air
    assert own.getpixel((96, 40)) in range(100, 160)  # tissue of 40 in a window around 40
    assert lung.getpixel((96, 40)) > 200
    assert max(picture("&edge=64").size) == 64


def test_each_frame_of_a_loop_is_its_own_picture_in_colour(filled):
    about = filled.get(f"/api/instances/{LOOP_INSTANCE}/picture").json()
    reds = []
    for number in range(1, about["frames"] + 1):
        answer = filled.get(f"/api/instances/{LOOP_INSTANCE}/frames/{number}?encoding=png")
        picture = Image.open(io.BytesIO(answer.content))
        row = [picture.getpixel((x, 25)) for x in range(80)]
        reds.append(row.index((230, 0, 0)))

    assert (about["frames"], about["is_colour"], about["frame_time_ms"]) == (8, True, 50)
    assert reds == [10 + 5 * frame for frame in range(8)]


def stored(client, tmp_path, dataset):
    answer = client.post(
        "/api/instances", content=save(dataset, tmp_path / "object.dcm").read_bytes()
    )
    assert answer.status_code == 201, answer.text
    return f"/api/instances/{dataset.SOPInstanceUID}"


def pixels(answer):
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content))).tolist()


def test_overlays_are_drawn_unless_asked_for_without(client, tmp_path):
    dataset = image(np.full((1, 2), 9, "u1"), WindowCenter=128, WindowWidth=256)
    for element, value in ((0x10, 1), (0x11, 2), (0x100, 1), (0x102, 0)):
        dataset.add_new((0x6000, element), "US", value)
    dataset.add_new((0x6000, 0x50), "SS", [1, 1])
    dataset.add_new((0x6000, 0x3000), "OW", b"\x02\0")
    path = stored(client, tmp_path, dataset)

    assert client.get(f"{path}/picture").json()["overlays"] == 1
    for query, expected in (("", 255), ("&overlays=true", 255), ("&overlays=false", 9)):
        answer = client.get(f"{path}/frames/1?encoding=png{query}")
        assert pixels(answer) == [[9, expected]]


def test_a_picture_is_described_frame_by_frame(client, tmp_path):
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 5, 3
    own = Dataset()
    own.FrameVOILUTSequence = [window]
    dataset = image(
        np.array([[[0, 100]]] * 3, "<u2"),
        NumberOfFrames=3,
        FrameTimeVector=["0", "50", "150"],
        FrameIncrementPointer=0x00181065,
        PerFrameFunctionalGroupsSequence=[own, Dataset(), Dataset()],
    )
    path = stored(client, tmp_path, dataset)
    first = client.get(f"{path}/picture").json()
    second = client.get(f"{path}/picture?frame=2").json()

    assert (first["center"], first["width"], first["fitting_center"]) == (5, 3, None)
    assert (second["center"], second["width"], second["fitting_center"]) == (None, None, 50)
    assert (first["function"], second["function"]) == ("LINEAR", "LINEAR_EXACT")
    assert (first["frame_time_ms"], first["frame_times_ms"]) == (100, [50, 150, 100])
    assert (first["voi_lut"], first["overlays"]) == (False, 0)


def test_a_window_that_is_given_has_a_function(client, tmp_path):
    path = stored(client, tmp_path, image(np.array([[0, 1, 2]], "u1")))
    window = "encoding=png&center=1&width=2"

    assert pixels(client.get(f"{path}/frames/1?{window}")) == [[0, 255, 255]]
    exact = client.get(f"{path}/frames/1?{window}&function=LINEAR_EXACT")
    assert pixels(exact) == [[0, 128, 255]] == pixels(client.get(f"{path}/frames/1?encoding=png"))
    assert problem(client.get(f"{path}/frames/1?{window}&function=x"))["status"] == 422


def test_no_class_of_an_exception_is_named(client, tmp_path):
    dataset = image(np.zeros((32, 32), "u1"))
    dataset.compress(RLELossless)
    dataset.PixelData = encapsulate([b"\0" * 70])
    dataset.add_new("PatientWeight", "DS", "1")
    path = stored(client, tmp_path, dataset)

    for each in ("frames/1", "thumbnail"):
        detail = problem(client.get(f"{path}/{each}"))["detail"]
        assert detail.startswith("the pixel data cannot be decoded: ")
        assert not re.search(r"Error\b|Exception\b|Warning\b", detail)


def test_what_has_no_picture_says_so(filled):
    for path in (
        f"{REPORT_INSTANCE}/thumbnail",
        f"{REPORT_INSTANCE}/frames/1",
        f"{REPORT_INSTANCE}/picture",
    ):
        answer = problem(filled.get(f"/api/instances/{path}"))
        assert (answer["status"], answer["detail"]) == (415, "this object holds no pixel data")
    answer = filled.get(f"/api/instances/{LOOP_INSTANCE}/frames/9")
    assert problem(answer)["detail"] == "there is no frame 9, the object has 8"


def test_an_object_is_downloaded_as_it_was_uploaded(filled, files):
    answer = filled.get(f"/api/instances/{LOOP_INSTANCE}/file")

    assert answer.content == (files / "loop.dcm").read_bytes()


def test_the_elements_of_an_object_are_listed_without_its_pixels(filled):
    elements = filled.get(f"/api/instances/{LOOP_INSTANCE}/elements").json()

    assert {"depth": 0, "tag": "(0010,0010)", "vr": "PN", "name": "Patient's Name"} | {
        "value": EVIL_NAME
    } in elements
    assert all(each["tag"] != "(7FE0,0010)" for each in elements)


def test_an_upload_is_stored_once(client, files):
    content = (files / "loop.dcm").read_bytes()
    first = client.post("/api/instances", content=content)
    again = client.post("/api/instances", content=content)

    assert (first.status_code, first.json()["outcome"]) == (201, "stored")
    assert first.json()["sop_instance_uid"] == LOOP_INSTANCE
    assert again.json()["outcome"] == "identical"
    assert client.get("/api/statistics").json()["instances"] == 1


def test_a_form_may_hold_several_files_and_says_which_was_refused(client, files):
    form = [
        ("files", ("loop.dcm", (files / "loop.dcm").read_bytes())),
        ("files", ("notes.txt", b"no DICOM")),
    ]
    answer = client.post("/api/instances", files=form).json()

    assert [each["sop_instance_uid"] for each in answer["stored"]] == [LOOP_INSTANCE]
    assert [each["file"] for each in answer["refused"]] == ["notes.txt"]


@pytest.mark.parametrize("content", [b"", b"no DICOM at all", b"\0" * 128 + b"DICM", b"\0" * 5000])
def test_what_is_no_dicom_is_refused_and_leaves_nothing(client, tmp_path, content):
    answer = client.post("/api/instances", content=content)

    assert problem(answer)["status"] == 422
    assert list((tmp_path / "data" / "objects").rglob("upload-*")) == []
    assert client.get("/api/statistics").json()["instances"] == 0


def test_a_dataset_that_begins_with_file_meta_is_refused_with_the_reason(client, files):
    content = (files / "loop.dcm").read_bytes()
    at = read_part10(content).dataset_offset
    stray = b"\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
    answer = client.post("/api/instances", content=content[:at] + stray + content[at:])

    assert "it begins with (0002,0010), which no dataset may have" in problem(answer)["detail"]
    assert problem(answer)["status"] == 422
    assert client.get("/api/statistics").json()["instances"] == 0


def test_deleting_takes_the_rendered_pictures_along(filled, tmp_path):
    filled.get(f"/api/instances/{LOOP_INSTANCE}/thumbnail")
    cache = tmp_path / "data" / "cache"
    assert len(list(cache.rglob("*.jpeg"))) == 1

    assert filled.delete(f"/api/studies/{LOOP_STUDY}").json() == {"deleted": 2}
    assert list(cache.rglob("*.jpeg")) == []
    assert filled.get(f"/api/studies/{LOOP_STUDY}").status_code == 404
    patient = filled.get("/api/patients").json()["rows"][0]
    assert filled.delete(f"/api/patients/{patient['id']}").json() == {"deleted": 4}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/studies/1.2.3"),
        ("GET", "/api/series/1.2.3"),
        ("GET", "/api/instances/1.2.3"),
        ("GET", "/api/instances/1.2.3/file"),
        ("GET", "/api/instances/1.2.3/frames/1"),
        ("DELETE", "/api/studies/1.2.3"),
        ("DELETE", "/api/series/%25"),
        ("DELETE", "/api/patients/99"),
        ("GET", "/api/jobs/none"),
        ("POST", "/api/jobs/none/cancel"),
        ("DELETE", "/api/peers/NONE"),
        ("GET", "/api/nothing"),
        ("GET", "/static/..%2f..%2fapp.py"),
    ],
)
def test_what_is_not_there_is_a_problem_document(client, method, path):
    assert problem(client.request(method, path))["status"] == 404


@pytest.mark.parametrize(
    ("path", "body", "pointer", "detail"),
    [
        ("/api/echo", {"peer": "NOBODY"}, "/peer", "no peer 'NOBODY' is known; known are PACS"),
        (
            "/api/collect",
            {"peers": ["PACS", "NO"], "keys": {}},
            "/peers/1",
            "no peer 'NO' is known",
        ),
        ("/api/echo", {"peer": "PACS", "por": 1}, "/por", "unknown field"),
        ("/api/echo", {}, "/peer", "Field required"),
        ("/api/find", {"peer": "PACS"}, "/keys", "Field required"),
        ("/api/find", {"peer": "PACS", "keys": {"PatientNam": "x"}}, "/keys/PatientNam", "unknown"),
        ("/api/find", {"peer": "PACS", "keys": {"StudyID": True}}, "/keys/StudyID", "expected"),
        ("/api/find", {"peer": "PACS", "keys": {"PatientSize": "x"}}, "/keys/PatientSize", "VR DS"),
        ("/api/find", {"peer": "PACS", "keys": {"Rows": "x"}}, "/keys/Rows", "VR US"),
        ("/api/find", {"peer": "PACS", "keys": {"Rows": [1, 65536]}}, "/keys/Rows", "VR US"),
        ("/api/find", {"peer": "PACS", "keys": {"Rows": 1.5}}, "/keys/Rows", "VR US"),
        ("/api/find", {"peer": "PACS", "keys": {"PixelData": "x"}}, "/keys/PixelData", "VR OB"),
        ("/api/find", {"peer": "PACS", "keys": {"a/b.c~": "x"}}, "/keys/a~1b.c~0", "unknown"),
        ("/api/find", {"peer": "PACS", "keys": {"AnchorPoint": 1e39}}, "/keys/AnchorPoint", "FL"),
        ("/api/echo", {"peer": {"ae_title": "X", "z": 1}}, "/peer/z", "unknown field"),
        ("/api/echo", {"peer": {"ae_title": "X", "host": "h"}}, "/peer/port", "Field required"),
        ("/api/echo", {"peer": 7}, "/peer", "dictionary"),
        ("/api/collect", {"peers": ["PACS", {"port": "x"}], "keys": {}}, "/peers/1/port", "int"),
        ("/api/retrieve", {"peer": "PACS", "keys": {}}, "/keys", "expected"),
        ("/api/send", {"peer": "PACS"}, None, "nothing to send"),
        ("/api/send", {"peer": "PACS", "paths": ["/etc/passwd"]}, None, "outside"),
        ("/api/collect", {"peers": [], "keys": {}}, "/peers", "at least 1 item"),
        ("/api/peers", {"ae_title": "X" * 17, "host": "h", "port": 1}, "/ae_title", "1 to 16"),
        ("/api/peers", {"ae_title": "X", "host": "h", "port": 0}, "/port", "greater than"),
        ("/api/peers", {"ae_title": "X", "host": " ", "port": 1}, "/host", "at least 1"),
    ],
)
def test_a_wrong_request_is_told_which_field_is_wrong(client, path, body, pointer, detail):
    answer = problem(client.post(path, json=body))

    assert answer["status"] == 422
    assert detail in str(answer)
    if pointer:
        assert pointer in [each.get("pointer") for each in answer["errors"]]
    pointers = [each["pointer"] for each in answer.get("errors", []) if each.get("pointer")]
    for each in pointers:
        assert points_into(each, body) or "Field required" in str(answer), each


def points_into(pointer, document):
    """Whether a JSON pointer names something of the document that was sent (RFC 6901)."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        try:
            document = document[int(part) if isinstance(document, list) else part]
        except (LookupError, ValueError):
            return False
    return True


def test_a_number_that_fits_its_element_is_a_key(client):
    keys = {"Rows": "512", "Columns": [1, 2], "PixelData": "", "SmallestImagePixelValue": 3}
    asked = client.post("/api/find", json={"peer": "PACS", "keys": keys, "level": "IMAGE"})
    assert asked.status_code == 202


@pytest.mark.parametrize("path", ["/api/echo", "/c-echo", "/remote/find", "/login"])
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_that_would_fill_the_memory_is_refused(client, path, is_announced):
    sent = 0

    def pieces():
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 16
            yield b" " * (1 << 16)

    is_form = path in ("/remote/find", "/login")
    kind = {"Content-Type": f"application/{'x-www-form-urlencoded' if is_form else 'json'}"}
    content = b" " * (2 << 20) if is_announced else pieces()
    answer = problem(client.post(path, content=content, headers=kind))
    assert answer["status"] == 413
    assert "longer than 1048576 bytes" in answer["detail"]
    assert client.get("/api/jobs").json() == []


def test_what_nobody_expected_is_answered_and_not_raised_for_others_to_log(tmp_path, monkeypatch):
    def broken():
        raise ZeroDivisionError("of a test")

    with serving(tmp_path / "data") as client:
        monkeypatch.setattr(client.app.state.web, "node_state", broken)
        strict = TestClient(client.app, base_url=HOME)  # raises what would reach the server
        answer = problem(strict.get("/api/node"))
    assert answer["status"] == 500
    assert answer["detail"] == "internal error; the log of the node says more"


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e300"])
@pytest.mark.parametrize("name", ["center", "width"])
def test_a_window_without_end_is_refused(filled, number, name):
    uid = filled.get("/api/studies").json()["rows"][0]["study_instance_uid"]
    series = filled.get(f"/api/studies/{uid}/series").json()[0]
    window = {"center": "40", "width": "400"} | {name: number}
    answer = filled.get(f"/api/instances/{series['middle_instance_uid']}/frames/1", params=window)
    assert problem(answer)["errors"][0]["parameter"] == name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/jobs?offset=99999999999999999999"),
        ("GET", "/api/studies?patient=99999999999999999999"),
        ("DELETE", "/api/patients/99999999999999999999"),
    ],
)
def test_a_number_that_no_index_holds_is_no_internal_error(client, method, path):
    assert problem(client.request(method, path))["status"] == 422


def test_a_search_of_very_many_words_is_answered(filled):
    assert filled.get("/api/studies", params={"q": "a " * 2000}).status_code == 200
    assert filled.get("/api/patients", params={"q": "a " * 2000}).status_code == 200


def test_json_that_is_no_object_is_not_called_something_else(client):
    answer = problem(client.post("/api/echo", json=["PACS"]))

    assert (answer["status"], "Content-Type" in answer["detail"]) == (422, False)


def test_malformed_json_is_told_where(client):
    answer = client.post(
        "/api/echo", content=b'{"peer": ', headers={"Content-Type": "application/json"}
    )

    assert problem(answer)["status"] == 400
    assert "the body is not JSON" in answer.json()["detail"]


def test_a_body_that_is_not_called_json_is_told_so(client):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/api/echo", content=b'{"peer": "PACS"}', headers=form)

    assert problem(answer)["status"] == 415
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_peers_are_added_changed_and_removed_and_kept(client, tmp_path):
    peer = {"ae_title": "NEW", "host": "10.0.0.9", "port": 104, "tls": True}
    client.post("/api/peers", json=peer)
    client.post("/api/peers", json=peer | {"port": 105})

    assert [each["ae_title"] for each in client.get("/api/peers").json()] == ["NEW", "PACS"]
    assert client.get("/api/peers/NEW").json()["port"] == 105
    assert "NEW" in (tmp_path / "data" / "peers.json").read_text()
    assert client.delete("/api/peers/NEW").status_code == 204
    assert problem(client.delete("/api/peers/PACS"))["status"] == 409
    assert problem(client.post("/api/peers", json=peer | {"ae_title": "PACS"}))["status"] == 409


def test_the_node_tells_how_it_is(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ready"
    assert client.get("/api/node").json()["processes"][0]["leader"] == "Thread-1"


def test_the_openapi_document_names_each_operation_once(client):
    document = client.get("/api/openapi.json").json()
    operations = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]

    assert len(operations) == len(set(operations))
    assert {"/api/studies", "/api/jobs", "/c-echo", "/chd"} <= set(document["paths"])


def test_a_study_is_protected_and_protected_no_longer(filled):
    path = f"/api/studies/{CT_STUDY}"
    assert filled.get(path).json()["is_protected"] is False
    assert filled.put(f"{path}/protection").json()["is_protected"] is True
    assert filled.put(f"{path}/protection").status_code == 200
    rows = filled.get("/api/studies").json()["rows"]
    assert [row["is_protected"] for row in rows] == [False, True]
    assert "Unprotect" in filled.get(f"/studies/{CT_STUDY}").text
    assert filled.delete(f"{path}/protection").json()["is_protected"] is False
    assert filled.post(f"/studies/{CT_STUDY}/protect").headers["HX-Refresh"] == "true"
    assert filled.post(f"/studies/{CT_STUDY}/unprotect").headers["HX-Refresh"] == "true"
    assert filled.get(path).json()["is_protected"] is False
    assert problem(filled.put("/api/studies/1.9/protection"))["status"] == 404


def test_a_cursor_of_many_brackets_is_refused(filled):
    deep = base64.urlsafe_b64encode(b"[" * 40_000).decode()
    assert problem(filled.get(f"/api/studies?after={deep}"))["status"] == 422


def test_a_search_for_a_word_without_end_is_refused(filled):
    for search in ("api/studies?q", "api/studies?modality", "api/patients?q", "?q", "?date_from"):
        assert problem(filled.get(f"/{search}={'x' * 251}"))["status"] == 422, search
        assert filled.get(f"/{search}={'2' * 8}").status_code == 200, search


def test_a_wrong_key_protects_no_study_and_leaves_a_protection(filled):
    path = f"/api/studies/{CT_STUDY}"
    wrong = filled.get(path).json()["key"] + 1000
    assert problem(filled.put(f"{path}/protection?key={wrong}"))["status"] == 404
    assert filled.post(f"/studies/{CT_STUDY}/protect?key={wrong}").status_code == 404
    assert filled.get(path).json()["is_protected"] is False
    filled.put(f"{path}/protection")
    assert problem(filled.delete(f"{path}/protection?key={wrong}"))["status"] == 404
    assert filled.post(f"/studies/{CT_STUDY}/unprotect?key={wrong}").status_code == 404
    assert filled.get(path).json()["is_protected"] is True


@pytest.mark.parametrize("key", [-(2**63) - 1, -(2**63), -1, 0, 2**63 - 1, 2**63, 10**400])
def test_a_key_that_no_row_can_have_is_refused_or_finds_nothing(filled, key):
    answers = [
        filled.get(f"/{path}?key={key}")
        for path in (
            f"api/studies/{CT_STUDY}",
            f"api/studies/{CT_STUDY}/series",
            f"api/series/{CT_SERIES}",
            f"api/series/{CT_SERIES}/instances",
            f"studies/{CT_STUDY}",
            f"series/{CT_SERIES}/instances",
            f"viewer/{CT_SERIES}",
        )
    ]
    answers += [
        filled.delete(f"/api/{path}")
        for path in (
            f"studies/{CT_STUDY}?key={key}",
            f"studies/{CT_STUDY}/protection?key={key}",
            f"series/{CT_SERIES}?key={key}",
            f"patients/{key}",
        )
    ]
    answers.append(filled.put(f"/api/studies/{CT_STUDY}/protection?key={key}"))
    for answer in answers:
        assert answer.status_code in (404, 422), answer.url
    found = filled.get(f"/api/studies?patient={key}")
    assert found.status_code == 422 or found.json()["rows"] == []
    assert filled.get(f"/api/studies/{CT_STUDY}").json()["number_of_instances"] == 4


def test_nothing_of_a_protected_study_is_deleted_before_it_is_unprotected(filled):
    series = filled.get(f"/api/studies/{CT_STUDY}/series").json()[0]["series_instance_uid"]
    rows = filled.get(f"/api/series/{series}/instances").json()["rows"]
    (patient,) = [
        each["id"]
        for each in filled.get("/api/patients").json()["rows"]
        if CT_STUDY
        in [
            row["study_instance_uid"]
            for row in filled.get(f"/api/studies?patient={each['id']}").json()["rows"]
        ]
    ]
    before = filled.get("/api/statistics").json()["instances"]
    filled.put(f"/api/studies/{CT_STUDY}/protection")
    answers = [
        filled.delete(f"/api/studies/{CT_STUDY}"),
        filled.delete(f"/api/series/{series}"),
        filled.delete(f"/api/instances/{rows[0]['sop_instance_uid']}"),
        filled.delete(f"/api/patients/{patient}"),
        filled.post(f"/studies/{CT_STUDY}/delete"),
    ]
    for answer in answers:
        assert problem(answer)["status"] == 409
        assert f"study {CT_STUDY} is protected; unprotect it first" in answer.json()["detail"]
    assert filled.get(f"/api/instances/{rows[0]['sop_instance_uid']}/file").status_code == 200
    assert ">Delete</button>" not in filled.get(f"/studies/{CT_STUDY}").text
    filled.app.state.web.counts._counted = None
    assert filled.get("/api/statistics").json()["instances"] == before

    filled.delete(f"/api/studies/{CT_STUDY}/protection")
    assert filled.delete(f"/api/patients/{patient}").status_code == 200


def test_a_patient_one_of_whose_studies_is_protected_keeps_all(client):
    for number, study in ((1, "1.2.3"), (2, "1.2.4")):
        series = f"{study}.1"
        content = encoded(number, StudyInstanceUID=study, SeriesInstanceUID=series)
        head = part10_header(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT)
        assert client.post("/api/instances", content=head + content).status_code == 201
    (row,) = client.get("/api/patients").json()["rows"]
    client.put("/api/studies/1.2.4/protection")

    assert problem(client.delete(f"/api/patients/{row['id']}"))["status"] == 409
    rows = client.get("/api/studies").json()["rows"]
    assert {each["study_instance_uid"] for each in rows} == {"1.2.3", "1.2.4"}


def test_elements_are_shown_a_page_at_a_time(filled, monkeypatch):
    monkeypatch.setattr("lfscp.web.api.studies.MAX_ELEMENTS", 10)
    monkeypatch.setattr("lfscp.web.pages.studies.PAGE_ELEMENTS", 10)
    path = f"/api/instances/{LOOP_INSTANCE}/elements"
    answer = filled.get(path)
    assert len(answer.json()) == 10
    assert answer.headers["link"] == f'<{path}?first=10>; rel="next"'
    found = answer.json()
    while following := answer.links.get("next"):
        answer = filled.get(following["url"])
        found += answer.json()
    assert len(found) == len({(each["tag"], each["depth"], each["name"]) for each in found}) > 20

    page = filled.get(f"/instances/{LOOP_INSTANCE}").text
    assert "Elements 1 to 10." in page
    assert '<a href="?first=10">' in page
    assert "Elements 11 to 20." in filled.get(f"/instances/{LOOP_INSTANCE}?first=10").text


def test_a_picture_that_does_not_fit_is_refused_with_the_reason(tmp_path, capfd):
    dataset = image(np.zeros((1, 1), "<u2"))
    dataset.Rows = dataset.Columns = 20_000
    dataset.PixelData = encapsulate([bytes(4096)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless
    path = tmp_path / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    with serving(tmp_path / "data", budgets={"rendering_mb": 64}) as client:
        client.post("/api/instances", content=path.read_bytes())
        for part in ("thumbnail", "frames/1"):
            answer = problem(client.get(f"/api/instances/{dataset.SOPInstanceUID}/{part}"))
            assert answer["status"] == 422
            assert re.search(r"needs about \d+ MB of memory", answer["detail"])
        assert client.get(f"/api/instances/{dataset.SOPInstanceUID}/picture").status_code == 422
        metrics = client.get("/metrics").text
        lines = capfd.readouterr().err.splitlines()

    assert re.search(r'lfscp_refused_pictures_total\{reason="memory"\} [1-9]', metrics)
    assert sum("picture refused" in line for line in lines) == 1  # once a minute for an object


def test_a_study_comes_as_a_zip_with_a_dicomdir(filled):
    answer = filled.get(f"/api/studies/{CT_STUDY}/zip")
    packed = zipfile.ZipFile(io.BytesIO(answer.content))

    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="study-{CT_STUDY}.zip"'
    assert packed.testzip() is None
    assert len(packed.namelist()) == 1 + 4
    assert packed.namelist()[0] == "DICOMDIR"
    assert problem(filled.get("/api/studies/1.2.3/zip"))["status"] == 404
