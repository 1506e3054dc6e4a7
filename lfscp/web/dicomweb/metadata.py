"""Answers requests for metadata (PS3.18 sections 10.4.1.1.2 and 10.4.3).

Rules: an answer is made instance by instance, in the order of their arrival, so one of any length
takes bounded memory. The metadata of a series are made once, and read from disk after that; those
of one instance are made each time. In what is kept, a byte stands for the URL of DICOMweb that is
in no UTF-8.

An object that cannot be read is left out, and the log says so. Then nothing is kept, since it may
be read the next time. One that was replaced just now is read again.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response
from starlette.routing import Route

from lfscp.archive.index.browsing import browse
from lfscp.archive.store.partial_dataset import read_heads
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.archive.store.stored_dataset import StoredDataset
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.metadata import metadata_of
from lfscp.dicom.models.native_model_writer import xml_of_json
from lfscp.dicom.models.repeated_elements import Written
from lfscp.dicom.values.attributes import LEVELS
from lfscp.dicomweb.multipart_writer import MultipartWriter, Part
from lfscp.observe.logging import get_logger
from lfscp.web.actions.studies import still_there
from lfscp.web.dicomweb.addresses import PREFIX, base_url, require_uid, retrieve_url
from lfscp.web.dicomweb.answering import Asked, Endpoint, Handler, Streamed
from lfscp.web.dicomweb.model_forms import DICOM_XML, form_of
from lfscp.web.dicomweb.pieces import gathered, reason_of
from lfscp.web.dicomweb.targets import HOW
from lfscp.web.problems import not_found

LOG: Final = get_logger("lfscp.web")
router = APIRouter(include_in_schema=False)
Found = StoredDataset | OSError | DatasetError
_NO_INSTANCES: Final = "0|"  # begins a version then
_BASE: Final = b"\xff"  # stands for the URL of DICOMweb; in text, its surrogate
_BASE_AS_TEXT: Final = _BASE.decode("utf-8", "surrogateescape")


def metadata(asked: Asked) -> Response:
    """The attributes of all instances of a study, of a series, or of one."""
    form = form_of(asked.request)
    base = base_url(asked.request)
    uids = _uids(asked)
    version = asked.web.archive.index.lookups.version_of(*uids)
    if version.startswith(_NO_INSTANCES):
        if len(uids) > 1:
            asked.web.series_metadata.forget(*uids[:2])
        raise not_found(("study", "series", "instance")[len(uids) - 1], uids[-1])
    asked.web.views.note(uids[0], HOW)
    headers = asked.require_changed(f"metadata|{version}|{form}|{base}")
    pieces = (piece.replace(_BASE, base.encode()) for piece in _pieces(asked, uids))
    if form == DICOM_XML:
        writer = MultipartWriter(DICOM_XML)
        parts = (Part(DICOM_XML, [_xml(line)]) for line in _lines(pieces))
        sent = gathered(writer.pieces(parts))
        return Streamed(asked, sent, writer.content_type, headers, what="metadata")
    return Streamed(asked, gathered(_json(pieces)), form, headers, what="metadata")


def _json(pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
    """The instances as one list: what ends a line becomes a comma, but for the last."""
    yield b"["
    end = b""
    for piece in pieces:
        whole = piece.endswith(b"\n")
        yield (end + (piece[:-1] if whole else piece)).replace(b"\n", b",")
        end = b"\n" if whole else b""
    yield b"]"


def _xml(line: bytes) -> bytes:
    return xml_of_json(json.loads(line)).encode("utf-8", "replace")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The instances one by one."""
    held: list[bytes] = []
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield b"".join((*held, line))
            held.clear()
        held.append(rest)


def _uids(asked: Asked) -> list[str]:
    """The UIDs of the path, that of the study first."""
    names = ("study", "series", "instance")
    return [require_uid(asked.path[name]) for name in names if name in asked.path]


def _pieces(asked: Asked, uids: Sequence[str]) -> Iterator[bytes]:
    """The instances, a line each."""
    if len(uids) == len(LEVELS) - 1:
        yield from _made(asked, uids, [])
        return
    with asked.web.index() as connection:
        of_study = browse.series_uids(connection, uids[0])
    for series_uid in uids[1:] or of_study:
        version = asked.web.archive.index.lookups.version_of(uids[0], series_uid)
        left_out: list[str] = []
        made = _made(asked, (uids[0], series_uid), left_out)
        kept = asked.web.series_metadata
        yield from kept.pieces(uids[0], series_uid, version, made, partial(operator.not_, left_out))


def _made(asked: Asked, uids: Sequence[str], left_out: list[str]) -> Iterator[bytes]:
    """The instances of a series, or one of it, selected when the first is drawn.

    Args:
        left_out: gets the UIDs of those that cannot be read.
    """
    levels = dict(zip(LEVELS[1:], ([uid] for uid in uids), strict=False))
    written = Written()
    for each, found in read_heads(asked.web.archive.select(LEVELS[len(uids)], levels)):
        asked.look()
        location = retrieve_url(
            _BASE_AS_TEXT, each.study_uid, each.series_uid, each.sop_instance_uid
        )
        try:
            text = _text(asked, each, found, location, written)
        except (OSError, DatasetError) as error:
            LOG.warning(
                "object left out of metadata",
                sop_instance_uid=each.sop_instance_uid,
                reason=reason_of(error),
            )
            left_out.append(each.sop_instance_uid)
            continue
        yield text.encode("utf-8", "surrogateescape") + b"\n"


def _text(
    asked: Asked, instance: StoredInstance, found: Found, location: str, written: Written
) -> str:
    """The metadata of one instance; raises OSError, DatasetError."""
    try:
        return _text_of(found, location, written)
    except (OSError, DatasetError):
        now = still_there(asked.web, instance)
        if now is instance:
            raise
    [(_, found)] = read_heads([now])
    return _text_of(found, location, written)


def _text_of(found: Found, location: str, written: Written) -> str:
    if not isinstance(found, StoredDataset):
        raise found
    return metadata_of(found.content, found.encoding, location, written)


_STUDY: Final = f"{PREFIX}/studies/{{study}}"
_SERIES: Final = f"{_STUDY}/series/{{series}}"
ROUTES: Final[tuple[tuple[str, Handler], ...]] = (
    (f"{_STUDY}/metadata", metadata),
    (f"{_SERIES}/metadata", metadata),
    (f"{_SERIES}/instances/{{instance}}/metadata", metadata),
)
router.routes.extend(Route(path, Endpoint(handler), methods=["GET"]) for path, handler in ROUTES)
