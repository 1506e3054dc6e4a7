"""`lfscp commit` as an administrator uses it: against a PACS of the tests, Orthanc, and a node."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import dcmtk as tools
from tests.support.ci import in_ci
from tests.support.committing_peer import CommittingPeer, committing_peer, report
from tests.support.node_process import LFSCP, NodeProcess, environment, run_lfscp
from tests.support.orthanc import AE_TITLE, PROGRAM, orthanc
from tests.support.sample_objects import sample

STUDY = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with three images of one study, and a text."""
    folder = tmp_path / "in"
    for number in range(3):
        sample("CT_small.dcm", folder / str(number), StudyInstanceUID=STUDY)
    (folder / "notes.txt").write_text("no DICOM")
    return folder


@pytest.fixture
def peer() -> Iterator[CommittingPeer]:
    """A PACS that reports on the association that it was asked on."""
    with committing_peer(reports_here=True) as made:
        yield made


def at(peer: CommittingPeer) -> str:
    return f"{peer.ae_title}@127.0.0.1:{peer.port}"


def uids(peer: CommittingPeer) -> list[str]:
    return [str(each.ReferencedSOPInstanceUID) for each in peer.asked[0].ReferencedSOPSequence]


def reporting(peer: CommittingPeer, port: int, called: str = "LFSCP") -> threading.Thread:
    """A thread that lets the peer report at a port, once it is asked."""

    def send() -> None:
        kind, information = report(peer.wait_until_asked(), peer.failing)
        peer.send_report(("127.0.0.1", port), information, kind, called=called)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_what_was_sent_is_committed_to(peer: CommittingPeer, files: Path) -> None:
    done = run_lfscp("commit", at(peer), files)
    assert (done.returncode, done.stdout) == (0, f"{at(peer)} commits to 3 of 3 objects\n")
    assert "notes.txt: not asked for, no DICOM file" in done.stderr
    assert len(uids(peer)) == 3


def test_what_is_not_committed_to_is_listed_with_its_reason(
    peer: CommittingPeer, files: Path
) -> None:
    assert run_lfscp("commit", at(peer), files).returncode == 0
    bad = uids(peer)[:2]
    peer.failing = {bad[0]: 0x0112, bad[1]: 0x0110}
    done = run_lfscp("commit", at(peer), files)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{bad[0]}  not stored there (0x0112)",
        f"{bad[1]}  damaged there, or it could not be checked (0x0110)",
        f"{at(peer)} commits to 1 of 3 objects",
    ]
    answer = json.loads(run_lfscp("commit", at(peer), files, "--json").stdout)
    assert (answer["committed"], answer["not_reported"]) == (1, 0)
    assert [each["reason"] for each in answer["failed"]] == [0x0112, 0x0110]


def test_a_peer_that_does_not_report_is_not_waited_for_for_ever(files: Path) -> None:
    with committing_peer() as silent:
        done = run_lfscp("commit", at(silent), files, "--wait", "0.2")
    assert (done.returncode, done.stdout) == (1, f"{at(silent)} commits to 0 of 3 objects\n")
    assert "no report on 3 objects; if the node opens a new association" in done.stderr


def test_a_report_on_a_new_association_is_listened_for(files: Path) -> None:
    port = tools.free_port()
    with committing_peer() as peer:
        thread = reporting(peer, port)
        done = run_lfscp("commit", at(peer), files, "--listen", f"127.0.0.1:{port}")
        thread.join()
    assert (done.returncode, done.stdout) == (0, f"{at(peer)} commits to 3 of 3 objects\n")


def test_a_node_takes_the_report_on_a_study_of_its_archive(
    start_node: Callable[..., NodeProcess], files: Path
) -> None:
    node = start_node(flags=["--aet", "ARCHIVE"])
    assert run_lfscp("send", f"ARCHIVE@127.0.0.1:{node.port}", files).returncode == 0
    archive = ("--study", STUDY, "--data-dir", node.data_dir)
    with committing_peer() as peer:
        thread = reporting(peer, node.port, "ARCHIVE")
        env = {"LFSCP_SERVER__AE_TITLE": "ARCHIVE"}
        done = run_lfscp("commit", at(peer), *archive, env=env)
        thread.join()
        assert (done.returncode, done.stdout) == (0, f"{at(peer)} commits to 3 of 3 objects\n")
        said = node.wait_for("N-EVENT-REPORT", calling_ae_title="PACS")
        assert (said["instances"], said["failed"], said["status"]) == (3, 0, "0x0000")

        unknown = run_lfscp("commit", at(peer), "--study", "1.2.3", "--data-dir", node.data_dir)
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert "there is no study 1.2.3 in the archive" in unknown.stderr


def test_a_peer_that_cannot_commit_is_named(files: Path) -> None:
    with committing_peer(commits=False) as other:
        done = run_lfscp("commit", at(other), files)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"lfscp: {at(other)} does not support Storage Commitment"
    with committing_peer(answers=[0x0110]) as refusing:
        done = run_lfscp("commit", at(refusing), files)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("refused to commit: status 0x0110")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("PACS@h:1",), "nothing to ask for"),
        (("PACS@h:1", "{files}/none"), "there is no such file or folder"),
        (("PACS@h:1", "{files}", "--listen", "here"), "expected PORT or HOST:PORT"),
        (("h:1", "{files}", "--listen", "1"), "expected AET@HOST:PORT"),
    ],
)
def test_a_wrong_option_is_exit_code_2(
    files: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = run_lfscp("commit", *(each.format(files=files) for each in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr


def test_an_interrupted_wait_ends_at_once(files: Path) -> None:
    with committing_peer() as silent:
        command = [str(LFSCP), "commit", at(silent), str(files)]
        with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as running:
            silent.wait_until_asked()
            running.terminate()
            assert running.wait(30) == 143


@pytest.fixture
def orthanc_program(dcmtk: Any) -> None:
    """Orthanc is there; without it a run in CI fails."""
    if not PROGRAM.exists():
        (pytest.fail if in_ci() else pytest.skip)("Orthanc not found, install the package orthanc")


@pytest.mark.usefixtures("orthanc_program")
def test_orthanc_commits_to_what_it_has_and_to_nothing_else(files: Path, tmp_path: Path) -> None:
    port = tools.free_port()
    with orthanc(tmp_path / "orthanc", LFSCP=port) as theirs:
        pacs = f"{AE_TITLE}@127.0.0.1:{theirs}"
        listen = ("--listen", f"127.0.0.1:{port}")
        assert run_lfscp("send", pacs, files / "0", files / "1").returncode == 0
        done = run_lfscp("commit", pacs, files / "0", files / "1", *listen)
        assert (done.returncode, done.stdout) == (0, f"{pacs} commits to 2 of 2 objects\n")
        done = run_lfscp("commit", pacs, files, *listen)
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert lines[-1] == f"{pacs} commits to 2 of 3 objects"
        assert lines[0].endswith("  not stored there (0x0112)")
