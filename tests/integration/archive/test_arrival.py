"""Objects that are changed on arrival: what is stored, kept, and left behind when it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.arrival import Arrival
from lfscp.archive.correcting import Correction
from lfscp.archive.errors import DuplicateRejectedError, InDoubtError
from lfscp.archive.index.tables.correction_tables import kept_object
from lfscp.archive.index.tables.schema import study
from lfscp.config.coercion import CoercionSection
from lfscp.dicom.errors import DatasetError
from lfscp.rules.coercion.reading import read_coercions
from tests.support.archive_datasets import received
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgresql_server import PostgreSQLServer

LARGE = 5 << 20


@pytest.fixture(params=["sqlite", "postgresql"])
def index_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None


@pytest.fixture
def archive(index_url: str | None, tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "data", index_url=index_url, durability="os") as opened:
        yield opened


def arrange(archive: Archive, table: str = "", **section: Any) -> None:
    made = CoercionSection.model_validate({"name": "rule", "keep_original": True, **section})
    archive.arrival = Arrival(read_coercions([made], lambda name: table), "LFSCP")


def kept(archive: Archive) -> list[Any]:
    with archive.index.engine.connect() as connection:
        return list(connection.execute(select(kept_object)).mappings())


def left_behind(archive: Archive) -> list[Path]:
    return [path for path in archive.files.incoming.iterdir() if path.is_file()]


def stored(archive: Archive, uid: str) -> Any:
    row = archive.index.find(uid)
    assert row is not None
    return dcmread(archive.files.file_of(row))


@pytest.mark.parametrize("size", [64, LARGE])
def test_an_object_with_a_new_uid_is_found_by_it(archive: Archive, size: int) -> None:
    table = "old,new\n1.2.3.1.1,1.9.1\n"
    arrange(archive, table, map={"SOPInstanceUID": {"table": "t"}})
    assert archive.store(received(1, pixels=b"\1" * size)).outcome is StoreOutcome.STORED
    found = stored(archive, "1.9.1")
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == "1.9.1"
    assert found.PixelData == b"\1" * size
    assert archive.index.find("1.2.3.1.1") is None
    (original,) = kept(archive)
    file = dcmread(archive.files.path(original["path"]))
    assert file.SOPInstanceUID == "1.2.3.1.1"
    assert original["sop_instance_uid"] == "1.9.1"
    again = archive.store(received(1, pixels=b"\1" * size))
    assert again.outcome is StoreOutcome.IDENTICAL
    assert len(kept(archive)) == 1
    assert not left_behind(archive)


def test_the_original_of_an_object_that_is_not_stored_is_not_kept(archive: Archive) -> None:
    arrange(archive, set={"PatientID": "NEW"})
    archive.store(received(1))
    other = archive.store(received(1, pixels=b"\7" * 64))
    assert other.outcome is StoreOutcome.KEPT
    assert len(kept(archive)) == 1
    assert not left_behind(archive)


@pytest.mark.parametrize("size", [64, LARGE])
def test_an_object_that_is_refused_leaves_nothing(tmp_path: Path, size: int) -> None:
    with Archive.open(tmp_path, durability="os", duplicates="reject") as archive:
        arrange(archive, set={"PatientID": "NEW"})
        archive.store(received(1, pixels=b"\1" * size))
        with pytest.raises(DuplicateRejectedError):
            archive.store(received(1, pixels=b"\2" * size))
        arrange(archive, "a,b\n1.2.3.1.2,\n", map={"StudyID": {"table": "t"}}, set={"StudyID": "1"})
        with pytest.raises(DatasetError):
            archive.store(received(2, StudyInstanceUID=""))
        assert len(kept(archive)) == 1
        assert len(list(archive.files.walk())) == 2
        assert not left_behind(archive)


@pytest.mark.parametrize("changes", [{"PatientID": "P9"}, {"PatientName": "Roe^Mary"}], ids=str)
@pytest.mark.parametrize("duplicates", ["keep", "replace", "reject"])
def test_an_object_that_was_corrected_since_stays_so_when_it_comes_again(
    tmp_path: Path, changes: dict[str, str], duplicates: str
) -> None:
    with Archive.open(tmp_path, durability="os", duplicates=duplicates) as archive:
        arrange(archive, set={"InstitutionName": "Ours"})
        archive.store(received(1))
        with archive.index.engine.connect() as connection:
            (key,) = connection.execute(select(study.c.id)).scalars()
        correction = Correction(archive, "c1", changes, "LFSCP")
        correction.begin()
        correction.correct(key)
        correction.end()
        assert archive.store(received(1)).outcome is StoreOutcome.KEPT
        found = stored(archive, "1.2.3.1.1")
        assert {keyword: str(found[keyword].value) for keyword in changes} == changes
        with archive.index.engine.connect() as connection:
            assert len(connection.execute(select(study.c.id)).all()) == 1


def test_an_original_is_there_when_the_answer_to_its_commit_was_lost(
    postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path
) -> None:
    """The object is sent again, and the original is not kept again: its row is there."""
    proxy = CuttingProxy(postgresql_server.port)
    url = postgresql_url.replace(f":{postgresql_server.port}/", f":{proxy.port}/")
    cutting = threading.Thread(target=lambda: proxy.held.wait(60) and proxy.cut(), daemon=True)
    try:
        with Archive.open(tmp_path, index_url=url, durability="os") as archive:
            arrange(archive, set={"PatientID": "NEW"})
            proxy.hold_after("INSERT INTO kept_object", "COMMIT")
            cutting.start()
            with pytest.raises(InDoubtError):
                archive.store(received(1))
            assert archive.store(received(1)).outcome is StoreOutcome.IDENTICAL
            (original,) = kept(archive)
            assert dcmread(archive.files.path(original["path"])).PatientID == "P1"
    finally:
        proxy.close()


def test_the_file_of_an_original_that_has_no_row_goes(
    postgresql_server: PostgreSQLServer,
    postgresql_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lfscp.archive.in_doubt.SETTLED_AFTER_S", 0.0)
    proxy = CuttingProxy(postgresql_server.port)
    url = postgresql_url.replace(f":{postgresql_server.port}/", f":{proxy.port}/")
    cutting = threading.Thread(target=lambda: proxy.held.wait(60) and proxy.cut(), daemon=True)
    try:
        with Archive.open(tmp_path, index_url=url, durability="os") as archive:
            arrange(archive, set={"PatientID": "NEW"})
            proxy.hold_after("INSERT INTO kept_object")
            cutting.start()
            with pytest.raises(InDoubtError):
                archive.store(received(1))
            archive.store(received(2))
            (original,) = kept(archive)
            rows = {archive.index.find(f"1.2.3.1.{number}").path for number in (1, 2)}
            assert set(archive.files.walk()) == {original["path"], *rows}
    finally:
        proxy.close()
