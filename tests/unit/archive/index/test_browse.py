"""Pages of the index: every row once, in order, and without reading whole tables."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from lfscp.archive.index import browse
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


def test_pages_give_every_study_once_the_newest_first(connection):
    rows = every(lambda **page: browse.studies(connection, **page))

    keys = [(row["study_date"], row["study_time"], row["id"]) for row in rows]
    assert keys == sorted(keys, reverse=True)
    assert {number(row) for row in rows} == set(range(1, 24))


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


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("name3", {3, 8, 13, 18, 23}),
        ("first3", {3}),
        ("name3 first8", {8}),
        ("p2", {2, 20, 21, 22, 23}),
        ("a11", {11}),
        ("1.5", {5}),
        ("%", {7}),
        ("_", {7}),
        ("\\", set()),
        ("100% SURE", {7}),
    ],
)
def test_each_word_must_be_found_and_signs_of_the_database_are_text(connection, text, keys):
    rows = every(lambda **page: browse.studies(connection, browse.StudyFilter(text=text), **page))

    assert {number(row) for row in rows} == keys


def test_a_date_range_leaves_out_studies_without_a_date(connection):
    wanted = browse.StudyFilter(date_to="20240111")
    rows = every(lambda **page: browse.studies(connection, wanted, **page))

    assert {row["study_date"] for row in rows} == {"20240110", "20240111"}


def test_modalities_are_each_named_once(connection):
    assert browse.modalities(connection) == ["CT", "MR"]


def test_what_is_not_there_is_none(connection):
    assert browse.study_row(connection, "9") is None
    assert browse.series_row(connection, "9") is None
    assert browse.instance_row(connection, "9") is None
    assert browse.series_of(connection, 999_999) == []


@pytest.mark.parametrize(
    "read",
    [
        lambda connection: browse.studies(connection),
        lambda connection: browse.studies(connection, after=("20240112", "", 7)),
        lambda connection: browse.studies(connection, browse.StudyFilter(date_from="20240101")),
        lambda connection: browse.patients(connection),
        lambda connection: series_of(connection, "1.3"),
        lambda connection: instances_of(connection, "1.3.1"),
        lambda connection: browse.instance_row(connection, "1.3.1.9"),
        lambda connection: browse.modalities(connection),
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
        tables = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
        assert tables == [], (statement, plan)
        if "FROM study JOIN patient" in statement:
            assert not any("TEMP B-TREE" in step for step in plan), (statement, plan)
