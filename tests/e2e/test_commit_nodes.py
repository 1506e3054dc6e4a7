"""Jobs that wait for a commitment: their node dies, another takes over, their peer is a PACS."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.workflow.commitment.requests import CommitmentRequests, Taken
from lfscp.jobs.model import State
from lfscp.jobs.request import JobRequest
from lfscp.scu.peer import Peer
from tests.e2e.test_commit_jobs import jobs_of
from tests.e2e.test_jobs_retrieve import wait
from tests.support.ci import in_ci
from tests.support.committing_peer import CommittingPeer, committing_peer, report
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.orthanc import AE_TITLE, PROGRAM, orthanc
from tests.support.sample_objects import sample
from tests.support.served_archive import Node, image, served

STUDY = "1.2.826.0.1.3680043.8.498.1"
WORKERS = [1, 2]


def send_with_commitment(node: NodeProcess, peer: CommittingPeer) -> str:
    """Have a node send its study to a peer that is to commit to it; the job's id."""
    page = node.wait_for("page")["url"]
    asked = {
        "peer": {"ae_title": peer.ae_title, "host": "127.0.0.1", "port": peer.port},
        "studies": [STUDY],
        "commit": True,
    }
    with httpx2.Client(trust_env=False, timeout=30) as client:
        answer = client.post(f"{page}api/send", json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def store_a_study(node: NodeProcess, folder: Path, objects: int = 2) -> None:
    for number in range(objects):
        sample("CT_small.dcm", folder / str(number), StudyInstanceUID=STUDY)
    assert run_lfscp("send", f"LFSCP@127.0.0.1:{node.port}", folder).returncode == 0


@pytest.mark.parametrize("workers", WORKERS)
def test_a_job_that_waits_survives_the_death_of_its_node(
    start_node: StartNode, tmp_path: Path, workers: int
) -> None:
    node = start_node(flags=["--http-port", "0", "--workers", workers])
    store_a_study(node, tmp_path / "in")
    with committing_peer() as peer:
        job = send_with_commitment(node, peer)
        asked = peer.wait_until_asked()
        node.wait_for("job ended", job=job, state="sleeping")
        node.kill()
        said = len(node.lines)
        node.start()
        answer = peer.send_report(("127.0.0.1", node.port), report(asked)[1])
        assert answer.Status == 0x0000
        ended = node.wait_for("job ended", since=said, job=job, state="done")
        assert (ended["done"], ended["failed"]) == (2, 0)
        assert len(peer.stored) == 2
        assert len(peer.asked) == 1


def test_a_job_that_is_killed_while_it_asks_asks_anew_and_sends_nothing_again(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(flags=["--http-port", "0"])
    store_a_study(node, tmp_path / "in")
    with committing_peer() as peer:
        job = send_with_commitment(node, peer)
        first = peer.wait_until_asked()
        node.wait_for("commitment asked for", job=job)
        node.kill()
        said = len(node.lines)
        node.start()
        second = peer.wait_until_asked(2)
        assert second.TransactionUID != first.TransactionUID
        here = ("127.0.0.1", node.port)
        assert peer.send_report(here, report(second)[1]).Status == 0x0000
        ended = node.wait_for("job ended", since=said, job=job, state="done")
        assert ended["done"] == 2
        # What came too late is taken all the same, so that the peer does not report for ever.
        assert peer.send_report(here, report(first)[1]).Status == 0x0000


def test_another_node_takes_a_waiting_job_over(tmp_path: Path, postgresql_url: str) -> None:
    where = {"index_url": postgresql_url, "objects_root": tmp_path / "objects"}
    with ExitStack() as opened:
        one, two = (
            opened.enter_context(Archive.open(tmp_path / name, durability="os", **where))
            for name in ("one", "two")
        )
        Node(one, 0).store(image(study=STUDY, series=f"{STUDY}.1"))
        peer = opened.enter_context(committing_peer())
        receiver = Peer(peer.ae_title, "127.0.0.1", peer.port)
        request = JobRequest("send", receiver, {"studies": [STUDY], "commit": True})
        with jobs_of(one) as service:
            job = service.submit(request)
            asked = peer.wait_until_asked()
            wait(service, job, lambda each: each.state is State.SLEEPING and each.attempts > 0)
        with jobs_of(two) as service:
            uids = [str(each.ReferencedSOPInstanceUID) for each in asked.ReferencedSOPSequence]
            requests = CommitmentRequests(two.index)
            assert requests.report(str(asked.TransactionUID), "PACS", uids, []) is Taken.KEPT
            ended = wait(service, job)
        assert (ended.state, ended.done, len(peer.asked)) == (State.DONE, 1, 1)


def test_a_node_of_ours_commits_to_what_another_sends(tmp_path: Path) -> None:
    theirs = {"server": {"ae_title": "THEIRS"}}
    with served(tmp_path / "theirs", **theirs) as receiver, served(tmp_path / "ours") as ours:
        for _ in range(3):
            ours.store(image(study=STUDY, series=f"{STUDY}.1"))
        peer = Peer("THEIRS", "127.0.0.1", receiver.port)
        with jobs_of(ours.archive) as service:
            request = JobRequest("send", peer, {"studies": [STUDY], "commit": True})
            ended = wait(service, service.submit(request))
        assert (ended.state, ended.done, ended.failed) == (State.DONE, 3, 0), ended


def test_the_command_asks_a_node_of_ours(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node()
    store_a_study(node, tmp_path / "in")
    sample("CT_small.dcm", tmp_path / "in" / "unsent", StudyInstanceUID=STUDY)
    theirs = f"LFSCP@127.0.0.1:{node.port}"
    done = run_lfscp("commit", theirs, tmp_path / "in" / "0", tmp_path / "in" / "1")
    assert (done.returncode, done.stdout) == (0, f"{theirs} commits to 2 of 2 objects\n")
    done = run_lfscp("commit", theirs, tmp_path / "in")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"{theirs} commits to 2 of 3 objects"
    assert "not stored there (0x0112)" in done.stdout


@pytest.mark.usefixtures("dcmtk")
def test_orthanc_commits_to_what_a_job_sends(tmp_path: Path) -> None:
    if not PROGRAM.exists():
        (pytest.fail if in_ci() else pytest.skip)("Orthanc not found, install the package orthanc")
    with served(tmp_path / "node") as node:
        for _ in range(3):
            node.store(image(study=STUDY, series=f"{STUDY}.1"))
        with orthanc(tmp_path / "orthanc", LFSCP=node.port) as port:
            peer = Peer(AE_TITLE, "127.0.0.1", port)
            with jobs_of(node.archive) as service:
                request = JobRequest("send", peer, {"studies": [STUDY], "commit": True})
                ended = wait(service, service.submit(request))
        assert (ended.state, ended.done, ended.failed) == (State.DONE, 3, 0), ended
