"""Objects in a bucket over HTTP: only what is needed of them is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
)

from lfscp.archive.upkeep.stale_copies import remove_stale
from lfscp.config import Settings
from lfscp.dicom.values.attributes import Level
from tests.support.bucket_requests import bucket, forget_copies, gets, open_archive, relay
from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving_archive
from tests.support.web_objects import new

__all__ = ["bucket", "open_archive", "relay"]
STUDY, SERIES = "1.2.826.0.1.3680043.10.7", "1.2.826.0.1.3680043.10.7.1"
NATIVE, RLE, NO_TABLE, IMPLICIT, PDF = (f"{SERIES}.{number}" for number in range(1, 6))
FRAMES, ROWS, COLUMNS = 60, 128, 128
URL = f"/dicom-web/studies/{STUDY}/series/{SERIES}"
KB = 1 << 10


def cells(number: int) -> bytes:
    """The values of one frame."""
    values = np.random.default_rng(number).integers(0, 1 << 16, ROWS * COLUMNS, "u2")
    return values.astype("<u2").tobytes()


def multi_frame(uid: str) -> Dataset:
    """2 MB, with a long binary value and long text before the pixels."""
    dataset = new(MultiFrameGrayscaleWordSecondaryCaptureImageStorage, uid, STUDY, SERIES)
    dataset.PatientID, dataset.PatientName = "BUCKET", "Doe^Jane"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = FRAMES, ROWS, COLUMNS
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RedPaletteColorLookupTableData = bytes(100 * KB)
    dataset.TextValue = "long " * 4_000
    dataset.ReferencedImageSequence = [item(number) for number in range(500)]
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.PixelData = b"".join(map(cells, range(FRAMES)))
    dataset["PixelData"].VR = "OW"
    return dataset


def item(number: int) -> Dataset:
    found = Dataset()
    found.ReferencedSOPInstanceUID = f"1.2.3.{number}"
    found.ReferencedSOPClassUID = EncapsulatedPDFStorage
    return found


def fragments(uid: str, syntax: str, *, has_table: bool) -> Dataset:
    """The same in fragments that hold no codestreams."""
    dataset = multi_frame(uid)
    dataset.file_meta.TransferSyntaxUID = syntax
    frames = [cells(number) for number in range(FRAMES)]
    dataset.PixelData = encapsulate(frames, has_bot=has_table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def implicit(uid: str) -> Dataset:
    dataset = multi_frame(uid)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    plain = Dataset(dataset)
    plain.file_meta = dataset.file_meta
    return plain


def document() -> Dataset:
    dataset = new(EncapsulatedPDFStorage, PDF, STUDY, SERIES, PatientID="BUCKET")
    dataset.EncapsulatedDocument = bytes(range(256)) * (8 * KB)
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"  # behind it
    dataset.EncapsulatedDocumentLength = 256 * 8 * KB - 1
    return dataset


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    made = {NATIVE: multi_frame(NATIVE), IMPLICIT: implicit(IMPLICIT), PDF: document()}
    made[RLE] = fragments(RLE, RLELossless, has_table=True)
    made[NO_TABLE] = fragments(NO_TABLE, JPEGBaseline8Bit, has_table=False)
    return {uid: as_file(dataset) for uid, dataset in made.items()}


@pytest.fixture
def node(open_archive, contents, tmp_path, monkeypatch) -> Iterator[TestClient]:
    monkeypatch.setattr("lfscp.archive.store.partial_dataset._WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr("lfscp.archive.store.partial_dataset._BLOCK", 1 << 13)
    archive = open_archive(timeout_s=60.0)
    settings = Settings.model_validate({"data_dir": str(tmp_path / "a")})
    with serving_archive(archive, settings) as client:
        for content in contents.values():
            assert client.post("/api/instances", content=content).status_code == 201
        yield client


@pytest.fixture
def fetched(node, relay):
    """Bytes fetched from the bucket since the copies were forgotten."""
    forget_copies(node.app.state.web.archive)
    relay.requests.clear()

    def count() -> int:
        ranges = [re.fullmatch(r"bytes=(\d+)-(\d+)", part) for _, part in gets(relay)]
        return sum(int(each[2]) - int(each[1]) + 1 for each in ranges if each)

    return count


@pytest.mark.parametrize("uid", [NATIVE, RLE, NO_TABLE, IMPLICIT, PDF])
def test_metadata_are_those_of_the_whole_object_and_fetch_little(node, fetched, uid):
    answer = node.get(f"{URL}/instances/{uid}/metadata")
    little = fetched()
    [instance] = node.app.state.web.archive.select(Level.IMAGE, {Level.IMAGE: [uid]})
    with instance.path.open("rb"):  # fetches all of it
        pass
    whole = node.get(f"{URL}/instances/{uid}/metadata")

    assert answer.json() == whole.json()
    assert 0 < little < 150 * KB
    assert fetched() > 1900 * KB
    assert answer.json()[0]["00080018"]["Value"] == [uid]


def test_those_of_a_series_fetch_little_of_each(node, fetched):
    answer = node.get(f"{URL}/metadata")

    assert [each["00080018"]["Value"][0] for each in answer.json()] == [
        NATIVE,
        IMPLICIT,
        PDF,
        RLE,
        NO_TABLE,
    ]
    assert fetched() < 600 * KB


@pytest.mark.parametrize("uid", [NATIVE, IMPLICIT, RLE])
@pytest.mark.parametrize("numbers", ["31", "60,1,2"])
def test_frames_are_fetched_alone(node, fetched, uid, numbers):
    accept = 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'
    for _ in range(2):  # then it is known where they are
        parts = parts_of(
            node.get(f"{URL}/instances/{uid}/frames/{numbers}", headers={"Accept": accept})
        )
        expected = [cells(int(number) - 1) for number in numbers.split(",")]
        assert [part.content for part in parts] == expected
    assert fetched() < 600 * KB


def test_frames_without_a_table_are_found_in_the_whole_object(node, fetched):
    accept = 'multipart/related; type="image/jpeg"'
    answer = node.get(f"{URL}/instances/{NO_TABLE}/frames/31", headers={"Accept": accept})

    assert [part.content for part in parts_of(answer)] == [cells(30)]
    assert fetched() > 1900 * KB


def test_a_frame_that_is_not_there_is_not_found(node, fetched):
    assert node.get(f"{URL}/instances/{NATIVE}/frames/61").status_code == 404
    assert fetched() < 300 * KB


def test_a_range_of_a_document_is_fetched_alone(node, fetched):
    headers = {"Accept": "application/pdf", "Range": "bytes=1000001-1000300"}
    answer = node.get(f"{URL}/instances/{PDF}/bulkdata/00420011", headers=headers)
    whole = bytes(range(256)) * (8 * KB)

    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes 1000001-1000300/{len(whole) - 1}"
    assert answer.content == whole[1_000_001:1_000_301]
    assert fetched() < 300 * KB


def test_the_copies_of_objects_go_with_them(node, relay):
    root: Path = node.app.state.web.archive.files.root
    assert any(root.glob("copies/*/*"))
    assert node.delete(f"/dicom-web/studies/{STUDY}").status_code == 204

    assert list(root.glob("copies/*/*")) == []


def test_an_object_that_cannot_be_fetched_is_left_out_and_not_kept(node, fetched, relay):
    relay.fail(503, "SlowDown")
    assert node.get(f"{URL}/metadata").json() == []
    relay.heal()
    assert len(node.get(f"{URL}/metadata").json()) == 5


def test_copies_of_what_another_node_deleted_go_at_the_next_upkeep(node):
    archive = node.app.state.web.archive
    assert remove_stale(archive) == 0
    archive.index.delete(Level.IMAGE, PDF, None)

    assert remove_stale(archive) == 1
    assert len(list(archive.files.root.glob("copies/*/*"))) == 4
