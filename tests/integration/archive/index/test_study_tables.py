"""Who sent a study, and its labels: written with the objects, gone with the study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from lfscp.archive.archive import Archive
from lfscp.archive.index.browsing import browse
from lfscp.archive.index.browsing.study_pages import StudySearch, labels
from lfscp.archive.index.labels import add_label, remove_label
from lfscp.archive.index.tables.study_tables import study_label, study_source
from lfscp.archive.upkeep.carried_over import carry_over
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import received


@pytest.fixture(params=["sqlite", "postgresql"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    with Archive.open(tmp_path / "data", durability="os", index_url=url) as archive:
        yield archive


def store(archive: Archive, number: int, sender: str, **values: Any) -> None:
    archive.store(replace(received(number, **values), calling_ae_title=sender))


def senders(archive: Archive, study_uid: str = "1.2.3") -> list[str]:
    with archive.index.engine.connect() as connection:
        row = browse.study_row(connection, study_uid)
    assert row is not None
    return list(row["calling_ae_titles"])


def test_each_sender_of_a_study_is_named_once(archive):
    for number, sender in enumerate(["CT1", "CT1", "", "CT2", "CT1", "CT2"]):
        store(archive, number, sender)
    store(archive, 10, "CT3", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1")

    assert senders(archive) == ["CT1", "CT2"]
    assert senders(archive, "1.2.4") == ["CT3"]


def test_a_sender_is_known_again_after_the_study_was_deleted_and_came_again(archive):
    store(archive, 1, "CT1")
    archive.delete(Level.STUDY, "1.2.3")
    with archive.index.engine.connect() as connection:
        assert connection.execute(select(study_source)).all() == []

    store(archive, 1, "CT1")
    assert senders(archive) == ["CT1"]


def test_a_sender_of_a_replaced_object_is_named(tmp_path):
    with Archive.open(tmp_path / "data", durability="os", duplicates="replace") as archive:
        store(archive, 1, "CT1")
        store(archive, 1, "CT2", pixels=b"\1" * 64)

        assert senders(archive) == ["CT1", "CT2"]


def test_labels_go_with_the_last_study_of_their_uid(archive):
    store(archive, 1, "CT1")
    store(archive, 2, "CT1", PatientID="P2", SeriesInstanceUID="1.2.3.2")
    assert add_label(archive.index, ["1.2.3", "9"], "x") == ["1.2.3"]
    with archive.index.engine.connect() as connection:
        keys = [row["id"] for row in StudySearch(connection).page("date").rows]
    assert len(keys) == 2

    archive.delete(Level.STUDY, "1.2.3", key=keys[0])
    with archive.index.engine.connect() as connection:
        assert labels(connection) == ["x"]
    archive.delete(Level.STUDY, "1.2.3")
    with archive.index.engine.connect() as connection:
        assert labels(connection) == []


def test_labels_go_when_a_study_loses_its_last_object(archive):
    store(archive, 1, "CT1")
    add_label(archive.index, ["1.2.3"], "x")

    archive.delete(Level.IMAGE, "1.2.3.1.1")

    with archive.index.engine.connect() as connection:
        assert connection.execute(select(study_label)).all() == []


def test_a_label_is_taken_from_those_that_have_it(archive):
    store(archive, 1, "CT1")
    add_label(archive.index, ["1.2.3"], "x")

    assert remove_label(archive.index, ["1.2.3", "9"], "y") == 0
    assert remove_label(archive.index, ["1.2.3", "9"], "x") == 1


def test_labels_are_carried_over_when_an_index_is_rebuilt(tmp_path):
    with Archive.open(tmp_path / "old", durability="os") as old:
        store(old, 1, "CT1")
        add_label(old.index, ["1.2.3"], "x")
    with Archive.open(tmp_path / "new", durability="os") as new:
        with new.index.writing() as connection:
            carry_over(tmp_path / "old" / "index.sqlite", connection)
        with new.index.engine.connect() as connection:
            assert labels(connection) == ["x"]
