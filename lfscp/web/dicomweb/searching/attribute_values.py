"""Reads the attributes of a search's parameters: their tags by keyword or number, their values.

A parameter becomes an element as it would be in the identifier of a C-FIND.
Source: PS3.18 sections 8.3.4.1 and 10.6.1.2.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from lfscp.archive.query.object_keys import MAX_DEPTH, vr_by_dictionary
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.dicom.models.json_values import NUMBERS
from lfscp.dicom.values.attributes import TEXT_VRS

Path = tuple[int, ...]  # the tags of sequences, and of an attribute in them

_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
# Where a comma joins values: elsewhere it may be part of one.
_LISTS: Final = frozenset({"AS", "CS", "DS", "IS", "UI", *NUMBERS})
_NO_GROUPS: Final = frozenset({0x0000, 0x0002, 0xFFFE})


def path_of(name: str) -> Path | None:
    """The tags of an attribute, or of one in a sequence; None if it names none.

    Args:
        name: keywords or tags of eight digits, joined by dots.
    """
    parts = name.split(".", MAX_DEPTH + 1)
    found = [_tag_of(part) for part in parts]
    tags = tuple([tag for tag in found if tag is not None])
    is_whole = len(tags) == len(parts) <= MAX_DEPTH
    is_nested = all(vr_of(tag) in ("SQ", "UN") for tag in tags[:-1])
    return tags if is_whole and is_nested else None


def _tag_of(part: str) -> int | None:
    tag = int(part, 16) if _TAG.fullmatch(part) else tag_for_keyword(part)
    return None if tag is None or tag >> 16 in _NO_GROUPS or not tag & 0xFFFF else tag


def name_of(path: Path) -> str:
    """A path as people read it."""
    return ".".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in path)


def vr_of(tag: int) -> str:
    """The VR of an attribute's value in a query."""
    return vr_by_dictionary(tag).partition(" ")[0]


def is_empty(vr: str, text: str) -> bool:
    """Whether a value asks for anything: it is only returned then."""
    return not text.strip("*\\," if vr in _LISTS else "*\\")


def element_of(tag: int, text: str) -> Element:
    """The element of a value.

    Raises:
        ValueError: it is none for the attribute.
    """
    vr = vr_of(tag)
    if vr == "SQ":
        raise ValueError("name an attribute in the sequence, joined by a dot")
    if vr in _LISTS:
        text = text.replace(",", "\\")
    if vr in NUMBERS:
        return Element(vr.encode(), _packed(NUMBERS[vr], text))
    return Element(vr.encode(), text if vr in TEXT_VRS else text.encode())


def _packed(form: str, text: str) -> bytes:
    kind = float if form[1] in "fd" else int
    try:
        return b"".join(struct.pack(form, kind(each)) for each in text.split("\\") if each)
    except (ValueError, struct.error, OverflowError):
        raise ValueError("expected a number") from None


def empty_of(tag: int) -> Element:
    """An element that is only to be returned."""
    vr = vr_of(tag)
    if vr == "SQ":
        return Element(b"SQ", [])
    return Element(vr.encode(), "" if vr in TEXT_VRS else b"")


def put(tree: Tree, path: Path, element: Element) -> None:
    """Put an element into an identifier, in the one item of each sequence above it."""
    for tag in path[:-1]:
        items = tree.sequence(tag) or [Tree()]
        tree[tag] = Element(b"SQ", items)
        tree = items[0]
    there = tree.get(path[-1])
    if there is None or not there.value:
        tree[path[-1]] = element
