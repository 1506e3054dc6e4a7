"""What runs for long ends when nobody waits for it any longer, inside a statement as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import update

from lfscp.archive.archive import Archive
from lfscp.archive.index.database import interruption as module
from lfscp.archive.index.database.interruption import Interruption, InterruptionError
from lfscp.archive.index.tables.schema import study
from lfscp.archive.query.find import find
from lfscp.archive.query.keys import Texts
from lfscp.archive.query.query import Model, parse_query
from lfscp.archive.query.selection import PACKED, Selection
from lfscp.dicom.values.attributes import UNIQUE_KEY, Level
from tests.support.archive_datasets import received
from tests.support.index_rows import IMPLICIT, identifier

# A minute and more without a row; what is not interrupted ends nevertheless.
LONG = (
    "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 500000000) "
    "SELECT n FROM number WHERE n < 0"
)
INSTANCES = 3


@pytest.fixture(params=["sqlite", "postgresql"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    url = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        url = server.url(server.new_database(request.getfixturevalue("migrated_template")))
    with Archive.open(tmp_path / "data", durability="os", index_url=url) as opened:
        for number in range(1, INSTANCES + 1):
            opened.store(received(number, OtherPatientIDs=["A", "B"]))
        yield opened


@pytest.fixture
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_AGAIN_S", 0.0)


def after(turns: int) -> tuple[Callable[[], bool], list[None]]:
    """Answers that it is unwanted after so many questions, and the questions so far."""
    asked: list[None] = []

    def is_unwanted() -> bool:
        asked.append(None)
        return len(asked) > turns

    return is_unwanted, asked


def asking(level: str, **keys: Any) -> Any:
    return parse_query(identifier(level, **keys), Model.STUDY_ROOT, relational=True)


def test_a_statement_that_gives_no_rows_is_interrupted(archive: Archive) -> None:
    is_unwanted, asked = after(2)
    with (
        pytest.raises(InterruptionError),
        archive.index.reading(Interruption(is_unwanted)) as cursor,
    ):
        list(cursor.execute(LONG, ()))
    assert len(asked) == 3


@pytest.mark.parametrize("level", ["STUDY", "IMAGE"])
def test_a_query_for_one_that_waits_for_a_table_is_interrupted(
    postgresql_url: str, tmp_path: Path, looks_always: None, level: str
) -> None:
    options = {"transfer_syntax_uid": IMPLICIT, "retrieve_ae_title": "LFSCP"}
    uid = {"STUDY": "1.2.3", "IMAGE": "1.2.3.1.1"}[level]
    query = asking(level, **{UNIQUE_KEY[Level(level)].keyword: uid})
    with Archive.open(tmp_path, durability="os", index_url=postgresql_url) as archive:
        archive.store(received(1))
        assert len(list(archive.find(query, **options))) == 1
        with psycopg.connect(postgresql_url.replace("+psycopg", "")) as other:
            other.execute("LOCK TABLE study, instance")
            other.execute("SET idle_in_transaction_session_timeout = '20s'")  # it hangs no longer
            is_unwanted, _ = after(2)
            with pytest.raises(InterruptionError):
                list(archive.find(query, interruption=Interruption(is_unwanted), **options))
            other.rollback()
        assert len(list(archive.find(query, **options))) == 1


def test_what_comes_next_is_not_interrupted(archive: Archive) -> None:
    test_a_statement_that_gives_no_rows_is_interrupted(archive)
    for _ in range(3):
        with archive.index.reading() as cursor:
            assert list(cursor.execute("SELECT count(*) FROM instance", ())) == [(INSTANCES,)]


def test_a_statement_that_is_wanted_goes_on(archive: Archive, looks_always: None) -> None:
    is_unwanted, asked = after(10**9)
    statement = LONG.replace("500000000", "300000").replace("n < 0", "n > 299999")
    with archive.index.reading(Interruption(is_unwanted)) as cursor:
        assert list(cursor.execute(statement, ())) == [(300_000,)]
    assert asked


def test_what_the_question_raises_comes_out(archive: Archive) -> None:
    def is_unwanted() -> bool:
        raise ConnectionResetError

    with (
        pytest.raises(ConnectionResetError),
        archive.index.reading(Interruption(is_unwanted)) as cursor,
    ):
        list(cursor.execute(LONG, ()))


def test_rows_that_are_tested_one_by_one_are_interrupted(
    archive: Archive, looks_always: None
) -> None:
    query = asking("STUDY", OtherPatientIDs="?", StudyInstanceUID="")
    options = {"transfer_syntax_uid": IMPLICIT, "retrieve_ae_title": "LFSCP"}
    rows = iter([("A\\B", "1.2.3", "X")] * 1000)

    class Cursor:
        def execute(self, *_: Any) -> Iterator[Any]:
            return rows

    is_unwanted, _ = after(5)
    cursor, dialect = Cursor(), archive.index.dialect
    with pytest.raises(InterruptionError):
        list(find(cursor, dialect, query, interruption=Interruption(is_unwanted), **options))
    assert len(list(rows)) == 994


def test_objects_that_are_read_one_by_one_are_interrupted(
    archive: Archive, looks_always: None
) -> None:
    is_unwanted, _ = after(1)
    query = asking("IMAGE", SOPInstanceUID="", ImageComments="")
    found = archive.find(
        query,
        transfer_syntax_uid=IMPLICIT,
        retrieve_ae_title="LFSCP",
        interruption=Interruption(is_unwanted),
    )
    with pytest.raises(InterruptionError):
        list(found)


def test_a_selection_is_interrupted(archive: Archive, looks_always: None) -> None:
    is_unwanted, _ = after(1)
    with pytest.raises(InterruptionError):
        archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]}, Interruption(is_unwanted))
    assert len(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})) == INSTANCES


def test_long_texts_are_compared_as_short_ones_are(archive: Archive) -> None:
    """In SQLite, by the residual: no comparison there can be interrupted."""
    long = "x" * 3000 + "needle" + "y" * 3000
    archive.store(received(9, StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1"))
    with archive.index.writing() as connection:
        values = {"patient_comments": long, "other_patient_ids": long}
        connection.execute(update(study).values(values))
    for keyword in ("PatientComments", "OtherPatientIDs"):
        for pattern, count in (("*needle*", 2), ("x*needle*y", 2), ("*nadel*", 0), ("y*", 0)):
            query = asking("STUDY", StudyInstanceUID="", **{keyword: pattern})
            found = archive.find(query, transfer_syntax_uid=IMPLICIT, retrieve_ae_title="A")
            assert len(list(found)) == count, pattern


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_pattern_and_a_text_of_any_length(size: int) -> None:
    text = "ab" * size + "c"
    for pattern, fits in (
        ("*abc", True),
        ("ab*" + "ab" * 400 + "*c", size > 400),
        ("*" + "?b" * 300 + "c", size >= 300),
        ("*" + "ba" * 300 + "c*", False),
        ("?*b*" + "b?" * 200 + "*", size > 200),
        ("ab*ab", False),
        (text[:-1] + "?", True),
        (text + "*?", False),
    ):
        assert Texts((pattern,), wildcards=True).accepts(text) is fits, pattern


def test_a_large_selection_is_packed_and_comes_in_its_order(tmp_path: Path) -> None:
    selection = Selection(lambda rows: [tmp_path / row.path for row in rows])
    rows = [
        (f"1.{n % 3}", f"1.2.{n}", IMPLICIT, f"a/{n}", n, 2 * n, "1.2", "1.2.3", "")
        for n in range(2 * PACKED + PACKED // 2)
    ]
    for row in rows:
        selection.append(row)
    assert len(selection) == len(rows)
    assert [each.sop_instance_uid for each in selection] == [row[1] for row in rows]
    assert [each.path for each in selection] == [tmp_path / row[3] for row in rows]
    last, of_two = selection[-1], selection.of_classes({"1.1", "1.2"})
    highest = len(rows) - 1
    assert (last.dataset_offset, last.size, last.series_uid) == (highest, 2 * highest, "1.2.3")
    assert [each.sop_class_uid for each in of_two] == [r[0] for r in rows if r[0] != "1.0"]
    assert list(selection.kinds) == [(f"1.{n}", IMPLICIT) for n in range(3)]
    sizes = [2 * (PACKED - 1), 2 * PACKED]
    assert [each.size for each in selection[PACKED - 1 : PACKED + 1]] == sizes
    with pytest.raises(IndexError):
        selection[len(rows)]
