"""Lists what the conformance statement says of DICOMweb, from what serves it (PS3.2, PS3.18)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.uid import UID
from starlette.routing import Route

from lfscp.dicom.errors import named
from lfscp.dicom.values.attributes import Level
from lfscp.dicomweb.media_types import media_types
from lfscp.services import status
from lfscp.web.dicomweb import deletion, metadata, threads
from lfscp.web.dicomweb.accept import MAX_RANGES
from lfscp.web.dicomweb.addresses import PREFIX
from lfscp.web.dicomweb.retrieving import wado_rs, wado_uri
from lfscp.web.dicomweb.retrieving.frames import MAX_FRAMES
from lfscp.web.dicomweb.retrieving.rendering_parameters import MAX_VIEWPORT
from lfscp.web.dicomweb.searching import returned, search
from lfscp.web.dicomweb.storing import store
from lfscp.web.dicomweb.storing.metadata import MAX_BYTES
from lfscp.web.dicomweb.storing.outcome import MAX_OBJECTS, OTHER_STUDY
from lfscp.web.security import turns
from lfscp.web.security.roles import needed_role

_TRANSACTIONS: Final = (
    ("Search (QIDO-RS)", search),
    ("Retrieve (WADO-RS)", metadata),
    ("Retrieve (WADO-RS)", wado_rs),
    ("Retrieve (WADO-URI)", wado_uri),
    ("Store (STOW-RS)", store),
    ("Delete", deletion),
)
_RETURNED: Final = (
    (Level.STUDY, returned.STUDY),
    (Level.SERIES, returned.SERIES),
    (Level.IMAGE, returned.INSTANCE),
)
LIMITS: Final = (
    ("requests of one login or address", f"{turns.AT_ONCE} at once; the others wait in order"),
    ("requests prepared at once by one process", str(threads.AT_ONCE)),
    ("media ranges in Accept", str(MAX_RANGES)),
    ("frames that one request names", str(MAX_FRAMES)),
    ("columns and rows of a viewport", str(MAX_VIEWPORT)),
    ("instances that one answer to a store names", str(MAX_OBJECTS)),
    ("metadata in one store", f"{MAX_BYTES >> 20} MB"),
)
FAILURE_REASONS: Final = (
    (
        status.OUT_OF_RESOURCES,
        "out of resources; also: duplicate rejected, the study is protected, the archive failed",
    ),
    (status.DATASET_DOES_NOT_MATCH, "the instance is stored in another study or series"),
    (status.CANNOT_UNDERSTAND, "cannot understand: broken encoding, or a UID is missing"),
    (status.SOP_CLASS_NOT_SUPPORTED, "the SOP class is not stored here"),
    (OTHER_STUDY, "our own: the instance belongs to another study than the one of the path"),
)


def resources() -> list[tuple[str, str, str, str]]:
    """Each transaction, method and resource, and the role that it needs."""
    found: dict[tuple[str, str, str], str] = {}
    for transaction, module in _TRANSACTIONS:
        for method, path in _routes(module):
            found[transaction, method, path] = needed_role(method, path)
    return [(*key, str(role)) for key, role in found.items()]


def _routes(module: Any) -> Iterator[tuple[str, str]]:
    for route in module.router.routes:
        if isinstance(route, Route):
            path = route.path.replace(":path}", "}")
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield method, path


def frame_types() -> list[tuple[str, str, str]]:
    """The media type of the stored frames of each compressed transfer syntax."""
    return [(UID(uid).name, uid, media_type) for uid, media_type in media_types().items()]


def returned_attributes() -> list[tuple[str, str, str, str]]:
    """What a search returns without being asked: level, attribute, tag, and when."""
    return [
        (level.value, *_described(path), "if it has a value" if path in returned.OPTIONAL else "")
        for level, paths in _RETURNED
        for path in paths
    ]


def _described(path: str) -> tuple[str, str]:
    """Name and tag of an attribute, those of a sequence first."""
    tags = [tag_for_keyword(keyword) or 0 for keyword in path.split(".")]
    return " > ".join(map(dictionary_description, tags)), " > ".join(map(named, tags))


__all__ = ["LIMITS", "PREFIX", "frame_types", "resources", "returned_attributes"]
