"""The durability contract: a node is killed (SIGKILL) in mid-store, again and again.

After each start: every object that was acknowledged is found and comes back byte for byte; what
was not is either wholly there or not at all; no piece of it is left over.
"""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.support import pynetdicom_client
from tests.support.dcmtk import dataset_bytes
from tests.support.node_process import NodeProcess, run_lfscp
from tests.support.sample_objects import CT, made

ROUNDS = 6
SENDERS = 3
FILES = 12  # that each sender has for a round; the node dies before they are all stored
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "1.2.826.0.1.3680043.8.498.11"
# Bytes: in memory, in several PDUs, and (more than 4 MB) spooled to disk while they arrive.
SIZES, WEIGHTS = (512, 200_000, 5_000_000), (2, 2, 3)


class Sender:
    """A storescu that sends objects one after the other until the node is gone."""

    def __init__(self, dcmtk: Any, port: int, folder: Path, number: int) -> None:
        self._files = [
            made(
                folder,
                StudyInstanceUID=STUDY,
                SeriesInstanceUID=f"{STUDY}.{number}",
                PixelData=bytes(random.choices(SIZES, WEIGHTS)[0]),
            )
            for _ in range(FILES)
        ]
        self._process = subprocess.Popen(
            dcmtk.command("storescu", "-v", "-R", "127.0.0.1", port, *self._files),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def acknowledged(self) -> dict[str, Path]:
        """Once it has ended: the files that were answered with success, by UID."""
        output = self._process.communicate(timeout=60)[0].decode()
        count = output.count("Received Store Response (Success)")
        return {file.stem: file for file in self._files[:count]}


def objects_left(node: NodeProcess) -> set[str]:
    """The UIDs of all files in the tree of objects, whatever the index says."""
    return {path.stem for path in node.objects.glob("*/*/*")}


def pieces_left(node: NodeProcess) -> list[Path]:
    """What lies in the incoming folder."""
    return list((node.objects / ".incoming").iterdir())


@pytest.mark.timeout(240)
def test_what_was_acknowledged_survives_the_death_of_the_node(dcmtk: Any, tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "node")
    acknowledged: dict[str, Path] = {}
    unfinished = 0
    try:
        node.start()
        for number in range(ROUNDS):
            fresh = kill_in_mid_store(dcmtk, node, tmp_path / f"round{number}")
            assert fresh, "nothing was acknowledged: the round proves nothing"
            unfinished += len(pieces_left(node))
            acknowledged.update(fresh)
            node.start()
            assert pieces_left(node) == []
            visible = {
                each.SOPInstanceUID
                for series in range(SENDERS)
                for each in found(node, f"{STUDY}.{series}")
            }
            assert visible >= acknowledged.keys()
            assert visible == objects_left(node)
            assert_comes_back(node, fresh)
        assert unfinished, "no store was cut off: the kills prove nothing"
        assert_comes_back(node, acknowledged)
        assert node.stop() == 0
        assert node.complaints() == []
    finally:
        node.kill()
    result = run_lfscp("check", "--data-dir", node.data_dir)
    assert (result.returncode, result.stdout) == (0, "index and objects agree\n")


def kill_in_mid_store(dcmtk: Any, node: NodeProcess, folder: Path) -> dict[str, Path]:
    """Let several senders store, and kill the node meanwhile: what was acknowledged."""
    since = len(node.lines)
    senders = [Sender(dcmtk, node.port, folder, number) for number in range(SENDERS)]
    # A random moment of the stores, told by how many were done.
    node.wait_for("C-STORE", since=since, count=random.randint(1, FILES * SENDERS // 2))
    node.kill()
    return {uid: file for sender in senders for uid, file in sender.acknowledged().items()}


def found(node: NodeProcess, series: str) -> list[Any]:
    """The instances of a series that a query shows."""
    keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
    return pynetdicom_client.find(node.port, keys, "IMAGE")


def assert_comes_back(node: NodeProcess, files: dict[str, Path]) -> None:
    """C-GET gives these objects as they were sent."""
    for series, uids in by_series(files).items():
        keys = {
            "StudyInstanceUID": STUDY,
            "SeriesInstanceUID": series,
            "SOPInstanceUID": uids,
        }
        status, got = pynetdicom_client.get(node.port, keys, "IMAGE", [(CT, EXPLICIT)])
        assert status == 0x0000
        assert got.keys() == set(uids)
        for uid in uids:
            assert got[uid] == (EXPLICIT, dataset_bytes(files[uid])), uid


def by_series(files: dict[str, Path]) -> dict[str, list[str]]:
    """The UIDs of the files by the series that they belong to."""
    grouped: dict[str, list[str]] = {}
    for uid, file in files.items():
        series = str(dcmread(file, stop_before_pixels=True).SeriesInstanceUID)
        grouped.setdefault(series, []).append(uid)
    return grouped
