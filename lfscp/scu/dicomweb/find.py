"""Queries a DICOMweb server by QIDO-RS (PS3.18 section 10.6).

Rules: matches are asked for page by page, until a page is empty: a server may have a limit below
ours, and need not say so. A server that gives the same page again knows no pages; then the query
ends, with a warning in the log if there may be more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydicom.dataset import Dataset

from lfscp.observe.logging import get_logger
from lfscp.scu.connection import MAX_MATCH_BYTES, NEVER, Flag
from lfscp.scu.dicomweb.answer import Answer
from lfscp.scu.dicomweb.matches import Matches
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.search_request import SearchRequest
from lfscp.scu.dicomweb.session import Session
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind, TooManyMatchesError

LOG: Final = get_logger("lfscp.scu")
PAGE: Final = 1000  # matches
SMALL_PAGE: Final = 100  # for servers that refuse a larger one
ACCEPT_JSON: Final = {"Accept": "application/dicom+json, application/json;q=0.5"}
_JSON: Final = frozenset({"application/dicom+json", "application/json"})
_KEPT_OF_A_MATCH_BYTES: Final = 300  # about what is kept of one beside its values


def find(
    peer: DICOMwebPeer,
    identifier: Dataset,
    model: str = "study",  # noqa: ARG001 - callers ask any kind of peer alike
    *,
    cancel: Flag = NEVER,
    max_bytes: int | None = None,
) -> Iterator[Dataset]:
    """Query a server; gives its matches as they come, with the keys that were asked for.

    Args:
        identifier: the keys, Query/Retrieve Level among them; PATIENT is answered by the studies.
        model: as for C-FIND; DICOMweb has only one, so it changes nothing.
        cancel: once set, no further match is given. Closing the iterator closes the connection.
        max_bytes: limit of all matches together, for callers that keep part of each.
    Raises:
        GivenUpError: it was cancelled before the first answer.
        PeerError: the server cannot be reached, refuses, or sends more than `max_bytes`.
        ValueError: the identifier has no level.
    """
    request = SearchRequest(identifier)
    matches = Matches(request)
    size = count = 0
    with Session(peer, cancel) as session:
        try:
            for document, length in _Search(session, request).documents():
                size += length + _KEPT_OF_A_MATCH_BYTES
                if max_bytes is not None and size > max_bytes:
                    raise TooManyMatchesError(peer, max_bytes)
                match = matches.match_of(document)
                if cancel.is_set():
                    return
                if match is not None:
                    count += 1
                    yield match
        except GivenUpError:
            if not count:
                raise
        except ValueError as error:
            raise PeerError(PeerErrorKind.REFUSED, peer, f"sent {error}") from None
        except RecursionError:
            reason = "sent a match that is nested too deep"
            raise PeerError(PeerErrorKind.REFUSED, peer, reason) from None


class _Search:
    def __init__(self, session: Session, request: SearchRequest) -> None:
        self._session = session
        self._request = request
        self._limit = PAGE
        self._first: Any = None  # match of the page before
        self._has_warned = False

    def documents(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The matches of all pages, each with its length."""
        offset, page = 0, PAGE
        while page:
            page = 0
            for document in self._page(offset):
                page += 1
                yield document
            offset += page
            if self._request.is_unique and page < self._limit:
                return

    def _page(self, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
        target = self._request.target(self._limit, offset)
        with self._session.ask("GET", target, ACCEPT_JSON) as answer:
            is_too_large = answer.status == 400 and not offset and self._limit == PAGE
            if not is_too_large:
                yield from self._matches(answer, offset)
                return
        self._limit = SMALL_PAGE
        yield from self._page(offset)

    def _matches(self, answer: Answer, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
        if answer.status == 404 and self._request.named:
            return  # nothing is below a study that is not there
        answer.require("the query", 200, 204, 206)
        if not self._has_warned:
            self._has_warned = bool(answer.log_warnings())
        if answer.status == 204:
            return
        require_json(self._session.peer, answer)
        is_first = True
        for document, length in answer.objects(MAX_MATCH_BYTES):
            if is_first and offset and document == self._first:
                self._note_no_pages(offset)
                return
            if is_first:
                self._first, is_first = document, False
            yield document, length

    def _note_no_pages(self, offset: int) -> None:
        if offset == self._limit:
            reason = f"it gives {offset} matches and no second page; there may be more"
            LOG.warning("the query may lack matches", peer=str(self._session.peer), reason=reason)


def require_json(peer: DICOMwebPeer, answer: Answer) -> None:
    """Accept an answer that is JSON.

    Raises:
        PeerError: it is something else, as of a server that does not speak DICOMweb.
    """
    media_type = answer.content_type.media_type
    if media_type not in _JSON:
        shown = peer.without_secrets(media_type)
        shown = shown if shown.isprintable() and len(shown) < 100 else ""
        reason = f"answers with {shown or 'an unknown type'} instead of application/dicom+json"
        raise PeerError(PeerErrorKind.REFUSED, peer, f"{reason}; is it a DICOMweb server?")
