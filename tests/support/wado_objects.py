"""A node's application with objects of every kind of pixel data; a fixture of tests of WADO."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000Lossless,
    RLELossless,
)

from tests.support.retrieved_objects import (
    BIG_ENDIAN,
    BITS,
    DEFLATED,
    J2K,
    NO_TABLE,
    PDF_UID,
    RLE,
    VIDEO,
    as_file,
    multi_frame,
    pdf,
    turned,
    video,
)
from tests.support.web_app import serving
from tests.support.web_objects import colour_loop, ct_slice, report


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A CT of three slices, a loop in colour, a report, and one object for each transfer syntax."""
    objects: list[Dataset] = [*(ct_slice(number, 3) for number in (1, 2, 3)), colour_loop()]
    objects += [report(), pdf(PDF_UID), video(VIDEO), multi_frame(BITS, bits=1)]
    for uid, syntax in ((RLE, RLELossless), (J2K, JPEG2000Lossless)):
        compressed = multi_frame(uid)
        compressed.compress(syntax, generate_instance_uid=False)
        objects.append(compressed)
    without = multi_frame(NO_TABLE)
    without.compress(RLELossless, generate_instance_uid=False)
    frames = list(generate_frames(without.PixelData, number_of_frames=3))
    without.PixelData = encapsulate(frames, has_bot=False)
    objects.append(without)
    with serving(tmp_path_factory.mktemp("wado") / "data") as client:
        contents = [as_file(each) for each in objects]
        contents += [
            turned(DEFLATED, "1.2.840.10008.1.2.1.99"),
            turned(BIG_ENDIAN, "1.2.840.10008.1.2.2"),
        ]
        for content in contents:
            answer = client.post("/api/instances", content=content)
            assert answer.status_code == 201, answer.text
        yield client
