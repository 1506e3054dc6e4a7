"""Run a query on the index and give its matches as encoded response identifiers.

Rules: rows are fetched a chunk at a time and never held all together, so a query over a
million studies takes bounded memory and ends as soon as its reader stops. All rows come from
one statement, hence from one state of the index.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection

from lfscp.archive.attributes import Level
from lfscp.archive.matching import Matching, build
from lfscp.archive.query import Query
from lfscp.archive.responses import response_encoder

CHUNK_ROWS: Final = 500


def find(
    connection: Connection,
    query: Query,
    *,
    transfer_syntax_uid: str,
    retrieve_ae_title: str,
    limit: int = 0,
) -> Generator[bytes, None, None]:
    """Find what matches; runs in the calling thread, which owns the connection meanwhile.

    Args:
        connection: to the index; the statement's cursor is closed when the iterator is.
        query: see query.parse_query.
        transfer_syntax_uid: of the presentation context the responses go out in.
        retrieve_ae_title: goes into every response.
        limit: the most responses to give, 0 for all. To know whether there are more, ask for
            one more than is to be sent.
    Returns:
        Encoded identifiers, in no particular order; closing the generator ends the statement.
    Source: PS3.4 section C.4.1.
    """
    matching = build(query, connection.dialect.name)
    encode = response_encoder(
        query, transfer_syntax_uid=transfer_syntax_uid, retrieve_ae_title=retrieve_ae_title
    )
    return _responses(connection, matching, encode, limit or None)


def find_prepared(
    cursor: Any,
    statement: tuple[str, list[Any]],
    query: Query,
    *,
    transfer_syntax_uid: str,
    retrieve_ae_title: str,
    limit: int = 0,
) -> Generator[bytes, None, None]:
    """As `find`, for a statement that is compiled already.

    Args:
        cursor: the driver's own.
        statement: SQL and its parameters; see prepared.PreparedQueries.
    """
    encode = response_encoder(
        query, transfer_syntax_uid=transfer_syntax_uid, retrieve_ae_title=retrieve_ae_title
    )
    rows = cursor.execute(*statement)
    if query.level is Level.PATIENT:
        rows = _one_each(rows, -1)
    yield from map(encode, islice(rows, limit) if limit else rows)


def _responses(
    connection: Connection,
    matching: Matching,
    encode: Callable[[Sequence[Any]], bytes],
    limit: int | None,
) -> Generator[bytes, None, None]:
    options = {"stream_results": True, "max_row_buffer": CHUNK_ROWS}
    with connection.execute(matching.statement, execution_options=options) as result:
        rows = chain.from_iterable(result.partitions(CHUNK_ROWS))
        accepted = _accepted(rows, matching)
        if matching.entity is not None:
            accepted = _one_each(accepted, matching.entity)
        yield from map(encode, islice(accepted, limit))


def _accepted(rows: Iterator[Sequence[Any]], matching: Matching) -> Iterator[Sequence[Any]]:
    if not matching.residuals:
        return rows
    return (row for row in rows if all(accepts(row[at]) for at, accepts in matching.residuals))


def _one_each(rows: Iterator[Sequence[Any]], entity: int) -> Iterator[Sequence[Any]]:
    """The first row of each entity; its rows follow one another."""
    return (next(group) for _, group in groupby(rows, itemgetter(entity)))
