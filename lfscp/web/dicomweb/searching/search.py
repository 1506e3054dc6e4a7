"""Answers the searches of QIDO-RS (PS3.18 section 10.6).

Rules: rows are read and written some at a time, so an answer of any length takes bounded memory; a
million matches are the most. Nothing found is 204.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response
from starlette.routing import Route

from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.interceptor import AskedQuery
from lfscp.archive.query.ordered import Found
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.values.attributes import Level
from lfscp.dicomweb.multipart_writer import Bytes, MultipartWriter, Part
from lfscp.observe import audit, metrics
from lfscp.services.audit_events import keys_of
from lfscp.web.context import caller_of
from lfscp.web.dicomweb.addresses import PREFIX, base_url, require_uid
from lfscp.web.dicomweb.answering import Asked, Endpoint, Handler, Streamed
from lfscp.web.dicomweb.model_forms import DICOM_XML, form_of
from lfscp.web.dicomweb.searching.matches import MatchWriter
from lfscp.web.dicomweb.searching.parameters import Search, read_search
from lfscp.web.dicomweb.warning_header import warning_headers
from lfscp.web.problems import Problem

router = APIRouter(include_in_schema=False)
MAX_MATCHES: Final = 1_000_000
_ROWS_AT_ONCE: Final = 500
_OBJECTS_AT_ONCE: Final = 50  # of a search that reads them
_MODEL: Final = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root FIND, whose keys these are
_MORE: Final = "There are more matches than are returned; ask for them with limit and offset."
_UNREAD: Final = "Some objects cannot be read; their matches lack values."


@dataclass(frozen=True, slots=True)
class _Answer:
    """The matches of one search, and how they go out."""

    asked: Asked
    search: Search
    keys: Sequence[int]
    writer: MatchWriter
    form: str
    warnings: tuple[str, ...]

    def response(self) -> Response:
        """The answer; at once if it is short."""
        chunks = self._chunks()
        first = next(chunks, [])
        if not first:
            return Response(
                status_code=HTTPStatus.NO_CONTENT, headers=warning_headers(self.warnings)
            )
        unread = () if all(each.is_whole for each in first) else (_UNREAD,)
        headers = {"Vary": "Accept", **warning_headers((*self.warnings, *unread))}
        matches = self._each(first, chunks)
        if self.form == DICOM_XML:
            multipart = MultipartWriter(DICOM_XML)
            parts = (Part(DICOM_XML, [self.writer.xml(each).encode()]) for each in matches)
            media_type, pieces = multipart.content_type, multipart.pieces(parts)
        else:
            media_type, pieces = self.form, self._json(first, chunks)
        if len(self.keys) <= self._at_once:
            return Response(b"".join(pieces), media_type=media_type, headers=headers)
        return Streamed(self.asked, _drawn(pieces), media_type, headers, what="matches")

    @property
    def _at_once(self) -> int:
        return _OBJECTS_AT_ONCE if self.search.query.object_keys else _ROWS_AT_ONCE

    def _chunks(self) -> Iterator[list[Found]]:
        """The rows, some at a time; a chunk that is all gone is left out."""
        archive, query = self.asked.web.archive, self.search.query
        for at in range(0, len(self.keys), self._at_once):
            keys = self.keys[at : at + self._at_once]
            rows = list(archive.rows(query, keys, _interruption(self.asked)))
            if rows:
                yield rows

    def _each(self, first: list[Found], chunks: Iterator[list[Found]]) -> Iterator[Found]:
        yield from first
        for chunk in chunks:
            yield from chunk

    def _json(self, first: list[Found], chunks: Iterator[list[Found]]) -> Iterator[bytes]:
        write = self.writer.json
        yield f"[{','.join(map(write, first))}".encode("utf-8", "replace")
        for chunk in chunks:
            yield f",{','.join(map(write, chunk))}".encode("utf-8", "replace")
        yield b"]"


def _drawn(pieces: Iterator[Bytes]) -> Generator[Bytes, None, None]:
    yield from pieces


def _interruption(asked: Asked) -> Interruption:
    """Ends the work when the client goes away."""

    def is_gone() -> bool:
        asked.look()
        return False

    return Interruption(is_gone)


def _answer(asked: Asked, level: Level) -> Response:
    form = form_of(asked.request)
    within = {
        each: require_uid(asked.path[name])
        for name, each in (("study", Level.STUDY), ("series", Level.SERIES))
        if name in asked.path
    }
    settings = asked.web.settings
    parameters = asked.request.query_params.multi_items()
    search = read_search(level, within, parameters, settings.budgets.key_values)
    query = _asked_query(asked, search)
    interceptor = asked.web.archive.interceptor
    refused = interceptor.before_query(query) if interceptor is not None else ""
    if refused:
        raise Problem(HTTPStatus.FORBIDDEN, refused)
    wanted = (search.limit, settings.query.max_results or None, MAX_MATCHES)
    limit = min(each for each in wanted if each is not None)
    keys = _found(asked, search, limit)
    warnings = search.warnings
    if len(keys) > limit:
        keys, warnings = keys[:limit], (*warnings, _MORE)
    _record(asked, search, len(keys))
    if interceptor is not None:
        interceptor.after_query(query, len(keys))
    writer = MatchWriter(search.query, base_url(asked.request), search.named)
    return _Answer(asked, search, keys, writer, form, warnings).response()


def _found(asked: Asked, search: Search, limit: int) -> Sequence[int]:
    """The keys of the matches, and one more if there are more."""
    if search.is_vain:
        return ()
    return asked.web.archive.find_keys(
        search.query,
        offset=search.offset,
        limit=limit + 1,
        interruption=_interruption(asked),
    )


def _record(asked: Asked, search: Search, matches: int) -> None:
    metrics.MATCHES.add(matches)
    if not audit.is_on():
        return
    client = asked.request.client
    peer = audit.AuditedPeer(caller_of(asked.request).name, client.host if client else "")
    syntax = EXPLICIT_VR_LITTLE_ENDIAN
    keys = keys_of(search.identifier, syntax)
    details = {"TransferSyntax": syntax, "keys": keys, "matches": matches}
    audit.queried(peer, _MODEL, search.identifier, details)


def _asked_query(asked: Asked, search: Search) -> AskedQuery:
    client = asked.request.client
    name, address = caller_of(asked.request).name, client.host if client else ""
    return AskedQuery(name, address, _MODEL, search.identifier, EXPLICIT_VR_LITTLE_ENDIAN)


def studies(asked: Asked) -> Response:
    """Search for studies."""
    return _answer(asked, Level.STUDY)


def series(asked: Asked) -> Response:
    """Search for series, of all studies or of one."""
    return _answer(asked, Level.SERIES)


def instances(asked: Asked) -> Response:
    """Search for instances, of all studies, of one, or of one series."""
    return _answer(asked, Level.IMAGE)


ROUTES: Final[tuple[tuple[str, Handler], ...]] = (
    ("/studies", studies),
    ("/series", series),
    ("/studies/{study}/series", series),
    ("/instances", instances),
    ("/studies/{study}/instances", instances),
    ("/studies/{study}/series/{series}/instances", instances),
)
router.routes.extend(
    Route(f"{PREFIX}{path}", Endpoint(handler), methods=["GET"]) for path, handler in ROUTES
)
