"""What is verified before the node commits: instances in a folder and in a bucket, sound or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.bucket.s3_client import S3Options
from lfscp.archive.workflow.commitment.failure_reasons import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
)
from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.archive.workflow.commitment.verification import Damage, Verification, Verify
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import CT_IMAGE, received
from tests.support.s3_service import Relay, S3Service

COUNT = 4
NAMED = [Reference(CT_IMAGE, f"1.2.3.1.{number}") for number in range(1, COUNT + 1)]


@pytest.fixture
def archive(open_archive: Callable[..., Archive], tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path, durability="os") as opened:
        fill(opened)
        yield opened


def fill(archive: Archive, **values: bytes) -> None:
    for number in range(1, COUNT + 1):
        archive.store(received(number, **values))


def failures(
    archive: Archive, named: list[Reference] = NAMED, how: Verify = "digest"
) -> tuple[list[Failure], list[Damage]]:
    """What fails, and what was said of it."""
    said: list[Damage] = []
    found = Verification(archive, how, said.append, lambda: None).failures(named)
    return found, said


def file_of(archive: Archive, number: int) -> Path:
    return archive.files.root / f"1.2.3/1.2.3.1/1.2.3.1.{number}.dcm"


def test_sound_instances_do_not_fail(archive: Archive) -> None:
    assert failures(archive) == ([], [])


def test_more_than_are_looked_for_at_a_time(archive: Archive) -> None:
    missing = [Reference(CT_IMAGE, f"1.2.9.{number}") for number in range(1_200)]
    found, _ = failures(archive, [*missing[:700], *NAMED, *missing[700:]])
    assert found == [Failure(*each, NO_SUCH_INSTANCE) for each in missing]


def test_an_instance_named_with_two_classes_fails_as_the_wrong_one_alone(archive: Archive) -> None:
    wrong = Reference("1.2.840.10008.5.1.4.1.1.4", NAMED[0].sop_instance_uid)
    found, _ = failures(archive, [wrong, *NAMED])
    assert found == [Failure(*wrong, CLASS_INSTANCE_CONFLICT)]


def test_an_object_of_many_reads_is_compared_to_its_last_byte(archive: Archive) -> None:
    pixels = os.urandom(1_000_001)
    archive.store(received(9, pixels=pixels + b"\0"))
    named = [Reference(CT_IMAGE, "1.2.3.1.9")]
    assert failures(archive, named) == ([], [])
    file = file_of(archive, 9)
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    found, said = failures(archive, named)
    assert found == [Failure(*named[0], PROCESSING_FAILURE)]
    assert said == [Damage("1.2.3.1.9", "its digest is another")]
    assert failures(archive, named, "size") == ([], [])


def test_a_file_that_cannot_be_read_fails(archive: Archive) -> None:
    file_of(archive, 1).unlink()
    file_of(archive, 1).mkdir()
    found, said = failures(archive)
    assert found == [Failure(*NAMED[0], PROCESSING_FAILURE)]
    assert said[0].sop_instance_uid == "1.2.3.1.1"


def test_an_object_that_is_deleted_meanwhile_is_missing(archive: Archive) -> None:
    looks = iter(range(1_000))

    def delete_at_second_look() -> None:
        if next(looks) == 1:
            archive.delete(Level.SERIES, "1.2.3.1")

    verification = Verification(archive, "digest", print, delete_at_second_look)
    assert verification.failures(NAMED[:1]) == [Failure(*NAMED[0], NO_SUCH_INSTANCE)]


def test_objects_stored_without_digests_are_looked_at_by_their_size(
    open_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    with open_archive(tmp_path, durability="os", digest=None) as archive:
        fill(archive)
        assert failures(archive) == ([], [])
        file_of(archive, 2).write_bytes(file_of(archive, 2).read_bytes() + b"\0\0")
        assert failures(archive)[0] == [Failure(*NAMED[1], PROCESSING_FAILURE)]


@pytest.mark.usefixtures("s3_credentials")
def test_objects_in_a_bucket_are_read_there(s3_service: S3Service, tmp_path: Path) -> None:
    bucket = s3_service.new_bucket()
    options = S3Options(f"s3://{bucket}", s3_service.url, allow_http=True)
    with Archive.open(tmp_path, bucket=options) as archive:
        fill(archive)
        assert failures(archive) == ([], [])
        s3_service.delete(bucket, "1.2.3/1.2.3.1/1.2.3.1.2.dcm")
        found, said = failures(archive)  # though there is a copy in the cache
        assert found == [Failure(*NAMED[1], PROCESSING_FAILURE)]
        assert said == [Damage("1.2.3.1.2", "the file is missing")]


@pytest.mark.usefixtures("s3_credentials")
def test_a_bucket_that_refuses_has_lost_nothing(s3_service: S3Service, tmp_path: Path) -> None:
    with Relay(s3_service) as relay:
        options = S3Options(f"s3://{s3_service.new_bucket()}", relay.url, allow_http=True)
        with Archive.open(tmp_path, bucket=options) as archive:
            fill(archive)
            relay.fail(403, "AccessDenied")
            with pytest.raises(ArchiveError, match="cannot verify the objects"):
                failures(archive)
            relay.heal()
            assert failures(archive) == ([], [])
