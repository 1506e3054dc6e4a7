"""STOW-RS: what a request brings is stored or refused part by part, and the answer says which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from lfscp.config.roles import Role
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.web.actions.storing import store_spooled
from lfscp.web.dicomweb.storing import metadata, outcome, parts
from lfscp.web.security.roles import needed_role
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.web_app import HOME, serving

STUDIES = "/dicom-web/studies"
BASE = f"{HOME}{STUDIES}/1.2.3"
NS = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
JSON = "application/dicom+json"
XML = "application/dicom+xml"
FAILED, STORED, OTHER = "00081198", "00081199", "0008119A"


def file_of(number: int, **values: Any) -> bytes:
    uid = values.get("SOPInstanceUID", f"1.2.3.1.{number}")
    sop_class = values.get("SOPClassUID", CT_IMAGE)
    return part10_header(sop_class, uid, EXPLICIT) + encoded(number, **values)


Part = bytes | tuple[dict[str, str], bytes]


def body_of(*parts: Part, boundary: str = "b") -> bytes:
    made = b""
    for part in parts:
        head, content = part if isinstance(part, tuple) else ({"Content-Type": DICOM}, part)
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        made += f"--{boundary}\r\n{lines}\r\n".encode() + content + b"\r\n"
    return made + f"--{boundary}--".encode()


DICOM = "application/dicom"


def post(
    client: TestClient,
    content: bytes,
    *,
    kind: str = DICOM,
    path: str = STUDIES,
    content_type: str = "",
    **headers: str,
) -> Any:
    content_type = content_type or f'multipart/related; type="{kind}"; boundary=b'
    return client.post(path, content=content, headers={"Content-Type": content_type, **headers})


def items(answer: Any, sequence: str) -> list[dict[str, Any]]:
    """The items of a sequence of the answer, their values by tag."""
    found = answer.json().get(sequence, {"Value": []})["Value"]
    return [
        {tag: each["Value"][0] for tag, each in item.items() if "Value" in each} for item in found
    ]


def left_over(client: TestClient) -> list[Path]:
    return list(client.app.state.web.archive.incoming_dir.iterdir())


def fetched(client: TestClient, uid: str) -> Dataset:
    answer = client.get(f"/api/instances/{uid}/file")
    assert answer.status_code == 200
    return dcmread(BytesIO(answer.content))


@pytest.fixture(autouse=True)
def nothing_is_left_over(client: TestClient) -> Iterator[None]:
    yield
    assert left_over(client) == []


def test_all_stored_is_200_with_urls(client: TestClient) -> None:
    answer = post(client, body_of(file_of(1), file_of(2)))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    document = answer.json()
    assert document["00081190"] == {"vr": "UR", "Value": [BASE]}
    assert items(answer, STORED) == [
        {
            "00081150": CT_IMAGE,
            "00081155": f"1.2.3.1.{number}",
            "00081190": f"{BASE}/series/1.2.3.1/instances/1.2.3.1.{number}",
        }
        for number in (1, 2)
    ]
    assert FAILED not in document
    assert OTHER not in document
    assert client.get("/api/studies/1.2.3").json()["number_of_instances"] == 2


def test_some_stored_is_202_with_the_reasons(client: TestClient) -> None:
    private = file_of(2, SOPClassUID="1.2.840.10008.1.1")
    text = ({"Content-Type": "text/plain"}, b"no instance")
    answer = post(client, body_of(file_of(1), private, text, b"garbage", b""))

    assert answer.status_code == 202
    assert [item["00081155"] for item in items(answer, STORED)] == ["1.2.3.1.1"]
    assert items(answer, FAILED) == [
        {"00081150": "1.2.840.10008.1.1", "00081155": "1.2.3.1.2", "00081197": 0x0122}
    ]
    assert items(answer, OTHER) == [{"00081197": 0xC000}] * 3


def test_none_stored_is_409(client: TestClient) -> None:
    answer = post(client, body_of(file_of(1, SOPClassUID="1.2.840.10008.1.1")))

    assert answer.status_code == 409
    assert STORED not in answer.json()
    assert len(items(answer, FAILED)) == 1
    assert answer.json()["00081190"] == {"vr": "UR"}


def test_the_answer_may_be_xml(client: TestClient) -> None:
    answer = post(client, body_of(file_of(1), b"garbage"), Accept=f"{JSON};q=0.5, {XML}")

    assert answer.headers["content-type"] == XML
    root = ElementTree.fromstring(answer.content)  # noqa: S314 - our own
    found = {each.get("tag"): each for each in root}
    item = found[STORED].find(f"{NS}Item")
    assert item is not None
    values = {each.get("keyword"): each.findtext(f"{NS}Value") for each in item}
    assert values["ReferencedSOPInstanceUID"] == "1.2.3.1.1"
    assert found[OTHER].find(f"{NS}Item/{NS}DicomAttribute/{NS}Value").text == str(0xC000)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*, text/html"])
def test_what_clients_accept_is_answered_in_json(client: TestClient, accept: str) -> None:
    assert post(client, body_of(file_of(1)), Accept=accept).headers["content-type"] == JSON


def test_an_answer_that_cannot_be_made_is_406_and_nothing_is_stored(client: TestClient) -> None:
    assert post(client, body_of(file_of(1)), Accept="text/html").status_code == 406
    assert client.get("/api/studies/1.2.3").status_code == 404


def test_a_study_takes_its_own_instances_only(client: TestClient) -> None:
    other = file_of(2, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1")
    answer = post(client, body_of(file_of(1), other), path=f"{STUDIES}/1.2.3")

    assert answer.status_code == 202
    assert items(answer, FAILED) == [
        {"00081150": CT_IMAGE, "00081155": "1.2.3.1.2", "00081197": 0xC409}
    ]
    assert client.get("/api/studies/1.2.4").status_code == 404
    assert post(client, body_of(other), path=f"{STUDIES}/1.2.3").status_code == 409


def test_a_single_part_is_an_instance(client: TestClient) -> None:
    assert post(client, file_of(1), content_type=DICOM).status_code == 200
    assert fetched(client, "1.2.3.1.1").PatientName == "Doe^Jane"


def test_an_instance_comes_again_and_other_content_does_not_replace_it(client: TestClient) -> None:
    post(client, body_of(file_of(1)))
    same = post(client, body_of(file_of(1)))
    assert (same.status_code, "warning" in same.headers) == (200, False)
    other = post(client, body_of(file_of(1, PatientComments="other")))
    assert other.status_code == 200
    assert "other content" in other.headers["warning"]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; type=application/dicom; boundary=b",
        'Multipart/Related; BOUNDARY="b"; Type="Application/DICOM"',
        "multipart/related; boundary=b",
        'multipart/related; type="application/dicom"; start="<x>"; boundary="b"',
    ],
)
def test_content_types_are_read_with_and_without_quotes(
    client: TestClient, content_type: str
) -> None:
    body = body_of(({}, file_of(1)), ({"content-type": "application/dicom"}, file_of(2)))
    answer = post(client, body, content_type=content_type)
    assert len(items(answer, STORED)) == 2


def test_a_boundary_with_odd_characters_is_quoted(client: TestClient) -> None:
    body = body_of(file_of(1), boundary="a=b:c ?(d)")
    answer = post(client, body, content_type='multipart/related; boundary="a=b:c ?(d)"')
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/form-data; boundary=b", 415),
        ("multipart/related; type=image/jpeg; boundary=b", 415),
        ("application/zip", 415),
        ("application/octet-stream", 415),
        ("nonsense", 415),
        ("multipart/related; type=application/dicom", 400),
        (f"multipart/related; boundary={'x' * 71}", 400),
        ("multipart/related; boundary=other", 400),
    ],
)
def test_bodies_that_are_not_taken(client: TestClient, content_type: str, status: int) -> None:
    answer = post(client, body_of(file_of(1)), content_type=content_type)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/api/studies/1.2.3").status_code == 404


def test_a_compressed_body_is_415(client: TestClient) -> None:
    answer = post(client, body_of(file_of(1)), **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415


@pytest.mark.parametrize("content", [b"", b"--b--", b"no multipart", body_of(file_of(1))[:-3]])
def test_a_body_of_which_nothing_can_be_stored_is_400(client: TestClient, content: bytes) -> None:
    answer = post(client, content)
    assert answer.status_code == 400
    assert client.get("/api/studies/1.2.3").status_code == 404


def test_an_empty_single_part_is_400(client: TestClient) -> None:
    assert post(client, b"", content_type=DICOM).status_code == 400


def test_what_was_whole_before_a_body_breaks_off_is_stored_and_answered(
    client: TestClient,
) -> None:
    whole = body_of(file_of(1), file_of(2))
    answer = post(client, whole[: -len(b"\r\n--b--") - 40])

    assert answer.status_code == 202
    assert [item["00081155"] for item in items(answer, STORED)] == ["1.2.3.1.1"]
    assert items(answer, FAILED)[0]["00081155"] == "1.2.3.1.2"
    assert client.get("/api/studies/1.2.3").json()["number_of_instances"] == 1


def test_a_part_whose_length_is_not_what_it_says_is_refused(client: TestClient) -> None:
    head = {"Content-Type": DICOM, "Content-Length": str(len(file_of(1)) + 1)}
    right = {"Content-Type": DICOM, "Content-Length": str(len(file_of(2)))}
    answer = post(client, body_of((head, file_of(1)), (right, file_of(2))))

    assert answer.status_code == 202
    assert items(answer, FAILED)[0]["00081155"] == "1.2.3.1.1"


def test_preamble_epilogue_and_a_boundary_in_the_data_do_no_harm(client: TestClient) -> None:
    pixels = b"\r\n--b-x\r\n--bb--\r\n--" * 4
    body = b"read by nobody\r\n" + body_of(file_of(1, pixels=pixels)) + b"\r\n--b\r\nepilogue"
    assert post(client, body).status_code == 200
    assert fetched(client, "1.2.3.1.1").PixelData == pixels


def test_a_head_without_end_is_400(client: TestClient) -> None:
    assert post(client, b"--b\r\nX: " + b"y" * 100_000).status_code == 400


def test_a_truncated_instance_fails(client: TestClient) -> None:
    answer = post(client, body_of(file_of(1)[:-10], file_of(2)))
    assert items(answer, FAILED) == [
        {"00081150": CT_IMAGE, "00081155": "1.2.3.1.1", "00081197": 0xC000}
    ]


def test_uids_that_are_paths_do_not_leave_the_archive(client: TestClient) -> None:
    hostile = file_of(1, StudyInstanceUID="1.2.345678").replace(b"1.2.345678", b"../../../x")
    assert post(client, body_of(hostile)).status_code == 409
    for path in (f"{STUDIES}/..%2F..%2Fetc", f"{STUDIES}/{'1' * 65}"):
        assert post(client, body_of(file_of(1)), path=path).status_code in (400, 404, 405)
    assert client.get("/api/studies").json()["rows"] == []


def test_parts_beyond_what_an_answer_can_name_are_not_stored(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "MAX_OBJECTS", 2)
    answer = post(client, body_of(*(file_of(number) for number in range(1, 6))))

    assert answer.status_code == 202
    assert len(items(answer, STORED)) == 2
    assert items(answer, OTHER) == [{"00081197": 0xA700}]
    assert client.get("/api/studies/1.2.3").json()["number_of_instances"] == 2


def test_an_object_larger_than_the_node_takes_fails(tmp_path: Path) -> None:
    with serving(tmp_path / "small", storage={"max_object_mb": 1}) as small:
        large = file_of(1, pixels=b"\0" * 1_100_000)
        answer = post(small, body_of(large, file_of(2)))
        assert items(answer, FAILED) == [
            {"00081150": CT_IMAGE, "00081155": "1.2.3.1.1", "00081197": 0xA700}
        ]
        assert len(items(answer, STORED)) == 1
        assert left_over(small) == []


def test_storing_needs_the_role_work_and_deleting_admin() -> None:
    assert needed_role("POST", STUDIES) is Role.WORK
    assert needed_role("POST", f"{STUDIES}/1.2.3") is Role.WORK
    assert needed_role("DELETE", f"{STUDIES}/1.2.3") is Role.ADMIN


# Metadata and bulk data


def document(number: int = 1, **values: Any) -> dict[str, Any]:
    """A CT in DICOM JSON, its pixel data elsewhere."""
    dataset = Dataset.from_json({})
    for keyword, value in {
        "SOPClassUID": CT_IMAGE,
        "SOPInstanceUID": f"1.2.3.1.{number}",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "PatientName": "Müller^Eva=山田",
        "PatientID": "P1",
        "Modality": "CT",
        "Rows": 4,
        "Columns": 4,
        "SliceThickness": "2.5",
    }.items():
        setattr(dataset, keyword, value)
    found: dict[str, Any] = dataset.to_json_dict()
    found["7FE00010"] = {"vr": "OW", "BulkDataURI": f"bulk/{number}"}
    return found | values


def bulk(content: bytes, location: str = "bulk/1", kind: str = "application/octet-stream") -> Part:
    return {"Content-Type": kind, "Content-Location": location}, content


def in_json(*documents: dict[str, Any]) -> Part:
    return {"Content-Type": JSON}, json.dumps(list(documents)).encode()


def test_metadata_in_json_and_bulk_data_become_objects(client: TestClient) -> None:
    pixels = bytes(range(32))
    body = body_of(in_json(document(1), document(2)), bulk(pixels, "bulk/2"), bulk(pixels[::-1]))
    answer = post(client, body, kind=JSON)

    assert answer.status_code == 200, answer.text
    first, second = (fetched(client, f"1.2.3.1.{number}") for number in (1, 2))
    assert (first.PixelData, second.PixelData) == (pixels[::-1], pixels)
    assert first.PatientName == "Müller^Eva=山田"
    assert (first.SliceThickness, first.Rows) == (2.5, 4)
    assert first.file_meta.TransferSyntaxUID == EXPLICIT


def test_metadata_in_xml_and_bulk_data_become_objects(client: TestClient) -> None:
    def in_xml(number: int) -> Part:
        attributes = [
            ("00080016", "UI", f"<Value>{CT_IMAGE}</Value>"),
            ("00080018", "UI", f"<Value number='1'>1.2.3.1.{number}</Value>"),
            ("0020000D", "UI", "<Value>1.2.3</Value>"),
            ("0020000E", "UI", "<Value>1.2.3.1</Value>"),
            ("7FE00010", "OB", f'<BulkData uri="http://elsewhere/{number}"/>'),
        ]
        inner = "".join(
            f'<DicomAttribute tag="{tag}" vr="{vr}">{value}</DicomAttribute>'
            for tag, vr, value in attributes
        )
        return {"Content-Type": XML}, f"<NativeDicomModel>{inner}</NativeDicomModel>".encode()

    pixels = bulk(b"odd", "http://elsewhere/2")
    answer = post(client, body_of(in_xml(1), in_xml(2), pixels), kind=XML)

    assert answer.status_code == 202
    assert fetched(client, "1.2.3.1.2").PixelData == b"odd\0"
    assert items(answer, FAILED)[0]["00081155"] == "1.2.3.1.1"  # no URI is fetched


def test_metadata_alone_are_an_object(client: TestClient) -> None:
    report = document()
    report["7FE00010"] = {"vr": "OB", "InlineBinary": "AAEC"}
    answer = post(client, json.dumps(report).encode(), content_type=JSON)
    assert answer.status_code == 200
    assert fetched(client, "1.2.3.1.1").PixelData == b"\0\1\2\0"


def test_bulk_data_may_be_deep_in_sequences(client: TestClient) -> None:
    wave = {"54001010": {"vr": "OW", "BulkDataURI": "wave"}}
    deep = document(**{"54000100": {"vr": "SQ", "Value": [wave, {}]}})
    body = body_of(in_json(deep), bulk(b"wave!!", "wave"), bulk(b"\0" * 32))
    assert post(client, body, kind=JSON).status_code == 200
    stored = fetched(client, "1.2.3.1.1")
    assert [len(item) for item in stored.WaveformSequence] == [1, 0]
    assert stored.WaveformSequence[0].WaveformData == b"wave!!"


def test_compressed_frames_become_encapsulated_pixel_data(client: TestClient) -> None:
    loop = document(**{"00280008": {"vr": "IS", "Value": [2]}})
    kind = "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91"
    frames = (bulk(b"second", "bulk/1/frames/2", kind), bulk(b"first", "bulk/1/frames/1", kind))
    assert post(client, body_of(in_json(loop), *frames), kind=JSON).status_code == 200

    stored = fetched(client, "1.2.3.1.1")
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.91"
    assert list(generate_frames(stored.PixelData, number_of_frames=2)) == [b"first\0", b"second"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, [bulk(b"x", kind="image/jpeg"), bulk(b"y", kind="image/jpeg")]),
        ({}, [bulk(b"x", kind="image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90")]),
        ({}, []),
        ({"00080018": {"vr": "UI", "Value": ["../x"]}}, [bulk(b"x")]),
        ({"00280010": {"vr": "US", "Value": ["x"]}}, [bulk(b"x")]),
        ({"00280010": {"vr": "XX", "Value": [1]}}, [bulk(b"x")]),
        ({"zzz": {"vr": "LO"}}, [bulk(b"x")]),
        ({"00100020": {"vr": "LO", "Value": ["x" * 70_000]}}, [bulk(b"x")]),
    ],
)
def test_metadata_that_make_no_object_fail(
    client: TestClient, changes: dict[str, Any], parts: list[Part]
) -> None:
    good = document(2) | {"7FE00010": {"vr": "OW", "InlineBinary": "AAA="}}
    body = body_of(in_json(document(1) | changes, good), *parts)
    answer = post(client, body, kind=JSON)
    assert answer.status_code == 202, answer.text
    assert [item["00081155"] for item in items(answer, STORED)] == ["1.2.3.1.2"]
    assert len(items(answer, FAILED) + items(answer, OTHER)) == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (JSON, b"{"),
        (JSON, b"[{}} ]"),
        (JSON, b"[" * 10_000),
        (JSON, b'{"00081140":{"vr":"SQ","Value":[' * 10_000),
        (JSON, b"\xff"),
        (XML, b"<!DOCTYPE x [<!ENTITY a 'b'>]><NativeDicomModel>&a;</NativeDicomModel>"),
        (XML, b"<NativeDicomModel>"),
        (XML, b'<NativeDicomModel><DicomAttribute tag="00081140" vr="SQ"><Item>' * 10_000),
    ],
)
def test_metadata_that_cannot_be_read_are_400(client: TestClient, kind: str, text: bytes) -> None:
    answer = post(client, body_of(({"Content-Type": kind}, text)), kind=kind)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_too_many_metadata_are_413(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert post(client, b'{"' + b"[," * 300_000, content_type=JSON).status_code == 413
    monkeypatch.setattr(metadata, "MAX_BYTES", 1000)
    assert post(client, b'"' + b"x" * 1000, content_type=JSON).status_code == 413
    assert client.app.state.web.sent_metadata.taken == 0


def test_who_sends_much_metadata_leaves_room_for_those_of_others(client: TestClient) -> None:
    held = client.app.state.web.sent_metadata
    assert held.take("login one", metadata.MAX_BYTES) == ""
    assert held.take("login one") == "each"
    try:
        assert (
            post(client, b" " * (metadata.MAX_BYTES - 2) + b"{}", content_type=JSON).status_code
            == 409
        )
    finally:
        held.give("login one", metadata.MAX_BYTES)


# Deleting


def test_deleting_at_each_level(client: TestClient) -> None:
    post(client, body_of(*(file_of(number) for number in (1, 2, 3))))
    series = f"{STUDIES}/1.2.3/series/1.2.3.1"

    for wrong in (
        f"{STUDIES}/1.2.4/series/1.2.3.1/instances/1.2.3.1.1",
        f"{STUDIES}/1.2.4/series/1.2.3.1",
        f"{series}/instances/1.2.9",
        f"{STUDIES}/1.2.4",
    ):
        assert client.delete(wrong).status_code == 404
    assert client.delete(f"{series}/instances/1.2.3.1.1").status_code == 204
    assert client.get("/api/studies/1.2.3").json()["number_of_instances"] == 2
    client.put("/api/studies/1.2.3/protection")
    assert client.delete(series).status_code == 409
    client.delete("/api/studies/1.2.3/protection")
    assert client.delete(series).status_code == 204
    post(client, body_of(file_of(1)))
    assert client.delete(f"{STUDIES}/1.2.3").status_code == 204
    assert client.get("/api/studies/1.2.3").status_code == 404


def test_a_series_is_deleted_in_its_study_only(client: TestClient) -> None:
    elsewhere = file_of(2, StudyInstanceUID="1.2.4")
    post(client, body_of(file_of(1), elsewhere))
    assert client.delete(f"{STUDIES}/1.2.3/series/1.2.3.1").status_code == 204
    assert client.get("/api/studies/1.2.4").json()["number_of_instances"] == 1


# Compression


def test_documents_are_sent_as_gzip_to_those_who_take_it(client: TestClient) -> None:
    many = body_of(*(file_of(number) for number in range(1, 12)))
    answer = post(client, many, **{"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(items(answer, STORED)) == 11
    plain = post(client, many, **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_an_unexpected_error_leaves_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    numbers = count(1)

    def store(*asked: Any) -> Any:
        if next(numbers) == fails:
            raise MemoryError
        return store_spooled(*asked)

    monkeypatch.setattr(parts, "store_spooled", store)
    answer = post(client, body_of(file_of(1), file_of(2), file_of(3)))

    assert answer.status_code == 500
    assert left_over(client) == []
    assert post(client, body_of(file_of(4))).status_code == 200
