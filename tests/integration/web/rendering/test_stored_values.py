"""Frames as values of 16 bits: a viewer that windows them shows what the node renders."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.dataset import FileDataset

from lfscp.web.imaging.windows import Window, apply_window
from tests.support.images import image, table

RAMP = np.arange(64 * 64).reshape(64, 64)
FRAME = "/api/instances/1.2.3.4/frames/1"


def upload(client: TestClient, dataset: FileDataset, folder: Path) -> None:
    path = folder / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    assert client.post("/api/instances", content=path.read_bytes()).status_code == 201


def overlaid(dataset: FileDataset) -> FileDataset:
    for element, value in ((0x10, 64), (0x11, 64), (0x100, 1), (0x102, 0)):
        dataset.add_new((0x6000, element), "US", value)
    dataset.add_new((0x6000, 0x40), "CS", "G")
    dataset.add_new((0x6000, 0x50), "SS", [1, 1])
    bits = np.zeros((64, 64), int)
    bits[5, 1:7] = 1
    dataset.add_new((0x6000, 0x3000), "OW", np.packbits(bits.ravel(), bitorder="little").tobytes())
    return dataset


def shown(client: TestClient, window: Window | None) -> np.ndarray:
    """A picture made of the values, by their headers only."""
    answer = client.get(f"{FRAME}/values")
    assert answer.status_code == 200, answer.text
    told = answer.headers
    rows, columns = int(told["Frame-Rows"]), int(told["Frame-Columns"])
    kind = "<i2" if told["Frame-Pixel-Representation"] == "1" else "<u2"
    stored = np.frombuffer(answer.content, kind, rows * columns).reshape(rows, columns)
    values = stored.astype(told["Frame-Precision"])
    values *= values.dtype.type(float(told["Frame-Rescale-Slope"]))
    values += values.dtype.type(float(told["Frame-Rescale-Intercept"]))
    if window is None:
        center, width, function = told["Frame-Window"].split()
        window = Window(float(center), float(width), function)  # type: ignore[arg-type]
    shades = apply_window(values, window)
    if told["Frame-Photometric-Interpretation"] == "MONOCHROME1":
        shades = 255 - shades
    if "Frame-Padding" in told:
        low, high = map(int, told["Frame-Padding"].split())
        shades[(stored >= low) & (stored <= high)] = 0
    if told["Frame-Overlays"] == "1":
        bits = np.frombuffer(answer.content[2 * rows * columns :], np.uint8)
        covered = np.unpackbits(bits, bitorder="little")[: rows * columns].astype(bool)
        shades[covered.reshape(rows, columns)] = 255
    return shades


def rendered(client: TestClient, window: Window | None) -> np.ndarray:
    query = {"encoding": "png"}
    if window is not None:
        query |= {"center": window.center, "width": window.width, "function": window.function}
    answer = client.get(FRAME, params=query)
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


IMAGES = {
    "unsigned": image(RAMP.astype("<u2"), WindowCenter=2000, WindowWidth=1500),
    "signed": image((RAMP - 2000).astype("<i2"), WindowCenter=0, WindowWidth=999.5),
    "12 bits": image(RAMP.astype("<u2"), BitsStored=12, WindowCenter=2000, WindowWidth=700),
    "8 bits": image((RAMP % 256).astype("u1")),
    "without a window": image((RAMP * 7).astype("<u2")),
    "white is small": image(RAMP.astype("<u2"), PhotometricInterpretation="MONOCHROME1"),
    "inverse": image(RAMP.astype("<u2"), PresentationLUTShape="INVERSE"),
    "rescaled": image(
        RAMP.astype("<u2"),
        RescaleSlope="0.37",
        RescaleIntercept="-1024.3",
        WindowCenter="40",
        WindowWidth="80",
        RescaleType="HU",
    ),
    "widely rescaled": image(
        RAMP.astype("<u2"),
        RescaleSlope="0.0000001",
        RescaleIntercept="1000",
        WindowCenter="1000",
        WindowWidth="0.0003",
    ),
    "padded": image(
        (RAMP - 2000).astype("<i2"), PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1500
    ),
    "overlaid": overlaid(image(RAMP.astype("<u2"))),
    "modality LUT": image(
        (RAMP % 256).astype("u1"),
        ModalityLUTSequence=[table(np.arange(256)[::-1] * 100)],
        WindowCenter=12000,
        WindowWidth=9000,
    ),
}
WINDOWS = [None, Window(100, 300), Window(-3.5, 0.5), Window(10, 1), Window(50, 20, "LINEAR_EXACT")]


@pytest.mark.parametrize("name", IMAGES)
def test_values_and_their_headers_give_the_picture_of_the_node(client, tmp_path, name):
    upload(client, IMAGES[name], tmp_path)

    for window in (*WINDOWS, Window(700, 900, "SIGMOID")):
        assert np.array_equal(shown(client, window), rendered(client, window)), window
    assert client.get("/api/instances/1.2.3.4/picture").json()["has_values"]


def test_the_values_are_those_that_are_stored(client, tmp_path):
    upload(client, IMAGES["rescaled"], tmp_path)
    answer = client.get(f"{FRAME}/values")

    assert answer.content == RAMP.astype("<u2").tobytes()
    assert answer.headers["Frame-Rescale-Slope"] == "0.37"
    assert answer.headers["Frame-Rescale-Intercept"] == "-1024.3"
    assert answer.headers["Frame-Rescale-Type"] == "HU"


@pytest.mark.parametrize(
    ("values", "units"),
    [
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, "HU"),  # of CT
        ({"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"}, "US"),
        ({}, ""),
        (
            {"RescaleSlope": 2, "RescaleIntercept": 0, "RescaleType": "OD"}
            | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.1"},
            "",  # X-ray angiographic values are shown as stored
        ),
    ],
)
def test_units_are_told_of_rescaled_values_only(client, tmp_path, values, units):
    dataset = image(RAMP.astype("<u2"), **values)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    upload(client, dataset, tmp_path)

    assert client.get(f"{FRAME}/values").headers["Frame-Rescale-Type"] == units


def test_all_windows_of_an_object_are_told(client, tmp_path):
    dataset = image(
        RAMP.astype("<u2"),
        WindowCenter=[40, -600, 300, 7],
        WindowWidth=[400, 1500, 2000, 0],
        WindowCenterWidthExplanation=["SOFT", "LUNG"],
    )
    upload(client, dataset, tmp_path)

    found = client.get("/api/instances/1.2.3.4/picture").json()
    assert (found["center"], found["width"]) == (40, 400)
    assert found["other_windows"] == [
        {"name": "LUNG", "center": -600, "width": 1500, "function": "LINEAR"},
        {"name": "Window 3", "center": 300, "width": 2000, "function": "LINEAR"},
    ]


def test_a_voi_lut_has_no_window_to_tell(client, tmp_path):
    lut = table(np.arange(4096) * 16, bits=16)
    upload(client, image(RAMP.astype("<u2"), VOILUTSequence=[lut]), tmp_path)
    answer = client.get(f"{FRAME}/values")

    assert "Frame-Window" not in answer.headers
    assert client.get("/api/instances/1.2.3.4/picture").json()["voi_lut"]


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 3), "u1"),
        np.zeros((8, 8), "<u4"),
        np.linspace(0, 1, 64, dtype="<f4").reshape(8, 8),
    ],
)
def test_what_is_not_grey_of_16_bits_is_sent_as_a_picture_only(client, tmp_path, pixels):
    upload(client, image(pixels), tmp_path)
    answer = client.get(f"{FRAME}/values")

    assert answer.status_code == 415
    assert answer.json()["detail"].startswith("only grey frames of up to 16 bits")
    assert not client.get("/api/instances/1.2.3.4/picture").json()["has_values"]
    assert client.get(FRAME).status_code == 200


def test_a_modality_lut_with_padding_is_sent_as_a_picture_only(client, tmp_path):
    lut = [table(np.arange(256) * 100)]
    padded = image((RAMP % 256).astype("u1"), ModalityLUTSequence=lut, PixelPaddingValue=3)
    upload(client, padded, tmp_path)

    assert "padding" in client.get(f"{FRAME}/values").json()["detail"]


def test_a_frame_that_is_not_there_is_refused(client, tmp_path):
    upload(client, IMAGES["signed"], tmp_path)

    answer = client.get("/api/instances/1.2.3.4/frames/2/values")
    assert (answer.status_code, answer.json()["detail"]) == (
        415,
        "there is no frame 2, the object has 1",
    )
