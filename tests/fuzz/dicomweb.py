"""Fuzzes what DICOMweb reads of a client: bodies, metadata, Accept, parameters and searches.

Each is refused with its status and reason, or what was read makes sense.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from pydicom.uid import UID_dictionary
from starlette.requests import Request

from lfscp.archive.archive import Archive
from lfscp.archive.index.database.interruption import Interruption
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.bulk_data import BulkDataURI, ObjectWriter
from lfscp.dicom.models.element_tree import Tree
from lfscp.dicom.models.json_reader import from_json
from lfscp.dicom.values.attributes import Level
from lfscp.dicomweb.content_type import ContentType
from lfscp.dicomweb.errors import BodyError
from lfscp.dicomweb.multipart_reader import MAX_HEAD_BYTES, MultipartReader
from lfscp.errors import OperationError
from lfscp.web.dicomweb.accept import MAX_RANGES, accepted, wanted_forms
from lfscp.web.dicomweb.addresses import require_uid
from lfscp.web.dicomweb.answering import Asked
from lfscp.web.dicomweb.model_forms import form_of
from lfscp.web.dicomweb.retrieving import frame_forms, frames, wado_uri
from lfscp.web.dicomweb.retrieving.bulk_data import path_of
from lfscp.web.dicomweb.retrieving.objects import forms_of
from lfscp.web.dicomweb.retrieving.rendering_parameters import MAX_VIEWPORT, rendering_of
from lfscp.web.dicomweb.searching.matches import MatchWriter
from lfscp.web.dicomweb.searching.parameters import read_search
from lfscp.web.dicomweb.storing.metadata import MAX_BYTES_OF_ALL, Metadata
from lfscp.web.problems import Problem
from lfscp.web.security.shares import Share
from tests.support.archive_datasets import received

_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)
_SYNTAXES = tuple(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
_SIZES = (1, 2, 3, 7, 64, 4096)
_MAX_VALUES = 100_000


# --- a multipart body, in blocks of any size ---


class _Parts:
    """Collects what is told."""

    def __init__(self) -> None:
        self.parts: list[tuple[dict[str, str], bytes, bool]] = []

    def begin(self, head: Mapping[str, str]) -> None:
        assert not self.parts or self.parts[-1][2], "a part begins in another"
        self.parts.append((dict(head), b"", False))

    def data(self, piece: memoryview) -> None:
        head, content, is_whole = self.parts[-1]
        assert not is_whole
        self.parts[-1] = head, content + bytes(piece), False

    def end(self) -> None:
        head, content, is_whole = self.parts[-1]
        assert not is_whole
        self.parts[-1] = head, content, True


def _read_body(boundary: bytes, body: bytes, size: int) -> tuple[_Parts, str]:
    parts, error = _Parts(), ""
    try:
        reader = MultipartReader(boundary, parts)
        for at in range(0, len(body), size):
            reader.feed(body[at : at + size])
            assert len(reader._unread) <= MAX_HEAD_BYTES + size + 512
        reader.close()
    except BodyError as refused:
        error = str(refused)
    return parts, error


def run_stow_multipart(data: bytes) -> None:
    """A first line with the Content-Type, and a body: read alike in blocks of any size."""
    line, _, body = data.partition(b"\n")
    if not line:
        return
    content_type = ContentType.read(line[1:].decode("latin_1"))
    boundary = content_type.parameters.get("boundary", "").encode("latin_1")
    parts, error = _read_body(boundary, body, max(1, len(body)))
    others, other = _read_body(boundary, body, _SIZES[line[0] % len(_SIZES)])
    whole = [part for part in parts.parts if part[2]]
    assert bool(error) == bool(other)
    if not error:
        assert parts.parts == others.parts
        assert whole == parts.parts
    assert sum(len(part[1]) for part in parts.parts) <= len(body)
    for head, _, _ in parts.parts:
        ContentType.read(head.get("content-type", ""))


def stow_multipart_seeds() -> Iterator[bytes]:
    """Bodies as clients send them, and nearly so."""
    line = b'\0multipart/related; type="application/dicom"; boundary="b"\n'
    part = b"--b\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n"
    yield line + part + b"--b--"
    yield line + b"before\r\n" + part + part + b"--b--\r\nafter"
    yield line.replace(b'"b"', b"b") + b"--b\r\n\r\n\r\n--b  \r\nA: b\r\n c\r\n\r\n--bc\r\n--b--"
    yield b"\3multipart/related; boundary=--b\n----b\r\n\r\n\r\n--\r\n----b--"
    yield line + part + b"\r\n--"
    yield b"\1application/dicom\nDICM"


# --- metadata of a store ---


def run_stow_metadata(data: bytes) -> None:
    """JSON or XML (the first byte says which), from its text to the bytes of objects."""
    if not data:
        return
    held = Share(MAX_BYTES_OF_ALL, MAX_BYTES_OF_ALL)
    metadata = Metadata(held, "a")
    media_type = "application/dicom+json" if data[0] % 2 == 0 else "application/dicom+xml"
    with suppress(BodyError):
        metadata.require_room(data[1:])
        metadata.add(media_type, data[1:])
        for document in metadata.documents():
            with suppress(OperationError):
                _write(from_json(document, is_object=True))
    metadata.close()


def _write(tree: Tree) -> None:
    def find(tag: int, uri: BulkDataURI) -> object:
        raise DatasetError(f"no part has the location {len(uri)}", tag)

    with suppress(DatasetError):
        assert isinstance(tree.text(0x00080018), str)
    if PIXEL_DATA in tree and isinstance(tree[PIXEL_DATA].value, BulkDataURI):
        return
    writer = ObjectWriter(find, lambda begin, size: iter(()))  # type: ignore[arg-type]
    for piece in writer.pieces(tree):
        assert isinstance(piece, bytes | bytearray | memoryview)


def stow_metadata_seeds() -> Iterator[bytes]:
    """Objects with each kind of value."""
    values = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080018": {"vr": "UI", "Value": ["1.2.3"]},
        "00081140": {"vr": "SQ", "Value": [{"00081150": {"vr": "UI", "Value": ["1.2"]}}]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "山"}]},
        "00280010": {"vr": "US", "Value": [4]},
        "00281201": {"vr": "OW", "InlineBinary": "AAAAAA=="},
        "7FE00010": {"vr": "OW", "BulkDataURI": "http://a/b"},
    }
    yield b"\0" + json.dumps(values).encode()
    yield b"\0" + json.dumps([values, values]).encode()
    del values["7FE00010"]
    yield b"\0 [" + json.dumps(values).encode() + b" ] "
    element = (
        '<DicomAttribute tag="00080018" vr="UI" keyword="SOPInstanceUID"><Value number="1">1.2'
        '</Value></DicomAttribute><DicomAttribute tag="00100010" vr="PN"><PersonName number="1">'
        "<Alphabetic><FamilyName>Doe</FamilyName></Alphabetic></PersonName></DicomAttribute>"
        '<DicomAttribute tag="00081140" vr="SQ"><Item number="1"/></DicomAttribute>'
        '<DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="a"/></DicomAttribute>'
    )
    for head in ('<?xml version="1.0" encoding="UTF-8"?>', ""):
        yield b"\1" + f"{head}<NativeDicomModel>{element}</NativeDicomModel>".encode()
    yield b'\1<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel/>'


# --- Accept and the parameters of a retrieve ---


def _asked(accept: bytes, query: bytes) -> Asked:
    app = SimpleNamespace(state=SimpleNamespace(web=None))
    scope = {"type": "http", "method": "GET", "path": "/", "app": app}
    return Asked(Request({**scope, "headers": [(b"accept", accept)], "query_string": query}))


def run_retrieve(data: bytes) -> None:
    """Accept, the query and the end of a path, a line each."""
    accept, _, rest = data.partition(b"\n")
    query, _, path = rest.partition(b"\n")
    asked, text = _asked(accept, query), path.decode("utf-8", "surrogateescape")
    with suppress(Problem):
        wanted = wanted_forms(asked.request)
        headers, query = asked.request.headers, asked.request.query_params
        found = accepted(query.getlist("accept"), headers.getlist("accept"))
        assert len(found) <= 2 * MAX_RANGES
        for stored in _SYNTAXES[len(data) % 7 :: 7]:
            for kind in (True, False):
                with suppress(Problem):
                    form = frame_forms.form_of(
                        wanted, stored, is_compressed=kind, decodes=kind, is_single=not kind
                    )
                    assert form.transfer_syntax in (stored, "1.2.840.10008.1.2.1")
        for each in forms_of(wanted, is_single=True):
            for stored in _SYNTAXES[len(data) % 7 :: 7]:
                each.fits(stored)
    for read in (frames.frame_numbers, path_of, require_uid):
        with suppress(Problem):
            read(text)
    with suppress(Problem):
        form_of(asked.request)
    for rendering in (rendering_of, wado_uri._rendering):
        with suppress(Problem):
            picture = rendering(asked).picture
            assert max(picture.viewport or (1, 1)) <= MAX_VIEWPORT
            assert 1 <= picture.quality <= 100
    with suppress(Problem):
        wado_uri._content_types(asked.parameter("contentType") or "")
    with suppress(Problem):
        assert 0 <= wado_uri._frame(asked.parameter("frameNumber")) < 10**9


def retrieve_seeds() -> Iterator[bytes]:
    """Requests of viewers."""
    yield b'multipart/related; type="application/octet-stream"; transfer-syntax="*"\n\n1,2,3'
    yield b"image/jpeg;q=0.5, image/*, */*;q=0\nwindow=40,400,linear&quality=80\n00420011"
    yield b"\nviewport=100,200,0,0,-10,10&accept=application/dicom%2Bjson\n54000100/1/54001010"
    yield b"a/b\ncontentType=image/png&frameNumber=2&columns=10&region=0,0,1,1\n1.2.3"
    yield b"multipart/related; type=image/jp2; transfer-syntax=1.2.840.10008.1.2.4.90\n\n1"
    yield b"*/*\nwindowCenter=1e9&windowWidth=.5&rows=0010&imageQuality=007\n0"


# --- searches ---


@cache
def _archive() -> Archive:
    folder = Path(tempfile.mkdtemp(prefix="lfscp-fuzz-"))
    archive = Archive.open(folder, durability="os")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = ("Doe^Jane", "Müller^Jörg", "", "Yamada^Tarou")
    for number, name in enumerate(names):
        study = f"1.2.{number}"
        archive.store(
            received(
                number,
                PatientName=name,
                SpecificCharacterSet="ISO_IR 192",
                StudyInstanceUID=study,
                SeriesInstanceUID=f"{study}.1",
                SOPInstanceUID=f"{study}.1.1",
                StudyDate=f"2020010{number + 1}",
                ImageComments="a comment",
            )
        )
    return archive


def run_search(data: bytes) -> None:
    """A query (the first byte chooses level and path), from its parameters to JSON and XML."""
    if not data:
        return
    level = _LEVELS[data[0] % 3]
    within = {Level.STUDY: "1.2.1"} if data[0] & 4 and level is not Level.STUDY else {}
    parameters = parse_qsl(data[1:].decode("latin_1"), keep_blank_values=True)
    try:
        search = read_search(level, within, parameters, _MAX_VALUES)
    except Problem as refused:
        status = refused.status
    else:
        status = 200
    if status != 200:
        assert 400 <= status < 500
        return
    if search.is_vain:
        return
    archive, never = _archive(), Interruption()
    limit = min(10, search.limit if search.limit is not None else 10)
    keys = archive.find_keys(search.query, offset=search.offset, limit=limit, interruption=never)
    assert len(keys) <= limit
    writer = MatchWriter(search.query, "http://a/dicom-web", search.named)
    for found in archive.rows(search.query, keys, never):
        json.loads(writer.json(found))
        ElementTree.fromstring(writer.xml(found))  # noqa: S314 - our own


def search_seeds() -> Iterator[bytes]:
    """Searches of viewers."""
    yield b"\0limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090"
    yield b"\0PatientName=*d*&StudyDate=20200101-20200103&ModalitiesInStudy=CT%2CMR"
    yield b"\1includefield=all&Modality=CT"
    yield b"\2StudyInstanceUID=1.2.1&includefield=ImageComments&includefield=00200013"
    yield b"\5RequestAttributesSequence.ScheduledProcedureStepID=1&SeriesNumber=1"
    yield b"\6SOPInstanceUID=1.2.1.1.1%5C1.2.2.1.1&00101010=&7FE00010=1"
    yield b"\0PatientName=M%C3%BC*&00100020=%3F*&StudyTime=10-&AccessionNumber="
