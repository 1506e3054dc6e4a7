"""Objects that `lfscp get` saves are on disk before the peer is told so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lfscp.archive.store.received_objects import Received
from lfscp.cli.peers.saved_objects import SavedObjects
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.services import status

INSTANCE = "1.2.3.4"
DATASET = b"\x10\x00\x10\x00\x02\x00\x00\x00A "
SYNTAX = "1.2.840.10008.1.2"


def received(spooled: Path | None) -> Received:
    """An object in memory, or one that was written to a file as it came."""
    header = part10_header("1.2", INSTANCE, SYNTAX)
    if spooled is not None:
        spooled.write_bytes(header + DATASET)
    return Received(
        sop_class_uid="1.2",
        sop_instance_uid=INSTANCE,
        transfer_syntax_uid=SYNTAX,
        calling_ae_title="PEER",
        dataset=None if spooled else memoryview(DATASET),
        spooled_path=str(spooled) if spooled else None,
        dataset_offset=len(header) if spooled else 0,
    )


@pytest.mark.parametrize("is_spooled", [False, True])
def test_file_and_folder_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_spooled: bool
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", watched)
    saved = SavedObjects(tmp_path)
    assert saved.save(received(tmp_path / "spooled" if is_spooled else None)) == status.SUCCESS
    file = tmp_path / f"{INSTANCE}.dcm"
    assert file.read_bytes().endswith(DATASET)
    assert (saved.count, saved.bytes) == (1, len(DATASET))
    assert synced == [file.stat().st_ino, tmp_path.stat().st_ino]


def test_a_disk_that_fails_is_told_to_the_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    answer = SavedObjects(tmp_path).save(received(None))
    assert not isinstance(answer, int)
    assert answer.Status == status.OUT_OF_RESOURCES
    assert list(tmp_path.iterdir()) == []
    assert "Input/output error" in capsys.readouterr().err
