"""Builds the web application of one node from its routes, its guard and its templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lfscp import __version__
from lfscp.archive.archive import Archive
from lfscp.archive.store.kept_beside import METADATA, PICTURES
from lfscp.archive.store.series_cache import SeriesCache
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.procedure_steps.steps import ProcedureSteps
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.config import Settings
from lfscp.routing.reading import read_routes
from lfscp.services.access.added_peers import AddedPeers
from lfscp.services.access.known_peers import KnownPeers
from lfscp.web import problems
from lfscp.web.api import (
    commitments,
    corrections,
    documents,
    jobs,
    monitoring,
    node,
    peers,
    pictures,
    procedure_steps,
    readings,
    routes,
    studies,
    upload,
    worklist,
)
from lfscp.web.api.upload import MAX_FORMS_OF_VISITOR, most_forms
from lfscp.web.compat import dtools
from lfscp.web.context import Web
from lfscp.web.dicomweb import capabilities, deletion, metadata
from lfscp.web.dicomweb.addresses import PREFIX, WADO_URI
from lfscp.web.dicomweb.compression import Compression
from lfscp.web.dicomweb.retrieving import wado_rs, wado_uri
from lfscp.web.dicomweb.searching import search
from lfscp.web.dicomweb.short_way import ShortApplication, ShortWay
from lfscp.web.dicomweb.storing import store
from lfscp.web.dicomweb.storing.metadata import MAX_BYTES, MAX_BYTES_OF_ALL
from lfscp.web.known_answers import KnownAnswers
from lfscp.web.ohif.viewer import Viewer, ViewerRoute
from lfscp.web.pages import archive as archive_page
from lfscp.web.pages import commitments as commitments_page
from lfscp.web.pages import corrections as corrections_pages
from lfscp.web.pages import jobs as jobs_page
from lfscp.web.pages import login, provider_login, remote, study_acts
from lfscp.web.pages import node as node_page
from lfscp.web.pages import peers as peers_page
from lfscp.web.pages import procedure_steps as procedure_steps_pages
from lfscp.web.pages import routes as routes_page
from lfscp.web.pages import studies as studies_pages
from lfscp.web.pages import upload as upload_page
from lfscp.web.pages import worklist as worklist_pages
from lfscp.web.pages.templating import templates
from lfscp.web.rendering.renderer import Renderer
from lfscp.web.security.access import Access
from lfscp.web.security.bodies import BodyLimit
from lfscp.web.security.connection_limits import limits_of
from lfscp.web.security.cross_origin import CrossOrigin
from lfscp.web.security.forwarded import ReverseProxies
from lfscp.web.security.guard import Guard
from lfscp.web.security.shares import Share
from lfscp.web.security.turns import PICTURES_AT_ONCE, Turns
from lfscp.web.security.views import Views
from lfscp.web.status.archive_counts import ArchiveCounts
from lfscp.web.status.events import EventHub
from lfscp.web.status.exposition import Exposition
from lfscp.web.status.queue_rates import QueueRates
from lfscp.web.status.readiness import Readiness
from lfscp.web.status.state import NodeState
from lfscp.web.status.stored_lately import StoreRates

if TYPE_CHECKING:
    from lfscp.jobs.service import JobService
    from lfscp.plugins.plugins import Plugins

FOLDER: Final = Path(__file__).parent
_API: Final = (
    *(studies, corrections, pictures, readings, upload, worklist, procedure_steps, commitments),
    *(jobs, routes, peers, node, monitoring, documents, dtools),
)
_PAGES: Final = (
    *(archive_page, studies_pages, study_acts, corrections_pages),
    *(worklist_pages, procedure_steps_pages, commitments_page),
    *(upload_page, peers_page, remote, jobs_page, routes_page, node_page, login, provider_login),
)
# Routes are tried in their order: frames, which viewers ask for by the thousand, come first. The
# capabilities come last: they answer at any path below the prefix.
_DICOMWEB: Final = (wado_rs, metadata, search, wado_uri, store, deletion, capabilities)
_DESCRIPTION: Final = """Scripts can do here everything that the page does.

An error is a problem document (RFC 9457, `application/problem+json`). If users or a token are
configured, send `Authorization: Bearer TOKEN`."""


def create_app(
    settings: Settings,
    archive: Archive,
    job_service: JobService,
    node_state: Callable[[], NodeState],
    proxies: ReverseProxies | None = None,
    ohif_port: int | None = None,
    plugins: Plugins | None = None,
) -> FastAPI:
    """Make the application of one node.

    Args:
        node_state: gives the node's state now; called from any thread.
        proxies: shared with the server; made from the settings when it is None.
        ohif_port: where the server listens for OHIF too; None: nowhere.
        plugins: bring routes below /plugins.
    """
    counts = ArchiveCounts(archive)
    viewer = Viewer(archive.data_dir, ohif_port) if ohif_port is not None else None
    connections, of_address = limits_of(
        settings.web.max_connections, settings.web.max_connections_per_address
    )
    app = ShortApplication(
        title="lfscp",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever host and scheme the request names
        generate_unique_id_function=_operation_id,
    )
    app.state.web = Web(
        settings=settings,
        archive=archive,
        worklist=Worklist(archive.index),
        procedure_steps=ProcedureSteps(archive.index),
        commitments=Commitments(archive.index),
        jobs=job_service,
        node_state=node_state,
        access=Access(settings.web),
        peers=KnownPeers(settings.peers, AddedPeers(archive.data_dir)),
        renderer=Renderer(
            archive.data_dir / PICTURES,
            settings.web.cache_mb << 20,
            settings.budgets.rendering_mb << 20,
            reserve_mb=settings.storage.reserve_mb,
        ),
        series_metadata=SeriesCache(
            archive.data_dir / METADATA, settings.dicomweb.metadata_cache_mb << 20
        ),
        events=EventHub(job_service, node_state),
        templates=templates(FOLDER / "templates"),
        counts=counts,
        exposition=Exposition(
            archive, counts, job_service, node_state, lambda: read_routes(app.state.web.settings)
        ),
        readiness=Readiness(archive, node_state),
        store_rates=StoreRates(archive),
        queue_rates=QueueRates(),
        views=Views(archive),
        event_streams=Share(max(connections // 2, 1), settings.web.max_event_streams),
        forms=Share(most_forms(connections), MAX_FORMS_OF_VISITOR),
        sent_metadata=Share(MAX_BYTES_OF_ALL, MAX_BYTES),
        turns=Turns(),
        picture_turns=Turns(PICTURES_AT_ONCE),
        known_answers=KnownAnswers(),
        viewer=viewer,
        plugins=plugins,
    )
    app.add_middleware(ShortWay, routes=[each for part in _DICOMWEB for each in part.router.routes])
    problems.install(app)
    if viewer is not None:
        app.router.routes.insert(0, ViewerRoute(viewer))
    for each in (*_DICOMWEB, *_API, *_PAGES):
        _summarise(each.router)
        app.include_router(each.router)
    for name, router in plugins.routers() if plugins is not None else ():
        _summarise(router)
        app.include_router(router, prefix=f"/plugins/{name}", tags=[f"plug-in {name}"])
    swagger = documents.swagger_files()
    if swagger is not None:
        app.mount(documents.ASSETS, swagger)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"))
    app.add_middleware(Compression, paths=(PREFIX,))
    app.add_middleware(BodyLimit)
    _guard(app, connections, of_address, proxies)
    return app


def _guard(
    app: ShortApplication, most: int, most_of_address: int, proxies: ReverseProxies | None
) -> None:
    """Put the guard around all that the application serves.

    Args:
        most: requests at once; `most_of_address` of one address.
    """
    web: Web = app.state.web
    requests = Share(most, most_of_address)
    trusted = proxies or ReverseProxies(web.settings.web.trusted_proxies)
    role_path = web.viewer.role_path if web.viewer is not None else None

    def guarded(inner: ASGIApp) -> ASGIApp:
        guard = Guard(inner, web.access, trusted, requests, role_path)
        return CrossOrigin(  # outside the guard: a page must see why it was refused
            guard, (PREFIX, WADO_URI), lambda: web.settings.dicomweb.cors_origins
        )

    app.add_middleware(guarded)
    app.lead(wado_rs.OF_BYTES, lambda inner: guarded(problems.Unexpected(inner)))


def _operation_id(route: APIRoute) -> str:
    """Name an operation by its tag and function: dtools' /jobs is not the API's."""
    return "_".join([*map(str, route.tags), route.name])


def _summarise(router: APIRouter) -> None:
    """Take the first line of a docstring as an operation's summary, not its function's name."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.summary is None:
            route.summary, _, route.description = route.description.partition("\n")


def renew(app: Any, settings: Settings) -> None:
    """Take over settings that were read again: peers, users and tokens."""
    web: Web = app.state.web
    before, web.settings = web.settings, settings
    web.peers.configured = settings.peers
    if settings.web != before.web:
        web.access.renew(settings.web)
        web.events.begin_anew()


def events_of(app: Any) -> EventHub:
    """The event hub, which must be closed before the server stops."""
    web: Web = app.state.web
    return web.events


def renderer_of(app: Any) -> Renderer:
    """The renderer, which must be closed too: a picture may take long."""
    web: Web = app.state.web
    return web.renderer
