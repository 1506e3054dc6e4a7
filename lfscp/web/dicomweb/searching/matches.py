"""Writes the matches of a search as DICOM JSON, straight from the rows of the index, or as XML.

Rules: attributes come in the order of their tags. One without a value has its VR alone, or is left
out if it is optional. Text is UTF-8, and says so. What is read from objects is written by
`json_writer`, as all other datasets are.
Source: PS3.18 section F.2; tables 10.6.3-3 to 10.6.3-5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from lfscp.archive.query.computed import GATHERED, GATHERED_DELIMITER
from lfscp.archive.query.keys import Items, stored_items
from lfscp.archive.query.object_attributes import ObjectAttribute
from lfscp.archive.query.ordered import Found
from lfscp.archive.query.query import Key, Query
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.dicom.models.json_text import head_of, quoted, values_writer
from lfscp.dicom.models.json_writer import element_to_json
from lfscp.dicom.models.native_model_writer import xml_of_json
from lfscp.dicom.values.attributes import Attribute
from lfscp.dicom.values.charset import UTF_8
from lfscp.web.dicomweb.addresses import retrieve_url
from lfscp.web.dicomweb.searching.returned import (
    INSTANCE_AVAILABILITY,
    OPTIONAL,
    RETRIEVE_URL,
    SPECIFIC_CHARACTER_SET,
    UNIQUE,
)

_dumps: Final = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
_Values = Callable[[Any], str]  # JSON of the values of a column, joined by commas


class MatchWriter:
    """Writes matches; any thread may call it.

    Args:
        query: whose rows are written.
        base: the URL of DICOMweb.
        wanted: keywords that are named by the client: none of them is left out.
    """

    def __init__(self, query: Query, base: str, wanted: frozenset[str]) -> None:
        self._base = base
        keys = {key.attribute.keyword: at for at, key in enumerate(query.keys)}
        self._uids = [keys[keyword] for keyword in UNIQUE[query.level]]
        own_objects = {key.tag: at for at, key in enumerate(query.object_keys, len(query.keys))}
        fields: list[tuple[int, int, str, _Values | None, bool]] = [
            (
                key.attribute.tag,
                at,
                head_of(key.attribute.tag, key.attribute.vr),
                _values_of(key),
                key.attribute.keyword in OPTIONAL - wanted,
            )
            for at, key in enumerate(query.keys)
            if key.attribute.tag not in own_objects
        ]
        fields += [(tag, at, f'"{tag:08X}":', None, False) for tag, at in own_objects.items()]
        constants = {
            SPECIFIC_CHARACTER_SET: _constant(SPECIFIC_CHARACTER_SET, "CS", UTF_8),
            INSTANCE_AVAILABILITY: _constant(INSTANCE_AVAILABILITY, "CS", "ONLINE"),
        }
        fields += [(tag, -1, text, None, False) for tag, text in constants.items()]
        fields.append((RETRIEVE_URL, -2, head_of(RETRIEVE_URL, "UR"), None, False))
        self._fields = [field[1:] for field in sorted(fields, key=lambda each: each[0])]

    def json(self, found: Found) -> str:
        """One match as an object of JSON."""
        row = found.row
        parts: list[str] = []
        append = parts.append
        for at, head, values, is_optional in self._fields:
            if values is not None:
                stored = row[at]
                if stored or stored == 0:
                    text = values(stored)
                    append(f'{head},"Value":[{text}]}}' if text else f"{head}}}")
                elif not is_optional:
                    append(f"{head}}}")
            elif at >= 0:
                append(head + _dumps(_of_object(row[at])))
            elif at == -1:
                append(head)
            else:
                append(f'{head},"Value":[{quoted(self._url(row))}]}}')
        return "{" + ",".join(parts) + "}"

    def xml(self, found: Found) -> str:
        """One match as a document of the Native DICOM Model."""
        return xml_of_json(json.loads(self.json(found)))

    def _url(self, row: Any) -> str:
        return retrieve_url(self._base, *(row[at] for at in self._uids))


def _constant(tag: int, vr: str, text: str) -> str:
    return f'{head_of(tag, vr)},"Value":["{text}"]}}'


def _values_of(key: Key) -> _Values:
    attribute = key.attribute
    if attribute.keyword in GATHERED:
        return lambda stored: ",".join(map(quoted, sorted(stored.split(GATHERED_DELIMITER))))
    if attribute.vr == "SQ":
        return _items_of(key)
    return _texts_of(attribute)


def _texts_of(attribute: Attribute) -> _Values:
    kind = "IS" if attribute.vr == "US" else attribute.vr  # which the index keeps as text
    write = values_writer(kind)
    return lambda stored: write(str(stored))


def _items_of(key: Key) -> _Values:
    """A sequence's items, each with the attributes that are asked for; only those that match."""
    attributes = sorted(
        (key.attribute.item_attribute(keyword) for keyword in key.items or key.attribute.items),
        key=lambda each: each.tag,
    )
    fields = [(each.keyword, head_of(each.tag, each.vr), _texts_of(each)) for each in attributes]

    def item_of(item: Mapping[str, str]) -> str:
        parts = [
            f'{head},"Value":[{values(item[keyword])}]}}' if item.get(keyword) else f"{head}}}"
            for keyword, head, values in fields
        ]
        return "{" + ",".join(parts) + "}"

    match = key.match

    def items(stored: str) -> str:
        found = stored_items(stored)
        if isinstance(match, Items):
            found = [item for item in found if match.accepts_item(item)]
        return ",".join(map(item_of, found))

    return items


def _of_object(attribute: ObjectAttribute) -> dict[str, Any]:
    return element_to_json(_element(attribute)) if attribute.value else {"vr": attribute.vr}


def _element(attribute: ObjectAttribute) -> Element:
    value = attribute.value
    if isinstance(value, list):
        items = [Tree({each.tag: _element(each) for each in item}) for item in value]
        return Element(b"SQ", items)
    return Element(attribute.vr.encode(), value)
