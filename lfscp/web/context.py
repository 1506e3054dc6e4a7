"""What every route works with: one object per application, and how a route gets at it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.templating import Jinja2Templates
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect

from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.series_cache import SeriesCache
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.procedure_steps.steps import ProcedureSteps
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.config import Settings
from lfscp.config.roles import Role
from lfscp.services.access.known_peers import KnownPeers
from lfscp.web.known_answers import KnownAnswers
from lfscp.web.ohif.viewer import Viewer
from lfscp.web.rendering.renderer import Renderer
from lfscp.web.security.access import NOBODY, Access, Caller
from lfscp.web.security.shares import Share
from lfscp.web.security.turns import Turns
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


@dataclass(slots=True)
class Web:
    """The parts of one application."""

    settings: Settings
    archive: Archive
    worklist: Worklist
    procedure_steps: ProcedureSteps
    commitments: Commitments
    jobs: JobService
    node_state: Callable[[], NodeState]
    access: Access
    peers: KnownPeers
    renderer: Renderer
    series_metadata: SeriesCache
    events: EventHub
    templates: Jinja2Templates
    counts: ArchiveCounts
    exposition: Exposition
    readiness: Readiness
    store_rates: StoreRates
    queue_rates: QueueRates
    views: Views
    event_streams: Share
    forms: Share
    sent_metadata: Share
    turns: Turns
    picture_turns: Turns
    known_answers: KnownAnswers
    viewer: Viewer | None = None
    plugins: Plugins | None = None

    @contextmanager
    def index(self) -> Iterator[Connection]:
        """A connection to the index, for reading.

        Raises:
            ArchiveError: the index cannot be read.
        """
        try:
            with self.archive.index.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", error)).splitlines()[0]
            raise ArchiveError("read the index", reason) from error


def web_of(request: Request) -> Web:
    """The parts of the application that serves this request."""
    return cast(Web, request.app.state.web)


def caller_of(request: Request) -> Caller:
    """Whose this request is; the guard has decided it."""
    found = request.scope.get("state", {}).get("caller")
    return cast(Caller, found) if found else Caller(NOBODY, Role.READ)


def visitor_of(request: Request) -> str:
    """Whom something that this request takes is counted for: the login, or else the address."""
    caller = caller_of(request)
    address = request.client.host if request.client else ""
    return address if caller.name == NOBODY else f"login {caller.name}"


Context = Annotated[Web, Depends(web_of)]


async def _picture_turn(request: Request, web: Context) -> AsyncGenerator[None]:
    async with web.picture_turns.of(visitor_of(request)) as has_waited:
        if has_waited and await request.is_disconnected():
            raise ClientDisconnect
        yield


# Of a route that has the renderer work: one visitor's pictures must not take all places there.
PictureTurn = Depends(_picture_turn, scope="function")
JSON = Any
