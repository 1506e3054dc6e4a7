"""What a DICOMweb server answers, from the bytes of HTTP on, read by our client."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import httpcore2

from lfscp.archive.store.received_objects import Received, StoredInstance
from lfscp.scu.dicomweb import session
from lfscp.scu.dicomweb.find import find
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.retrieve import get
from lfscp.scu.dicomweb.send import send
from lfscp.scu.errors import PeerError
from lfscp.scu.identifiers import identifier, plain
from lfscp.scu.send import objects_in
from tests.support.retrieved_objects import as_file
from tests.support.scripted_http import END, PARTS, answer, part
from tests.support.web_objects import CT_STUDY, ct_slice

_PEER = DICOMwebPeer("http://127.0.0.1/dicom-web")
_MATCH = '[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00100010": {"vr": "PN"}}]'
_STORED = '{"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]}}'


class _Replayed(httpcore2.NetworkStream):
    """A connection on which these bytes come, whatever is asked, and then its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        size = min(max_bytes, 1 + len(self._data) // 3)  # in some pieces
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    def close(self) -> None:
        self._data = b""

    def get_extra_info(self, info: str) -> Any:
        return None


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def connect_tcp(self, *_where: Any, **_how: Any) -> _Replayed:
        return _Replayed(self._data)


@cache
def _instances() -> tuple[StoredInstance, ...]:
    file = Path(tempfile.mkdtemp(), "ct.dcm")
    file.write_bytes(as_file(ct_slice(1, 3, 16)))
    return tuple(objects_in([file], on_other=lambda _file, _why: None))


def _take(received: Received) -> int:
    assert received.sop_instance_uid
    return 0


def _find() -> None:
    keys = {"StudyInstanceUID": "", "PatientName": "", "PatientID": ""}
    for match in find(_PEER, identifier(keys, "STUDY"), max_bytes=100_000):
        plain(match)


def _get() -> None:
    get(_PEER, identifier({"StudyInstanceUID": CT_STUDY}, "STUDY"), on_object=_take)


def _send() -> None:
    result = send(_PEER, _instances())
    assert result.completed + result.warning + len(result.failed) == 1


def run_web_answers(data: bytes) -> None:
    """An answer (a byte before it says to what): something comes of it, or a known error."""
    if not data:
        return
    act = (_find, _get, _send)[data[0] % 3]
    backend = lambda _look: _Backend(data[1:])  # noqa: E731 - made anew for each session
    with mock.patch.object(session, "Backend", backend), contextlib.suppress(PeerError):
        act()


def web_answers_seeds() -> Iterator[bytes]:
    yield b"\0" + answer(_MATCH)
    yield b"\0" + answer(b"", 204, "")
    yield b"\0" + answer('{"detail": "no"}', 400, Warning='299 x "y"')
    objects = part(as_file(ct_slice(1, 3, 16))) + END
    yield b"\1" + answer(objects, content_type=PARTS)
    yield b"\1" + answer(as_file(ct_slice(1, 3, 16)), content_type="application/dicom")
    yield b"\2" + answer(_STORED)
    yield b"\2" + answer(_STORED.replace("81199", "81198"), 409)
