"""Reads the answer of a DICOMweb server, and says why it refuses.

Answers are asked for uncompressed, and refused if they are not: a few bytes could become gigabytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

import httpcore2

from lfscp.dicomweb.content_type import ContentType
from lfscp.observe.logging import get_logger
from lfscp.scu.dicomweb.failures import failures
from lfscp.scu.dicomweb.json_array import objects_of
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.errors import PeerError, PeerErrorKind

LOG: Final = get_logger("lfscp.scu")
_MAX_WORDS_BYTES: Final = 16_384  # of an answer that refuses
_MAX_WORDS: Final = 200  # characters of them that are shown
_MAX_WARNINGS: Final = 5  # of one answer that are logged
_REASONS: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "does not take our user, password or token",
    HTTPStatus.FORBIDDEN: "does not allow us to do this",
    HTTPStatus.NOT_FOUND: "has nothing at this URL",
}
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
# What servers call their own words in an answer of JSON.
_WORDS: Final = ("detail", "Details", "errorMessage", "Message", "message", "title")
_WARNING: Final = re.compile(r'299\s+\S+\s+"((?:[^"\\]|\\.)*+)"')


class Answer:
    """The answer to a request, valid inside `Session.ask`.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, peer: DICOMwebPeer, response: httpcore2.Response) -> None:
        self._peer = peer
        self._response = response
        self.status: int = response.status

    def header(self, name: str) -> str:
        """A header field; several of one name are joined by commas."""
        wanted = name.lower().encode()
        values = [value for key, value in self._response.headers if key.lower() == wanted]
        return b", ".join(values).decode("latin_1")

    @property
    def content_type(self) -> ContentType:
        """Its media type; of one that cannot be read, an empty one."""
        return ContentType.read(self.header("content-type"))

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes.

        Raises:
            PeerError: it breaks off, or is compressed.
        """
        coding = self.header("content-encoding").strip().lower()
        if coding not in ("", "identity"):
            reason = "compresses its answer, which we did not ask for"
            raise PeerError(PeerErrorKind.REFUSED, self._peer, reason)
        with failures(self._peer):
            yield from self._response.iter_stream()

    def read(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            PeerError: it breaks off, is compressed, or is longer than `max_bytes`.
        """
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > max_bytes:
                reason = f"sent an answer of more than {max_bytes / 1e6:g} MB"
                raise PeerError(PeerErrorKind.REFUSED, self._peer, reason)
        return bytes(found)

    def objects(self, max_object_bytes: int) -> Iterator[tuple[Any, int]]:
        """The objects of a JSON array one by one, each with its length.

        Raises:
            ValueError: the body is no array of objects, or one is too large.
            PeerError: as `blocks`.
        """
        return objects_of(self.blocks(), max_object_bytes)

    def require(self, what: str, *expected: int) -> None:
        """Accept one of some statuses.

        Args:
            what: was asked for, for the message.
        Raises:
            PeerError: it is another one; with the server's own words if it gave any.
        """
        if self.status in expected:
            return
        peer, reason = self._peer, _REASONS.get(self.status, "")
        if self.status == HTTPStatus.UNAUTHORIZED and not peer.has_login:
            reason = "asks for a login"
        kind = PeerErrorKind.REFUSED
        if self.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            kind = PeerErrorKind.REJECTED
        told = self.words()
        text = f"{reason or f'refused {what}'} (HTTP {self.status})"
        text = f"{text}: {told}" if told else text
        raise PeerError(kind, peer, text, passing=self.status in _PASSING)

    def words(self) -> str:
        """What the server says about a refusal, fit for a terminal; empty if it is not plain."""
        media_type = self.content_type.media_type
        with suppress(PeerError):
            content = self.read(_MAX_WORDS_BYTES).decode("utf-8", "replace")
            if media_type == "text/plain":
                return self.shown(content)
            if media_type.endswith("json"):
                return self.shown(_told(content))
        return ""

    def shown(self, text: str) -> str:
        """What the server says, short and fit for a terminal, and without our login."""
        plain = " ".join(self._peer.without_secrets(text).split())
        if len(plain) > _MAX_WORDS:
            plain = f"{plain[: _MAX_WORDS - 3].rstrip()}..."
        return "".join(each if each.isprintable() else "?" for each in plain)

    def log_warnings(self) -> list[str]:
        """The texts of the header Warning, the first ones logged (PS3.18 section 8.3.4)."""
        found = _WARNING.finditer(self.header("warning"))
        texts = [self.shown(each[1]) for each in islice(found, _MAX_WARNINGS)]
        for text in texts:
            LOG.warning("the server warns", peer=str(self._peer), reason=text)
        return texts


def _told(content: str) -> str:
    """The words of a server in a JSON document."""
    with suppress(ValueError, RecursionError):
        document: Any = json.loads(content)
        if isinstance(document, dict):
            found = (document.get(name) for name in _WORDS)
            return next((each for each in found if isinstance(each, str) and each), "")
    return ""
