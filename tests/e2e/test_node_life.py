"""A node's stop and its next start: what runs is finished or cut off, what is stored stays."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import pynetdicom_client
from tests.support.dcmtk import contents
from tests.support.dicom_peer import until
from tests.support.halting_proxy import HaltingProxy, halting_proxy
from tests.support.node_process import NodeProcess, StartNode
from tests.support.sample_objects import KINDS, made, sample

VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "1.2.826.0.1.3680043.8.498.12"
LARGE = bytes(6_000_000)  # spooled to disk while it arrives
SMALL = bytes(600_000)


@contextmanager
def store_in_progress(
    dcmtk: Any, node: NodeProcess, folder: Path, pixels: bytes = LARGE
) -> Iterator[tuple[HaltingProxy, subprocess.Popen[bytes], Path]]:
    """A storescu whose object has arrived in part: its connection, itself, and its file."""
    file = made(folder, PixelData=pixels)
    with halting_proxy(node.port, halt_after=300_000) as proxy:
        command = dcmtk.command("storescu", "-v", "-R", "127.0.0.1", proxy.port, file)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
            try:
                assert proxy.halted.wait(30)
                yield proxy, client, file
            finally:
                client.kill()
                client.communicate()


def assert_nothing_stored(node: NodeProcess) -> None:
    """Neither an object nor a piece of one is left."""
    assert [path for path in node.objects.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("pixels", [SMALL, LARGE], ids=["in memory", "spooled"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_in_progress_is_finished_before_the_node_stops(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, workers: int, number: int, pixels: bytes
) -> None:
    node = start_node(flags=["--workers", workers])
    with store_in_progress(dcmtk, node, tmp_path, pixels) as (proxy, client, file):
        node.signal(number)
        node.wait_for("stopping")
        proxy.go_on.set()
        output = client.communicate(timeout=30)[0].decode()
        assert client.returncode == 0, output
        assert "Received Store Response (Success)" in output
    assert node.wait() == 0
    assert node.events("stopped")
    assert not node.events("aborting associations")
    assert set(contents(node.objects)) == {file.stem}


def test_no_association_begins_while_the_node_stops(
    dcmtk: Any, node: NodeProcess, tmp_path: Path
) -> None:
    with store_in_progress(dcmtk, node, tmp_path) as (proxy, client, _):
        node.signal(signal.SIGTERM)
        node.wait_for("stopping")
        for _ in range(100):  # the listener closes a moment after the line
            if dcmtk.echo(node.port).code != 0:
                break
        assert "Connection refused" in dcmtk.echo(node.port).output
        proxy.go_on.set()
        client.communicate(timeout=30)
        assert client.returncode == 0
    assert node.wait() == 0


def test_an_idle_association_does_not_hold_up_the_stop(start_node: StartNode) -> None:
    node = start_node(configuration="server.drain_timeout_s = 600")
    with pynetdicom_client.association(node.port, [(VERIFICATION, EXPLICIT)]) as assoc:
        assert assoc.send_c_echo().Status == 0x0000
        assert node.stop() == 0
        assert node.events("association ended", reason="idle while the server was stopping")
        assert not node.events("aborting associations")


def test_a_connection_that_says_nothing_does_not_hold_up_the_stop(start_node: StartNode) -> None:
    node = start_node(configuration="server.drain_timeout_s = 600")
    with socket.create_connection(("127.0.0.1", node.port)):
        assert node.stop() == 0


def test_a_client_that_stands_still_is_cut_off_at_the_deadline(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(configuration="server.drain_timeout_s = 1.5")
    with store_in_progress(dcmtk, node, tmp_path):
        assert node.stop() == 0
    assert node.events("aborting associations", count=1)
    assert_nothing_stored(node)


def test_a_client_that_is_silent_in_mid_object_does_not_hold_up_the_stop(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(configuration="server.drain_timeout_s = 600")
    with store_in_progress(dcmtk, node, tmp_path):
        assert until(lambda: list(node.data_dir.rglob("*.part"))), "its beginning is on the disk"
        assert node.stop() == 0
    reason = "silent in mid-message while the server was stopping"
    assert node.events("association ended", reason=reason)
    assert not node.events("aborting associations")
    assert_nothing_stored(node)
    assert not list(node.data_dir.rglob("*.part"))


def test_a_client_that_takes_no_more_answers_is_cut_off_at_the_deadline(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    """The node is blocked in sending: the kernel's buffers are full of what nobody reads."""
    node = start_node(configuration="server.drain_timeout_s = 1.5")
    file = made(tmp_path, StudyInstanceUID=STUDY, PixelData=bytes(40_000_000))
    dcmtk.done(dcmtk.store(node.port, file))
    with halting_proxy(node.port, halt_answers_after=300_000) as proxy:
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}")
        command = dcmtk.command("getscu", "-S", "-od", tmp_path, *keys, "127.0.0.1", proxy.port)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as client:
            try:
                assert proxy.halted.wait(30)
                assert node.stop() == 0
            finally:
                client.kill()
    assert set(contents(node.objects)) == {file.stem}


def test_a_second_signal_ends_the_wait_at_once(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(configuration="server.drain_timeout_s = 600")
    with store_in_progress(dcmtk, node, tmp_path):
        node.signal(signal.SIGTERM)
        node.wait_for("stopping")
        node.signal(signal.SIGTERM)
        assert node.wait() == 0
    assert_nothing_stored(node)


def test_a_client_that_breaks_off_leaves_nothing(
    dcmtk: Any, node: NodeProcess, tmp_path: Path
) -> None:
    with store_in_progress(dcmtk, node, tmp_path) as (_, client, _):
        client.kill()
    node.wait_for("association ended")
    assert dcmtk.echo(node.port).code == 0
    assert_nothing_stored(node)


def test_everything_survives_a_restart(dcmtk: Any, node: NodeProcess, tmp_path: Path) -> None:
    for kind in KINDS:
        file = sample(kind.file, tmp_path / "sent", StudyInstanceUID=STUDY, PatientID="P1")
        dcmtk.done(dcmtk.store(node.port, file, propose=kind.propose, options=("-R",)))
    before = contents(node.objects)
    assert len(before) == len(KINDS)
    node.restart()
    keys = {"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": "", "PatientID": ""}
    (found,) = dcmtk.find(node.port, "STUDY", keys)
    assert found.NumberOfStudyRelatedInstances == len(KINDS)
    assert found.PatientID == "P1"
    result = dcmtk.get(node.port, "STUDY", {"StudyInstanceUID": STUDY}, tmp_path / "got")
    assert result.status == 0x0000, result.output[-2000:]
    assert set(contents(tmp_path / "got")) == set(before)
    file = made(tmp_path, StudyInstanceUID=STUDY)
    dcmtk.done(dcmtk.store(node.port, file))
    assert contents(node.objects).keys() == {*before, file.stem}
    assert {uid: contents(node.objects)[uid] for uid in before} == before


def test_objects_may_lie_in_a_folder_of_their_own(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "else where"
    url = f"file://{tmp_path}/else%20where"
    node = start_node(configuration=f'objects.url = "{url}"')
    file = made(tmp_path, StudyInstanceUID=STUDY)
    dcmtk.done(dcmtk.store(node.port, file))
    node.restart()
    assert set(contents(elsewhere)) == {file.stem}
    (found,) = dcmtk.find(node.port, "STUDY", {"StudyInstanceUID": STUDY})
    assert found.StudyInstanceUID == STUDY


def test_several_clients_store_at_the_same_time(
    dcmtk: Any, node: NodeProcess, tmp_path: Path
) -> None:
    """The first objects of one study come over several associations at once."""
    groups = [
        [made(tmp_path / str(each), StudyInstanceUID=STUDY) for _ in range(10)] for each in range(6)
    ]
    senders = [
        subprocess.Popen(dcmtk.command("storescu", "-R", "127.0.0.1", node.port, *files))
        for files in groups
    ]
    assert [sender.wait(60) for sender in senders] == [0] * len(groups)
    keys = {"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": ""}
    (found,) = dcmtk.find(node.port, "STUDY", keys)
    assert found.NumberOfStudyRelatedInstances == 60
