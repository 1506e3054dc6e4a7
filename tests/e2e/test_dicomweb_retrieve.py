"""WADO of a real node: dicomweb-client, clients that go away, objects that break half-way."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from lfscp.web.dicomweb.pieces import MAX_FILES
from tests.support.dicom_peer import until
from tests.support.retrieved_objects import J2K, SERIES, STUDY, as_file, cells, multi_frame
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice


def start(start_node: Any) -> tuple[Any, str]:
    """A node, and the URL of its page without a slash at its end."""
    node = start_node(flags=["--http-port", "0"])
    return node, str(node.wait_for("page")["url"]).rstrip("/")


def store(url: str, *objects: Dataset) -> None:
    for each in objects:
        request = urllib.request.Request(f"{url}/api/instances", as_file(each))  # noqa: S310 - our own node
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
            assert answer.status == 201


def compressed(uid: str, syntax: str) -> Dataset:
    made = multi_frame(uid)
    made.compress(syntax, generate_instance_uid=False)
    return made


def processes(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for each in found:
        children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        found += [int(child) for child in children]
    return found


def open_objects(pid: int) -> list[str]:
    """The stored objects that a node has open."""
    found = []
    for each in processes(pid):
        for link in Path(f"/proc/{each}/fd").iterdir():
            try:
                target = os.readlink(link)  # noqa: PTH115 - it may be no path
            except OSError:
                continue
            found += [target] if target.endswith(".dcm") else []
    return found


def test_dicomweb_client_retrieves_everything(start_node):
    _, url = start(start_node)
    store(url, ct_slice(1, 1), compressed(J2K, JPEG2000Lossless))
    client = DICOMwebClient(f"{url}/dicom-web")
    place = (STUDY, SERIES, J2K)

    [ct] = client.retrieve_study(CT_STUDY)
    forms = (("application/dicom", str(ExplicitVRLittleEndian)),)
    decoded = client.retrieve_instance(*place, media_types=forms)
    stored = client.retrieve_instance(*place)  # it asks for any transfer syntax
    frames = client.retrieve_instance_frames(*place, frame_numbers=[3, 1])
    j2k = client.retrieve_instance_frames(
        *place, frame_numbers=[2], media_types=(("image/jp2", str(JPEG2000Lossless)),)
    )
    [values] = client.retrieve_bulkdata(
        f"{url}/dicom-web/studies/{CT_STUDY}/series/{CT_SERIES}/instances/{CT_SERIES}.1"
        "/bulkdata/7FE00010"
    )
    picture = client.retrieve_instance_rendered(*place, media_types=("image/png",))

    assert ct.PixelData == values == ct_slice(1, 1).PixelData
    assert decoded.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(decoded.pixel_array, cells())
    assert stored.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert frames == [cells()[2].tobytes(), cells()[0].tobytes()]
    assert j2k[0].startswith(b"\xff\x4f\xff\x51")
    assert Image.open(BytesIO(picture)).size == cells().shape[:0:-1]


@pytest.mark.parametrize("accept", ["*/*", "application/zip"])
def test_a_client_that_goes_away_in_mid_study_leaves_nothing_open(start_node, accept):
    node, url = start(start_node)
    store(url, *(ct_slice(number, 20, edge=512) for number in range(1, 21)))
    host, _, port = url.removeprefix("http://").partition(":")
    sockets = []
    for _ in range(5):
        sock = socket.create_connection((host, int(port)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        head = f"GET /dicom-web/studies/{CT_STUDY} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        sock.sendall(f"{head}Accept: {accept}\r\n\r\n".encode())
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
        sockets.append(sock)
    # Each answer has at least the object open that it sends, and a few that come next.
    assert until(lambda: 5 <= len(open_objects(node.pid)) <= 5 * MAX_FILES), open_objects(node.pid)

    for number, sock in enumerate(sockets):
        if number % 2:  # without a word
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    assert until(lambda: open_objects(node.pid) == [])


def test_an_object_that_breaks_in_mid_study_breaks_the_answer_off(start_node):
    node, url = start(start_node)
    broken = compressed(f"{SERIES}.2", RLELossless)
    broken.PixelData = encapsulate([b"\1" + bytes(63)] * 3)
    large = ct_slice(1, 1, edge=512)
    large.StudyInstanceUID, large.SeriesInstanceUID = STUDY, SERIES
    store(url, large, compressed(f"{SERIES}.1", RLELossless), broken)
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", f"/dicom-web/studies/{STUDY}")
    answer = connection.getresponse()

    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    said = node.wait_for("answer broken off")
    assert said["what"] == f"study {STUDY}"
    assert "frame 1" in said["reason"]

    connection.close()
    connection.request("GET", f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.2")
    alone = connection.getresponse()
    assert (alone.status, b"frame 1" in alone.read()) == (406, True)
    connection.close()
