"""A query run to its end, in part, or given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from lfscp.archive.query.find import find
from lfscp.archive.query.query import Model, parse_query
from lfscp.dicom.values.attributes import Level
from tests.support.index_rows import IMPLICIT, add, answers, by_position, identifier

STUDIES = 1003  # PostgreSQL gives 500 at a time


@pytest.fixture(scope="module")
def connection(engine: Engine) -> Iterator[Connection]:
    """An index of one patient with more studies than two chunks hold."""
    with engine.connect() as opened:
        patient = add(opened, Level.PATIENT, PatientID="P", PatientName="A^B")
        for number in range(STUDIES):
            add(opened, Level.STUDY, patient, StudyInstanceUID=f"1.{number}", StudyID=str(number))
        opened.commit()
        yield opened


def test_every_match_comes_once_over_several_chunks(connection: Connection) -> None:
    found = answers(connection, identifier("STUDY", StudyInstanceUID=""))
    assert len(found) == len(set(found)) == STUDIES


def test_a_limit_ends_the_answers(connection: Connection) -> None:
    asked = identifier("STUDY", StudyInstanceUID="")
    assert len(answers(connection, asked, limit=7)) == 7
    assert len(answers(connection, asked, limit=STUDIES + 1)) == STUDIES


def test_a_limit_counts_matches_and_not_rows_read(connection: Connection) -> None:
    asked = identifier("STUDY", StudyInstanceUID="", PatientName="*^b*", StudyID="9?")
    assert len(answers(connection, asked, limit=5)) == 5


def test_a_reader_who_stops_ends_the_statement(connection: Connection) -> None:
    """An open SELECT would keep the table from being dropped."""
    connection.execute(text("CREATE TEMP TABLE other AS SELECT * FROM study"))
    query = parse_query(identifier("STUDY", StudyInstanceUID=""), Model.STUDY_ROOT)
    cursor = connection.connection.driver_connection.cursor()
    dialect = by_position(connection.dialect)
    found = find(cursor, dialect, query, transfer_syntax_uid=IMPLICIT, retrieve_ae_title="A")
    next(found)
    found.close()
    cursor.close()
    connection.execute(text("DROP TABLE other"))
    connection.rollback()
    assert list(found) == []


def test_a_query_without_keys_answers_with_its_level_alone(connection: Connection) -> None:
    found = answers(connection, identifier("PATIENT"), Model.PATIENT_ROOT)
    assert len(found) == 1
    assert b"PATIENT" in found[0]


def test_nothing_that_matches_is_no_answer(connection: Connection) -> None:
    assert answers(connection, identifier("STUDY", StudyInstanceUID="9.9")) == []
