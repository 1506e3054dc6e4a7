"""A large object goes out while it is decoded, so that its client need not wait for all of it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import RLELossless

from lfscp.archive.store import spool
from lfscp.services.transcoding import ahead, dataset_conversion, growing_result
from lfscp.services.transcoding.decoding_memory import MEMORY
from tests.support.dicom_peer import until
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving
from tests.support.web_objects import LOOP_CLASS, new, set_pixels
from tests.support.web_socket import WAIT_S, on_socket

STUDY, SERIES, UID = "1.2.3", "1.2.3.1", "1.2.3.1.1"
URL = f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{UID}"
PIXELS = np.random.default_rng(1).integers(0, 256, (6, 512, 512), "u1")


def compressed(*, is_broken: bool) -> bytes:
    dataset = new(LOOP_CLASS, UID, STUDY, SERIES, PatientID="P", NumberOfFrames=len(PIXELS))
    set_pixels(dataset, PIXELS)
    dataset.compress(RLELossless, generate_instance_uid=False)
    if is_broken:
        frames = list(generate_frames(dataset.PixelData, number_of_frames=len(PIXELS)))
        dataset.PixelData = encapsulate([*frames[:-1], frames[-1][:1000]])
    return as_file(dataset)


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Conversions wait when most frames are written, until this is set."""
    monkeypatch.setattr(ahead, "LARGE", 0)
    monkeypatch.setattr(spool, "SMALL", 0)
    monkeypatch.setattr(growing_result, "SOON_S", 0.0)
    go_on, write, written = threading.Event(), dataset_conversion.write_all, 0

    def write_some(file: Any, content: Any) -> None:
        nonlocal written
        write(file, content)
        written += len(content)
        if written > 1 << 20:
            assert go_on.wait(WAIT_S)

    monkeypatch.setattr(dataset_conversion, "write_all", write_some)
    yield go_on
    go_on.set()
    assert until(lambda: spool.SPACE.in_use == MEMORY.in_use == 0)


@pytest.mark.parametrize("is_broken", [False, True])
def test_it_comes_before_it_is_whole_and_breaks_off_if_it_fails(
    tmp_path: Path, go_on: threading.Event, is_broken: bool
) -> None:
    with serving(tmp_path) as client, on_socket(client) as server:
        content = compressed(is_broken=is_broken)
        assert client.post("/api/instances", content=content).status_code == 201
        connection = http.client.HTTPConnection(*server.address, timeout=WAIT_S)
        connection.request("GET", URL, headers={"Accept": "application/dicom"})
        answer = connection.getresponse()
        begun = answer.read(100_000)
        go_on.set()

        assert answer.status == 200
        if is_broken:
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
        else:
            assert dcmread(BytesIO(begun + answer.read())).PixelData == PIXELS.tobytes()
        answer.close()
        connection.close()
