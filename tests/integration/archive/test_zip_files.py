"""ZIPs: each file once, and nothing that a ZIP says of itself can hurt."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from lfscp.archive import zip_files
from lfscp.archive.archive import Archive
from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.zip_files import entries, is_zip
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded

OBJECT = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT) + encoded(1)


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    with open_archive(tmp_path / "data") as opened:
        yield opened


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def found(file: Path, archive: Archive, max_bytes: int = 0) -> dict[str, bytes | str]:
    """Content or problem by name."""
    return {
        entry.name: entry.path.read_bytes() if entry.path else entry.problem.reason  # type: ignore[union-attr]
        for entry in entries(file, archive, max_bytes)
    }


def nothing_left(archive: Archive) -> bool:
    return list(archive.incoming_dir.iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_files_come_one_by_one(archive: Archive, tmp_path: Path, method: int) -> None:
    file = zipped(tmp_path / "zip", {"a/IM1": OBJECT, "a/": b"", "b": OBJECT[128:]}, method)
    assert is_zip(file.read_bytes()[:4])
    with zipfile.ZipFile(file, "a") as made:
        made.comment = b"a comment"
    for entry in entries(file, archive):
        assert entry.path is not None
        assert list(archive.incoming_dir.iterdir()) == [entry.path]
    assert found(file, archive) == {"a/IM1": OBJECT, "b": OBJECT[128:]}
    assert nothing_left(archive)


def test_a_dicom_file_may_begin_as_a_zip_does() -> None:
    assert not is_zip(b"PK\x03\x04" + OBJECT[4:])


def test_names_are_words_and_lead_nowhere(archive: Archive, tmp_path: Path) -> None:
    file = zipped(tmp_path / "zip", {"../../etc/passwd": OBJECT, "/x\x1b[31m": OBJECT})
    assert found(file, archive) == {"../../etc/passwd": OBJECT, "/x\ufffd[31m": OBJECT}
    assert nothing_left(archive)


def test_what_is_no_dicom_is_not_unpacked(archive: Archive, tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner", {"a": OBJECT}).read_bytes()
    files = {"notes": b"no", "empty": b"", "zeros": bytes(50_000_000), "inner.zip": inner}
    assert found(zipped(tmp_path / "zip", files), archive) == {
        "notes": "no DICOM file",
        "empty": "no DICOM file",
        "zeros": "no DICOM file",
        "inner.zip": "a ZIP in a ZIP, which is not opened",
    }
    assert nothing_left(archive)


def test_what_is_encrypted_or_packed_otherwise_is_named(archive: Archive, tmp_path: Path) -> None:
    file = zipped(tmp_path / "zip", {"secret": OBJECT, "open": OBJECT})
    content = bytearray(file.read_bytes())
    content[6] |= 1  # the first entry's flags, here and in the list
    content[content.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(content)
    assert found(file, archive) == {"secret": "it is encrypted", "open": OBJECT}
    packed = zipped(tmp_path / "lzma", {"a": OBJECT}, zipfile.ZIP_LZMA)
    assert found(packed, archive) == {"a": "it is compressed in another way than by deflate"}


def test_an_entry_that_is_damaged_keeps_no_other_back(archive: Archive, tmp_path: Path) -> None:
    file = zipped(tmp_path / "zip", {"a": OBJECT, "b": OBJECT}, zipfile.ZIP_STORED)
    content = bytearray(file.read_bytes())
    content[content.index(OBJECT) + 200] ^= 1
    file.write_bytes(content)
    assert found(file, archive) == {"a": "it cannot be unpacked, the ZIP is damaged", "b": OBJECT}
    assert nothing_left(archive)


def test_a_file_larger_than_objects_may_be_is_refused(archive: Archive, tmp_path: Path) -> None:
    file = zipped(tmp_path / "zip", {"large": OBJECT + bytes(2_000_000), "b": OBJECT})
    assert found(file, archive, 1_000_000) == {
        "large": "it is larger than 1 MB (storage.max_object_mb)",
        "b": OBJECT,
    }


def test_a_bomb_is_refused_before_it_is_unpacked(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zipped(tmp_path / "zip", {"bomb": OBJECT + bytes(20_000_000)})
    monkeypatch.setattr(zip_files, "_SMALL_BYTES", 10_000_000)
    assert found(file, archive) == {"bomb": "it unpacks to more than 500 times its size"}


def test_what_does_not_fit_on_the_disk_is_not_begun(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zipped(tmp_path / "zip", {"a": OBJECT})

    def refuse(size: int) -> None:
        raise OutOfResourcesError("store the instance", f"{size} bytes do not fit")

    monkeypatch.setattr(archive.space, "require_for", refuse)
    assert found(file, archive) == {"a": f"{len(OBJECT)} bytes do not fit"}


def test_an_entry_that_lies_about_its_size_is_cut_and_refused(
    archive: Archive, tmp_path: Path
) -> None:
    file = zipped(tmp_path / "zip", {"a": OBJECT})
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<L", 300)
    file.write_bytes(content)
    assert found(file, archive) == {"a": "it cannot be unpacked, the ZIP is damaged"}


def test_entries_that_overlap_are_refused(archive: Archive, tmp_path: Path) -> None:
    """Many entries of the list may name the same packed bytes."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(OBJECT) + packer.flush()
    sizes = struct.pack("<LLL", zlib.crc32(OBJECT), len(packed), len(OBJECT))
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes
    body = local + struct.pack("<HH", 1, 0) + b"a" + packed
    listed = b""
    for number in range(100):
        name = b"%03d" % number
        listed += b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
        listed += struct.pack("<HHHHHLL", 3, 0, 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 100, 100, len(listed), len(body), 0)
    file = tmp_path / "zip"
    file.write_bytes(body + listed + end)
    with pytest.raises(DatasetError, match="overlap"):
        found(file, archive)


@pytest.mark.parametrize("place", [0x7FFFFFF0, 0xFFFFFFF0])
def test_an_entry_that_is_nowhere_keeps_no_other_back(
    archive: Archive, tmp_path: Path, place: int
) -> None:
    file = zipped(tmp_path / "zip", {"a": OBJECT, "b": OBJECT})
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02") + 42
    content[at : at + 4] = struct.pack("<L", place)
    file.write_bytes(content)
    assert found(file, archive) == {"a": "it cannot be unpacked, the ZIP is damaged", "b": OBJECT}


def test_a_list_of_entries_before_the_file_is_damage(archive: Archive, tmp_path: Path) -> None:
    file = zipped(tmp_path / "zip", {"a": OBJECT, "b": OBJECT})
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x05\x06") + 16
    content[at : at + 4] = struct.pack("<L", len(content))  # entries stand before the beginning
    file.write_bytes(content)
    damaged = "it cannot be unpacked, the ZIP is damaged"
    assert found(file, archive) == {"a": damaged, "b": damaged}


def test_a_list_of_entries_too_long_is_not_read(archive: Archive, tmp_path: Path) -> None:
    size = 20_000_000
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 65_535, 65_535, size, 0, 0)
    file = tmp_path / "zip"
    file.write_bytes(bytes(size) + end)
    tracemalloc.start()
    with pytest.raises(DatasetError, match="damaged, incomplete or too large"):
        found(file, archive)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("cut", [4, 30, 100, -1])
def test_a_zip_that_is_cut_is_refused(archive: Archive, tmp_path: Path, cut: int) -> None:
    file = zipped(tmp_path / "zip", {"a": OBJECT})
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DatasetError, match="the ZIP is damaged"):
        found(file, archive)


def test_an_empty_zip_is_said(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no file"):
        found(zipped(tmp_path / "zip", {}), archive)


def test_broken_bytes_never_raise_anything_else(archive: Archive, tmp_path: Path) -> None:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a", OBJECT)
        opened.writestr("b", OBJECT)
    whole = made.getvalue()
    file = tmp_path / "zip"
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 0xFF
        file.write_bytes(broken)
        with contextlib.suppress(DatasetError):
            found(file, archive)
    assert nothing_left(archive)
