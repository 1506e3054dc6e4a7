"""Reads the objects of a JSON array one by one, in bounded memory.

Rules: of an object, no more than its maximum is kept. An object that is not whole yet is looked at
again only when twice as much of it is there, so that the work stays in proportion to the bytes.
Between two objects there may be no more space than the maximum of one: it could last for ever.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn

_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[][{}]', re.DOTALL)
_MAX_DEPTH: Final = 500  # arrays and objects in each other; some Pythons would take thousands
_BEGIN, _FIRST, _NEXT, _SEPARATOR, _END = range(5)  # what is expected


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def objects_of(blocks: Iterable[bytes], max_object_bytes: int) -> Iterator[tuple[Any, int]]:
    """The objects of an array, each with its length in characters.

    Args:
        blocks: the document in UTF-8, as it comes.
    Raises:
        ValueError: it is no array of objects, or an object is too large.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    reading = _Reading(max_object_bytes)
    for block in blocks:
        yield from reading.feed(_decoded(decoder, block))
    yield from reading.feed(_decoded(decoder, b"", is_end=True), is_end=True)
    reading.close()


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, *, is_end: bool = False) -> str:
    try:
        return decoder.decode(block, is_end)
    except UnicodeDecodeError:
        raise ValueError("JSON that is no UTF-8") from None


class _Reading:
    def __init__(self, max_object_bytes: int) -> None:
        self._max = max_object_bytes
        self._expected = _BEGIN
        self._text = ""
        self._new: list[str] = []  # not in `_text` yet: to add each would copy it all each time
        self._length = 0  # characters of both
        self._enough = 0  # characters, to look at an object again
        self._space = 0  # characters since the last one that is none

    def feed(self, text: str, *, is_end: bool = False) -> Iterator[tuple[Any, int]]:
        self._new.append(text)
        self._length += len(text)
        if self._length < self._enough and not is_end:
            return
        self._text += "".join(self._new)
        self._new.clear()
        at = 0
        while (at := self._after_space(at)) < len(self._text):
            self._space = 0
            if self._expected in (_FIRST, _NEXT) and self._text[at] == "{":
                whole = self._whole(at)
                if whole is None:
                    break
                found, end = whole
                yield found, end - at
                at, self._expected = end, _SEPARATOR
            else:
                at = self._punctuation(at)
        self._text = self._text[at:]
        if len(self._text) > self._max:
            raise ValueError(f"a match of more than {self._max / 1e6:g} MB, or no JSON")
        self._length = len(self._text)
        self._enough = 2 * self._length

    def close(self) -> None:
        if self._expected is not _END or self._text:
            raise ValueError("JSON that breaks off, or is none")

    def _after_space(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        end = match.end() if match else at
        self._space += end - at
        if self._space > self._max:
            raise ValueError(f"more than {self._max / 1e6:g} MB of space in JSON")
        return end

    def _whole(self, at: int) -> tuple[Any, int] | None:
        """An object and where it ends; None if it is not whole."""
        try:
            found, end = _DECODER.raw_decode(self._text, at)
        except json.JSONDecodeError:
            return None  # if it is wrong, `feed` or `close` will say so
        except ValueError:  # Python reads no whole number of more than 4,300 digits
            raise ValueError("a number of too many digits") from None
        except RecursionError:
            raise ValueError("JSON that is nested too deep") from None
        if self._text.count("[", at, end) + self._text.count("{", at, end) > _MAX_DEPTH:
            _require_depth(self._text, at, end)
        return found, end

    def _punctuation(self, at: int) -> int:
        following = {
            (_BEGIN, "["): _FIRST,
            (_FIRST, "]"): _END,
            (_SEPARATOR, ","): _NEXT,
            (_SEPARATOR, "]"): _END,
        }.get((self._expected, self._text[at]))
        if following is None:
            raise ValueError("no array of objects in JSON")
        self._expected = following
        return at + 1


def _require_depth(text: str, at: int, end: int) -> None:
    depth = 0
    for match in _BRACKETS.finditer(text, at, end):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > _MAX_DEPTH:
            raise ValueError("JSON that is nested too deep")
