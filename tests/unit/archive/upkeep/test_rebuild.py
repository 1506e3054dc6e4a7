"""An index made anew from the objects: it has all of them, and loses nothing acknowledged."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.archive_id import archive_id
from lfscp.archive.arrival import Arrival
from lfscp.archive.correcting import Correction, undo
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.protection import protect, protected_among
from lfscp.archive.index.tables.correction_tables import kept_object
from lfscp.archive.index.tables.schema import study
from lfscp.archive.upkeep.check import Finding, check
from lfscp.archive.upkeep.index_copy import connect
from lfscp.archive.upkeep.rebuild import rebuild
from lfscp.config.coercion import CoercionSection
from lfscp.dicom.part10.file_meta import read_part10
from lfscp.dicom.values.attributes import Level
from lfscp.rules.coercion.reading import read_coercions
from tests.support.archive_datasets import received

LONG_AGO = 1_000_000_000


def rebuilt(data: Path) -> tuple[list[Finding], list[Path]]:
    """What could not be indexed, and where the old index is."""
    found = list(
        rebuild(data / "index.sqlite", lambda file: Archive.open(data, index_url=sqlite_url(file)))
    )
    findings = [each for each in found if isinstance(each, Finding)]
    return findings, [each for each in found if isinstance(each, Path)]


def times(archive: Archive) -> set[int]:
    with archive.index.engine.connect() as connection:
        columns = "instance.received_at, series.received_at, study.received_at, study.updated_at"
        rows = connection.exec_driver_sql(f"SELECT {columns} FROM instance, series, study")  # noqa: S608
        return {value for row in rows for value in row}


def identity(index: Path) -> str:
    with closing(connect(index)) as connection:
        return archive_id(connection)


@pytest.mark.parametrize("damage", ["none", "gone", "garbled"])
def test_a_rebuilt_index_has_every_object(tmp_path: Path, damage: str) -> None:
    with Archive.open(tmp_path) as archive:
        for number in (1, 2, 3):
            archive.store(received(number))
            os.utime(archive.files.path(f"1.2.3/1.2.3.1/1.2.3.1.{number}.dcm"), (1, LONG_AGO))
        protect(archive.index, "1.2.3")
    index = tmp_path / "index.sqlite"
    before = identity(index)
    if damage == "gone":
        index.unlink()
    elif damage == "garbled":
        index.write_bytes(b"\xa5" * index.stat().st_size)
    findings, old = rebuilt(tmp_path)
    assert findings == []
    assert [path.exists() for path in old] == ([] if damage == "gone" else [True])
    with Archive.open(tmp_path) as archive:
        assert list(check(archive)) == []
        assert len(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})) == 3
        assert times(archive) == {LONG_AGO * 1000}
        with archive.index.engine.connect() as connection:
            known = protected_among(connection, ["1.2.3"])
        assert known == ({"1.2.3"} if damage == "none" else set())
    assert (identity(index) == before) is (damage == "none")


def test_of_several_files_of_an_instance_the_newest_is_taken(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
        old = archive.files.path("1.2.3/1.2.3.1/1.2.3.1.1.dcm")
        new = old.with_name("1.2.3.1.1~1.dcm")
        content = old.read_bytes()
        new.write_bytes(content[:-1] + b"\1")
        os.utime(old, (1, LONG_AGO))
    (finding,), _ = rebuilt(tmp_path)
    assert finding.path.endswith("1.2.3.1.1.dcm")
    assert "quarantine" in finding.action
    with Archive.open(tmp_path) as archive:
        (instance,) = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        assert Path(instance.path).name == new.name


def arrange(archive: Archive) -> None:
    """Change what comes, and keep it as it came."""
    section = {"name": "rule", "keep_original": True, "set": {"PatientID": "NEW"}}
    made = read_coercions([CoercionSection.model_validate(section)], lambda _: "")
    archive.arrival = Arrival(made, "LFSCP")


def test_what_is_kept_as_it_came_does_not_take_the_place_of_what_was_made_of_it(
    tmp_path: Path,
) -> None:
    with Archive.open(tmp_path) as archive:
        arrange(archive)
        archive.store(received(1))
    assert rebuilt(tmp_path)[0] == []
    with Archive.open(tmp_path) as archive:
        (instance,) = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        assert dcmread(instance.path).PatientID == "NEW"
        assert list(check(archive)) == []
        arrange(archive)
        assert archive.store(received(1)).outcome is StoreOutcome.IDENTICAL
        with archive.index.engine.connect() as connection:
            assert len(connection.execute(select(kept_object)).all()) == 1  # and not once more


def test_a_correction_can_be_undone_after_a_rebuild(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
        with archive.index.engine.connect() as connection:
            (key,) = connection.execute(select(study.c.id)).scalars()
        correction = Correction(archive, "c1", {"PatientName": "Right^Name"}, "LFSCP")
        correction.begin()
        correction.correct(key)
        correction.end()
    assert rebuilt(tmp_path)[0] == []
    with Archive.open(tmp_path) as archive:
        (instance,) = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        assert dcmread(instance.path).PatientName == "Right^Name"
        undo(archive, "c1")
        (instance,) = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        assert dcmread(instance.path).PatientName != "Right^Name"
        assert list(check(archive)) == []


def test_what_is_kept_is_taken_if_what_was_made_of_it_is_lost(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        arrange(archive)
        archive.store(received(1))
        (instance,) = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        Path(instance.path).unlink()
    rebuilt(tmp_path)
    with Archive.open(tmp_path) as archive:
        assert len(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})) == 1
        assert list(check(archive)) == []
        with archive.index.engine.connect() as connection:
            assert connection.execute(select(kept_object)).all() == []


def test_a_crash_just_before_loses_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledged, but its piece was not removed yet: no new index may take it for left over."""
    with Archive.open(tmp_path) as archive, monkeypatch.context() as patched:
        patched.setattr(type(archive.files), "discard", lambda *_: None)
        archive.store(received(1))
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    Archive.open(tmp_path).close()  # a node that was started without its index
    rebuilt(tmp_path)
    with Archive.open(tmp_path) as archive:
        assert len(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})) == 1


def test_what_an_older_version_took_is_found_again(tmp_path: Path) -> None:
    """Objects that begin with file meta information are refused now, and were acknowledged once."""
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
        path = archive.files.path("1.2.3/1.2.3.1/1.2.3.1.1.dcm")
        content = Path(path).read_bytes()
        at = read_part10(content).dataset_offset
        stray = b"\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
        Path(path).write_bytes(content[:at] + stray + content[at:])
    assert rebuilt(tmp_path)[0] == []
    with Archive.open(tmp_path) as archive:
        assert len(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})) == 1


@pytest.mark.parametrize("newer", ["1.2.3", "1.2.9"])
def test_of_files_of_an_instance_in_two_studies_the_newest_is_taken(
    tmp_path: Path, newer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that died while it replaced, and never started again before its index was lost."""
    studies = {"1.2.3", "1.2.9"}
    (older,) = studies - {newer}
    with Archive.open(tmp_path, duplicates="replace") as archive, monkeypatch.context() as patched:
        patched.setattr(archive, "remove_files", lambda _: None)
        archive.store(received(1, StudyInstanceUID=older, SeriesInstanceUID=f"{older}.1"))
        archive.store(received(1, StudyInstanceUID=newer, SeriesInstanceUID=f"{newer}.1"))
    os.utime(tmp_path / f"objects/{older}/{older}.1/1.2.3.1.1.dcm", (1, LONG_AGO))
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    (finding,), _ = rebuilt(tmp_path)
    assert finding.path.startswith(f"{older}/")
    assert "quarantine" in finding.action
    with Archive.open(tmp_path) as archive:
        assert list(check(archive)) == []
        assert len(archive.select(Level.STUDY, {Level.STUDY: [newer]})) == 1
        assert archive.statistics().studies == 1


def test_a_name_that_another_object_has_taken_again_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index could not be told that the removed file is gone, and its name was used again."""
    with Archive.open(tmp_path) as archive, monkeypatch.context() as patched:
        patched.setattr(archive, "_forget_removals", lambda *_: None)
        archive.store(received(1))
        archive.delete(Level.STUDY, "1.2.3")
        archive.store(received(1))
    assert rebuilt(tmp_path)[0] == []
    with Archive.open(tmp_path) as archive:
        assert len(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})) == 1
