"""The reasons why there is no picture, or why a picture lacks something."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MISSING: Final = "the file of this object is missing; `lfscp check` tells more"
_MAX_WORDS: Final = 300  # characters of a codec's message
_OBJECT: Final = re.compile(r"<[^<>]* object at 0x[0-9a-fA-F]+>")


class NoPictureError(Exception):
    """There is no picture of this object; the text says why, fit for the caller."""


class MissingFileError(NoPictureError):
    """The file of this object is not there: missing, or replaced since its row was read."""

    def __init__(self) -> None:
        super().__init__(MISSING)


class Omission(NamedTuple):
    """Something that a picture lacks, and why."""

    what: str
    reason: str


class LookupTableError(Exception):
    """A lookup table makes no sense; the text says why."""


def words_of(error: Exception) -> str:
    """A codec's message on one line, without names of classes.

    pydicom writes a heading, then a line for each of its plugins.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = lines[1:]
    text = _OBJECT.sub("the data", "; ".join(lines))
    return text[:_MAX_WORDS] or "it is broken"


class NotEnoughMemoryError(Exception):
    """A picture needs more memory than there is.

    Args:
        need: bytes; 0 if unknown.
    """

    def __init__(self, need: int = 0) -> None:
        super().__init__(f"about {-(-need >> 20)} MB" if need else "more memory than there is")
        self.need = need


def is_lack_of_memory(error: BaseException | None) -> bool:
    """Whether an exception has lack of memory as its cause."""
    while error is not None:
        if isinstance(error, MemoryError | NotEnoughMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
