"""Look-ups of instances and of versions, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.tables.schema import instance
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import received


@pytest.fixture(params=["sqlite", "postgresql"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    with Archive.open(tmp_path / "data", durability="os", index_url=url) as archive:
        yield archive


def store(archive: Archive, number: int, study: str = "1.2.3") -> None:
    archive.store(received(number, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1"))


def selected(archive: Archive, keys: dict[Level, list[str]]) -> list[str]:
    """The instances that have these UIDs."""
    return [row[1] for row in archive.index.select(keys, Interruption())]


def test_an_instance_is_found_with_what_is_above_it(archive):
    store(archive, 1)
    store(archive, 2, "1.2.4")

    row = archive.index.lookups.instance_row("1.2.3.1.2")

    with archive.index.engine.connect() as connection:
        rows = connection.execute(instance.select()).mappings()
        stored = next(dict(each) for each in rows if each["sop_instance_uid"] == "1.2.3.1.2")
    assert row is not None
    assert (row["study_instance_uid"], row["series_instance_uid"]) == ("1.2.4", "1.2.4.1")
    both = row.keys() & stored.keys()
    assert {"id", "path", "size", "digest", "received_at", "instance_number"} <= both
    assert {name: row[name] for name in both} == {name: stored[name] for name in both}


def test_what_is_not_there_is_none(archive):
    store(archive, 1)

    assert archive.index.lookups.instance_row("9") is None
    assert archive.index.lookups.version_of("9") == "0|None|None|None"


def test_a_version_changes_with_what_is_below_it_alone(archive):
    store(archive, 1)
    version_of = archive.index.lookups.version_of
    paths = [("1.2.3",), ("1.2.3", "1.2.3.1"), ("1.2.3", "1.2.3.1", "1.2.3.1.1")]
    before = [version_of(*path) for path in paths]

    store(archive, 2)
    after = [version_of(*path) for path in paths]

    assert after[0] != before[0]
    assert after[1] != before[1]
    assert after[2] == before[2]
    assert version_of("1.2.3", "1.2.4.1").startswith("0|")  # a series of another study
    assert version_of("1.2.3", "1.2.3.1", "9").startswith("0|")


def test_single_uids_and_lists_select_the_same_again_and_again(archive):
    for number in (1, 2):
        store(archive, number)
    store(archive, 3, "1.2.4")

    for uids in (["1.2.3"], ["1.2.4"], ["1.2.3", "1.2.4"], ["1.2.3"], ["9"]):
        of_study = {"1.2.3": ["1.2.3.1.1", "1.2.3.1.2"], "1.2.4": ["1.2.3.1.3"]}
        expected = [each for uid in uids for each in of_study.get(uid, [])]
        assert selected(archive, {Level.STUDY: uids}) == expected
    one = {Level.STUDY: ["1.2.3"], Level.SERIES: ["1.2.3.1"], Level.IMAGE: ["1.2.3.1.2"]}
    for _ in range(2):
        assert selected(archive, one) == ["1.2.3.1.2"]
        assert selected(archive, one | {Level.SERIES: ["1.2.4.1"]}) == []
        assert selected(archive, {Level.SERIES: ["1.2.4.1"]}) == ["1.2.3.1.3"]


def test_an_index_that_cannot_be_read_is_said(archive):
    with archive.index.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE instance RENAME TO gone")

    with pytest.raises(ArchiveError, match="read the index"):
        archive.index.lookups.instance_row("1.2.3.1.1")
