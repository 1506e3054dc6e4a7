"""The archive's façade: what is stored is there, whole, once, and goes when it is deleted."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from lfscp.archive.archive import Archive, Duplicates, Received, StoredInstance, StoreOutcome
from lfscp.archive.errors import (
    ArchiveError,
    ArchiveInUseError,
    DuplicateRejectedError,
    IdentityMismatchError,
    InstanceElsewhereError,
    OutOfResourcesError,
    StudyProtectedError,
)
from lfscp.archive.late_sync import MAX_SIZE
from lfscp.archive.query.query import Model, parse_query
from lfscp.archive.store import files as object_files
from lfscp.archive.store.digest import digest_of
from lfscp.archive.upkeep.check import check
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded, received

OpenArchive = Callable[..., Archive]


@pytest.fixture
def archive(tmp_path: Path, open_archive: OpenArchive) -> Iterator[Archive]:
    """Over an index in SQLite, then over one in PostgreSQL, as every test here that takes it."""
    with open_archive(tmp_path) as opened:
        yield opened


def instances(archive: Archive) -> list[StoredInstance]:
    return archive.select(Level.STUDY, {Level.STUDY: ["1.2.3", "1.2.4"]})


def dataset_of(stored: StoredInstance) -> bytes:
    return stored.path.read_bytes()[stored.dataset_offset :]


def objects_on_disk(archive: Archive) -> list[str]:
    return sorted(archive.files.walk())


def row(archive: Archive, sql: str) -> Any:
    with archive.index.engine.connect() as connection:
        found = connection.exec_driver_sql(sql).fetchone()
    return None if found is None else tuple(found)


def test_a_stored_object_is_a_dicom_file_with_the_very_bytes_received(archive: Archive) -> None:
    stored = archive.store(received(1))
    assert (stored.outcome, stored.study_uid, stored.series_uid) == (
        StoreOutcome.STORED,
        "1.2.3",
        "1.2.3.1",
    )
    (instance,) = instances(archive)
    assert instance.path == archive.data_dir / "objects/1.2.3/1.2.3.1/1.2.3.1.1.dcm"
    assert dataset_of(instance) == encoded(1)
    assert instance.size == stored.size == len(encoded(1))
    assert dcmread(instance.path).PatientName == "Doe^Jane"
    assert (instance.sop_class_uid, instance.transfer_syntax_uid) == (CT_IMAGE, EXPLICIT)
    assert list(archive.files.pieces()) == []


def test_every_level_has_its_attributes_in_the_index(archive: Archive) -> None:
    archive.store(received(1, StudyDate="20240131", SpecificCharacterSet="ISO_IR 192"))
    assert row(archive, "SELECT patient_id, patient_name, patient_name_search FROM patient") == (
        "P1",
        "Doe^Jane",
        "doe^jane",
    )
    assert row(archive, "SELECT study_date FROM study") == ("20240131",)
    assert row(archive, "SELECT modality FROM series") == ("CT",)
    assert row(
        archive,
        "SELECT instance_number, calling_ae_title, dataset_character_set, digest FROM instance",
    )[:3] == ("1", "SENDER", "ISO_IR 192")


def test_everything_survives_a_restart(tmp_path: Path, open_archive: OpenArchive) -> None:
    with open_archive(tmp_path) as archive:
        archive.store(received(1))
    with open_archive(tmp_path) as archive:
        assert archive.store(received(2)).outcome is StoreOutcome.STORED
        assert [dataset_of(instance) for instance in instances(archive)] == [encoded(1), encoded(2)]
        assert archive.statistics().instances == 2
        assert archive.statistics().studies == 1


def test_a_patient_without_id_and_name_with_control_characters_is_stored(archive: Archive) -> None:
    raw = encoded(1).replace(b"Doe^Jane", b"D\x00e\x07'\x1b\n ")
    raw = raw.replace(b"P1", b"  ")
    archive.store(Received(CT_IMAGE, "1.2.3.1.1", EXPLICIT, dataset=raw))
    assert row(archive, "SELECT patient_id, patient_name FROM patient") == (
        "",
        "D\ufffde\x07'\x1b\n",
    )


@pytest.mark.parametrize("policy", Duplicates)
def test_the_same_bytes_again_are_a_success_whatever_the_policy(
    tmp_path: Path, policy: Duplicates, open_archive: OpenArchive
) -> None:
    with open_archive(tmp_path, duplicates=policy) as archive:
        archive.store(received(1))
        assert archive.store(received(1)).outcome is StoreOutcome.IDENTICAL
        assert len(objects_on_disk(archive)) == len(instances(archive)) == 1


def test_keep_keeps_the_first(archive: Archive) -> None:
    archive.store(received(1))
    assert archive.store(received(1, pixels=b"\1" * 64)).outcome is StoreOutcome.KEPT
    assert dataset_of(*instances(archive)) == encoded(1)
    assert len(objects_on_disk(archive)) == 1


@pytest.mark.parametrize("digest", ["xxh3_128", "sha256", None])
def test_replace_replaces_again_and_again(
    tmp_path: Path, digest: str | None, open_archive: OpenArchive
) -> None:
    with open_archive(tmp_path, duplicates="replace", digest=digest) as archive:
        archive.store(received(1))
        for number in (1, 2, 3):
            pixels = bytes([number]) * 64
            assert archive.store(received(1, pixels=pixels)).outcome is StoreOutcome.REPLACED
            assert archive.store(received(1, pixels=pixels)).outcome is StoreOutcome.IDENTICAL
            assert dataset_of(*instances(archive)) == encoded(1, pixels=pixels)
            assert len(objects_on_disk(archive)) == 1


def test_replace_into_another_study_leaves_no_empty_one(
    tmp_path: Path, open_archive: OpenArchive
) -> None:
    with open_archive(tmp_path, duplicates="replace") as archive:
        archive.store(received(1))
        moved = received(1, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1")
        assert archive.store(moved).outcome is StoreOutcome.REPLACED
        assert objects_on_disk(archive) == ["1.2.4/1.2.4.1/1.2.3.1.1.dcm"]
        assert archive.statistics().studies == 1
        assert archive.store(received(2)).outcome is StoreOutcome.STORED


NO_SERIES_IS_DELETED = {
    "sqlite": (
        "CREATE TRIGGER kept BEFORE DELETE ON series BEGIN SELECT RAISE(ABORT, 'it fails'); END",
        "DROP TRIGGER kept",
    ),
    "postgresql": (
        "CREATE FUNCTION fail() RETURNS trigger AS "
        "'BEGIN RAISE EXCEPTION ''it fails''; END' LANGUAGE plpgsql",
        "CREATE TRIGGER kept BEFORE DELETE ON series FOR EACH ROW EXECUTE FUNCTION fail()",
        "DROP FUNCTION fail CASCADE",
    ),
}


def test_a_replacement_counts_though_the_series_that_it_leaves_empty_cannot_be_removed(
    tmp_path: Path, open_archive: OpenArchive
) -> None:
    with open_archive(tmp_path, duplicates="replace") as archive:
        archive.store(received(1))
        *refuse, allow = NO_SERIES_IS_DELETED[archive.index.dialect.name]
        with archive.index.writing() as connection:
            for statement in refuse:
                connection.exec_driver_sql(statement)
        moved = received(1, SeriesInstanceUID="1.2.3.2")
        stored = archive.store(moved)
        assert stored.outcome is StoreOutcome.REPLACED
        assert "it fails" in "; ".join(stored.notes)
        (row,) = instances(archive)
        assert (row.series_uid, row.path.exists()) == ("1.2.3.2", True)
        assert list(check(archive)) == []
        assert archive.store(moved).outcome is StoreOutcome.IDENTICAL
        with archive.index.writing() as connection:
            connection.exec_driver_sql(allow)


@pytest.mark.parametrize(
    "values",
    [{"pixels": b"\1" * 64}, {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.4.1"}],
    ids=["in place", "elsewhere"],
)
def test_an_instance_of_a_protected_study_is_not_replaced(
    tmp_path: Path, values: dict[str, Any], open_archive: OpenArchive
) -> None:
    with open_archive(tmp_path, duplicates="replace") as archive:
        archive.store(received(1))
        archive.set_protected("1.2.3", on=True)
        with pytest.raises(
            StudyProtectedError, match=r"study 1\.2\.3 is protected; unprotect it first"
        ):
            archive.store(received(1, **values))
        assert archive.store(received(1)).outcome is StoreOutcome.IDENTICAL
        assert dataset_of(*instances(archive)) == encoded(1)
        assert archive.store(received(2)).outcome is StoreOutcome.STORED, "it may grow"

        archive.set_protected("1.2.3", on=False)
        assert archive.store(received(1, **values)).outcome is StoreOutcome.REPLACED


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_lost_file_of_a_protected_study_is_healed_by_the_same_object_alone(
    tmp_path: Path, elsewhere: bool, open_archive: OpenArchive
) -> None:
    with open_archive(tmp_path, duplicates="replace") as archive:
        archive.store(received(1))
        archive.set_protected("1.2.3", on=True)
        instances(archive)[0].path.unlink()
        if elsewhere:
            with pytest.raises(StudyProtectedError):
                archive.store(received(1, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1"))
        else:
            assert archive.store(received(1)).outcome is StoreOutcome.REPLACED


def test_reject_rejects_other_content(tmp_path: Path, open_archive: OpenArchive) -> None:
    with open_archive(tmp_path, duplicates="reject") as archive:
        archive.store(received(1))
        with pytest.raises(DuplicateRejectedError):
            archive.store(received(1, pixels=b"\1" * 64))
        assert dataset_of(*instances(archive)) == encoded(1)
        assert len(objects_on_disk(archive)) == 1


@pytest.mark.parametrize(
    ("elsewhere", "tag"),
    [
        ({"StudyInstanceUID": "1.2.4"}, 0x00080018),
        ({"SeriesInstanceUID": "1.2.3.2"}, 0x00080018),
        ({"PatientID": "P2"}, 0x00100020),
    ],
)
def test_an_instance_uid_that_is_in_use_elsewhere_is_refused(
    archive: Archive, elsewhere: dict[str, str], tag: int
) -> None:
    archive.store(received(1))
    with pytest.raises(
        InstanceElsewhereError, match=r"in series 1\.2\.3\.1 of study 1\.2\.3"
    ) as caught:
        archive.store(received(1, **elsewhere))
    assert caught.value.tag == tag
    assert "P2" not in str(caught.value)
    assert objects_on_disk(archive) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm"]


def test_an_instance_whose_file_is_lost_is_stored_where_it_says(archive: Archive) -> None:
    archive.store(received(1))
    instances(archive)[0].path.unlink()
    archive.store(received(1, SeriesInstanceUID="1.2.3.2"))
    assert archive.statistics().series == 1
    assert objects_on_disk(archive) == ["1.2.3/1.2.3.2/1.2.3.1.1.dcm"]


def test_a_file_that_vanished_is_healed_by_the_next_store(archive: Archive) -> None:
    archive.store(received(1))
    instances(archive)[0].path.unlink()
    stored = archive.store(received(1))
    assert stored.notes
    assert dataset_of(*instances(archive)) == encoded(1)


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        ({"SOPInstanceUID": "1.2.3.1.9"}, 0x00080018),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, 0x00080016),
    ],
)
def test_a_dataset_that_is_not_what_the_command_says_is_refused(
    archive: Archive, change: dict[str, str], tag: int
) -> None:
    raw = encoded(1, **change)
    with pytest.raises(IdentityMismatchError) as caught:
        archive.store(Received(CT_IMAGE, "1.2.3.1.1", EXPLICIT, dataset=raw))
    assert caught.value.tag == tag
    assert objects_on_disk(archive) == []


def test_a_broken_dataset_is_refused_and_the_next_one_stored(archive: Archive) -> None:
    with pytest.raises(DatasetError):
        archive.store(Received(CT_IMAGE, "1.2.3.1.1", EXPLICIT, dataset=encoded(1)[:-5]))
    assert objects_on_disk(archive) == []
    assert archive.store(received(1)).outcome is StoreOutcome.STORED


def spool(archive: Archive, number: int, pixels: bytes = b"\0" * 64) -> Received:
    head = part10_header(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT, "SENDER")
    path = archive.incoming_dir / f"spooled-{number}"
    path.write_bytes(head + encoded(number, pixels=pixels))
    return Received(
        CT_IMAGE,
        f"1.2.3.1.{number}",
        EXPLICIT,
        "SENDER",
        spooled_path=path,
        dataset_offset=len(head),
    )


def test_a_spooled_object_is_taken_over(archive: Archive) -> None:
    pixels = bytes(range(256)) * 8000
    assert archive.store(spool(archive, 1, pixels)).outcome is StoreOutcome.STORED
    assert dataset_of(*instances(archive)) == encoded(1, pixels=pixels)
    assert archive.store(received(1, pixels=pixels)).outcome is StoreOutcome.IDENTICAL
    assert archive.store(spool(archive, 1, pixels)).outcome is StoreOutcome.IDENTICAL
    assert list(archive.files.pieces()) == []


def test_a_spooled_object_that_is_cut_is_refused_and_left_to_the_engine(archive: Archive) -> None:
    spooled = spool(archive, 1)
    assert spooled.spooled_path is not None
    os.truncate(spooled.spooled_path, spooled.dataset_offset + 100)
    with pytest.raises(DatasetError):
        archive.store(spooled)
    os.truncate(spooled.spooled_path, spooled.dataset_offset)
    with pytest.raises(DatasetError):
        archive.store(spooled)
    assert objects_on_disk(archive) == []


def test_a_full_disk_leaves_nothing_and_is_survived(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part_then_full(descriptor: int, _buffers: Any) -> int:
        return os.write(descriptor, b"part")

    def full(_descriptor: int, _data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", full)
        with pytest.raises(OutOfResourcesError, match="No space left"):
            archive.store(received(1))
        write = os.write
        patched.setattr(os, "writev", lambda descriptor, _: write(descriptor, b"part"))
        patched.setattr(os, "write", full)
        with pytest.raises(OutOfResourcesError, match="No space left"):
            archive.store(received(1))
    assert list(archive.files.pieces()) == []
    assert objects_on_disk(archive) == instances(archive) == []
    assert archive.store(received(1)).outcome is StoreOutcome.STORED


def test_a_write_done_in_parts_is_whole(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: write(descriptor, parts[0][:7]))
    monkeypatch.setattr(os, "write", lambda descriptor, part: write(descriptor, part[:100]))
    archive.store(received(1))
    assert dataset_of(*instances(archive)) == encoded(1)


def test_when_the_index_fails_the_file_is_gone(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.store(received(1))

    def fail(*_: Any) -> None:
        raise archive.index.error("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(archive.index._statements.insert_instance, "run", fail)
        with pytest.raises(OutOfResourcesError, match="full"):
            archive.store(received(2))
    assert objects_on_disk(archive) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm"]
    assert archive.store(received(2)).outcome is StoreOutcome.STORED


def test_a_left_over_file_of_the_same_name_does_no_harm(archive: Archive) -> None:
    left_over = archive.data_dir / "objects/1.2.3/1.2.3.1/1.2.3.1.1.dcm"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"left over")
    assert archive.store(received(1)).outcome is StoreOutcome.STORED
    assert dataset_of(*instances(archive)) == encoded(1)
    assert left_over.read_bytes() == b"left over"


def test_opening_clears_pieces_and_files_that_were_never_committed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, open_archive: OpenArchive
) -> None:
    archive.store(received(1))
    header, dataset = part10_header(CT_IMAGE, "1.2.3.1.2", EXPLICIT), encoded(2)
    uids = ("1.2.3", "1.2.3.1", "1.2.3.1.2")
    archive.files.place(
        archive.files.write_piece(header, dataset, uids), *uids
    )  # a crash before the commit
    with monkeypatch.context() as patched:  # a crash after it
        patched.setattr(type(archive.files), "discard", lambda *_: None)
        archive.store(received(3))
    (archive.incoming_dir / "half").write_bytes(b"half")
    archive.close()
    with open_archive(archive.data_dir) as again:
        assert list(again.files.pieces()) == []
        assert objects_on_disk(again) == [
            "1.2.3/1.2.3.1/1.2.3.1.1.dcm",
            "1.2.3/1.2.3.1/1.2.3.1.3.dcm",
        ]


def test_opening_clears_what_was_placed_and_not_synced(tmp_path: Path) -> None:
    """After a power cut such a file may have its names and nothing in it."""
    uids = ("1.2.3", "1.2.3.1", "1.2.3.1.2")
    with Archive.open(tmp_path / "data") as archive:
        archive.store(received(1))
        archive.files._is_named_by_sync = True
        (archive.incoming_dir / "spooled.part").write_bytes(b"")
        for piece in (
            archive.files.write_piece(b"", b"", uids),
            archive.files.adopt(archive.incoming_dir / "spooled.part", uids),
        ):
            archive.files.place(piece, *uids)
        assert len(objects_on_disk(archive)) == 3
    with Archive.open(tmp_path / "data") as again:
        assert list(again.files.pieces()) == []
        assert objects_on_disk(again) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm"]
        assert list(check(again)) == []


def test_a_placed_file_that_cannot_be_synced_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Archive.open(tmp_path / "data") as archive:
        archive.store(received(1))
        for is_named_by_sync in (True, False):
            archive.files._is_named_by_sync = is_named_by_sync
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", broken)
                with pytest.raises(OutOfResourcesError):
                    archive.store(received(2, pixels=bytes(MAX_SIZE)))
            assert list(archive.files.pieces()) == []
            assert objects_on_disk(archive) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm"]
        assert archive.store(received(2)).outcome is StoreOutcome.STORED


@pytest.mark.parametrize("keeps_order", [True, False])
def test_new_folders_are_synced_unless_the_sync_of_a_file_has_them_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_order: bool
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(object_files, "is_named_by_sync", lambda _: True)
    monkeypatch.setattr(object_files, "keeps_order", lambda _: keeps_order)
    monkeypatch.setattr(object_files, "sync_folder", lambda path: synced.append(str(path)))
    with Archive.open(tmp_path / "data") as archive:
        archive.store(received(1, pixels=bytes(MAX_SIZE)))
        archive.store(received(2, pixels=bytes(MAX_SIZE)))  # of the same series
        root = archive.files.root
    assert synced == ([] if keeps_order else [str(root / "1.2.3"), str(root)])


def test_a_spooled_object_leaves_only_the_name_that_the_engine_removes(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "data") as archive:
        archive.files._is_named_by_sync = True
        archive.store(spool(archive, 1))
        assert list(archive.files.pieces()) == []
        ours = spool(archive, 2)
        with Path(str(ours.spooled_path)).open("rb") as file:
            archive.store(replace(ours, spooled_descriptor=file.fileno()))
        assert list(archive.files.pieces()) == [ours.spooled_path]
        assert list(check(archive)) == []
        assert archive.statistics().instances == 2


def test_deleting_takes_rows_files_and_folders(archive: Archive) -> None:
    for number in range(3):
        archive.store(received(number))
    archive.store(received(7, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1"))
    assert archive.delete(Level.IMAGE, "1.2.3.1.0") == 1
    assert archive.delete(Level.STUDY, "1.2.3") == 2
    assert archive.delete(Level.STUDY, "1.2.3") == 0
    assert not (archive.data_dir / "objects/1.2.3").exists()
    assert archive.statistics().studies == 1
    assert archive.store(received(1)).outcome is StoreOutcome.STORED  # its folders are made again
    assert archive.delete(Level.PATIENT, "P1") == 2
    assert objects_on_disk(archive) == []
    assert archive.statistics().patients == 0


def test_a_removed_file_is_forgotten_only_when_its_folder_is_synced(
    tmp_path: Path, open_archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then a power cut may bring it back, and the next start must know of it."""

    def broken(path: Path | str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_archive(tmp_path / "data") as archive:
        archive.store(received(1))
        archive.store(received(2))
        file = archive.files.path("1.2.3/1.2.3.1/1.2.3.1.1.dcm")
        back = file.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(object_files, "sync_folder", broken)
            assert archive.delete(Level.IMAGE, "1.2.3.1.1") == 1
        file.write_bytes(back)
        os.utime(file, (0, 0))  # not a new one of another node
        monkeypatch.setattr("lfscp.archive.archive._REMOVED_BY_OTHERS_MS", -1000)
        archive.finish_removals()
        assert list(check(archive)) == []
        assert not file.exists()


def test_select_takes_keys_of_every_level_and_thousands_of_them(archive: Archive) -> None:
    for number in range(5):
        archive.store(received(number))
    many = [f"1.2.3.1.{number}" for number in range(40_000)]
    keys = {Level.PATIENT: ["P1"], Level.STUDY: ["1.2.3"], Level.SERIES: ["1.2.3.1"]}
    assert len(archive.select(Level.IMAGE, {**keys, Level.IMAGE: many})) == 5
    assert len(archive.select(Level.SERIES, {**keys, Level.IMAGE: ["1.9"]})) == 5
    assert len(archive.select(Level.IMAGE, {Level.IMAGE: ["1.2.3.1.2", "1.2.3.1.2"]})) == 1
    assert archive.select(Level.STUDY, {Level.PATIENT: ["P2"], Level.STUDY: ["1.2.3"]}) == []
    assert archive.select(Level.STUDY, {}) == []
    assert archive.select(Level.STUDY, {Level.STUDY: []}) == []


def test_a_second_node_is_told_that_the_archive_is_in_use(
    archive: Archive, open_archive: OpenArchive
) -> None:
    with pytest.raises(ArchiveInUseError, match="another node"):
        open_archive(archive.data_dir)
    archive.close()
    open_archive(archive.data_dir).close()


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, hindered = os.mkdir, []

    def make_between_a_store_and_a_deletion(path: str, *args: Any) -> None:
        """The folder is another's when it is to be made, and gone when it is looked at."""
        make(path, *args)
        if path.endswith("/1.2.3.1") and len(hindered) < 3:
            hindered.append(path)
            try:
                make(path, *args)
            finally:
                Path(path).rmdir()

    monkeypatch.setattr(os, "mkdir", make_between_a_store_and_a_deletion)
    assert archive.store(received(1)).outcome is StoreOutcome.STORED
    assert len(hindered) == 3
    (stored,) = instances(archive)
    assert dataset_of(stored) == encoded(1)


def test_a_file_in_the_place_of_a_folder_is_named(archive: Archive) -> None:
    (archive.data_dir / "objects/1.2.3").mkdir()
    (archive.data_dir / "objects/1.2.3/1.2.3.1").write_text("")
    with pytest.raises(OutOfResourcesError, match="File exists"):
        archive.store(received(1))
    assert list(archive.files.pieces()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="file/data"):
        Archive.open(tmp_path / "file" / "data")


def test_an_index_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    Archive.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ArchiveError, match="newer"):
        Archive.open(tmp_path)


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ArchiveError, match="not a database"):
        Archive.open(tmp_path)


def test_a_current_index_opens_without_alembic(tmp_path: Path) -> None:
    """Made and opened in one process, which has one version of the schema, whoever edits it now."""
    code = (
        "import sys; from pathlib import Path; from lfscp.archive.archive import Archive\n"
        "for _ in range(2): Archive.open(Path(sys.argv[1])).close()\n"
        "print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", code, tmp_path]
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("False\n", 0), ended.stderr


def test_concurrent_first_objects_of_one_study_end_in_one_study(archive: Archive) -> None:
    failures: list[Exception] = []
    start = threading.Barrier(8)

    def store(thread: int) -> None:
        try:
            start.wait()
            for number in range(20):
                archive.store(received(1000 * thread + number))
        except Exception as error:  # noqa: BLE001 - any failure of a thread fails the test
            failures.append(error)

    threads = [threading.Thread(target=store, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    statistics = archive.statistics()
    assert (statistics.patients, statistics.studies, statistics.series) == (1, 1, 1)
    assert statistics.instances == len(objects_on_disk(archive)) == 160


@pytest.mark.parametrize("policy", ["keep", "replace"])
def test_concurrent_stores_of_one_instance_leave_one_file_that_matches_its_row(
    tmp_path: Path, policy: str, open_archive: OpenArchive
) -> None:
    outcomes: list[StoreOutcome] = []
    with open_archive(tmp_path, duplicates=policy) as archive:
        for number in range(10):
            start = threading.Barrier(4)

            def store(thread: int, number: int = number, start: threading.Barrier = start) -> None:
                start.wait()
                pixels = bytes([thread]) * 64
                outcomes.append(archive.store(received(number, pixels=pixels)).outcome)

            threads = [threading.Thread(target=store, args=(thread,)) for thread in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        from lfscp.archive.upkeep.check import check

        assert outcomes.count(StoreOutcome.STORED) == 10
        assert len(outcomes) == 40
        assert list(check(archive)) == []
        assert len(objects_on_disk(archive)) == 10


def test_what_was_stored_is_found(archive: Archive) -> None:
    archive.store(received(1))
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.PatientName = "doe*"
    identifier.StudyInstanceUID = ""
    query = parse_query(identifier, Model.STUDY_ROOT)
    (response,) = archive.find(query, transfer_syntax_uid=EXPLICIT, retrieve_ae_title="LFSCP")
    assert b"1.2.3" in response
    assert b"Doe^Jane" in response


def test_a_digest_names_its_algorithm(tmp_path: Path) -> None:
    for algorithm in ("xxh3_128", "sha256"):
        with Archive.open(tmp_path / algorithm, digest=algorithm) as archive:
            archive.store(received(1))
            (digest,) = row(archive, "SELECT digest FROM instance")
            assert digest == digest_of(encoded(1), algorithm)
            assert digest.startswith(f"{algorithm}:")


def test_an_unknown_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="xxh3_128 or sha256"):
        Archive.open(tmp_path, digest="crc")


def test_an_index_that_cannot_be_read_is_said(archive: Archive) -> None:
    archive.store(received(1))
    with archive.index.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE instance RENAME TO elsewhere")
    with pytest.raises(ArchiveError, match=r"no such table|does not exist"):
        instances(archive)
    with pytest.raises(ArchiveError, match=r"no such table|does not exist"):
        archive.store(received(2))
    assert objects_on_disk(archive) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm"]


def test_an_index_that_cannot_be_locked_is_an_error_of_the_archive(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
    lock = tmp_path / "index.sqlite.lock"
    lock.unlink()
    lock.mkdir()
    with Archive.open(tmp_path) as archive:
        with pytest.raises(OutOfResourcesError, match="Is a directory"):
            archive.store(received(2))
        assert objects_on_disk(archive) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm"]
        for failing in (
            lambda: archive.delete(Level.STUDY, "1.2.3"),
            lambda: archive.set_protected("1.2.3", on=True),
        ):
            with pytest.raises(ArchiveError, match="Is a directory"):
                failing()
        assert len(instances(archive)) == 1


def test_an_index_that_is_no_database_any_more_is_an_error_of_the_archive(
    tmp_path: Path,
) -> None:
    archive = Archive.open(tmp_path)
    archive.store(received(1))
    archive.index.close()
    index = archive.data_dir / "index.sqlite"
    index.write_bytes(b"\xa5" * index.stat().st_size)
    with pytest.raises(ArchiveError, match="not a database"):
        instances(archive)
    with pytest.raises(ArchiveError, match="not a database"):
        archive.statistics()
    with pytest.raises(ArchiveError, match="not a database"):
        archive.delete(Level.STUDY, "1.2.3")
    with pytest.raises(OutOfResourcesError, match="not a database"):
        archive.store(received(2))
    archive.close()
    with pytest.raises(ArchiveError, match="lfscp check --rebuild"):
        Archive.open(archive.data_dir)


@pytest.mark.parametrize("damage", ["changed", "cut", "unreadable"])
def test_a_damaged_file_is_healed_by_the_next_store_of_the_object(
    archive: Archive, damage: str
) -> None:
    archive.store(received(1))
    path = Path(archive.files.path("1.2.3/1.2.3.1/1.2.3.1.1.dcm"))
    content = path.read_bytes()
    path.unlink()
    if damage == "unreadable":
        path.symlink_to("/proc/self/mem")  # which is there, and whose first bytes nobody can read
    else:
        path.write_bytes(content[:-1] + (b"\1" if damage == "changed" else b""))
    assert archive.store(received(1, pixels=b"\2" * 64)).outcome is StoreOutcome.KEPT
    stored = archive.store(received(1))
    assert stored.outcome is StoreOutcome.REPLACED
    assert "was damaged and is whole" in stored.notes[-1]
    assert dataset_of(*instances(archive)) == encoded(1)
    assert archive.store(received(1)).outcome is StoreOutcome.IDENTICAL
