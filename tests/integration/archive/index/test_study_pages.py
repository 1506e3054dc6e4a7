"""The list of studies: every filter alone and with others, every order, both ways, a count."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import event, insert

from lfscp.archive.index.browsing import study_pages
from lfscp.archive.index.browsing.study_filter import StudyFilter
from lfscp.archive.index.browsing.study_pages import ORDERS, StudySearch
from lfscp.archive.index.tables.study_tables import study_label, study_source
from lfscp.dicom.values.attributes import Level
from tests.support.index_rows import add, steps

STUDIES = range(1, 24)


@pytest.fixture(scope="module")
def filled(engine):
    """The engine, with rows that no test changes."""
    with engine.begin() as connection:
        for number in STUDIES:
            _add_study(connection, number)
    return engine


def _add_study(connection, number):
    patient = add(
        connection,
        Level.PATIENT,
        PatientID=f"P{number}",
        PatientName=f"Name{number % 5}^First{number}",
        PatientBirthDate=f"19{number % 3 + 50}0{number % 9 + 1}11",
    )
    study = add(
        connection,
        Level.STUDY,
        patient,
        StudyInstanceUID=f"1.{number}",
        StudyDate=f"202401{number % 4 + 10}" if number % 6 else "",
        AccessionNumber=f"A{number}",
        StudyDescription="100% sure_" if number == 7 else f"part {number % 2}",
        ReferringPhysicianName=f"Doctor{number % 2}^Who",
    )
    series = add(
        connection,
        Level.SERIES,
        study,
        SeriesInstanceUID=f"1.{number}.1",
        Modality="CT" if number % 2 else "MR",
    )
    add(connection, Level.IMAGE, series, SOPInstanceUID=f"1.{number}.1.1")
    title = {"study_fk": study, "calling_ae_title": f"AE{number % 3}"}
    connection.execute(insert(study_source).values(title))
    if number % 10 == 0:
        label = {"study_instance_uid": f"1.{number}", "label": "teaching"}
        connection.execute(insert(study_label).values(label))


@pytest.fixture(params=["few are sorted", "many are walked through"])
def way(request, monkeypatch):
    """Either way in which a search finds its rows."""
    if request.param.startswith("many"):
        monkeypatch.setattr(study_pages, "_FEW", -1)


@pytest.fixture
def connection(filled, way):
    with filled.connect() as connection:
        yield connection


def number(row):
    return int(row["study_instance_uid"].removeprefix("1."))


def every(search, order="-date"):
    """All rows, three at a time; then back again, which must give the same pages."""
    pages = [search.page(order, limit=3)]
    while pages[-1].next is not None:
        pages.append(search.page(order, after=pages[-1].next, limit=3))
    assert pages[0].previous is None
    for before, page in itertools.pairwise(pages):
        again = search.page(order, before=page.previous, limit=3)
        assert again == before
    return [row for page in pages for row in page.rows]


@pytest.mark.parametrize("order", [sign + name for name in ORDERS for sign in ("", "-")])
def test_each_order_gives_every_study_once(connection, order):
    rows = every(StudySearch(connection), order)

    names = [column.name for column in ORDERS[order.removeprefix("-")]]
    keys = [tuple(row[name] for name in names if name in row) for row in rows]
    assert keys == sorted(keys, reverse=order.startswith("-"))
    assert sorted(map(number, rows)) == list(STUDIES)


def test_an_unknown_order_names_those_there_are():
    with pytest.raises(ValueError, match="expected one of date, name, id"):
        study_pages.require_order("-size")


FILTERS = [
    (StudyFilter(text="name3"), {3, 8, 13, 18, 23}),
    (StudyFilter(text="first3"), {3}),
    (StudyFilter(text="name3 first8"), {8}),
    (StudyFilter(text="p2"), {2, 20, 21, 22, 23}),
    (StudyFilter(text="a11"), {11}),
    (StudyFilter(text="1.5"), {5}),
    (StudyFilter(text="%"), {7}),
    (StudyFilter(text="_"), {7}),
    (StudyFilter(text="\\"), set()),
    (StudyFilter(text="100% SURE"), {7}),
    (StudyFilter(name="NAME3 first1"), {13, 18}),
    (StudyFilter(name="p3"), set()),
    (StudyFilter(patient_id="p2"), {2, 20, 21, 22, 23}),
    (StudyFilter(patient_id="P?2"), {12, 22}),
    (StudyFilter(patient_id="*3"), {3, 13, 23}),
    (StudyFilter(patient_id="%"), set()),
    (StudyFilter(accession_number="A2"), {2, 20, 21, 22, 23}),
    (StudyFilter(birth_date="1951"), {1, 4, 7, 10, 13, 16, 19, 22}),
    (StudyFilter(birth_date="19510511"), {4, 13, 22}),
    (StudyFilter(birth_date="x"), set()),
    (StudyFilter(description="PART 0"), set(range(2, 24, 2))),
    (StudyFilter(description="sure_"), {7}),
    (StudyFilter(referrer="doctor0"), set(range(2, 24, 2))),
    (StudyFilter(modality="CT"), set(range(1, 24, 2))),
    (StudyFilter(calling_ae_title="AE1"), {1, 4, 7, 10, 13, 16, 19, 22}),
    (StudyFilter(calling_ae_title="AE"), set()),
    (StudyFilter(label="teaching"), {10, 20}),
    (StudyFilter(label="teach"), set()),
    (StudyFilter(date_from="20240112", date_to="20240112"), {2, 10, 14, 22}),
    (StudyFilter(date_to="20240110"), {4, 8, 16, 20}),
    (StudyFilter(modality="MR", referrer="doctor1"), set()),
    (StudyFilter(modality="MR", label="teaching", patient_id="P1"), {10}),
    (StudyFilter(text="first1", modality="CT", description="part"), {1, 11, 13, 15, 17, 19}),
]


@pytest.mark.parametrize(("wanted", "numbers"), FILTERS, ids=lambda each: str(each)[:60])
def test_a_filter_finds_and_counts_what_it_says(connection, wanted, numbers):
    search = StudySearch(connection, wanted)

    assert {number(row) for row in every(search)} == numbers
    assert {number(row) for row in every(search, "name")} == numbers
    assert search.count() == len(numbers)


def test_studies_are_found_by_their_keys(connection):
    keys = tuple(row["id"] for row in every(StudySearch(connection)) if number(row) in (3, 4))

    assert {number(row) for row in every(StudySearch(connection, StudyFilter(keys=keys)))} == {3, 4}


def test_a_count_ends_where_it_says(connection, monkeypatch):
    monkeypatch.setattr(study_pages, "MAX_COUNT", 10)

    assert StudySearch(connection).count() == 11


def test_the_choices_of_the_page_are_each_named_once(connection):
    assert study_pages.modalities(connection) == ["CT", "MR"]
    assert study_pages.sources(connection) == ["AE0", "AE1", "AE2"]
    assert study_pages.labels(connection) == ["teaching"]


def test_rows_tell_labels_and_who_sent_them(connection):
    (row,) = StudySearch(connection, StudyFilter(text="1.10")).page().rows

    assert (row["labels"], row["calling_ae_titles"]) == (["teaching"], ["AE1"])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("wanted", [StudyFilter(), StudyFilter(modality="CT", patient_id="P")])
def test_many_studies_are_read_in_their_order_and_never_sorted(filled, monkeypatch, order, wanted):
    """A page costs the same however large the archive is."""
    monkeypatch.setattr(study_pages, "_FEW", -1)
    statements = []

    def note(_connection, _cursor, statement, parameters, *_):
        statements.append((statement, parameters))

    with filled.connect() as connection:
        search = StudySearch(connection, wanted)
        first = search.page(order, limit=3)
        event.listen(connection, "before_cursor_execute", note)
        search.page(order, after=first.next, limit=3)
        event.remove(connection, "before_cursor_execute", note)

        plan = steps(connection, *statements[0])
    assert not any("TEMP B-TREE" in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN") and "INDEX" not in step], plan
