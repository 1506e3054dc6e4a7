"""Objects in a bucket: what happens when the store fails, and what readers get meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from lfscp.archive.archive import Archive, Received, StoreOutcome
from lfscp.archive.errors import ArchiveError, OutOfResourcesError
from lfscp.archive.index.tables.maintenance_tables import removal
from lfscp.archive.query.find import Incomplete
from lfscp.archive.query.query import Model, parse_query
from lfscp.archive.store.bucket.remote_object import RemoteObject
from lfscp.archive.store.bucket.s3 import PUT_IN_PARTS_ABOVE
from lfscp.archive.store.bucket.s3_client import PART_BYTES
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.values.attributes import Level
from lfscp.observe import metrics
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.bucket_requests import forget_copies, gets

STUDY = {Level.STUDY: ["1.2.3"]}


def received(number: int, **values: object) -> Received:
    return Received(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT, dataset=encoded(number, **values))


def stored(archive: Archive) -> list[StoredInstance]:
    return archive.select(Level.STUDY, STUDY)


def dataset_of(instance: StoredInstance) -> bytes:
    with instance.path.open("rb") as file:
        file.seek(instance.dataset_offset)
        return file.read(instance.size)


# Failures


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (503, "SlowDown", "503 Service Unavailable (SlowDown)"),
        (500, "InternalError", "500 Internal Server Error (InternalError)"),
        (403, "AccessDenied", "403 Forbidden (AccessDenied)"),
        (404, "NoSuchBucket", "404 Not Found (NoSuchBucket)"),
        (507, "InsufficientStorage", "507 Insufficient Storage (InsufficientStorage)"),
    ],
)
def test_a_store_that_refuses_keeps_nothing_and_recovers_by_itself(
    archive, relay, s3_service, bucket, status, code, reason
):
    relay.fail(status, code)
    with pytest.raises(OutOfResourcesError) as refused:
        archive.store(received(1))
    assert refused.value.reason == f"the object store answers {reason}"
    assert stored(archive) == []
    relay.heal()
    assert s3_service.keys(bucket) == []
    assert archive.store(received(1)).outcome is StoreOutcome.STORED
    assert list(archive.incoming_dir.iterdir()) == []


def test_a_store_that_does_not_answer_is_given_up_in_time(archive, relay):
    relay.holds = True
    with pytest.raises(OutOfResourcesError, match="does not answer in time"):
        archive.store(received(1))
    relay.heal()
    assert archive.store(received(1)).outcome is StoreOutcome.STORED


def test_a_store_that_is_down_is_said_in_one_line(archive, relay):
    port = relay.url.rpartition(":")[2]
    relay.__exit__()
    with pytest.raises(OutOfResourcesError) as refused:
        archive.store(received(1))
    assert str(refused.value).startswith(
        "cannot store the instance: the object store cannot be reached; "
    )
    assert port not in str(refused.value)


def test_requests_are_counted_and_those_that_failed(archive, relay):
    def counts() -> tuple[float, float]:
        sums = metrics.BOARD.sums()
        puts = {each[0]: each[1][-1] for each in metrics.OBJECT_STORE_SECONDS.samples(sums)}
        failures = dict(metrics.OBJECT_STORE_FAILURES.samples(sums))
        return puts["put",], failures["put",]

    puts, failed = counts()
    archive.store(received(1))
    relay.fail(403, "AccessDenied")
    with pytest.raises(OutOfResourcesError):
        archive.store(received(2))
    assert counts() == (puts + 2, failed + 1)


def test_an_index_that_fails_takes_the_object_back(archive, s3_service, bucket, monkeypatch):
    def fail(*_: object) -> None:
        raise OutOfResourcesError("index the instance", "disk full")

    monkeypatch.setattr(archive.index, "add", fail)
    with pytest.raises(OutOfResourcesError, match="disk full"):
        archive.store(received(1))
    assert s3_service.keys(bucket) == []


def test_an_upload_in_parts_that_breaks_leaves_no_object(archive, relay, s3_service, bucket):
    relay.fail(503, "SlowDown", "POST")  # with which a multi-part upload begins
    large = received(1, pixels=bytes(PUT_IN_PARTS_ABOVE + 2))
    with pytest.raises(OutOfResourcesError, match="SlowDown"):
        archive.store(large)
    relay.heal()
    assert stored(archive) == []
    assert archive.store(large).outcome is StoreOutcome.STORED
    assert len(dataset_of(*stored(archive))) > PUT_IN_PARTS_ABOVE


def test_what_a_deletion_could_not_remove_is_removed_later(
    archive, relay, s3_service, bucket, monkeypatch
):
    monkeypatch.setattr("lfscp.archive.archive._REMOVED_BY_OTHERS_MS", -60_000)
    archive.store(received(1))
    relay.fail(503, "SlowDown")
    archive.delete(Level.STUDY, "1.2.3")
    relay.heal()
    assert len(s3_service.keys(bucket)) == 1
    archive.finish_removals()
    assert s3_service.keys(bucket) == []


def test_what_may_just_be_stored_under_a_removed_name_is_left(
    archive, relay, s3_service, bucket, monkeypatch
):
    archive.store(received(1))
    relay.fail(503, "SlowDown")
    archive.delete(Level.STUDY, "1.2.3")
    relay.heal()
    with archive.index.writing() as connection:  # long ago
        connection.execute(removal.update().values(removed_at=0))
    archive.finish_removals()
    assert len(s3_service.keys(bucket)) == 1


# Reading


def test_what_was_just_stored_is_read_without_asking_the_store(archive, relay):
    archive.store(received(1))
    relay.requests.clear()
    assert dataset_of(*stored(archive)) == encoded(1)
    assert relay.requests == []


def test_what_no_copy_is_left_of_is_fetched_once(archive, relay):
    archive.store(received(1))
    forget_copies(archive)
    for _ in range(3):
        assert dataset_of(*stored(archive)) == encoded(1)
    assert len(gets(relay)) == 1


def test_a_large_object_is_fetched_in_parts_as_far_as_it_is_needed(open_archive, relay):
    archive = open_archive(timeout_s=60.0)  # a busy machine takes long over so many bytes
    pixels = os.urandom(3 * PART_BYTES)
    archive.store(received(1, pixels=pixels))
    forget_copies(archive)
    (instance,) = stored(archive)
    assert isinstance(instance.path, RemoteObject)
    fetch = instance.path.begin()
    assert fetch is not None
    fetch.wait_for(100)
    assert len(gets(relay)) == 1
    fetch.wait_for(PART_BYTES + 1)
    assert len(gets(relay)) == 2
    fetch.wait_for(instance.dataset_offset + instance.size)
    whole = os.pread(fetch.fileno(), 1 << 30, instance.dataset_offset)
    assert whole == encoded(1, pixels=pixels)
    assert instance.path.begin() is None  # there is a copy now


def answers(archive: Archive) -> Iterator[bytes]:
    """Of a C-FIND for an attribute that the index lacks."""
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.ImageComments = "IMAGE", ""
    asked.StudyInstanceUID, asked.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    query = parse_query(asked, Model.STUDY_ROOT)
    return archive.find(query, transfer_syntax_uid=EXPLICIT, retrieve_ae_title="LFSCP")


def found(archive: Archive) -> list[tuple[str, bool]]:
    """Of each object that attribute, and whether it could be read."""
    return [
        (
            read_dataset(BytesIO(answer), False, True).ImageComments,
            not isinstance(answer, Incomplete),
        )
        for answer in answers(archive)
    ]


def test_of_a_large_object_that_is_asked_for_an_attribute_the_first_part_is_fetched(archive, relay):
    archive.store(received(1, pixels=bytes(3 * PART_BYTES), ImageComments="large"))
    archive.store(received(2, ImageComments="small"))
    assert found(archive) == [("large", True), ("small", True)]
    assert gets(relay) == []  # both were just stored
    forget_copies(archive)
    assert found(archive) == [("large", True), ("small", True)]
    assert len(gets(relay)) == 2
    assert found(archive)[1] == ("small", True)
    assert len(gets(relay)) == 3  # of the small one there is a copy


def test_the_next_objects_that_are_asked_are_fetched_ahead(archive, relay):
    for number in range(4):
        archive.store(received(number, ImageComments="here"))
    forget_copies(archive)
    assert next(answers(archive))
    archive.files._ahead.shutdown(wait=True)
    assert len(gets(relay)) == 4


def test_an_object_that_cannot_be_fetched_gives_no_attributes(archive, relay):
    archive.store(received(1, ImageComments="here"))
    forget_copies(archive)
    relay.fail(503, "SlowDown")
    assert found(archive) == [("", False)]
    relay.heal()
    assert found(archive) == [("here", True)]


def test_the_next_objects_of_a_retrieve_are_fetched_ahead(archive, relay):
    for number in range(4):
        archive.store(received(number))
    forget_copies(archive)
    first, *others = stored(archive)
    first.path.begin()  # type: ignore[attr-defined]
    archive.files._ahead.shutdown(wait=True)
    fetched = {path.rpartition("/")[2] for path, _ in gets(relay)}
    assert fetched == {f"{each.sop_instance_uid}.dcm" for each in others}


def test_a_node_never_shows_the_copy_of_what_another_has_replaced(open_archive):
    here, there = open_archive("here"), open_archive("there")
    here.store(received(1))
    there.delete(Level.STUDY, "1.2.3")
    there.store(received(1, PatientName="Roe"))
    assert dataset_of(*stored(here)) == encoded(1, PatientName="Roe")


def test_an_object_that_is_gone_or_cannot_be_read_is_an_ordinary_file_error(archive, relay):
    archive.store(received(1))
    forget_copies(archive)
    relay.fail(403, "AccessDenied")
    (instance,) = stored(archive)
    with pytest.raises(OSError, match="403 Forbidden"):
        dataset_of(instance)
    relay.fail(404, "NoSuchKey")
    assert not instance.path.exists()
    with pytest.raises(FileNotFoundError):
        dataset_of(instance)
    relay.heal()
    assert dataset_of(instance) == encoded(1)


def test_an_object_shorter_than_its_row_says_is_not_served(archive, s3_service, bucket):
    archive.store(received(1))
    forget_copies(archive)
    s3_service.put(bucket, "1.2.3/1.2.3.1/1.2.3.1.1.dcm", b"cut off")
    with pytest.raises(OSError, match="7 bytes instead of"):
        dataset_of(*stored(archive))


# Starting


@pytest.mark.parametrize(
    ("status", "code", "methods", "reason"),
    [
        (404, "NoSuchBucket", (), "make the bucket"),
        (403, "InvalidAccessKeyId", (), "correct AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", (), "correct AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", ("PUT",), "cannot be written"),
        (403, "AccessDenied", ("GET",), "cannot be read"),
        (403, "AccessDenied", ("DELETE", "POST"), "cannot be deleted"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_refused_at_start(
    open_archive, relay, status, code, methods, reason
):
    relay.fail(status, code, *methods)
    with pytest.raises(ArchiveError) as refused:
        open_archive()
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "test-secret" not in str(refused.value)


def test_a_store_without_conditional_writes_is_refused_at_start(open_archive, relay):
    relay.forgets = ("if-none-match",)
    with pytest.raises(ArchiveError, match="ignores If-None-Match"):
        open_archive()


def test_the_check_at_start_leaves_nothing(archive, s3_service, bucket):
    assert s3_service.keys(bucket) == []
