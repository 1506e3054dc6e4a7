"""Asks a DICOMweb server by HTTP.

Rules: a redirect is followed only for a search or retrieve, and only to the same scheme, host and
port, so that credentials go nowhere else. No proxy is used, and nothing of the environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, Self
from urllib.parse import urljoin, urlsplit

import httpcore2

from lfscp.scu.connection import Flag
from lfscp.scu.dicomweb.answer import Answer
from lfscp.scu.dicomweb.connection import Backend
from lfscp.scu.dicomweb.failures import failures
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind
from lfscp.upperlayer.connection.errors import CalledOffError

_MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_URL_SHOWN: Final = 200
_VISIBLE: Final = re.compile(r"[!-~]+")  # what the first line of a request can hold


class Session:
    """Requests to one server, over one connection.

    Args:
        cancel: once set, what runs ends.
        look: called while the server is waited for, instead of a look at `cancel`; ends the request
            by raising CalledOffError.
    """

    def __init__(
        self, peer: DICOMwebPeer, cancel: Flag, look: Callable[[], None] | None = None
    ) -> None:
        self.peer = peer
        self._cancel = cancel
        self._root = peer.split_url
        self._has_answered = False
        self._backend = Backend(look or self._look)
        with failures(self.peer):
            self._pool = httpcore2.ConnectionPool(
                ssl_context=peer.ssl_context(), max_connections=1, network_backend=self._backend
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()

    @contextmanager
    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | None = None,
    ) -> Iterator[Answer]:
        """Send a request, and wait for the begin of its answer.

        Args:
            path: below the server's URL, with its query.
            body: its header fields are the caller's.
        Raises:
            GivenUpError: it was cancelled.
            PeerError: there is no answer, or a redirect that is not followed.
        """
        response = self._answered(method, self._root.path + path, headers, body)
        try:
            answer = Answer(self.peer, response)
            if answer.status in _REDIRECTS:
                raise self._redirects(answer)
            yield answer
        finally:
            response.close()

    def _answered(
        self, method: str, target: str, headers: Mapping[str, str], body: Iterable[bytes] | None
    ) -> httpcore2.Response:
        for _ in range(_MAX_REDIRECTS):
            response = self._send(method, target, headers, body)
            if method != "GET" or response.status not in _REDIRECTS:
                return response
            location = Answer(self.peer, response).header("location")
            other = self._same_origin(target, location)
            if not other:
                return response
            response.close()
            target = other
        return response

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: Iterable[bytes] | None
    ) -> httpcore2.Response:
        try:
            return self._sent(method, target, headers, body)
        except PeerError as error:
            # A server may close a connection that rests while the request is under way.
            if method != "GET" or not self._has_answered or error.kind != PeerErrorKind.ABORTED:
                raise
            if isinstance(error, GivenUpError):
                raise
            self._has_answered = False
            return self._sent(method, target, headers, body)

    def _sent(
        self, method: str, target: str, headers: Mapping[str, str], body: Iterable[bytes] | None
    ) -> httpcore2.Response:
        limit = self.peer.timeout_s
        wait = {"connect": self.peer.connect_timeout_s, "read": limit, "write": limit}
        url = httpcore2.URL(
            scheme=self._root.scheme,
            host=self._root.hostname or "",
            port=self.peer.port,
            target=target,
        )
        fields = {"Host": self._root.netloc, **self._own_headers(), **headers}
        request = httpcore2.Request(
            method,
            url,
            headers=[(name.encode(), value.encode("latin_1")) for name, value in fields.items()],
            content=body,
            extensions={"timeout": wait},
        )
        self._backend.awaits_head = True
        with failures(self.peer):
            response = self._pool.handle_request(request)
        self._backend.awaits_head = False
        self._has_answered = True
        return response

    def _own_headers(self) -> dict[str, str]:
        headers = {"User-Agent": "lfscp", "Accept-Encoding": "identity"}
        if self.peer.authorization:
            headers["Authorization"] = self.peer.authorization
        return headers

    def _same_origin(self, target: str, location: str) -> str:
        """The target that a redirect names; empty if it is elsewhere."""
        begin = f"{self._root.scheme}://{self._root.netloc}"
        with suppress(ValueError):
            other = urlsplit(urljoin(begin + target, location))
            is_ours = (other.scheme, other.netloc.lower()) == (
                self._root.scheme,
                self._root.netloc.lower(),
            )
            if is_ours and _VISIBLE.fullmatch(location):
                path = other.path or "/"
                return f"{path}?{other.query}" if other.query else path
        return ""

    def _redirects(self, answer: Answer) -> PeerError:
        location = self.peer.without_secrets(answer.header("location"))[:_MAX_URL_SHOWN]
        where = location if location.isascii() and location.isprintable() else ""
        reason = f"redirects to {where or 'an unknown place'}; give the URL that answers itself"
        return PeerError(PeerErrorKind.REFUSED, self.peer, reason)

    def _look(self) -> None:
        if self._cancel.is_set():
            raise CalledOffError("called off")
