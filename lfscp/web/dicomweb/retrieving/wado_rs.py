"""The routes of WADO-RS: objects, frames, bulk data and pictures (PS3.18 section 10.4)."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.routing import Route

from lfscp.web.dicomweb.addresses import PREFIX
from lfscp.web.dicomweb.answering import Endpoint, Handler
from lfscp.web.dicomweb.retrieving import pictures
from lfscp.web.dicomweb.retrieving.again import again
from lfscp.web.dicomweb.retrieving.bulk_data import bulk_data
from lfscp.web.dicomweb.retrieving.frames import frames, pixel_data
from lfscp.web.dicomweb.retrieving.objects import objects

router = APIRouter(include_in_schema=False)
_STUDY: Final = f"{PREFIX}/studies/{{study}}"
_SERIES: Final = f"{_STUDY}/series/{{series}}"
_INSTANCE: Final = f"{_SERIES}/instances/{{instance}}"
_FRAMES: Final = f"{_INSTANCE}/frames/{{frames}}"
_PICTURES: Final[tuple[tuple[str, Handler], ...]] = (
    (f"{_STUDY}/rendered", pictures.rendered),
    (f"{_SERIES}/rendered", pictures.rendered),
    (f"{_INSTANCE}/rendered", pictures.rendered_instance),
    (f"{_FRAMES}/rendered", pictures.rendered_frames),
    (f"{_STUDY}/thumbnail", pictures.thumbnail),
    (f"{_SERIES}/thumbnail", pictures.thumbnail),
    (f"{_INSTANCE}/thumbnail", pictures.thumbnail_of_instance),
    (f"{_FRAMES}/thumbnail", pictures.thumbnail_of_frames),
)
# Objects and frames: nothing has to be done to their answers.
OF_BYTES: Final = (
    Route(_STUDY, Endpoint(objects), methods=["GET"]),
    Route(_SERIES, Endpoint(objects), methods=["GET"]),
    Route(_INSTANCE, Endpoint(objects), methods=["GET"]),
    Route(_FRAMES, Endpoint(frames, again=again), methods=["GET"]),
)
_OTHERS: Final[tuple[tuple[str, Handler], ...]] = (
    (f"{_INSTANCE}/pixeldata", pixel_data),
    (f"{_INSTANCE}/bulkdata/{{element:path}}", bulk_data),
)
router.routes.extend(OF_BYTES)
router.routes.extend(Route(path, Endpoint(handler), methods=["GET"]) for path, handler in _OTHERS)
router.routes.extend(
    Route(path, Endpoint(handler, lambda _: True), methods=["GET"]) for path, handler in _PICTURES
)
