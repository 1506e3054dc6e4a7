"""What the archive promises of its objects, on a folder, a shared folder and a bucket alike."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive, Received, StoreOutcome
from lfscp.archive.errors import DuplicateRejectedError
from lfscp.archive.store.bucket.s3 import PUT_IN_PARTS_ABOVE
from lfscp.archive.store.bucket.s3_client import S3Options
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.archive.upkeep.check import Difference, check
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.s3_service import S3Service

KEY = "1.2.3/1.2.3.1/1.2.3.1.1.dcm"


@dataclass
class Place:
    """Somewhere to keep objects: what to open the archive with, and what is there."""

    options: dict[str, Any]
    names: Callable[[], list[str]]
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]


@pytest.fixture(params=["folder", "shared folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "bucket":
        request.getfixturevalue("s3_credentials")
        service: S3Service = request.getfixturevalue("s3_service")
        bucket = service.new_bucket()
        options = S3Options(f"s3://{bucket}/some/prefix", service.url, allow_http=True)
        yield Place(
            {"bucket": options},
            lambda: [key.removeprefix("some/prefix/") for key in service.keys(bucket)],
            lambda key, content: service.put(bucket, f"some/prefix/{key}", content),
            lambda key: service.delete(bucket, f"some/prefix/{key}"),
        )
        return
    root = tmp_path / "objects" if request.param == "shared folder" else tmp_path / "a/objects"

    def names() -> list[str]:
        found = (Path(at, name) for at, _, names in os.walk(root) for name in names)
        return sorted(str(path.relative_to(root)) for path in found)

    def put(key: str, content: bytes) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(content)

    shared = {"objects_root": root} if request.param == "shared folder" else {}
    yield Place(shared, names, put, lambda key: (root / key).unlink())


@pytest.fixture
def open_with(place: Place, tmp_path: Path) -> Iterator[Callable[..., Archive]]:
    opened = []

    def open_one(name: str = "a", **options: Any) -> Archive:
        opened.append(Archive.open(tmp_path / name, **place.options, **options))
        return opened[-1]

    yield open_one
    for archive in opened:
        archive.close()


def received(number: int, **values: Any) -> Received:
    return Received(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT, dataset=encoded(number, **values))


def spooled(archive: Archive, number: int, **values: Any) -> Received:
    """As it comes when it went to disk while it arrived."""
    path = archive.incoming_dir / f"{number}.part"
    head = b"\0" * 128 + b"DICM" + bytes(100)
    path.write_bytes(head + encoded(number, **values))
    return Received(
        CT_IMAGE,
        f"1.2.3.1.{number}",
        EXPLICIT,
        spooled_path=str(path),
        dataset_offset=len(head),
    )


def stored(archive: Archive) -> list[StoredInstance]:
    return archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})


def dataset_of(instance: StoredInstance) -> bytes:
    with instance.path.open("rb") as file:
        file.seek(instance.dataset_offset)
        return file.read(instance.size)


def left_of(archive: Archive) -> list[Path]:
    """What is left of work in the incoming folder."""
    return [path for path in archive.incoming_dir.iterdir() if path.is_file()]


def test_an_object_is_stored_under_its_uids_and_read_back(place, open_with):
    archive = open_with()
    assert archive.store(received(1)).outcome is StoreOutcome.STORED
    assert place.names() == [KEY]
    assert [dataset_of(each) for each in stored(archive)] == [encoded(1)]
    assert left_of(archive) == []


def test_a_spooled_object_is_stored_and_its_file_taken_over(place, open_with):
    archive = open_with()
    archive.store(spooled(archive, 1))
    assert place.names() == [KEY]
    assert [dataset_of(each) for each in stored(archive)] == [encoded(1)]
    assert left_of(archive) == []


def test_a_large_object_is_stored_and_read_back(place, open_with):
    archive = open_with()
    pixels = os.urandom(PUT_IN_PARTS_ABOVE + 1_000_000)
    archive.store(spooled(archive, 1, pixels=pixels))
    assert place.names() == [KEY]
    assert dataset_of(*stored(archive)) == encoded(1, pixels=pixels)


def test_the_same_object_again_changes_nothing(place, open_with):
    archive = open_with()
    archive.store(received(1))
    assert archive.store(received(1)).outcome is StoreOutcome.IDENTICAL
    assert archive.store(spooled(archive, 1)).outcome is StoreOutcome.IDENTICAL
    assert place.names() == [KEY]
    assert left_of(archive) == []


def test_another_content_is_kept_out_by_default(place, open_with):
    archive = open_with()
    archive.store(received(1))
    assert archive.store(received(1, PatientName="Roe")).outcome is StoreOutcome.KEPT
    assert dataset_of(*stored(archive)) == encoded(1)
    assert place.names() == [KEY]


def test_another_content_is_rejected_when_so_configured(place, open_with):
    archive = open_with(duplicates="reject")
    archive.store(received(1))
    with pytest.raises(DuplicateRejectedError):
        archive.store(received(1, PatientName="Roe"))
    assert dataset_of(*stored(archive)) == encoded(1)
    assert place.names() == [KEY]


def test_another_content_takes_the_place_when_so_configured(place, open_with):
    archive = open_with(duplicates="replace")
    archive.store(received(1))
    for name in ("Roe", "Poe", "Moe"):
        assert archive.store(received(1, PatientName=name)).outcome is StoreOutcome.REPLACED
        assert dataset_of(*stored(archive)) == encoded(1, PatientName=name)
    assert len(place.names()) == 1


def test_a_name_that_a_crash_left_taken_is_not_written_over(place, open_with):
    archive = open_with()
    place.put(KEY, b"of a crash")
    assert archive.store(received(1)).outcome is StoreOutcome.STORED
    assert dataset_of(*stored(archive)) == encoded(1)
    assert len(place.names()) == 2


def test_an_object_that_vanished_is_healed_when_it_is_sent_again(place, open_with):
    archive = open_with()
    archive.store(received(1))
    place.delete(KEY)
    assert not archive.files.exists(KEY)
    assert archive.store(received(1)).notes
    assert dataset_of(*stored(archive)) == encoded(1)


def test_a_deleted_study_leaves_no_object(place, open_with):
    archive = open_with()
    for number in range(5):
        archive.store(received(number))
    assert archive.delete(Level.STUDY, "1.2.3") == 5
    assert place.names() == []


def test_check_finds_what_is_missing_and_what_is_left_over(place, open_with):
    archive = open_with()
    archive.store(received(1))
    archive.store(received(2))
    with archive.files.path(KEY).open("rb") as file:
        content = file.read()
    place.delete(KEY)
    place.put("1.2.3/1.2.3.1/1.2.3.1.7.dcm", b"no DICOM object")
    found = {finding.path: finding.problem for finding in check(archive)}
    assert found == {
        KEY: Difference.MISSING,
        "1.2.3/1.2.3.1/1.2.3.1.7.dcm": Difference.LEFT_OVER,
    }
    repaired = list(check(archive, repair=True))
    assert all(finding.repaired for finding in repaired)
    assert list(check(archive)) == []
    place.put(KEY, content)  # as a crash between the put and the commit leaves it
    assert [str(each) for each in check(archive, repair=True)] == [
        f"left over: {KEY}: indexed again"
    ]
    assert len(stored(archive)) == 2


def test_check_finds_an_object_that_changed(place, open_with):
    archive = open_with()
    archive.store(received(1))
    with archive.files.path(KEY).open("rb") as file:
        content = bytearray(file.read())
    content[-1] ^= 1
    place.delete(KEY)
    place.put(KEY, bytes(content))
    assert [finding.problem for finding in check(archive)] == [Difference.WRONG_DIGEST]


@pytest.mark.parametrize("place", ["shared folder", "bucket"], indirect=True)
def test_nodes_that_share_their_objects_keep_out_of_each_other_s_way(
    place, open_with, postgresql_url
):
    here = open_with("a", index_url=postgresql_url)
    on_its_way = spooled(here, 1)
    there = open_with("b", index_url=postgresql_url)
    assert here.incoming_dir != there.incoming_dir
    with ThreadPoolExecutor(8) as senders:
        stores = [
            senders.submit(archive.store, received(number))
            for number in range(20)
            for archive in (here, there)
        ]
        outcomes = Counter(each.result().outcome for each in stores)
    assert outcomes == {StoreOutcome.STORED: 20, StoreOutcome.IDENTICAL: 20}
    assert here.store(on_its_way).outcome is StoreOutcome.IDENTICAL
    assert sorted(map(dataset_of, stored(here))) == sorted(map(encoded, range(20)))
    assert len(place.names()) == 20
    assert list(check(here)) == []
