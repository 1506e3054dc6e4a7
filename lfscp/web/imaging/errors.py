"""Why there is no picture, or why one is shown without a part of what the object says."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_MAX_WORDS: Final = 300  # characters of a codec's message
_OBJECT: Final = re.compile(r"<[^<>]* object at 0x[0-9a-fA-F]+>")


class NoPictureError(Exception):
    """There is no picture of this object; the text says why, fit for the caller."""


class Omission(NamedTuple):
    """What a picture is shown without, and why."""

    what: str
    reason: str


class LookupTableError(Exception):
    """A lookup table makes no sense; the text says why."""


def words_of(error: Exception) -> str:
    """A codec's own words, on one line; never the name of a class.

    pydicom puts a heading before what its plugins say, and a line for each of them.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = lines[1:]
    text = _OBJECT.sub("the data", "; ".join(lines))
    return text[:_MAX_WORDS] or "it is broken"


class NotEnoughMemoryError(Exception):
    """A picture needs more memory than there is.

    Args:
        need: bytes; 0 when nobody knows.
    """

    def __init__(self, need: int = 0) -> None:
        super().__init__(f"about {-(-need >> 20)} MB" if need else "more memory than there is")
        self.need = need


def is_lack_of_memory(error: BaseException | None) -> bool:
    """Whether an exception was raised since memory ran out, perhaps under another name."""
    while error is not None:
        if isinstance(error, MemoryError | NotEnoughMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
