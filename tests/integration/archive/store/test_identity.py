"""The place of the objects: what is not it is not stored into, and nothing is believed lost there.

A volume that is not mounted is an empty folder in the place of the one with the objects.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError, OutOfResourcesError
from lfscp.archive.index.objects_identity import known, known_by_file
from lfscp.archive.index.tables.maintenance_tables import maintenance
from lfscp.archive.readiness import readiness
from lfscp.archive.store import files as object_files
from lfscp.archive.store.bucket.s3_client import S3Options
from lfscp.archive.store.files import ObjectFiles
from lfscp.archive.store.identity import IDENTITY_FOLDER, FolderPlace, folder_identity
from lfscp.archive.store.space import Space
from lfscp.archive.upkeep.backup import backup
from lfscp.archive.upkeep.check import check
from lfscp.archive.upkeep.restore import restore
from lfscp.archive.upkeep.retention import Limits, Retention
from lfscp.archive.upkeep.scrub import Scrub
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import received
from tests.support.s3_service import S3Service

Open = Callable[..., Archive]
NEVER = threading.Event()


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders are looked at for each store."""
    monkeypatch.setattr("lfscp.archive.store.space._ASK_AGAIN_S", 0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of an archive with three objects, on a volume of their own."""
    data = tmp_path / "data"
    with Archive.open(data, objects_root=tmp_path / "volume") as archive:
        for number in (1, 2, 3):
            archive.store(received(number))
    return data


def open_on(data: Path, **options: object) -> Archive:
    return Archive.open(data, objects_root=data.parent / "volume", **options)  # type: ignore[arg-type]


def unmount(data: Path) -> Path:
    """Leave an empty folder in the place of the volume."""
    volume = data.parent / "volume"
    volume.rename(data.parent / "away")
    volume.mkdir()
    return volume


def mount(data: Path) -> None:
    """Have the volume there again."""
    volume = data.parent / "volume"
    os.rename(volume, data.parent / f"below-{volume.stat().st_ino}")  # noqa: PTH104
    (data.parent / "away").rename(volume)


def forget(data: Path) -> None:
    """Make it an archive of a version that knew no identity."""
    with open_on(data) as archive, archive.index.writing() as connection:
        connection.execute(delete(maintenance).where(maintenance.c.task == "objects"))
    shutil.rmtree(data.parent / "volume" / IDENTITY_FOLDER)


def test_without_the_volume_an_archive_does_not_open_and_writes_nothing(data: Path) -> None:
    volume = unmount(data)
    with pytest.raises(ArchiveError, match=r"volume is not where .* is missing .* is mounted"):
        open_on(data)
    assert list(volume.iterdir()) == []
    mount(data)
    with open_on(data) as archive:
        assert list(check(archive)) == []


def test_an_archive_that_holds_nothing_yet_is_no_exception(tmp_path: Path) -> None:
    data = tmp_path / "data"
    Archive.open(data, objects_root=tmp_path / "volume").close()
    unmount(data)
    with pytest.raises(ArchiveError, match=IDENTITY_FOLDER):
        open_on(data)


def test_an_administrator_may_have_the_objects_begin_anew_there(data: Path) -> None:
    unmount(data)
    with pytest.raises(ArchiveError) as refused:
        open_on(data)
    folder = refused.value.hint.rpartition("mkdir -p ")[2]
    Path(folder).mkdir(parents=True)
    with open_on(data) as archive:
        assert len(list(check(archive))) == 3


def test_another_archive_s_volume_is_none_of_ours(data: Path, tmp_path: Path) -> None:
    Archive.open(tmp_path / "other", objects_root=tmp_path / "others").close()
    unmount(data).rmdir()
    (tmp_path / "others").rename(tmp_path / "volume")
    with pytest.raises(ArchiveError, match=r"its identity is .* the index knows"):
        open_on(data)


def test_an_older_archive_gets_its_identity_when_its_objects_are_there(data: Path) -> None:
    forget(data)
    open_on(data).close()
    identity = FolderPlace(data.parent / "volume").read()
    assert identity
    assert known_by_file(data / "index.sqlite") == identity
    forget(data)
    volume = unmount(data)
    with pytest.raises(ArchiveError, match="none of the index's objects is in it"):
        open_on(data)
    assert list(volume.iterdir()) == []


def test_an_identity_that_was_lost_is_made_again_beside_its_objects(data: Path) -> None:
    """Restored by a tool that leaves out what begins with a dot, or empty folders."""
    place = FolderPlace(data.parent / "volume")
    before = place.read()
    shutil.rmtree(data.parent / "volume" / IDENTITY_FOLDER)
    open_on(data).close()
    assert place.read() == before


def test_a_new_index_takes_the_identity_that_is_there(data: Path) -> None:
    before = FolderPlace(data.parent / "volume").read()
    for file in data.glob("index.sqlite*"):
        file.unlink()
    with open_on(data) as archive:
        assert known(archive.index).identity == before


def test_a_new_index_in_the_place_of_a_damaged_one_is_not_made_without_the_volume(
    data: Path,
) -> None:
    identity = known_by_file(data / "index.sqlite")
    volume = unmount(data)
    with pytest.raises(ArchiveError, match=IDENTITY_FOLDER):
        open_on(data, index_url=f"sqlite:///{data}/index.rebuilt", objects_id=identity)
    assert list(volume.iterdir()) == []


def test_nodes_of_one_index_have_one_place(
    postgresql_server: Any, migrated_template: Any, tmp_path: Path
) -> None:
    url = postgresql_server.url(postgresql_server.new_database(migrated_template))
    options = {"index_url": url, "objects_root": tmp_path / "volume"}
    with (
        Archive.open(tmp_path / "a", **options) as one,
        Archive.open(tmp_path / "b", **options) as two,
    ):
        one.store(received(1))
        assert list(check(two)) == []
        with pytest.raises(ArchiveError, match=IDENTITY_FOLDER):
            Archive.open(tmp_path / "c", index_url=url, objects_root=tmp_path / "elsewhere")
        with pytest.raises(ArchiveError, match=r"give all of them the same objects\.url"):
            Archive.open(tmp_path / "d", index_url=url)


@pytest.mark.usefixtures("s3_credentials")
def test_a_bucket_has_an_identity_too(s3_service: S3Service, tmp_path: Path) -> None:
    def of(bucket: str) -> S3Options:
        return S3Options(f"s3://{bucket}/prefix", s3_service.url, allow_http=True)

    first, second = s3_service.new_bucket(), s3_service.new_bucket()
    with Archive.open(tmp_path, bucket=of(first)) as archive:
        archive.store(received(1))
    with pytest.raises(ArchiveError, match=r"\.lfscp/objects is missing"):
        Archive.open(tmp_path, bucket=of(second))
    with Archive.open(tmp_path, bucket=of(first)) as archive:
        assert list(check(archive)) == []
        assert all(not each.problem for each in readiness(archive))
        s3_service.delete(first, "prefix/.lfscp/objects")
        assert (
            "not the archive's"
            in {each.name: each for each in readiness(archive)}["bucket"].problem
        )


# While it is open


def test_nothing_is_stored_while_the_volume_is_away(data: Path) -> None:
    with open_on(data) as archive:
        volume = unmount(data)
        (volume / ".incoming" / (data / "node-id").read_text()).mkdir(parents=True)
        with pytest.raises(OutOfResourcesError, match="is its volume mounted"):
            archive.store(received(4))
        problems = {each.name: each.problem for each in readiness(archive)}
        assert "is its volume mounted" in problems["objects"]
        mount(data)
        archive.store(received(4))
        assert all(not each.problem for each in readiness(archive))
        assert list(check(archive)) == []


def test_an_object_that_reached_the_folder_below_the_volume_is_not_stored(data: Path) -> None:
    """The node has looked a moment ago, and the folder below is ready to be written into."""
    with open_on(data) as archive:
        archive.space = Space(())
        volume = unmount(data)
        (volume / ".incoming" / (data / "node-id").read_text()).mkdir(parents=True)
        for number in (4, 1001):  # a series that is open, and one that is not
            with pytest.raises(OutOfResourcesError, match="is its volume mounted"):
                archive.store(received(number))
        assert [path for path in volume.rglob("*") if path.is_file()] == []
        mount(data)
        archive.store(received(4))
        assert list(check(archive)) == []


def test_an_object_is_on_the_volume_that_is_mounted_when_it_is_acknowledged(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the volume takes its place while the node runs."""
    with open_on(data) as archive:
        shutil.copytree(data.parent / "volume", data.parent / "copy")

        def mount_the_copy() -> None:
            (data.parent / "volume").rename(data.parent / "old")
            (data.parent / "copy").rename(data.parent / "volume")

        link = os.link

        def link_in_time(*args: Any, **options: Any) -> None:
            link(*args, **options)
            mount_the_copy()

        monkeypatch.setattr(os, "link", link_in_time)
        with pytest.raises(OutOfResourcesError, match="is its volume mounted"):
            archive.store(received(4))
        monkeypatch.setattr(os, "link", link)
        for number in (4, 5):
            archive.store(received(number))
        assert archive.statistics().instances == 5
        assert list(check(archive)) == []


def test_new_folders_on_a_volume_that_is_mounted_again_are_synced(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were made when the file system was taken for the one before."""
    synced: list[str] = []
    with monkeypatch.context() as patched, open_on(data) as archive:
        archive.files._keeps_order = True  # type: ignore[union-attr]
        shutil.copytree(data.parent / "volume", data.parent / "copy")
        (data.parent / "volume").rename(data.parent / "old")
        (data.parent / "copy").rename(data.parent / "volume")
        patched.setattr(object_files, "sync_folder", lambda path: synced.append(str(path)))
        archive.store(received(4, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1"))
        root = archive.files.root
    assert synced == [str(root / "1.2.4"), str(root)]


def test_new_folders_are_synced_also_if_another_store_saw_first_that_a_volume_is_another(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    with monkeypatch.context() as patched, open_on(data) as archive:
        files = archive.files
        assert isinstance(files, ObjectFiles)
        files._keeps_order = True
        shutil.copytree(data.parent / "volume", data.parent / "copy")
        (data.parent / "volume").rename(data.parent / "old")
        (data.parent / "copy").rename(data.parent / "volume")
        sync_placed = files._sync_placed

        def another_store_looks(*placed: Any) -> None:
            sync_placed(*placed)
            files._root_is = folder_identity(str(files.root))

        patched.setattr(files, "_sync_placed", another_store_looks)
        patched.setattr(object_files, "sync_folder", lambda path: synced.append(str(path)))
        archive.store(received(4, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1"))
    assert synced == [str(files.root / "1.2.4"), str(files.root)]


def test_an_object_that_is_not_there_with_its_volume_is_not_stored_anew(data: Path) -> None:
    """It would be healed into the folder below the volume."""
    with open_on(data) as archive:
        archive.space = Space(())  # which has looked a moment ago
        unmount(data)
        with pytest.raises(OutOfResourcesError):
            archive.store(received(1))
        mount(data)
        assert list(check(archive)) == []


def test_nothing_is_deleted_repaired_or_called_damaged_while_the_volume_is_away(
    data: Path,
) -> None:
    limits = Limits(max_age_ms=1, max_studies=0, quiet_ms=-1000)
    with open_on(data) as archive:
        unmount(data)
        for attempt in (
            lambda: archive.delete(Level.STUDY, "1.2.3"),
            lambda: Retention(archive, limits, lambda *_: None).run(),
            lambda: Scrub(archive, 100, NEVER).run(),
            lambda: list(check(archive, repair=True)),
            archive.finish_removals,
        ):
            with pytest.raises(ArchiveError, match="is its volume mounted"):
                attempt()
        archive.remove_files(["1.2.3/1.2.3.1/1.2.3.1.1.dcm"])
        assert archive.statistics().instances == 3
        mount(data)
        assert list(check(archive)) == []


def test_a_data_folder_that_was_replaced_takes_nothing(data: Path) -> None:
    with open_on(data) as archive:
        data.rename(data.with_name("gone"))
        data.mkdir()
        with pytest.raises(OutOfResourcesError, match="is not the data folder that was opened"):
            archive.store(received(4))


# Backups


def test_a_backup_is_not_made_of_the_folder_below_the_volume(data: Path, tmp_path: Path) -> None:
    volume, index = data.parent / "volume", data / "index.sqlite"
    backup(index, volume, tmp_path / "backup")
    manifest = (tmp_path / "backup/backup.json").read_bytes()
    unmount(data)
    with pytest.raises(ArchiveError, match="is not the folder of this index's objects"):
        backup(index, volume, tmp_path / "backup")
    assert (tmp_path / "backup/backup.json").read_bytes() == manifest


def test_a_restored_archive_has_its_identity(data: Path, tmp_path: Path) -> None:
    backup(data / "index.sqlite", data.parent / "volume", tmp_path / "backup")
    new = tmp_path / "new/data"
    places = {"index": new / "index.sqlite", "objects": tmp_path / "new/volume"}
    restore(tmp_path / "backup", new, **places)
    with open_on(new) as archive:
        assert list(check(archive)) == []
    assert FolderPlace(places["objects"]).read() == FolderPlace(data.parent / "volume").read()
