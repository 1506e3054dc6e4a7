"""What every route works with: one object per application, and how a route gets at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.templating import Jinja2Templates
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError
from lfscp.config import Settings
from lfscp.web.access import Access, Session
from lfscp.web.events import EventHub
from lfscp.web.peer_book import PeerBook
from lfscp.web.rendering import Renderer
from lfscp.web.state import NodeState

if TYPE_CHECKING:
    from lfscp.jobs.service import JobService


@dataclass(slots=True)
class Web:
    """The parts of one application."""

    settings: Settings
    archive: Archive
    jobs: JobService
    node_state: Callable[[], NodeState]
    access: Access
    peers: PeerBook
    renderer: Renderer
    events: EventHub
    templates: Jinja2Templates

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


def session_of(request: Request) -> Session | None:
    """The session of this request; the guard has looked it up."""
    return cast("Session | None", request.scope.get("state", {}).get("session"))


Context = Annotated[Web, Depends(web_of)]
JSON = Any
