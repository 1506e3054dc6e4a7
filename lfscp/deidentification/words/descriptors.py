"""Cleans text and codes: words of medicine stay, all others go.

Rules: a word stays if it is in the names of the standard's attributes, in the meanings of the
codes that pydicom knows, or in the short list here, and if no identifying attribute of the same
object has it. Words are letters of ASCII; of numbers only short ones behind a letter stay, as T2.
So a text loses what nobody has approved, dates and telephone numbers among it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

_WORD: Final = re.compile(rb"[A-Za-z]+")
_TOKEN: Final = re.compile(rb"[^ \t\r\n\f\\^=,;:/()_+\[\]-]+|[-/+]")
_LETTERS_AND_DIGITS: Final = re.compile(rb"(?=[A-Za-z0-9]{2,3}$)(?=.*[0-9])[A-Za-z]{1,2}[0-9]{1,2}")
_MAX_TEXT: Final = 16_384  # bytes that are looked at
# Abbreviations of protocols that the dictionaries lack.
_SHORT: Final = frozenset(
    b"abd adc angio ap art ax axial bh bold bone brain cad cap chest cine contrast cor "
    b"coronal ct cta cxr decub delay dwi ep epi ext fat fast fgre flair flash fse fs gd gre "
    b"head iac iv kub lat lao ll lspine lt lumbar lung mip mpr mprage mr mra ms neck nm obl "
    b"pa pc pd pelvis perf phase plain post pre pt rao recon rt sag sagittal scout se sense "
    b"skull soft spine stir supine prone survey swi t tap tfe thin tof topogram tse us "
    b"venous vibe w wo with without".split()
)
# Words of medicine that are common names of people or of days.
_NEVER: Final = frozenset(
    b"april august brown december dr february frank friday gray green hall hill january july june "
    b"king lee march mark may miss monday mrs november october prof saturday september sir sunday "
    b"thursday tuesday wednesday white wolf wood".split()
)


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[bytes]:
    """All words that may stay, in small letters.

    Of the meanings of codes only those that stand somewhere in small letters: the others are names
    of physicians, as in Baker cyst.
    """
    from pydicom._dicom_dict import DicomDictionary

    meanings = (meaning for codes in _concepts().values() for meaning in codes.values())
    words: set[bytes] = set(_SHORT)
    for _, _, name, _, _ in DicomDictionary.values():
        words.update(_WORD.findall(name.encode("ascii", "ignore").lower()))
    for meaning in meanings:
        words.update(filter(bytes.islower, _WORD.findall(meaning.encode("ascii", "ignore"))))
    return frozenset(words - _NEVER)


@lru_cache(maxsize=1)
def _concepts() -> dict[str, dict[str, str]]:
    """The meaning of each code value that pydicom knows, by coding scheme."""
    from pydicom.sr import _concepts_dict

    concepts: dict[str, Any] = _concepts_dict.concepts
    return {
        scheme: {
            value: meaning for entry in names.values() for value, (meaning, _) in entry.items()
        }
        for scheme, names in concepts.items()
    }


def words_of(values: Iterable[bytes]) -> frozenset[bytes]:
    """The words of identifying values, in small letters."""
    return frozenset(word for value in values for word in _WORD.findall(value.lower()))


def cleaned(text: bytes, identifying: frozenset[bytes]) -> bytes:
    """The words of a text that may stay, in order, with a space between two; may be empty."""
    if b"\x1b" in text:  # characters of other sets look like letters of ASCII
        return b""
    known = vocabulary()
    kept = []
    for token in _TOKEN.findall(text[:_MAX_TEXT].strip(b" \0")):
        word = token.lower().rstrip(b".")
        if word in identifying:
            continue
        if word in known or _LETTERS_AND_DIGITS.fullmatch(word):
            kept.append(token.rstrip(b"."))
    return b" ".join(kept)


def known_meaning(scheme: bytes, value: bytes) -> bytes | None:
    """What a code means by pydicom's tables of the standard; None if they lack it."""
    codes = _concepts().get(scheme.decode("latin_1"), {})
    meaning = codes.get(value.decode("latin_1"))
    return None if meaning is None else meaning.encode("ascii", "replace")[:64]
