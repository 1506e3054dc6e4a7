"""Damage before the dataset: check, scrub, rebuild and a resend see it, and it is healed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.store_file import store_file
from lfscp.archive.upkeep.check import Difference, check, index_again
from lfscp.archive.upkeep.scrub import Scrub
from lfscp.dicom.part10.file_head import Expected, fault_of_head
from lfscp.dicom.part10.file_meta import part10_header
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded, received

FIRST = "1.2.3/1.2.3.1/1.2.3.1.1.dcm"
UID = "1.2.3.1.1"
HEAD = part10_header(CT_IMAGE, UID, EXPLICIT, "SENDER")
EXPECTED = Expected(CT_IMAGE, UID, EXPLICIT, len(HEAD))


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    with open_archive(tmp_path / "data") as opened:
        for number in (1, 2):
            opened.store(received(number))
        yield opened


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)
    return lambda head: head.replace(old, new, 1)


def at(position: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda head: head[:position] + new + head[position + len(new) :]


DAMAGES = {
    "preamble": (at(5, b"\1"), "the preamble is not the one that was written"),
    "prefix": (at(128, b"\0"), "the prefix DICM is missing"),
    "all": (at(0, b"\xff" * 200), "the prefix DICM is missing"),
    "meta length": (at(140, b"\0\0"), "lacks the transfer syntax"),
    "long meta length": (at(142, b"\1"), "longer than the file"),
    "transfer syntax": (
        replaced(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),
        f"the transfer syntax is 1.2.840.10008.1.2.2, the index says {EXPLICIT}",
    ),
    "SOP class": (
        replaced(CT_IMAGE.encode(), CT_IMAGE[:-1].encode() + b"4"),
        "the SOP Class UID is",
    ),
    "instance": (replaced(b"1.2.3.1.1\0", b"1.2.3.1.7\0"), "the SOP Instance UID is 1.2.3.1.7"),
    "VR": (at(160, b"\1\2"), ""),
    "VR of the group length": (at(136, b"UM"), "the group length is no number of 4 bytes"),
    "length of the group length": (at(138, b"\x84"), "the group length is no number of 4 bytes"),
    "group of an element": (at(144, b"\3"), "(0003,0001) is among the meta information"),
    "VR of the version": (at(148, b"NB"), "(0002,0001) has no VR"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named(damage: str) -> None:
    change, reason = DAMAGES[damage]
    assert fault_of_head(HEAD + encoded(1), EXPECTED) == ""
    fault = fault_of_head(change(HEAD) + encoded(1), EXPECTED)
    assert fault
    assert reason in fault


def damage_first(archive: Archive, damage: str) -> Path:
    path = Path(archive.files.path(FIRST))
    head = part10_header(CT_IMAGE, UID, EXPLICIT, "SENDER")
    assert path.read_bytes().startswith(head)
    path.write_bytes(DAMAGES[damage][0](head) + encoded(1))
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_check_finds_it_and_repair_lets_it_be_sent_again(archive: Archive, damage: str) -> None:
    damage_first(archive, damage)
    (finding,) = check(archive)
    assert (finding.problem, finding.path) == (Difference.WRONG_META, FIRST)
    assert DAMAGES[damage][1] in finding.detail
    assert [each.repaired for each in check(archive, repair=True)] == [True]
    assert (archive.data_dir / "quarantine" / FIRST).exists()
    assert archive.store(received(1)).outcome is StoreOutcome.STORED
    assert list(check(archive)) == []


def test_the_scrub_puts_it_aside(archive: Archive) -> None:
    damage_first(archive, "transfer syntax")
    assert Scrub(archive, 1000, threading.Event()).run()
    assert (archive.data_dir / "quarantine" / FIRST).exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_object_sent_again_heals_it(archive: Archive, damage: str) -> None:
    damage_first(archive, damage)
    assert archive.store(received(1)).outcome is StoreOutcome.REPLACED
    assert list(check(archive)) == []
    assert archive.store(received(1)).outcome is StoreOutcome.IDENTICAL


@pytest.mark.parametrize("damage", ["SOP class", "instance", "prefix"])
def test_what_is_indexed_again_must_say_what_it_is(archive: Archive, damage: str) -> None:
    damage_first(archive, damage)
    archive.index.forget(UID, FIRST)
    assert index_again(archive, FIRST).startswith("moved to ")
    assert (archive.data_dir / "quarantine" / FIRST).exists()


def test_a_file_that_came_with_a_preamble_keeps_it(archive: Archive) -> None:
    head = b"II*\0" + bytes(124) + part10_header(CT_IMAGE, "1.2.3.1.3", EXPLICIT)[128:]
    head = head.replace(b"2.25.2134", b"2.25.9999")  # another implementation's
    path = archive.incoming_dir / "upload"
    path.write_bytes(head + encoded(3))
    store_file(archive, path, is_ours=True, require_class=lambda _uid: None)
    assert Path(archive.files.path("1.2.3/1.2.3.1/1.2.3.1.3.dcm")).read_bytes()[:4] == b"II*\0"
    assert list(check(archive)) == []


@pytest.mark.parametrize(
    "change", [at(5, b"\1"), at(136, b"UM"), at(162, b"--")], ids=["preamble", "length", "VR"]
)
def test_a_file_whose_head_would_be_found_damaged_is_stored_with_a_right_one(
    archive: Archive, change: Callable[[bytes], bytes]
) -> None:
    path = archive.incoming_dir / "upload"
    path.write_bytes(change(part10_header(CT_IMAGE, "1.2.3.1.3", EXPLICIT)) + encoded(3))
    store_file(archive, path, is_ours=True, require_class=lambda _uid: None)
    assert list(check(archive)) == []
