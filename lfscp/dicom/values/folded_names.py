"""Folds person names, so that Müller is found by muller and mueller.

Rules: the folded form has no case and no accents. A German or Nordic letter with two spellings
gives two forms: without the accent, and as it is written without it (ü is ue). Half-width and
full-width signs are one, and so are hiragana and katakana. Signs that part a name, and wildcards,
stay what they are. Nothing here reads datasets or speaks SQL.

Source: PS3.4 section C.2.2.2.1 leaves fuzzy matching of names to the SCP.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from lfscp.dicom.values.person_names import VALUE_DELIMITER, search_form

_KEPT: Final = 4_096  # signs
MAX_FOLDED: Final = 500  # characters of a column; they go into an index
_SIGNS: Final = frozenset("*?=^\\")
_ACCENTS: Final = range(0x300, 0x370)  # combining marks of Latin, Greek and Cyrillic
_KATAKANA: Final = range(0x30A1, 0x30F7)
_TO_HIRAGANA: Final = 0x60
# Letters that Unicode takes apart in no way.
_PLAIN: Final = {
    "ø": "o",
    "đ": "d",
    "ð": "d",
    "ł": "l",
    "ħ": "h",
    "ŧ": "t",
    "ı": "i",  # noqa: RUF001
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
}
_WRITTEN_OUT: Final = {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"}


@lru_cache(_KEPT)
def _plain(sign: str) -> str:
    """One sign of a search form without its accent."""
    if sign in _PLAIN:
        return _PLAIN[sign]
    apart = unicodedata.normalize("NFKD", sign)
    if _SIGNS & set(apart):
        return sign
    bare = "".join(each for each in apart if ord(each) not in _ACCENTS).casefold()
    whole = unicodedata.normalize("NFC", bare)
    return "".join(
        chr(ord(each) - _TO_HIRAGANA) if ord(each) in _KATAKANA else each for each in whole
    )


@lru_cache(_KEPT)
def _written_out(sign: str) -> str:
    return _WRITTEN_OUT.get(sign) or _plain(sign)


def folded_forms(name: str) -> tuple[str, ...]:
    """A person name, or a pattern of one, in the forms in which fuzzy matching compares it.

    Args:
        name: decoded value of VR PN; several values are joined by backslashes.
    Returns:
        One form, or two where a letter has two spellings.
    """
    return forms_of(search_form(name))


def forms_of(form: str) -> tuple[str, ...]:
    """The same for a name that is in search form already."""
    if form.isascii():
        return (form,)
    # A half-width voiced kana is two signs, which belong together.
    form = unicodedata.normalize("NFC", "".join(map(_full_width, form)))
    plain = search_form("".join(map(_plain, form)))
    if _WRITTEN_OUT.keys().isdisjoint(form):
        return (plain,)
    return plain, search_form("".join(map(_written_out, form)))


def _full_width(sign: str) -> str:
    """A half-width kana in full width."""
    return unicodedata.normalize("NFKC", sign) if "\uff65" <= sign <= "\uff9f" else sign


def folded_column(name: str) -> str:
    """What the index keeps of a name to be found by: its forms as values; empty if it is ASCII.

    The search form serves a name in ASCII.
    """
    if name.isascii():
        return ""
    return VALUE_DELIMITER.join(folded_forms(name))[:MAX_FOLDED]
