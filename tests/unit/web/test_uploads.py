"""What people upload: files of any form, ZIPs, DICOMDIRs; stored, or refused with a reason."""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom import dcmread

from lfscp.dicom.part10.file_meta import part10_header
from lfscp.web.api import upload_outcome
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.web_app import serving
from tests.support.web_objects import new, set_pixels

HEAD = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT)
PRIVATE = "1.3.6.1.4.1.9999.1.1"


def in_a_zip(files: dict[str, bytes]) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return made.getvalue()


def dicomdir() -> bytes:
    return part10_header("1.2.840.10008.1.3.10", "1.2.9", EXPLICIT) + b"\x04\x00\x30\x11CS\0\0"


def test_the_datasets_uids_count_and_a_note_says_so(client: TestClient) -> None:
    head = part10_header(CT_IMAGE, "1.9.9", EXPLICIT)
    answer = client.post("/api/instances", content=head + encoded(1))

    assert answer.status_code == 201
    assert answer.json()["sop_instance_uid"] == "1.2.3.1.1"
    assert answer.json()["notes"] == [
        "the file meta information has SOP Instance UID 1.9.9, the dataset 1.2.3.1.1"
    ]
    file = dcmread(BytesIO(client.get("/api/instances/1.2.3.1.1/file").content))
    assert file.file_meta.MediaStorageSOPInstanceUID == "1.2.3.1.1"
    assert client.get("/api/instances/1.9.9").status_code == 404


@pytest.mark.parametrize(
    "head",
    [
        HEAD[:132] + HEAD[HEAD.index(b"\x02\x00\x10\x00UI") :],
        HEAD[132:],
        HEAD[:132] + HEAD[144:],
        b"",
    ],
    ids=["no UIDs", "no preamble", "no group length", "bare dataset"],
)
def test_an_odd_file_becomes_a_right_one(client: TestClient, head: bytes) -> None:
    answer = client.post("/api/instances", content=head + encoded(1))

    assert answer.status_code == 201
    assert answer.json()["notes"] != []
    file = dcmread(BytesIO(client.get("/api/instances/1.2.3.1.1/file").content))
    assert file.file_meta.MediaStorageSOPInstanceUID == "1.2.3.1.1"
    assert file.file_meta.TransferSyntaxUID == EXPLICIT
    assert file.PatientName == "Doe^Jane"


def test_a_right_file_has_no_notes(client: TestClient) -> None:
    assert client.post("/api/instances", content=HEAD + encoded(1)).json()["notes"] == []


def test_a_refusal_behind_a_long_value_has_its_reason(client: TestClient) -> None:
    whole = encoded(1)
    at, until = whole.index(b"\x20\x00\x0d\x00"), whole.index(b"\xe0\x7f\x10\x00")
    private = struct.pack("<HH2sHL", 0x0029, 0x1020, b"OB", 0, 33_000) + bytes(33_000)
    answer = client.post("/api/instances", content=HEAD + whole[:at] + private + whole[until:])

    assert answer.status_code == 422
    assert answer.json()["detail"] == "cannot read the dataset: (0020,000D) is missing"


def test_a_dicomdir_is_named_as_one(client: TestClient) -> None:
    answer = client.post("/api/instances", content=dicomdir())

    assert answer.status_code == 422
    assert "a DICOMDIR: it lists objects and is none itself" in answer.json()["detail"]


def test_a_dataset_that_begins_with_group_2_is_refused(client: TestClient) -> None:
    stray = b"\x02\x00\x10\x00UI\x12\x001.2.840.10008.1.2\0"
    answer = client.post("/api/instances", content=HEAD + stray + encoded(1))

    assert answer.status_code == 422
    assert client.get("/api/statistics").json()["instances"] == 0


def test_a_zip_is_taken_and_each_refused_file_named(client: TestClient, tmp_path: Path) -> None:
    other = part10_header(CT_IMAGE, "1.9.9", EXPLICIT) + encoded(2)
    files = {
        "DICOM/IM1": HEAD + encoded(1),
        "DICOM/IM2": other,
        "DICOM/IM3": HEAD + encoded(3)[:150],
        "DICOMDIR": dicomdir(),
        "notes.txt": b"no DICOM",
        "inner.zip": in_a_zip({"a": HEAD + encoded(4)}),
    }
    answer = client.post("/api/instances", content=in_a_zip(files))

    assert answer.status_code == 201
    stored, refused = answer.json()["stored"], answer.json()["refused"]
    assert [each["sop_instance_uid"] for each in stored] == ["1.2.3.1.1", "1.2.3.1.2"]
    assert [bool(each["notes"]) for each in stored] == [False, True]
    details = {each["file"]: (each["status"], each["detail"]) for each in refused}
    assert set(details) == {"DICOM/IM3", "DICOMDIR", "notes.txt", "inner.zip"}
    assert {status for status, _ in details.values()} == {422}
    assert "a DICOMDIR" in details["DICOMDIR"][1]
    assert "a ZIP in a ZIP" in details["inner.zip"][1]
    assert "no DICOM file" in details["notes.txt"][1]
    assert client.get("/api/statistics").json()["instances"] == 2
    assert list((tmp_path / "data").rglob("zip-*")) == list((tmp_path / "data").rglob("upload-*"))


@pytest.mark.parametrize("in_a_form", [False, True])
def test_of_more_files_than_an_answer_can_name_the_rest_is_not_stored(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, in_a_form: bool
) -> None:
    monkeypatch.setattr(upload_outcome, "MAX_ANSWER_BYTES", 700)
    content = in_a_zip({str(each): HEAD + encoded(each) for each in range(1, 10)})
    if in_a_form:
        files = [("files", (f"{name}.zip", content)) for name in "ab"]
        answer = client.post("/api/instances", files=files).json()
    else:
        answer = client.post("/api/instances", content=content).json()

    assert 1 < len(answer["stored"]) < 9
    assert answer["refused"][0]["status"] == 413
    assert answer["refused"][0]["file"].endswith(str(len(answer["stored"]) + 1))
    assert [each["file"] for each in answer["refused"][1:]] == (["b.zip"] if in_a_form else [])
    assert client.get("/api/statistics").json()["instances"] == len(answer["stored"])


def test_a_form_may_hold_a_zip(client: TestClient) -> None:
    content = in_a_zip({"IM1": HEAD + encoded(1), "b.txt": b"no"})
    form = [("files", ("disc.zip", content)), ("files", ("IM2", HEAD[128:] + encoded(2)))]
    answer = client.post("/api/instances", files=form).json()

    stored = [each["sop_instance_uid"] for each in answer["stored"]]
    assert stored == ["1.2.3.1.1", "1.2.3.1.2"]
    assert [each["file"] for each in answer["refused"]] == ["disc.zip/b.txt"]


def test_a_zip_that_is_broken_is_refused_as_a_whole(client: TestClient) -> None:
    answer = client.post("/api/instances", content=in_a_zip({"a": HEAD + encoded(1)})[:-30])

    assert answer.status_code == 422
    assert "the ZIP is damaged" in answer.json()["detail"]


def private_object() -> bytes:
    return encoded(1).replace(
        struct.pack("<H", len(CT_IMAGE) + 1) + CT_IMAGE.encode() + b"\0",
        struct.pack("<H", len(PRIVATE)) + PRIVATE.encode(),
        1,
    )


@pytest.mark.parametrize(
    ("storage", "status"),
    [
        ({}, 201),
        ({"accept_unknown_sop_classes": False}, 422),
        ({"accept_unknown_sop_classes": False, "private_sop_classes": [PRIVATE]}, 201),
    ],
)
def test_private_sop_classes_are_taken_as_configured(
    tmp_path: Path, storage: dict[str, object], status: int
) -> None:
    with serving(tmp_path / "data", storage=storage) as client:
        answer = client.post("/api/instances", content=private_object())

    assert answer.status_code == status
    if status == 422:
        assert f"SOP class {PRIVATE} is not accepted" in answer.json()["detail"]


def test_an_image_with_a_missing_vr_is_shown(client: TestClient) -> None:
    dataset = new("1.2.840.10008.5.1.4.1.1.7", "1.2.7.1", "1.2.7", "1.2.7.0", Modality="OT")
    set_pixels(dataset, np.arange(0, 256, 16, dtype=np.uint8).reshape(4, 4))
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelPaddingValue = 0
    dataset["PixelPaddingValue"].VR = "US"
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    content = file.getvalue().replace(b"\x28\x00\x20\x01US", b"\x28\x00\x20\x01  ")
    assert content != file.getvalue()
    assert client.post("/api/instances", content=content).status_code == 201

    answer = client.get("/api/instances/1.2.7.1/frames/1?encoding=png")
    shown = np.asarray(Image.open(BytesIO(answer.content)))
    assert shown.tolist() == np.arange(0, 256, 16).reshape(4, 4).tolist()
    assert client.get("/api/instances/1.2.7.1/file").content == content
