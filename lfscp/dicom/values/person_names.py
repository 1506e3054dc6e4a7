"""Brings person names into the form that is compared: no case, padding or empty components.

Rules: the same form is made when a name is stored and when it is asked for, so that the
database compares plain text. A name's component groups (alphabetic, ideographic, phonetic)
stay apart by `=`, the values of a multi-valued attribute by a backslash. Wildcards pass
through unchanged. Accents count. Nothing here reads datasets or speaks SQL.
"""

from __future__ import annotations

import unicodedata
from typing import Final

VALUE_DELIMITER: Final = "\\"
GROUP_DELIMITER: Final = "="
COMPONENT_DELIMITER: Final = "^"
_PADDING: Final = " \0"


def _group_form(group: str) -> str:
    components = [component.strip(_PADDING) for component in group.split(COMPONENT_DELIMITER)]
    return COMPONENT_DELIMITER.join(components).rstrip(COMPONENT_DELIMITER)


def _value_form(value: str) -> str:
    groups = [_group_form(group) for group in value.split(GROUP_DELIMITER)]
    return GROUP_DELIMITER.join(groups).rstrip(GROUP_DELIMITER)


def search_form(name: str) -> str:
    """Bring a person name into the form in which names are compared.

    Args:
        name: decoded value of VR PN; several values are joined by backslashes.
    Returns:
        The name in folded case and composed Unicode (NFC), each component without
        padding, without trailing empty components and groups. An empty name stays empty.
    Source: PS3.5 section 6.2.1; PS3.4 section C.2.2.2.1 (case is left to the SCP).
    """
    return _form(name.lower() if name.isascii() else _folded(name))


def written_form(name: str) -> str:
    """As `search_form`, with one character for each that was written: ß is not ss.

    A question mark in a key stands for one character, which folding may have made two.
    """
    return _form("".join(map(_folded_to_one, unicodedata.normalize("NFC", name))))


def _form(folded: str) -> str:
    return VALUE_DELIMITER.join(_value_form(value) for value in folded.split(VALUE_DELIMITER))


def _folded_to_one(sign: str) -> str:
    folded = _folded(sign)
    return folded if len(folded) == 1 else sign.lower()[0]


def _folded(name: str) -> str:
    """Fold the case of composed text; composed again, since folding may take letters apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
