"""Files given to the archive in any form: stored under the dataset's UIDs, as right files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.errors import ArchiveError, ClassNotStoredError, OutOfResourcesError
from lfscp.archive.store.received_objects import mapped, read_file_header
from lfscp.archive.store_file import StoredObject, store_file
from lfscp.archive.upkeep.check import check
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header, read_part10
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded

UID = "1.2.3.1.1"
HEAD = part10_header(CT_IMAGE, UID, EXPLICIT, "SENDER")
UID_ELEMENT = b"\x02\x00\x10\x00\x14\0\0\0" + EXPLICIT.encode() + b"\0"
IMPLICIT_META = HEAD[:132] + b"\x02\0\0\0\x04\0\0\0\x1c\0\0\0" + UID_ELEMENT
PRIVATE_META = struct.pack("<HH2sHL", 2, 0x0102, b"OB", 0, 70_000) + bytes(70_000)
LARGE_META = HEAD[:140] + struct.pack("<L", len(HEAD) - 144 + len(PRIVATE_META)) + HEAD[144:]
LARGE_META += PRIVATE_META
LONG_TITLE = part10_header(CT_IMAGE, UID, EXPLICIT, "\x1b[31m" * 5_000)
OTHER_UIDS = part10_header("1.2.840.10008.5.1.4.1.1.7", "1.9.9", EXPLICIT)
NO_UIDS = HEAD[:132] + HEAD[HEAD.index(b"\x02\x00\x10\x00UI") :]


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    with open_archive(tmp_path / "data") as opened:
        yield opened


def stored(archive: Archive, content: bytes, *, is_ours: bool = True) -> StoredObject:
    path = archive.incoming_dir / "upload"
    path.write_bytes(content)
    return store_file(archive, path, is_ours=is_ours, require_class=lambda _uid: None)


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        OTHER_UIDS,
        NO_UIDS,
        HEAD[132:],
        HEAD[:132],
        b"",
        HEAD[:140] + b"\7\0\0\0" + HEAD[144:],
        IMPLICIT_META,
        LARGE_META,
        LONG_TITLE,
    ],
    ids=[
        *("right", "other", "none", "no preamble", "no meta", "bare", "wrong length"),
        *("implicit meta", "large meta", "long title"),
    ],
)
def test_the_dataset_is_stored_as_a_right_file(
    archive: Archive, head: bytes, is_ours: bool
) -> None:
    found = stored(archive, head + encoded(1), is_ours=is_ours)
    assert found.stored.outcome is StoreOutcome.STORED
    assert (found.sop_class_uid, found.sop_instance_uid) == (CT_IMAGE, UID)
    assert bool(found.notes) == (head not in (HEAD, LARGE_META, LONG_TITLE))
    (instance,) = archive.select(Level.IMAGE, {Level.IMAGE: [UID]})
    content = Path(instance.path).read_bytes()
    meta = read_part10(content)
    assert (meta.sop_class_uid, meta.sop_instance_uid) == (CT_IMAGE, UID)
    assert content[meta.dataset_offset :] == encoded(1)
    assert dcmread(instance.path).PatientName == "Doe^Jane"
    assert list(check(archive)) == []


def test_the_same_dataset_in_another_form_is_the_same_object(archive: Archive) -> None:
    stored(archive, HEAD + encoded(1))
    assert stored(archive, encoded(1)).stored.outcome is StoreOutcome.IDENTICAL


def test_a_sop_class_that_is_not_wanted_is_refused(archive: Archive, tmp_path: Path) -> None:
    def refuse(uid: str) -> None:
        raise ClassNotStoredError(f"no {uid}")

    path = tmp_path / "file"
    path.write_bytes(OTHER_UIDS + encoded(1))
    with pytest.raises(ClassNotStoredError, match=f"no {CT_IMAGE}"):
        store_file(archive, path, require_class=refuse)


# A refusal behind a long value: views of the mapped file live on in the traceback.


def without_study(length: int) -> bytes:
    """A dataset without Study Instance UID, with a private value of some length behind the rest."""
    whole = encoded(1)
    at = whole.index(b"\x20\x00\x0d\x00")
    until = whole.index(b"\x20\x00\x0e\x00")
    pixels = whole.index(b"\xe0\x7f\x10\x00")
    private = struct.pack("<HH2sHL", 0x0029, 0x1020, b"OB", 0, length) + bytes(length)
    return whole[:at] + whole[until:pixels] + private + whole[pixels:]


@pytest.mark.parametrize("length", [10, 33_000, 200_000])
def test_a_refusal_behind_a_long_value_is_that_refusal(archive: Archive, length: int) -> None:
    content = HEAD + without_study(length)
    for is_ours in (True, False):
        with pytest.raises(DatasetError) as caught:
            stored(archive, content, is_ours=is_ours)
        assert caught.value.reason == "(0020,000D) is missing"
        assert caught.value.tag == 0x0020000D
    path = archive.incoming_dir / "upload"
    with pytest.raises(DatasetError, match=r"\(0020,000D\) is missing"):
        read_file_header(path)


def test_a_full_disk_is_said_as_such_while_a_file_is_mapped(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error's traceback holds pieces of the mapped bytes as well."""

    def write(_descriptor: int, parts: tuple[bytes, memoryview]) -> int:
        held = memoryview(parts[1])[10:]
        raise OSError(28, f"No space left on device after {len(held)}")

    monkeypatch.setattr("os.writev", write)
    with pytest.raises(OutOfResourcesError, match="No space left"):
        stored(archive, OTHER_UIDS + encoded(1))


def test_mapped_bytes_may_be_kept_by_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))
    kept: list[memoryview] = []

    def fail() -> None:
        with path.open("rb") as file, mapped(file.fileno(), 5) as content:
            kept.append(content[7:])
            raise ArchiveError("try", "a reason")

    with pytest.raises(ArchiveError, match="a reason"):
        fail()
    assert len(kept[0]) == 9_988
