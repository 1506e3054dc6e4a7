"""Conditions for text that people type: words in it, how it begins, signs that stand for others.

Rules: what is typed is literal, so LIKE's own signs in it are escaped. Only where `begins` says so,
`*` stands for any text and `?` for any character.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, literal_column, or_

from lfscp.archive.index.tables.dialects import holds_text
from lfscp.dicom.values.folded_names import folded_forms
from lfscp.dicom.values.person_names import search_form

MAX_WORDS: Final = 20  # of a search; further ones narrow it no more
MAX_WORD: Final = 250  # characters of one of them
_ESCAPE: Final = "\\"
_EMPTY: Final[ColumnElement[str]] = literal_column("''")  # in the condition of an index
_LAST: Final = "\U0010ffff"


def require_short_words(text: str) -> str:
    """The text of a search, if its words are short enough to be compared with every row.

    Raises:
        ValueError: a word has more characters than MAX_WORD.
    """
    if len(text) > MAX_WORD and any(len(word) > MAX_WORD for word in text.split()):
        raise ValueError(f"a word of a search has at most {MAX_WORD} characters")
    return text


def words_of(text: str) -> list[str]:
    """The words of a search that count."""
    return text.split()[:MAX_WORDS]


def names_hold(
    search_column: ColumnElement[str], folded_column: ColumnElement[str], word: str
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Two conditions, of which one is met if a person name has a word in it.

    Neither case nor accents count. Each condition can be answered from one index.

    Args:
        search_column: the column with the names in their form for searches.
        folded_column: the column with those names that are not ASCII, without accents.
    """
    forms = folded_forms(word)
    searched = dict.fromkeys((search_form(word), *forms))
    return (
        or_(*(_has(search_column, each) for each in searched)),
        and_(folded_column != _EMPTY, or_(*(_has(folded_column, each) for each in forms))),
    )


def _has(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    return column.like(f"%{escaped(text)}%", escape=_ESCAPE)


def holds(column: ColumnElement[str], word: str) -> ColumnElement[bool]:
    """A text has a word in it, without regard to the case of A to Z."""
    return holds_text(column, f"%{escaped(word)}%")


def begins(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """A text begins with another, as it is typed or in capitals: a range of the index each.

    With `*` or `?` in it, it is compared with every text instead.
    """
    if "*" in text or "?" in text:
        pattern = escaped(text).replace("*", "%").replace("?", "_")
        return holds_text(column, f"{pattern}%")
    forms = sorted({text, text.upper()})
    return or_(*(column.between(form, form + _LAST) for form in forms))


def starts(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """A text begins with exactly this."""
    return column.between(text, text + _LAST)


def escaped(text: str) -> str:
    """A text for a pattern of LIKE, in which each sign stands for itself."""
    for sign in (_ESCAPE, "%", "_"):
        text = text.replace(sign, _ESCAPE + sign)
    return text
