"""A value among several that are one parameter, in both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, event, insert, select

from lfscp.archive.index.browsing.browse import describe_studies
from lfscp.archive.index.browsing.study_pages import StudySearch
from lfscp.archive.index.tables.dialects import among
from lfscp.archive.index.tables.study_tables import study_label
from lfscp.dicom.values.attributes import Level
from tests.support.index_rows import add

TEXTS = ["plain", "it's", '"quoted"', "back\\slash", "{a,b}", "Müller", "山田", "NULL", "", "a b"]


@pytest.fixture
def labelled(connection: Connection) -> Connection:
    for number, text in enumerate(TEXTS):
        row = {"study_instance_uid": f"1.{number}", "label": text}
        connection.execute(insert(study_label).values(row))
    return connection


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_found_as_it_is(labelled: Connection, text: str) -> None:
    wanted = select(study_label.c.label).where(among(study_label.c.label, ["other", text]))
    assert labelled.execute(wanted).scalars().all() == [text]


def test_a_text_is_not_found_by_what_comes_before_a_nul(labelled: Connection) -> None:
    wanted = select(study_label.c.label).where(among(study_label.c.label, ["plain\0 and more"]))
    assert labelled.execute(wanted).scalars().all() == []


def test_among_none_there_is_nothing(labelled: Connection) -> None:
    wanted = select(study_label.c.label).where(among(study_label.c.label, []))
    assert labelled.execute(wanted).scalars().all() == []


def test_pages_of_any_length_are_asked_for_by_the_same_statements(connection: Connection) -> None:
    for number in range(1, 8):
        patient = add(connection, Level.PATIENT, PatientID=f"P{number}")
        add(connection, Level.STUDY, patient, StudyInstanceUID=f"1.{number}", StudyDate="20240101")
    rows = StudySearch(connection).page(limit=7).rows

    def asked(length: int) -> list[str]:
        statements: list[str] = []

        def note(*arguments: object) -> None:
            statements.append(str(arguments[2]))

        event.listen(connection, "before_cursor_execute", note)
        describe_studies(connection, rows[:length])
        event.remove(connection, "before_cursor_execute", note)
        return statements

    assert asked(1) == asked(7) != []
