"""Run a query on the index and give its matches as encoded response identifiers.

Rules: rows are drawn one by one and never held all together, so a query over a million studies
takes bounded memory and ends as soon as its reader stops, or is no longer wanted. All rows
come from one statement, hence from one state of the index. An object is read only for a query
that asks for what the index lacks, when its response is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import groupby, islice, repeat
from operator import itemgetter
from typing import Any, Final, cast

from sqlalchemy import Dialect

from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.database.statements import compiled
from lfscp.archive.query.keys import Items, stored_items
from lfscp.archive.query.matched_objects import ObjectRow, read_attributes
from lfscp.archive.query.matching import Residuals, build
from lfscp.archive.query.object_attributes import ObjectAttribute, empty
from lfscp.archive.query.query import Key, Query
from lfscp.archive.query.responses import response_encoder
from lfscp.archive.store.object_store import ObjectStore
from lfscp.dicom.values.attributes import Level

_CHUNK_OBJECTS: Final = 64  # of a bucket's, some of these are fetched ahead

_Encode = Callable[[Sequence[Any]], bytes]


class Incomplete(bytes):
    """A response that lacks a value of its object, which cannot be read (0xFF01)."""


def find(
    cursor: Any,
    dialect: Dialect,
    query: Query,
    *,
    prepared: tuple[str, list[Any]] | None = None,
    transfer_syntax_uid: str,
    retrieve_ae_title: str,
    limit: int = 0,
    files: ObjectStore | None = None,
    interruption: Interruption | None = None,
) -> Generator[bytes, None, None]:
    """Find what matches; runs in the calling thread, which owns the cursor meanwhile.

    Args:
        cursor: the driver's own.
        dialect: of the database; takes parameters by position.
        query: see query.parse_query.
        prepared: its SQL and parameters, when they are compiled; see prepared.PreparedQueries.
        transfer_syntax_uid: of the presentation context the responses go out in.
        retrieve_ae_title: goes into every response.
        limit: the most responses to give, 0 for all. To know whether there are more, ask for
            one more than is to be sent.
        files: where objects are read from when the query has object keys.
        interruption: asked for every row and object.
    Returns:
        Encoded identifiers, in no particular order. One that lacks a value of its object is
        Incomplete.
    Raises:
        InterruptionError: the responses are no longer wanted.
    Source: PS3.4 section C.4.1.
    """
    encode = response_encoder(
        query, transfer_syntax_uid=transfer_syntax_uid, retrieve_ae_title=retrieve_ae_title
    )
    asked = interruption or Interruption()
    residuals: Residuals = ()
    if prepared is None:
        matching = build(query, dialect.name)
        prepared, residuals = compiled(matching.statement, dialect), matching.residuals
    rows = iter(cursor.execute(*prepared))
    if residuals:
        rows = tested(rows, residuals, asked)
    if query.level is Level.PATIENT:
        rows = _one_each(rows)
    if limit:
        rows = islice(rows, limit)
    if query.object_keys:
        yield from _with_objects(rows, query, files, encode, asked)
    else:
        yield from map(encode, rows)


def tested(
    rows: Iterator[Sequence[Any]], residuals: Residuals, interruption: Interruption
) -> Iterator[Sequence[Any]]:
    """The rows that pass the tests in Python."""
    for row in rows:
        interruption.look()
        if all(accepts(row[at]) for at, accepts in residuals):
            yield row


def _one_each(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """The first row of each patient, whose rows follow one another; its key comes last in them."""
    return (next(group) for _, group in groupby(rows, itemgetter(-1)))


def _with_objects(
    rows: Iterator[Sequence[Any]],
    query: Query,
    files: ObjectStore | None,
    encode: _Encode,
    interruption: Interruption,
) -> Iterator[bytes]:
    for row, whole in with_attributes(rows, query, files, interruption):
        response = encode(row)
        yield response if whole else Incomplete(response)


def with_attributes(
    rows: Iterator[Sequence[Any]],
    query: Query,
    files: ObjectStore | None,
    interruption: Interruption,
) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """The rows with the attributes of their objects behind the columns of their keys.

    Args:
        rows: end with the columns of ObjectRow.
    Returns:
        For each the row, and whether its object could be read.
    """
    keys, columns = query.object_keys, len(query.keys)
    while chunk := list(islice(rows, _CHUNK_OBJECTS)):
        read: Iterator[list[ObjectAttribute | None]]
        if files is None:
            read = repeat([None] * len(keys), len(chunk))
        else:
            objects = [ObjectRow(*row[-len(ObjectRow._fields) :]) for row in chunk]
            read = read_attributes(files, objects, keys, interruption)
        for row, found in zip(chunk, read, strict=True):
            yield (*row[:columns], *_filled(found, row, query)), None not in found


def _filled(
    found: list[ObjectAttribute | None], row: Sequence[Any], query: Query
) -> list[ObjectAttribute]:
    """With what the index keeps, or zero length, where an object cannot be read."""
    if None not in found:
        return cast("list[ObjectAttribute]", found)
    in_index = {key.attribute.tag: (key, row[at]) for at, key in enumerate(query.keys)}
    filled: list[ObjectAttribute] = []
    for key, element in zip(query.object_keys, found, strict=True):
        if element is None:
            element = _kept(*in_index[key.tag]) if key.tag in in_index else empty(key)
        filled.append(element)
    return filled


def _kept(key: Key, stored: str) -> ObjectAttribute:
    """The part of a sequence that the index keeps, where its object cannot be read."""
    kept = [key.attribute.item_attribute(keyword) for keyword in key.items]
    items = [
        [ObjectAttribute(one.tag, one.vr, item.get(one.keyword, "")) for one in kept]
        for item in stored_items(stored)
        if not isinstance(key.match, Items) or key.match.accepts_item(item)
    ]
    return ObjectAttribute(key.attribute.tag, "SQ", items)
