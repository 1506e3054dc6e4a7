"""The check of index against objects: it finds each kind of damage, mends it, and finds no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.upkeep.check import Difference, check
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import encoded, received

FIRST = "1.2.3/1.2.3.1/1.2.3.1.1.dcm"


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    with open_archive(tmp_path) as opened:
        opened.store(received(1))
        opened.store(received(2))
        yield opened


def found(archive: Archive, *, repair: bool = False) -> list[tuple[Difference, str]]:
    return [(finding.problem, finding.path) for finding in check(archive, repair=repair)]


def test_a_sound_archive_has_no_findings(archive: Archive) -> None:
    assert found(archive) == []


def test_a_missing_file_loses_its_row(archive: Archive) -> None:
    archive.files.path(FIRST).unlink()
    assert found(archive) == [(Difference.MISSING, FIRST)]
    assert found(archive, repair=True) == [(Difference.MISSING, FIRST)]
    assert found(archive) == []
    assert archive.statistics().instances == 1


def test_a_study_whose_last_file_is_missing_is_gone(archive: Archive) -> None:
    for number in (1, 2):
        archive.files.path(f"1.2.3/1.2.3.1/1.2.3.1.{number}.dcm").unlink()
    assert len(found(archive, repair=True)) == 2
    assert archive.statistics().patients == archive.statistics().studies == 0
    assert archive.store(received(1)).outcome is StoreOutcome.STORED


@pytest.mark.parametrize(
    ("damage", "problem"), [(b"", Difference.WRONG_SIZE), (b"\xff", Difference.WRONG_DIGEST)]
)
def test_a_damaged_file_goes_to_quarantine_and_can_be_sent_again(
    archive: Archive, damage: bytes, problem: Difference
) -> None:
    path = archive.files.path(FIRST)
    damaged = path.read_bytes()[:-1] + damage
    path.write_bytes(damaged)
    assert found(archive) == [(problem, FIRST)]
    assert found(archive, repair=True) == [(problem, FIRST)]
    assert (archive.data_dir / "quarantine" / FIRST).read_bytes() == damaged
    assert found(archive) == []
    assert archive.store(received(1)).outcome is StoreOutcome.STORED


def test_a_left_over_object_is_indexed_again(archive: Archive) -> None:
    content = archive.files.path(FIRST).read_bytes()
    archive.delete(Level.IMAGE, "1.2.3.1.1")
    archive.files.path(FIRST).write_bytes(content)
    assert found(archive) == [(Difference.LEFT_OVER, FIRST)]
    assert found(archive, repair=True) == [(Difference.LEFT_OVER, FIRST)]
    assert found(archive) == []
    (instance,) = archive.select(Level.IMAGE, {Level.IMAGE: ["1.2.3.1.1"]})
    assert instance.path.read_bytes()[instance.dataset_offset :] == encoded(1)


@pytest.mark.parametrize("name", ["1.2.3.1.1~1.dcm", "1.2.3.1.77.dcm"])
def test_what_cannot_be_indexed_goes_to_quarantine(archive: Archive, name: str) -> None:
    content = archive.files.path(FIRST).read_bytes()
    left_over = f"1.2.3/1.2.3.1/{name}"
    for _ in range(2):  # the second does not overwrite the first
        archive.files.path(left_over).write_bytes(content)
        assert found(archive, repair=True) == [(Difference.LEFT_OVER, left_over)]
    assert found(archive) == []
    assert len(list((archive.data_dir / "quarantine").rglob(f"{name}*"))) == 2
    assert archive.statistics().instances == 2


def test_a_stray_file_that_is_no_dicom_goes_to_quarantine(archive: Archive) -> None:
    archive.files.path("1.2.3/1.2.3.1/notes.txt").write_text("hello")
    (finding,) = check(archive, repair=True)
    assert "cannot be read" in str(finding)
    assert str(finding).startswith("left over: 1.2.3/1.2.3.1/notes.txt: moved to ")
    assert found(archive) == []


def test_without_repair_nothing_changes(archive: Archive) -> None:
    archive.files.path(FIRST).unlink()
    assert found(archive) == found(archive)
    assert archive.statistics().instances == 2
