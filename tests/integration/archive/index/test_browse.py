"""Pages of the index: every row once, in order, and without reading whole tables."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from lfscp.archive.index.browsing import browse, study_pages
from lfscp.archive.index.lookups import INSTANCE
from lfscp.dicom.values.attributes import Level
from tests.support.index_rows import add, steps


@pytest.fixture(scope="module")
def filled(engine):
    """The engine, with rows that no test changes."""
    with engine.begin() as connection:
        for number in range(1, 24):
            patient = add(
                connection,
                Level.PATIENT,
                PatientID=f"P{number}",
                PatientName=f"Name{number % 5}^First{number}",
            )
            study = add(
                connection,
                Level.STUDY,
                patient,
                StudyInstanceUID=f"1.{number}",
                StudyDate=f"202401{number % 4 + 10}" if number % 6 else "",
                AccessionNumber=f"A{number}",
                StudyDescription="100% sure_" if number == 7 else "",
            )
            series = add(
                connection,
                Level.SERIES,
                study,
                SeriesInstanceUID=f"1.{number}.1",
                Modality="CT" if number % 2 else "MR",
            )
            for position in (10, 9, 2, 1):
                add(
                    connection,
                    Level.IMAGE,
                    series,
                    SOPInstanceUID=f"1.{number}.1.{position}",
                    InstanceNumber=str(position),
                )
    return engine


@pytest.fixture
def connection(filled):
    with filled.connect() as connection:
        yield connection


def number(row):
    return int(row["study_instance_uid"].removeprefix("1."))


def series_of(connection, study_uid):
    """The series of the study that has a UID."""
    return browse.series_of(connection, browse.study_row(connection, study_uid)["id"])


def instances_of(connection, series_uid, **page):
    """The instances of the series that has a UID."""
    return browse.instances_of(connection, browse.series_row(connection, series_uid)["id"], **page)


def every(read):
    """All rows, drawn in pages of 4."""
    rows, after = [], None
    while True:
        page = read(after=after, limit=4)
        assert len(page.rows) <= 4
        rows += page.rows
        if page.next is None:
            return rows
        after = page.next


def test_pages_give_every_patient_once_by_name(connection):
    rows = every(lambda **page: browse.patients(connection, **page))

    assert len({row["id"] for row in rows}) == len(rows) == 23
    assert [row["patient_name"] for row in rows] == sorted(row["patient_name"] for row in rows)
    assert {row["number_of_studies"] for row in rows} == {1}


def test_instances_come_by_number_not_by_text(connection):
    rows = every(lambda **page: instances_of(connection, "1.3.1", **page))

    assert [row["instance_number"] for row in rows] == ["1", "2", "9", "10"]


def test_a_series_is_pictured_by_its_middle_instance(connection):
    (row,) = series_of(connection, "1.3")

    assert (row["number_of_instances"], row["middle_instance_uid"]) == (4, "1.3.1.9")


def test_what_is_not_there_is_none(connection):
    assert browse.study_row(connection, "9") is None
    assert browse.series_row(connection, "9") is None
    assert browse.series_of(connection, 999_999) == []


@pytest.mark.parametrize(
    "read",
    [
        lambda connection: study_pages.studies(connection),
        lambda connection: study_pages.studies(connection, after=("20240112", "", 7)),
        lambda connection: browse.patients(connection),
        lambda connection: series_of(connection, "1.3"),
        lambda connection: instances_of(connection, "1.3.1"),
        lambda connection: connection.execute(INSTANCE, {"uid": "1.3.1.9"}),
        lambda connection: study_pages.modalities(connection),
    ],
)
def test_no_page_scans_a_table_or_sorts_one(connection, read):
    """A page costs the same however large the archive is: each step is a search in an index."""
    statements = []

    def note(_connection, _cursor, statement, parameters, *_):
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    read(connection)
    event.remove(connection, "before_cursor_execute", note)

    for statement, parameters in statements:
        plan = steps(connection, statement, parameters)
        scans = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
        tables = [step for step in scans if "distinct_values" not in step]  # made by the statement
        assert tables == [], (statement, plan)
        if "FROM study JOIN patient" in statement:
            assert not any("TEMP B-TREE" in step for step in plan), (statement, plan)
