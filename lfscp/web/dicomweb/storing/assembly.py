"""Makes objects of the metadata and bulk data of a STOW-RS request, and stores them.

One thread at a time does so, whatever the number of requests: see `metadata`.
Source: PS3.18 section 10.5.1.4.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from lfscp.archive.errors import OutOfResourcesError
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.bulk_data import BulkDataURI, ObjectWriter
from lfscp.dicom.models.element_tree import Tree
from lfscp.dicom.models.json_reader import from_json
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.reading.header import SOP_CLASS_UID, SOP_INSTANCE_UID
from lfscp.dicom.values.value_faults import fault_of
from lfscp.errors import OperationError
from lfscp.web.actions.storing import STOW, store_spooled
from lfscp.web.context import Web
from lfscp.web.dicomweb.storing.bulk_parts import BulkParts, pieces
from lfscp.web.dicomweb.storing.metadata import Metadata
from lfscp.web.dicomweb.storing.outcome import Outcome
from lfscp.web.dicomweb.storing.spool import Spool

_GATHERED: Final = 1 << 20  # bytes written at a time
_NUMBER_OF_FRAMES: Final = 0x00280008
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_one_at_a_time: Final = threading.Lock()


def store_all(
    web: Web, metadata: Metadata, bulk: BulkParts, outcome: Outcome, study_uid: str
) -> None:
    """Make and store the objects; all parts are there.

    Args:
        study_uid: the study that all objects must belong to; empty for any.
    Raises:
        BodyError: metadata are no JSON or XML; the objects before are stored.
    """
    documents = metadata.documents()
    while True:
        with _one_at_a_time:
            document = next(documents, None)
            if document is None:
                return
            if outcome.is_full:
                outcome.fail_rest()
                return
            _store(web, document, bulk, outcome, study_uid)


def _store(web: Web, document: Any, bulk: BulkParts, outcome: Outcome, study_uid: str) -> None:
    spool = Spool(web.archive, web.settings.storage.max_object_mb)
    identity = ("", "")
    try:
        tree = from_json(document, is_object=True)
        identity = (tree.text(SOP_CLASS_UID), tree.text(SOP_INSTANCE_UID))
        _write(tree, identity, bulk, spool)
        outcome.store(store_spooled(web, spool.path, STOW, study_uid))
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        outcome.fail(OutOfResourcesError("store the instance", reason), *identity)
    except OperationError as error:
        outcome.fail(error, *identity)
    finally:
        spool.remove()


def _write(tree: Tree, identity: tuple[str, str], bulk: BulkParts, spool: Spool) -> None:
    """Write the object as a file."""
    for tag, uid in zip((SOP_CLASS_UID, SOP_INSTANCE_UID), identity, strict=True):
        if not uid or fault_of("UI", uid):
            raise DatasetError("the UID is missing, or is none", tag)
    gathered = bytearray(part10_header(*identity, _syntax_of(tree, bulk)))
    spool.open()
    with bulk.reading() as descriptor:
        writer = ObjectWriter(bulk.find, lambda begin, size: pieces(descriptor, begin, size))
        for piece in writer.pieces(tree):
            gathered += piece
            if len(gathered) >= _GATHERED:
                spool.write(memoryview(gathered))
                gathered = bytearray()
    spool.write(memoryview(gathered))
    spool.close()


def _syntax_of(tree: Tree, bulk: BulkParts) -> str:
    """The transfer syntax of the object: that of its pixel data.

    Raises:
        DatasetError: the pixel data are compressed, and the metadata do not say how large a frame
            is, or name another number of frames.
    """
    uri = tree[PIXEL_DATA].value if PIXEL_DATA in tree else b""
    if not isinstance(uri, BulkDataURI):
        return EXPLICIT_VR_LITTLE_ENDIAN
    syntax = bulk.syntax(uri)
    if syntax != EXPLICIT_VR_LITTLE_ENDIAN:
        for tag in (_ROWS, _COLUMNS):
            if tag not in tree:
                raise DatasetError("compressed pixel data come without their size", tag)
        frames, said = bulk.frames(uri), tree.text(_NUMBER_OF_FRAMES).strip() or "1"
        if frames and str(frames) != said.lstrip("+0"):
            raise DatasetError(f"there are {frames} frames, not {said[:12]}", _NUMBER_OF_FRAMES)
    return syntax
