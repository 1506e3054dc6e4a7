"""What was stored lately is counted by the hour, and studies are named by their UIDs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from lfscp.archive.archive import Archive
from lfscp.archive.index.browsing.named_studies import named_studies
from lfscp.archive.index.browsing.stored_lately import HOUR_MS, StoredInHour, stored_since
from lfscp.archive.index.tables.schema import instance
from tests.support.archive_datasets import received

BEGAN = 480_000 * HOUR_MS


@pytest.fixture
def archive(open_archive: Callable[..., Archive], tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path, durability="os") as opened:
        yield opened


def store(archive: Archive, hours: list[int], **values: Any) -> None:
    """Store an object for each hour after BEGAN, of 100 bytes."""
    for number, hour in enumerate(hours):
        archive.store(received(number, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1", **values))
        with archive.index.engine.begin() as connection:
            newest = instance.c.sop_instance_uid == received(number).sop_instance_uid
            at = BEGAN + hour * HOUR_MS + 7
            change = update(instance).where(newest).values(received_at=at, file_size=100)
            connection.execute(change)


def test_only_the_hours_after_a_time_are_counted(archive: Archive) -> None:
    store(archive, [0, 0, 3, 5, 5, 5, 9])
    with archive.index.engine.connect() as connection:
        everything = stored_since(connection, 0)
        lately = stored_since(connection, BEGAN + 4 * HOUR_MS)
        nothing = stored_since(connection, BEGAN + 10 * HOUR_MS)

    assert [(each.since_ms - BEGAN) // HOUR_MS for each in everything] == [0, 3, 5, 9]
    assert lately == [
        StoredInHour(BEGAN + 5 * HOUR_MS, 3, 300),
        StoredInHour(BEGAN + 9 * HOUR_MS, 1, 100),
    ]
    assert nothing == []


def test_an_empty_archive_has_stored_nothing(archive: Archive) -> None:
    with archive.index.engine.connect() as connection:
        assert stored_since(connection, 0) == []
        assert named_studies(connection, []) == {}


def test_studies_are_named_by_patient_date_and_description(archive: Archive) -> None:
    store(archive, [0], PatientName="Doe^Jane", PatientID="P1", StudyDescription="Knee")
    with archive.index.engine.connect() as connection:
        found = named_studies(connection, ["1.2", "1.3"])

    assert set(found) == {"1.2"}
    assert found["1.2"].patient_name == "Doe^Jane"
    assert (found["1.2"].patient_id, found["1.2"].study_description) == ("P1", "Knee")
