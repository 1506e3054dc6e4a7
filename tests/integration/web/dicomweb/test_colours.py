"""The colours of what is decoded: those of the metadata for frames, those of its header for a file.

A viewer knows frames by the metadata of their instance. Here pydicom is the viewer: it gets the
metadata with the frames as Pixel Data, and must see what it sees in the stored file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from tests.support.pixel_objects import described, ramp
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving

STUDY, SERIES = "1.2.826.0.1.3680043.10.6", "1.2.826.0.1.3680043.10.6.1"
FILES = Path(pydicom.data.__file__).parent / "test_files"
OF_PYDICOM = sorted(
    path.name
    for path in FILES.glob("*.dcm")
    if path.name.startswith(("SC_rgb", "SC_jpeg", "GDCMJ2K", "examples_ybr", "examples_jpeg"))
    and path.name != "SC_rgb_jpeg.dcm"  # not encoded as its head says
    and dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID.is_compressed
)
SHARED = "SC_rgb_dcmtk_+eb+cy+s2.dcm"  # its codestream shares chrominance as its header says
UNCOMPRESSED, DEFLATED = "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"
OCTETS = "application/octet-stream"
EXPLICIT = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"


def colours(photometric: str, planar: int, syntax: str = RLELossless) -> Dataset:
    """An image in colour of 8 by 12 pixels."""
    dataset = described(8, 12, photometric=photometric)
    values = ramp(8, 12, 8, samples=3).astype(np.uint8)
    dataset.PixelData = values.tobytes()
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.PlanarConfiguration = planar
    return dataset


def in_fragments(syntax: str, photometric: str, planar: int) -> Dataset:
    """The same with native pixels in its fragments, deflated or not."""
    dataset = described(8, 12, syntax=syntax, photometric=photometric)
    dataset.PlanarConfiguration = planar
    size = 8 * 12 * (2 if photometric.endswith("_422") else 3)
    content = (np.arange(size) * 37 % 251).astype(np.uint8).tobytes()
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-15)
        content = deflater.compress(content) + deflater.flush()
    dataset.PixelData = encapsulate([content + b"\0" * (len(content) % 2)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


MADE = {
    "RLE, RGB by plane": colours("RGB", 1),
    "RLE, YBR by pixel": colours("YBR_FULL", 0),
    "RLE, YBR by plane": colours("YBR_FULL", 1),
    "JPEG-LS, YBR by plane": colours("YBR_FULL", 1, JPEGLSLossless),
    "JPEG-LS, RGB": colours("RGB", 0, JPEGLSLossless),
}
IN_FRAGMENTS = {
    f"{syntax}, {photometric} {planar}": in_fragments(syntax, photometric, planar)
    for syntax in (UNCOMPRESSED, DEFLATED)
    for photometric, planar in (("RGB", 1), ("YBR_FULL", 0), ("YBR_FULL_422", 0))
}


@pytest.fixture(scope="module")
def stored() -> dict[str, FileDataset]:
    """Every object by its name, each with a UID of its own."""
    read: dict[str, Dataset] = {name: dcmread(FILES / name) for name in OF_PYDICOM}
    read |= MADE | IN_FRAGMENTS
    odd = dcmread(FILES / "SC_rgb_small_odd_jpeg.dcm")
    odd.PhotometricInterpretation = "YBR_FULL_422"
    read["odd"] = odd
    found = {}
    for number, (name, dataset) in enumerate(read.items(), 1):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
        dataset.PatientID = "COLOURS"
        uid = f"{SERIES}.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        found[name] = dcmread(BytesIO(as_file(dataset)))
    return found


@pytest.fixture(scope="module")
def colour_node(
    stored: dict[str, FileDataset], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("colours") / "data") as client:
        for dataset in stored.values():
            answer = client.post("/api/instances", content=as_file(dataset))
            assert answer.status_code == 201, answer.text
        yield client


def get(node, dataset, tail, accept=OCTETS):
    url = f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{dataset.SOPInstanceUID}{tail}"
    return node.get(url, headers={"Accept": accept})


def as_viewer(node, dataset) -> FileDataset:
    """The first frame with what the metadata say of it."""
    [described_so] = get(node, dataset, "/metadata", "application/dicom+json").json()
    answer = get(node, dataset, "/frames/1")
    assert answer.headers["content-type"] == f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
    assert int(answer.headers["content-length"]) == len(answer.content)
    del described_so["7FE00010"]
    seen = Dataset.from_json(described_so, lambda *_: b"")
    seen.file_meta = FileMetaDataset()
    seen.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seen.NumberOfFrames = 1
    seen.PixelData = answer.content + b"\0" * (len(answer.content) % 2)
    seen["PixelData"].VR = "OB" if seen.BitsAllocated == 8 else "OW"
    return dcmread(BytesIO(as_file(seen)))


@pytest.mark.parametrize("name", [*OF_PYDICOM, *MADE])
def test_frames_beside_their_metadata_show_what_the_file_shows(colour_node, stored, name):
    seen = as_viewer(colour_node, stored[name])
    expected, found = pixel_array(stored[name], index=0), pixel_array(seen, index=0)

    if seen.PhotometricInterpretation == "YBR_FULL_422" and name != SHARED:
        difference = np.abs(found.astype(int) - expected)  # two pixels lose half their chrominance
        assert np.median(difference) <= 1
        assert (difference <= 4).mean() > 0.95
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", [name for name in OF_PYDICOM if "ybr" in name or "+s2" in name])
def test_shared_chrominance_is_that_of_the_two_pixels(colour_node, stored, name):
    seen, raw = as_viewer(colour_node, stored[name]), pixel_array(stored[name], raw=True, index=0)
    rows, columns, _ = raw.shape
    pairs = np.frombuffer(seen.PixelData, np.uint8).reshape(rows, columns // 2, 4)
    both = raw.reshape(rows, columns // 2, 2, 3).astype(int)

    np.testing.assert_array_equal(pairs[..., :2], both[..., 0])
    np.testing.assert_array_equal(pairs[..., 2:], (both[..., 1:].sum(axis=2) + 1) // 2)


@pytest.mark.parametrize("name", IN_FRAGMENTS)
def test_native_pixels_in_fragments_come_as_they_are(colour_node, stored, name):
    dataset = stored[name]
    size = 8 * 12 * (2 if dataset.PhotometricInterpretation.endswith("_422") else 3)
    content = get(colour_node, dataset, "/frames/1").content

    assert content == (np.arange(size) * 37 % 251).astype(np.uint8).tobytes()


@pytest.mark.parametrize("name", [*OF_PYDICOM, *MADE, "odd"])
def test_a_whole_instance_has_a_header_that_fits_its_pixels(colour_node, stored, name):
    made = dcmread(BytesIO(get(colour_node, stored[name], "", EXPLICIT).content))

    np.testing.assert_array_equal(pixel_array(made), pixel_array(stored[name]))
    assert made.PhotometricInterpretation in ("RGB", "YBR_FULL")


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        (OCTETS, 406, "application/problem+json"),
        ("image/jpeg", 200, "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"),
        ("*/*", 200, "multipart/related"),
    ],
)
def test_an_odd_number_of_columns_cannot_share_chrominance(
    colour_node, stored, accept, status, content_type
):
    answer = get(colour_node, stored["odd"], "/frames/1", accept)

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(content_type)
