"""An archive of an older version, whose index mixed patients up, is right after the update."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from lfscp.archive import reindexing
from lfscp.archive.archive import Archive
from lfscp.archive.durability import Durability
from lfscp.archive.index import migrations
from lfscp.archive.index.browsing import browse, study_pages
from lfscp.archive.index.database.connect import open_database
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.store.files import ObjectFiles
from lfscp.dicom.reading.header import read_header
from lfscp.dicom.values.person_names import search_form
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded, received

# Objects as they came: study, series, Patient ID, name.
OBJECTS = (
    ("1.1", "1.1.1", "", "Alpha^A"),
    ("1.2", "1.2.1", "", "Beta^B"),
    ("1.3", "1.3.1", "P1", "Doe^Jane"),
    ("1.4", "1.4.1", "P1", "Roe^Richard"),
    ("1.5", "1.3.1", "P2", "Moe^Mary"),  # the series' UID is that of another study
    ("1.3", "1.3.2", "P3", "Poe^Edgar"),  # the study's UID is another patient's
)
RIGHT = sorted({(patient_id, name, study) for study, _, patient_id, name in OBJECTS})


@pytest.fixture(params=["sqlite", "postgresql"])
def old_index(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an index that the older version made."""
    url = sqlite_url(tmp_path / "index.sqlite")
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        url = server.url(server.new_database())
    engine = (
        create_engine(url)
        if request.param == "sqlite"
        else open_database(url, Durability.OS).engine
    )
    paths = store_files(tmp_path)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        for number, (each, path) in enumerate(zip(OBJECTS, paths, strict=True), 1):
            index_as_before(connection, number, *each, path)
    engine.dispose()
    return url


def store_files(folder: Path) -> list[str]:
    """Put the objects into the folder; their paths."""
    with Archive.open(folder, durability="os") as archive:
        for number, (study, series, patient_id, name) in enumerate(OBJECTS, 1):
            uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
            archive.store(received(number, PatientID=patient_id, PatientName=name, **uids))
        paths = [row.path for row in archive.index.placements()]
    for left in folder.glob("index.sqlite*"):
        left.unlink()
    return paths


def index_as_before(
    connection: Connection,
    number: int,
    study: str,
    series: str,
    patient_id: str,
    name: str,
    path: str,
) -> None:
    """Add a row as the older version did: the first of each unique key stays."""

    def key_of(table: str, **unique: Any) -> int | None:
        where = " AND ".join(f"{column} = :{column}" for column in unique)
        found = connection.execute(text(f"SELECT id FROM {table} WHERE {where}"), unique)  # noqa: S608
        return found.scalar()

    def add(table: str, **values: Any) -> int:
        columns, marks = ", ".join(values), ", ".join(f":{column}" for column in values)
        row = f"INSERT INTO {table} ({columns}) VALUES ({marks}) RETURNING id"  # noqa: S608
        return connection.execute(text(row), values).scalar_one()

    series_key = key_of("series", series_instance_uid=series)
    if series_key is None:
        study_key = key_of("study", study_instance_uid=study)
        if study_key is None:
            patient_key = key_of("patient", patient_id=patient_id)
            if patient_key is None:
                names = {"patient_name": name, "patient_name_search": search_form(name)}
                patient_key = add("patient", patient_id=patient_id, **names)
            times = {"received_at": number, "updated_at": number}
            study_key = add("study", patient_id_fk=patient_key, study_instance_uid=study, **times)
        series_key = add(
            "series", study_fk=study_key, series_instance_uid=series, received_at=number
        )
    add(
        "instance",
        series_fk=series_key,
        sop_instance_uid=f"1.2.3.1.{number}",
        sop_class_uid=CT_IMAGE,
        transfer_syntax_uid=EXPLICIT,
        path=path,
        dataset_offset=0,
        size=0,
        file_size=0,
        digest="",
        received_at=number,
    )


def studies(archive: Archive) -> list[tuple[str, str, str]]:
    """(Patient ID, name, Study UID) of all studies."""
    with archive.index.engine.connect() as connection:
        rows = study_pages.studies(connection).rows
    keys = ("patient_id", "patient_name", "study_instance_uid")
    return sorted(tuple(row[key] for key in keys) for row in rows)


def series_and_paths(archive: Archive) -> Sequence[tuple[str, str]]:
    """Under which study and series an instance is filed, and where its file is."""
    statement = text(
        "SELECT study_instance_uid, series_instance_uid, path FROM instance"
        " JOIN series ON series_fk = series.id JOIN study ON study_fk = study.id"
    )
    with archive.index.engine.connect() as connection:
        rows = connection.execute(statement).all()
    return [(f"{study}/{series}", path.rpartition("/")[0]) for study, series, path in rows]


def test_every_study_has_its_own_patient_and_series(old_index: str, tmp_path: Path) -> None:
    with Archive.open(tmp_path, index_url=old_index) as archive:
        assert studies(archive) == RIGHT
        found = series_and_paths(archive)
        assert len(found) == len(OBJECTS)
        assert [filed for filed, _ in found] == [folder for _, folder in found]
        statistics = archive.statistics()
    assert (statistics.patients, statistics.studies) == (5, 6)


def test_it_is_done_once(old_index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Archive.open(tmp_path, index_url=old_index).close()
    monkeypatch.setattr(reindexing, "read_file_header", None)  # which nothing may call
    with Archive.open(tmp_path, index_url=old_index) as archive:
        assert studies(archive) == RIGHT


@pytest.mark.parametrize("objects", [1, 4, 7, 9])
def test_interrupted_it_goes_on_at_the_next_start(
    old_index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objects: int
) -> None:
    read, left = reindexing.read_file_header, iter(range(objects))

    def read_some(path: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(reindexing, "read_file_header", read_some)
    with pytest.raises(KeyboardInterrupt):
        Archive.open(tmp_path, index_url=old_index)
    monkeypatch.setattr(reindexing, "read_file_header", read)
    with Archive.open(tmp_path, index_url=old_index) as archive:
        assert studies(archive) == RIGHT


def test_what_cannot_be_read_stays_as_it_was_and_is_said(
    old_index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "objects/1.4/1.4.1/1.2.3.1.4.dcm").unlink()
    with Archive.open(tmp_path, index_url=old_index) as archive:
        found = studies(archive)
    assert ("P1", "Doe^Jane", "1.4") in found
    assert [each for each in found if each[2] != "1.4"] == [
        each for each in RIGHT if each[2] != "1.4"
    ]


def test_keys_that_sqlite_gave_out_are_not_given_again(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    engine = create_engine(sqlite_url(path))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        connection.execute(text("INSERT INTO patient (id, patient_id) VALUES (41, 'P1')"))
        connection.execute(text("DELETE FROM patient"))
    engine.dispose()
    with Archive.open(tmp_path, durability="os") as archive:
        archive.store(received(1))
        with archive.index.engine.connect() as connection:
            assert connection.execute(text("SELECT id FROM patient")).scalar_one() == 42
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
            assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


def test_an_older_process_cannot_add_what_it_would_file_wrongly(
    old_index: str, tmp_path: Path
) -> None:
    """After a take-over it may go on for a while: what it receives is refused, and sent again."""
    row = {"sop_instance_uid": "1.7", "path": "1.7/1.7/1.7.dcm", "specific_character_set": ""}
    rest = dict.fromkeys(("dataset_offset", "size", "file_size", "received_at"), 0)
    row |= {"transfer_syntax_uid": EXPLICIT, "digest": "", "series_fk": 1} | rest
    columns, marks = ", ".join(row), ", ".join(f":{column}" for column in row)
    statement = text(f"INSERT INTO instance ({columns}) VALUES ({marks})")  # noqa: S608
    with (
        Archive.open(tmp_path, index_url=old_index) as archive,
        archive.index.engine.connect() as connection,
        pytest.raises(DBAPIError, match="specific_character_set"),
    ):
        connection.execute(statement, row)


def test_objects_of_two_patients_in_one_folder_are_told_apart_while_the_node_serves(
    old_index: str, tmp_path: Path
) -> None:
    folder = tmp_path / "objects/1.5/1.3.1"
    other = tmp_path / "other"
    with Archive.open(other, durability="os") as archive:
        uids = {"StudyInstanceUID": "1.5", "SeriesInstanceUID": "1.3.1"}
        archive.store(received(7, PatientID="P7", PatientName="Joe^Jim", **uids))
        (row,) = archive.index.placements()
        (other / "objects" / row.path).rename(folder / "1.2.3.1.7.dcm")
    with Archive.open(tmp_path, index_url=old_index) as archive:
        with archive.index.writing() as connection:  # as the older version filed it
            of_series = text(
                "INSERT INTO instance (series_fk, sop_instance_uid, transfer_syntax_uid, path,"
                " dataset_offset, size, file_size, digest, received_at) SELECT series_fk,"
                " '1.2.3.1.7', transfer_syntax_uid, '1.5/1.3.1/1.2.3.1.7.dcm', 0, 0, 0, '', 7"
                " FROM instance WHERE sop_instance_uid = '1.2.3.1.5'"
            )
            connection.execute(of_series)
        assert studies(archive) == RIGHT
        reindexing.read_every_object(archive.index, archive.files)
        assert studies(archive) == sorted([*RIGHT, ("P7", "Joe^Jim", "1.5")])
        reindexing.read_every_object(archive.index, archive.files)  # there is nothing left
        assert archive.index.find("1.2.3.1.7").patient.patient_id == "P7"


def test_what_came_before_its_study_was_placed_does_not_stop_the_upgrade(
    old_index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a bucket, and beside other nodes, studies are placed while objects come."""
    index = Index(old_index, Durability.OS)
    files = ObjectFiles(tmp_path / "objects", Durability.OS)
    header = read_header(
        encoded(9, PatientID="P2", StudyInstanceUID="1.5", SeriesInstanceUID="1.5.2"), EXPLICIT
    )
    with index.transaction() as cursor:
        index.hierarchy.series_of(cursor, header, 1)
    with index.writing() as connection:  # so that the old row's own patient is there already
        connection.execute(text("UPDATE study SET received_at = received_at"))
    reindexing.place_studies(index, files)
    index.close()
    with Archive.open(tmp_path, index_url=old_index) as archive:
        found = {(patient_id, uid) for patient_id, _, uid in studies(archive)}
        assert found >= {(patient_id, uid) for patient_id, _, uid in RIGHT}


def test_what_moves_keeps_the_time_it_was_received(old_index: str, tmp_path: Path) -> None:
    with (
        Archive.open(tmp_path, index_url=old_index) as archive,
        archive.index.engine.connect() as connection,
    ):
        row = browse.study_row(connection, "1.5")
    assert row is not None
    assert (row["received_at"], row["updated_at"]) == (5, 5)
