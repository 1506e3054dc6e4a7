"""Reads a multipart body piece by piece, in bounded memory.

Rules: a delimiter is a line of its own that is exactly the boundary with its hyphens, and spaces
after it; a longer line that only begins so is data. What stands before the first delimiter and
after the last one is not looked at. Lines end with CR LF. The lengths that parts state of
themselves are not used to find their ends.
Source: RFC 2046 section 5.1.1, RFC 2387. Pure: no input or output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from lfscp.dicomweb.errors import BodyError

MAX_HEAD_BYTES: Final = 16 << 10  # of one part
MAX_PREAMBLE_BYTES: Final = 64 << 10
MAX_PADDING_BYTES: Final = 256  # spaces after a boundary
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_FOLDED: Final = re.compile(rb"\r\n[ \t]+")
_PADDING: Final = b" \t"
_END_OF_HEAD: Final = b"\r\n\r\n"
_LONG_HEAD: Final = f"a part has a head of more than {MAX_HEAD_BYTES >> 10} kB, or one without end"
_WANTS_MORE, _IS_DATA, _CLOSES = -1, -2, -3  # instead of where a part begins


class Parts(Protocol):
    """What is told about the parts, in their order."""

    def begin(self, head: Mapping[str, str]) -> None:
        """A part begins; its header fields by their names in lower case."""

    def data(self, piece: memoryview) -> None:
        """Bytes of the part; valid during the call."""

    def end(self) -> None:
        """The part is whole."""


class MultipartReader:
    """Reads one body.

    Args:
        boundary: without the hyphens before it.
        parts: is told what comes.
    Raises:
        BodyError: the boundary is none.
    """

    def __init__(self, boundary: bytes, parts: Parts) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise BodyError("Content-Type names no boundary, or none that is allowed")
        self._delimiter = b"\r\n--" + boundary
        self._parts = parts
        self._unread = b"\r\n"  # the first delimiter may be the first line
        self._unwanted = 2  # bytes that belong to the line before
        self._preamble = 0
        self._is_inside = False  # a part
        self._is_head = False
        self._has_parts = False
        self.is_closed = False

    def feed(self, block: bytes | memoryview) -> None:
        """Take the next bytes of the body.

        Raises:
            BodyError: they cannot belong to a multipart body.
        """
        data = self._unread + block
        at, goes_on = 0, not self.is_closed
        while goes_on:
            at, goes_on = (self._head if self._is_head else self._content)(data, at)
        self._unread = b"" if self.is_closed else data[at:]

    def close(self) -> None:
        """Take note that the body has ended.

        Raises:
            BodyError: it has no part, or lacks its closing delimiter: a part that has begun is
                not whole.
        """
        if self.is_closed and self._has_parts:
            return
        if self._is_inside or self._is_head:
            raise BodyError("the body breaks off: it has no closing boundary")
        reason = "" if self.is_closed else ": the boundary of Content-Type is not in it"
        raise BodyError(f"the body has no part{reason}")

    def _content(self, data: bytes, at: int) -> tuple[int, bool]:
        """Read to the next delimiter, or as far as the bytes go.

        Returns:
            Where to go on, and whether there are bytes to go on with.
        """
        search = at
        while (found := data.find(self._delimiter, search)) >= 0:
            following = _after(data, found + len(self._delimiter))
            if following == _WANTS_MORE:
                self._pass_on(data, at, found)
                return found, False
            if following != _IS_DATA:
                self._pass_on(data, at, found)
                return self._end_of_part(following)
            search = found + 2
        kept = max(at, len(data) - len(self._delimiter) + 1)  # a delimiter may begin there
        self._pass_on(data, at, kept)
        return kept, False

    def _pass_on(self, data: bytes, at: int, until: int) -> None:
        unwanted = min(self._unwanted, until - at)
        self._unwanted -= unwanted
        at += unwanted
        if self._is_inside and at < until:
            self._parts.data(memoryview(data)[at:until])
        elif not self._is_inside:
            self._preamble += until - at
            if self._preamble > MAX_PREAMBLE_BYTES:
                raise BodyError("the boundary of Content-Type is not where the body begins")

    def _end_of_part(self, following: int) -> tuple[int, bool]:
        if self._is_inside:
            self._is_inside = False
            self._parts.end()
        self._is_head = following != _CLOSES
        self._has_parts |= self._is_head
        self.is_closed = not self._is_head
        return following, self._is_head

    def _head(self, data: bytes, at: int) -> tuple[int, bool]:
        """Read the header fields of a part; returns as `_content`."""
        is_empty = data.startswith(b"\r\n", at)
        end = at if is_empty else data.find(_END_OF_HEAD, at) + 2
        if end < at + 2 and not is_empty:
            if len(data) - at > MAX_HEAD_BYTES:
                raise BodyError(_LONG_HEAD)
            return at, False
        if end - at > MAX_HEAD_BYTES:
            raise BodyError(_LONG_HEAD)
        self._is_head, self._is_inside = False, True
        self._unwanted = 2  # the empty line, whose end may be the beginning of a delimiter
        self._parts.begin(_fields(data[at:end]))
        return end, True


def _after(data: bytes, at: int) -> int:
    """Where the head of a part begins after a delimiter, or one of the three negative numbers."""
    if data.startswith(b"--", at):
        return _CLOSES
    end = at
    while end < len(data) and data[end] in _PADDING and end - at < MAX_PADDING_BYTES:
        end += 1
    if data.startswith(b"\r\n", end):
        return end + 2
    rest = data[end : end + 2]
    is_begun = b"\r\n".startswith(rest) or (end == at and rest == b"-")
    return _WANTS_MORE if is_begun else _IS_DATA


def _fields(head: bytes) -> dict[str, str]:
    """The header fields; of two with one name the last counts."""
    fields = {}
    unfolded = _FOLDED.sub(b" ", head).decode("latin_1")
    for line in unfolded.split("\r\n")[:-1]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BodyError("a part has a line in its head that is no header field")
        fields[name.lower()] = value.strip()
    return fields
