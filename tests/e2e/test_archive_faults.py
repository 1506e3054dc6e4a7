"""What can happen to an archive under a running node: it says so, loses nothing, and comes back."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support import pynetdicom_client
from tests.support.dcmtk import dataset_bytes, free_port
from tests.support.node_process import LFSCP, NodeProcess, StartNode, environment, run_lfscp
from tests.support.sample_objects import CT, made
from tests.support.small_disk import fill, set_writable, small_disk

EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "1.2.826.0.1.3680043.8.498.15"
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
SOME_FAILED, ALL_FAILED = 0xB000, 0xA702


def objects(folder: Path, count: int) -> list[Path]:
    """Files of one study."""
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}
    return [made(folder, SOPInstanceUID=f"{STUDY}.1.{n}", **uids) for n in range(1, count + 1)]


def retrieved(node: NodeProcess) -> tuple[int, dict[str, bytes]]:
    """The status of a C-GET of the study, and its datasets by UID."""
    keys = {"StudyInstanceUID": STUDY}
    status, got = pynetdicom_client.get(node.port, keys, "STUDY", [(CT, EXPLICIT)])
    return status, {uid: data for uid, (_, data) in got.items()}


def sent(*files: Path) -> dict[str, bytes]:
    return {file.stem: dataset_bytes(file) for file in files}


def until(done: Callable[[], bool]) -> None:
    """Wait for the node to notice that a cause is gone."""
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def checked(node: NodeProcess) -> str:
    return run_lfscp("check", "--data-dir", node.data_dir).stdout


# Room


def test_below_the_reserve_stores_are_refused_and_all_else_goes_on(
    start_node: StartNode, tmp_path: Path
) -> None:
    first, second, third = objects(tmp_path, 3)
    with small_disk(tmp_path / "disk", "8m") as disk:
        configuration = f'objects.url = "file://{disk}/objects"\nstorage.reserve_mb = 3\n'
        node = start_node(configuration=configuration)
        assert pynetdicom_client.store(node.port, first) == [SUCCESS]
        (disk / "filler").write_bytes(bytes(6_000_000))
        # What was free a second ago may still be believed.
        until(lambda: pynetdicom_client.store(node.port, first) == [OUT_OF_RESOURCES])
        assert pynetdicom_client.store(node.port, second, third) == [OUT_OF_RESOURCES] * 2
        line = node.wait_for("C-STORE", status="0xA700")
        assert "below the reserve of 3 MB" in line["reason"]
        assert retrieved(node) == (SUCCESS, sent(first))
        (disk / "filler").unlink()
        until(lambda: pynetdicom_client.store(node.port, second) == [SUCCESS])
        assert retrieved(node) == (SUCCESS, sent(first, second))
        assert node.stop() == 0


def test_an_index_that_cannot_grow_is_recovered_from_without_a_restart(
    start_node: StartNode, tmp_path: Path
) -> None:
    """The disk fills while the write-ahead log grows, store after store."""
    files = objects(tmp_path, 40)
    with small_disk(tmp_path / "disk", "2m") as disk:
        configuration = f'objects.url = "file://{tmp_path}/objects"\nstorage.reserve_mb = 0\n'
        node = start_node(  # the audit trail is on that disk, too
            flags=["--data-dir", disk / "data"], configuration=configuration, errors_expected=True
        )
        assert pynetdicom_client.store(node.port, *files[:2]) == [SUCCESS] * 2
        fill(disk / "filler")
        os.truncate(disk / "filler", (disk / "filler").stat().st_size - 100_000)
        statuses = pynetdicom_client.store(node.port, *files[2:])
        assert set(statuses) == {SUCCESS, OUT_OF_RESOURCES}
        taken = [file for file, status in zip(files[2:], statuses, strict=True) if status == 0]
        assert retrieved(node) == (SUCCESS, sent(*files[:2], *taken))
        (disk / "filler").unlink()
        assert pynetdicom_client.store(node.port, *files) == [SUCCESS] * 40
        assert retrieved(node) == (SUCCESS, sent(*files))
        assert node.stop() == 0


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    port = free_port()
    command = [
        *(LFSCP, "serve", "--no-http", "--host", "127.0.0.1", "--port", str(port)),
        *("--data-dir", str(tmp_path / "data")),
    ]
    (file,) = objects(tmp_path, 1)
    with (
        small_disk(tmp_path / "disk", "64k") as disk,
        (disk / "log").open("wb") as log,
        subprocess.Popen(command, stderr=log, env=environment()) as process,
    ):
        try:
            fill(disk / "filler")

            def listens() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            until(listens)
            assert pynetdicom_client.store(port, file) == [SUCCESS]
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert len(list((tmp_path / "data/objects").rglob("*.dcm"))) == 1


# The index


def test_an_index_that_another_program_has_locked(start_node: StartNode, tmp_path: Path) -> None:
    (file,) = objects(tmp_path, 1)
    node = start_node(configuration="index.timeout_s = 0.3")
    with closing(sqlite3.connect(node.data_dir / "index.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert pynetdicom_client.store(node.port, file) == [OUT_OF_RESOURCES]
        line = node.wait_for("C-STORE", status="0xA700")
        assert "locked" in line["reason"]
        assert retrieved(node) == (SUCCESS, {})  # who only reads need not wait
        assert list((node.data_dir / "objects").rglob("*.dcm")) == []
        other.execute("ROLLBACK")
    assert pynetdicom_client.store(node.port, file) == [SUCCESS]
    assert retrieved(node) == (SUCCESS, sent(file))


def garble(index: Path, first_page: int) -> None:
    """Overwrite an index from a page on, and the log that could mend it."""
    with closing(sqlite3.connect(index)) as other, suppress(sqlite3.DatabaseError):
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with index.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(first_page * 4096)
        file.write(b"\xa5" * (size - file.tell()))


def test_an_index_that_is_damaged_while_the_node_runs(
    start_node: StartNode, tmp_path: Path
) -> None:
    files = objects(tmp_path, 3)
    node = start_node(errors_expected=True)
    assert pynetdicom_client.store(node.port, *files[:2]) == [SUCCESS] * 2
    run_lfscp("protect", STUDY, "--data-dir", node.data_dir)
    garble(node.data_dir / "index.sqlite", 1)
    assert pynetdicom_client.store(node.port, files[2]) == [OUT_OF_RESOURCES]
    assert retrieved(node)[0] & 0xF000 in (0xA000, 0xC000)
    assert pynetdicom_client.store(node.port, files[2]) == [OUT_OF_RESOURCES]
    assert node.is_running
    node.kill()
    garble(node.data_dir / "index.sqlite", 0)
    refused = run_lfscp("serve", "--no-http", "--port", "0", "--data-dir", node.data_dir)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "lfscp check --rebuild" in line
    assert "lfscp restore" in line
    rebuilt = run_lfscp("check", "--rebuild", "--data-dir", node.data_dir)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "2 instances indexed" in rebuilt.stdout
    assert len(list(node.data_dir.glob("index.sqlite.damaged-*"))) >= 1
    node.start()
    assert retrieved(node) == (SUCCESS, sent(*files[:2]))
    assert pynetdicom_client.store(node.port, *files) == [SUCCESS] * 3
    assert node.stop() == 0
    assert checked(node) == "index and objects agree\n"


# The objects


def test_objects_on_a_disk_that_became_read_only(start_node: StartNode, tmp_path: Path) -> None:
    first, second = objects(tmp_path, 2)
    with small_disk(tmp_path / "disk", "8m") as disk:
        node = start_node(configuration=f'objects.url = "file://{disk}/objects"')
        assert pynetdicom_client.store(node.port, first) == [SUCCESS]
        set_writable(disk, False)
        assert pynetdicom_client.store(node.port, second) == [OUT_OF_RESOURCES]
        line = node.wait_for("C-STORE", status="0xA700")
        assert "EROFS" in line["reason"]
        assert retrieved(node) == (SUCCESS, sent(first))
        set_writable(disk, True)
        assert pynetdicom_client.store(node.port, second) == [SUCCESS]
        assert node.stop() == 0


def test_a_data_folder_on_a_read_only_disk_is_refused_at_the_start(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        set_writable(disk, False)
        refused = run_lfscp("serve", "--no-http", "--port", "0", "--data-dir", disk / "data")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "Read-only file system" in line


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_an_object_that_is_gone_fails_alone(
    start_node: StartNode, tmp_path: Path, damage: str
) -> None:
    files = objects(tmp_path, 3)
    node = start_node()
    assert pynetdicom_client.store(node.port, *files) == [SUCCESS] * 3
    stored = node.objects / STUDY / f"{STUDY}.1" / files[1].name
    if damage == "missing":
        stored.unlink()
    else:
        os.truncate(stored, stored.stat().st_size - 10)
    assert retrieved(node) == (SOME_FAILED, sent(files[0], files[2]))
    line = node.wait_for("sub-operation failed")
    assert line["sop_instance_uid"] == files[1].stem
    assert line["level"] == "warning"
    (finding, _) = checked_stopped(node)
    assert finding.startswith("missing" if damage == "missing" else "wrong size")


def checked_stopped(node: NodeProcess) -> list[str]:
    assert node.stop() == 0
    return checked(node).splitlines()


def test_an_object_that_the_scrub_finds_damaged_is_not_served(
    start_node: StartNode, tmp_path: Path
) -> None:
    files = objects(tmp_path, 2)
    node = start_node(
        configuration="objects.scrub_mb_s = 1000", errors_expected=True, flags=["--workers", "2"]
    )
    assert pynetdicom_client.store(node.port, *files) == [SUCCESS] * 2
    assert node.stop() == 0
    stored = node.objects / STUDY / f"{STUDY}.1" / files[0].name
    stored.write_bytes(stored.read_bytes()[:-1] + b"\x00")
    node.start()
    line = node.wait_for("object damaged")
    assert (line["level"], line["sop_instance_uid"]) == ("error", files[0].stem)
    assert retrieved(node) == (SOME_FAILED, sent(files[1]))
    assert pynetdicom_client.store(node.port, files[0]) == [SUCCESS]  # and so it is healed
    assert retrieved(node) == (SUCCESS, sent(*files))
    assert len(node.events("object damaged")) == 1
    assert checked_stopped(node) == ["index and objects agree"]
