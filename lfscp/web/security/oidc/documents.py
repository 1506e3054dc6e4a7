"""Fetches JSON documents from the identity provider.

Rules: TLS is verified, except on loopback, where plain HTTP may be. A document has at most 512 kB,
and must be there within ten seconds, also if it, or its head, comes byte by byte. Redirects are not
followed: the provider's own documents say where to ask, and a secret must not go elsewhere.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
)

from lfscp.config.checks import is_loopback
from lfscp.config.oidc import is_safe_url
from lfscp.web.security.oidc.errors import ProviderAwayError

MAX_BYTES: Final = 512 << 10
SILENCE_S: Final = 5.0  # of the connection
WHOLE_S: Final = 10.0  # for a document
_PIECE: Final = 64 << 10
_MAX_OF_A_REASON: Final = 200  # characters

Document = dict[str, Any]


class RefusedByProviderError(ProviderAwayError):
    """The provider answers with an error of OAuth (RFC 6749 section 5.2).

    Args:
        code: for example invalid_grant; empty when it names none.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def fetch(
    url: str,
    ca_file: str = "",
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Document:
    """Fetch a JSON object; blocks for some ten seconds at most.

    Args:
        ca_file: certificates of trusted authorities (PEM); empty for the system's.
        form: fields to send by POST.
    Raises:
        RefusedByProviderError: the answer is an error.
        ProviderAwayError: there is no answer, or none that can be used.
    """
    if not is_safe_url(url):
        raise ProviderAwayError("it names an address without TLS")
    body = urlencode(form).encode() if form is not None else None
    request = Request(  # noqa: S310 - the scheme is known from is_safe_url
        url, body, {"Accept": "application/json", "User-Agent": "lfscp", **(headers or {})}
    )
    try:
        with _opener(url, ca_file).open(request, timeout=SILENCE_S) as answer:
            return _object_in(_read(answer))
    except HTTPError as error:
        with error:
            raise _refused(error) from None
    except (URLError, OSError, http.client.HTTPException) as error:
        raise ProviderAwayError(_reason(error)) from None


def _opener(url: str, ca_file: str) -> Any:
    handlers: list[Any] = [_NoRedirects(), _Plain()]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(ProxyHandler({}))  # a proxy has another loopback
    if urlsplit(url).scheme == "https":
        handlers.append(_Secured(context=ssl.create_default_context(cafile=ca_file or None)))
    return build_opener(*handlers)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none, so that a redirect is an error."""


class _InTime(io.RawIOBase):
    """The bytes of an answer, for as long as it may take."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._bytes = sock.makefile("rb", buffering=0)
        self._until = time.monotonic() + WHOLE_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._until - time.monotonic()
        try:
            if left_s <= 0:
                raise TimeoutError  # noqa: TRY301 - as the socket does
            self._sock.settimeout(min(SILENCE_S, left_s))
            return self._bytes.readinto(buffer)
        except TimeoutError:
            if left_s > SILENCE_S:
                raise
            raise ProviderAwayError(f"its answer takes more than {WHOLE_S:.0f} s") from None

    def close(self) -> None:
        self._bytes.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *others: Any, **named: Any) -> None:
        super().__init__(sock, *others, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_InTime(sock))


class _PlainConnection(http.client.HTTPConnection):
    response_class = _Answer


class _SecuredConnection(http.client.HTTPSConnection):
    response_class = _Answer


class _Plain(HTTPHandler):
    def http_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(_PlainConnection, request)


class _Secured(HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._context = context

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(_SecuredConnection, request, context=self._context)


def _read(answer: Any) -> bytes:
    found = bytearray()
    while piece := answer.read1(_PIECE):
        found += piece
        if len(found) > MAX_BYTES:
            raise ProviderAwayError(f"its answer has more than {MAX_BYTES >> 10} kB")
    return bytes(found)


def _object_in(body: bytes) -> Document:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderAwayError("its answer is no JSON object")
    return found


def _refused(error: HTTPError) -> ProviderAwayError:
    """What an answer with a status of an error says."""
    said: Document = {}
    if isinstance(error.fp, http.client.HTTPResponse):
        try:
            said = _object_in(_read(error.fp))
        except (ProviderAwayError, OSError, http.client.HTTPException):
            said = {}
    code, more = said.get("error"), said.get("error_description")
    words = [str(error.code), *(each for each in (code, more) if isinstance(each, str))]
    reason = printable(f"it answers {': '.join(words)}")
    return RefusedByProviderError(code if isinstance(code, str) else "", reason)


def printable(text: str, most: int = _MAX_OF_A_REASON) -> str:
    """A text of somebody else as it may stand in a line of the log."""
    return "".join(each if each.isprintable() else "?" for each in text[:most])


def _reason(error: Exception) -> str:
    """Why there is no answer, in words."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {cause.verify_message}"
    if isinstance(cause, TimeoutError):
        return f"no answer within {SILENCE_S:.0f} s"
    if isinstance(cause, http.client.HTTPException):
        return "its answer is no HTTP"
    said = getattr(cause, "strerror", None) or str(cause)
    return printable(str(said) or "the connection broke")
