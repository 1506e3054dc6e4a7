"""Finds the names and numbers of people of one object wherever else they stand in it.

The profile keeps texts that are not expected to tell of a person, such as the name of a region of
interest. People write names there all the same. What an object itself says to be a name or an ID of
its patient, or the name of a physician, is looked for in all that stays. Words of medicine are no
names here: nobody is told by HEAD.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from lfscp.deidentification.layout import Found
from lfscp.deidentification.values import dummy, padded
from lfscp.deidentification.words.descriptors import cleaned, vocabulary

# Names: of the patient, of relatives, and of those who treat, perform and read.
_NAMES: Final = frozenset(
    {
        0x00080090,
        0x0008009C,
        0x00081048,
        0x00081050,
        0x00081060,
        0x00081070,
        0x00100010,
        0x00101001,
        0x00101005,
        0x00101060,
        0x00102297,
        0x00321032,
    }
)
_IDS: Final = frozenset({0x00080050, 0x00100020, 0x00101000})
_CODES: Final = frozenset({b"AE", b"CS"})
_TEXT: Final = _CODES | frozenset(b"LO LT SH ST UC UR UT".split())
_APART: Final = re.compile(rb"[^A-Za-z0-9\x80-\xff]+")
_COMPONENTS: Final = re.compile(rb"[\\^= ]+")
_ESCAPE: Final = b"\x1b"
_SHORTEST_NAME: Final = 3  # bytes; two letters are in too many words
_SHORTEST_ID: Final = 5
_MAX_VALUE: Final = 1024  # bytes that are looked at


Values = tuple[tuple[bool, bytes], ...]  # whether it is an ID, and the value


def values_with_names(buffer: memoryview, found: list[Found]) -> Values:
    """The names and IDs of a dataset.

    Args:
        found: its elements.
    """
    return tuple(
        (each.tag in _IDS, bytes(buffer[each.value : min(each.end, each.value + _MAX_VALUE)]))
        for each in found
        if (each.tag in _NAMES or each.tag in _IDS) and each.end > each.value
    )


@lru_cache(maxsize=256)
def words_in(values: Values) -> re.Pattern[bytes] | None:
    """What finds the words of names and IDs, those of medicine too; None if there are none.

    It is quick to make, and most objects have none of these words anywhere else.
    """
    return _pattern({word for is_id, value in values for word in _words(value, is_id)})


@lru_cache(maxsize=256)
def names_in(values: Values) -> re.Pattern[bytes] | None:
    """What finds the words of names and IDs that are no words of medicine; None if there are none.

    It needs the words of medicine, which take some time to load.
    """
    words = {word for is_id, value in values for word in _words(value, is_id)}
    return _pattern(words - vocabulary())


def _pattern(words: set[bytes] | frozenset[bytes]) -> re.Pattern[bytes] | None:
    if not words:
        return None
    either = b"|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rb"(?<![A-Za-z0-9])(?:%b)(?![A-Za-z0-9])" % either, re.IGNORECASE)


def _words(value: bytes, is_id: bool) -> Iterator[bytes]:
    value = value.strip(b" \0").lower() if _ESCAPE not in value else value
    if _ESCAPE in value:  # other letters in the bytes of ASCII: only whole components tell
        parts = [part for part in _COMPONENTS.split(value) if _ESCAPE in part]
    elif is_id:
        parts = [*value.split(b"\\"), *_APART.split(value)]
    else:
        parts = _APART.split(value)
    shortest = _SHORTEST_ID if is_id or _ESCAPE in value else _SHORTEST_NAME
    for part in parts:
        if len(part) >= shortest and not _is_short_number(part):
            yield part


def may_have_names(vr: bytes) -> bool:
    """Whether a name may stand in values of a VR."""
    return vr in _TEXT


def without_names(
    value: bytes, vr: bytes, names: re.Pattern[bytes], identifying: frozenset[bytes]
) -> bytes:
    """A value in which a name was found, without it.

    Args:
        identifying: words that no text may keep.
    """
    if vr in _CODES:
        parts = (dummy(vr).strip() if names.search(part) else part for part in value.split(b"\\"))
        return padded(b"\\".join(parts), vr)
    return padded(names.sub(b"", cleaned(value, identifying)), vr) or dummy(vr)


def _is_short_number(part: bytes) -> bool:
    return part.isdigit() and len(part) < _SHORTEST_ID
