"""Jobs against a real node and DCMTK's servers, and in a process that is killed."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.model import Job, State
from lfscp.jobs.request import JobRequest
from lfscp.jobs.service import JobService
from lfscp.scu.peer import Peer
from lfscp.scu.send import objects_in, send
from tests.support import job_runner
from tests.support.dcmqrscp import AE_TITLE, dcmqrscp, fill
from tests.support.node_process import NodeProcess, environment
from tests.support.sample_objects import KINDS, sample
from tests.support.served_archive import compressed, image, served

DEADLINE_S = 60
STUDY = "1.2.826.0.1.3680043.8.498.1"
OTHER_STUDY = "1.2.826.0.1.3680043.8.498.2"
RLE = "1.2.840.10008.1.2.5"


@contextmanager
def jobs_of(folder: Path, **settings: Any) -> Iterator[tuple[JobService, Archive]]:
    """An archive with jobs and no server."""
    chosen = Settings.model_validate({"data_dir": folder, "durability": "os", **settings})
    with Archive.open(folder, durability="os") as archive:
        service = JobService(archive, chosen)
        service.start()
        try:
            yield service, archive
        finally:
            service.terminate(5)


def wait(service: JobService, job: Job, until: Callable[[Job], bool] | None = None) -> Job:
    """The job once it has ended, or `until` says so."""
    with service.subscribe() as news:
        for _ in range(10_000):
            now = service.job(job.id)
            if now.state.is_end or (until is not None and until(now)):
                return now
            news.next(1)
    raise AssertionError(now)


def retrieve(service: JobService, peer: Peer, **parameters: Any) -> Job:
    parameters.setdefault("keys", {"StudyInstanceUID": STUDY})
    return wait(service, service.submit(JobRequest("retrieve", peer, parameters)))


def dataset_bytes(archive: Archive, study: str) -> dict[str, tuple[str, bytes]]:
    return {
        each.sop_instance_uid: (
            each.transfer_syntax_uid,
            each.path.read_bytes()[each.dataset_offset :],
        )
        for each in archive.select(Level.STUDY, {Level.STUDY: [study]})
    }


def test_a_study_comes_from_a_node_with_its_bytes_as_they_are(
    node: NodeProcess, dcmtk: Any, tmp_path: Path
) -> None:
    kinds = [kind for kind in KINDS if kind.file.startswith(("CT_", "MR_", "SC_", "JP"))]
    for kind in kinds:
        sample(kind.file, tmp_path / "in" / kind.file, StudyInstanceUID=STUDY)
    peer = Peer("LFSCP", "127.0.0.1", node.port)
    sent = send(peer, objects_in([tmp_path / "in"], on_other=lambda *_: None))
    assert sent.failed == []
    with jobs_of(tmp_path / "mine") as (service, archive):
        ended = retrieve(service, peer)
        assert (ended.state, ended.reason) == (State.DONE, "")
        assert (ended.done, ended.failed, ended.left) == (len(kinds), 0, 0)
        assert ended.result["methods"] == {str(peer): "get"}
        assert dataset_bytes(archive, STUDY) == dcmtk.contents(node.objects / STUDY)
        assert ended.bytes == sum(
            len(content) for _, content in dataset_bytes(archive, STUDY).values()
        )


def test_everything_of_a_patient_comes_study_by_study(tmp_path: Path) -> None:
    with served(tmp_path / "theirs") as theirs, jobs_of(tmp_path / "mine") as (service, archive):
        for study in (STUDY, OTHER_STUDY):
            for _ in range(3):
                theirs.store(image(study=study, series=f"{study}.1"))
        theirs.store(image(study="1.2.9", series="1.2.9.1", PatientID="P2"))
        peer = Peer("LFSCP", "127.0.0.1", theirs.port)
        ended = retrieve(service, peer, keys={"PatientID": "P1"})
        assert ended.state is State.DONE
        assert sorted(ended.result["studies"]) == [STUDY, OTHER_STUDY]
        assert (archive.statistics().studies, archive.statistics().instances) == (2, 6)


def test_without_c_get_it_comes_by_c_move_to_our_own_scp(dcmtk: Any, tmp_path: Path) -> None:
    """dcmqrscp without C-GET moves to our node, whose job waits for what arrives there."""
    with served(tmp_path / "mine") as mine:
        settings = Settings.model_validate({"data_dir": tmp_path / "mine"})
        with dcmqrscp(tmp_path / "qr", "--disable-get", LFSCP=mine.port) as port:
            file = sample("CT_small.dcm", tmp_path / "in", StudyInstanceUID=STUDY)
            fill(port, file)
            service = JobService(mine.archive, settings)
            service.start()
            ended = retrieve(service, Peer(AE_TITLE, "127.0.0.1", port))
            service.terminate(5)
        assert (ended.state, ended.done, ended.reason) == (State.DONE, 1, "")
        assert list(ended.result["methods"].values()) == ["move"]
        here = mine.archive.select(Level.STUDY, {Level.STUDY: [STUDY]})
        assert [each.size for each in here] == [ended.bytes]


def test_what_does_not_match_fails_with_a_reason(tmp_path: Path) -> None:
    with served(tmp_path / "theirs") as theirs, jobs_of(tmp_path / "mine") as (service, _):
        ended = retrieve(service, Peer("LFSCP", "127.0.0.1", theirs.port))
        assert (ended.state, ended.reason) == (State.FAILED, "nothing matches the keys")


def test_a_silent_server_fails_the_job_and_frees_its_place(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        jobs_of(tmp_path / "mine", jobs={"max_active": 1}) as (service, _),
        served(tmp_path / "theirs") as theirs,
    ):
        port = silent.getsockname()[1]
        dead = Peer("X", "127.0.0.1", port, acse_timeout_s=0.3)
        first = service.submit(JobRequest("echo", dead))
        second = service.submit(JobRequest("echo", Peer("LFSCP", "127.0.0.1", theirs.port)))
        ended = wait(service, first)
        assert (ended.state, ended.reason) == (
            State.FAILED,
            f"X@127.0.0.1:{port} took the connection, but did not answer within 0.3 s",
        )
        assert wait(service, second).state is State.DONE


def test_a_retrieve_goes_on_when_its_peer_is_back(tmp_path: Path, dcmtk: Any) -> None:
    with jobs_of(tmp_path / "mine", jobs={"retry_delay_s": 0.05, "retries": 20}) as (service, _):
        with served(tmp_path / "theirs") as theirs:
            theirs.store(image(study=STUDY, series=f"{STUDY}.1"))
            port = theirs.port
        request = JobRequest(
            "retrieve",
            Peer("LFSCP", "127.0.0.1", port),
            {"keys": {"StudyInstanceUID": STUDY}},
        )
        job = service.submit(request)
        waiting = wait(service, job, until=lambda now: now.next_attempt_at is not None)
        assert "cannot be reached: Connection refused" in waiting.reason
        with Archive.open(tmp_path / "theirs", durability="os") as archive:
            assert archive.statistics().instances == 1
        with served_at(tmp_path / "theirs", port):
            assert wait(service, job).state is State.DONE


@contextmanager
def served_at(folder: Path, port: int) -> Iterator[None]:
    """The archive in `folder` served at a certain port."""
    process = NodeProcess(folder.parent / "again", flags=["--no-http"])
    process.data_dir = folder
    command = process.command
    command[command.index("--port") + 1] = str(port)
    running = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.kill()
        running.wait()


def test_a_cancel_reaches_the_peer_as_a_c_cancel(tmp_path: Path) -> None:
    with served(tmp_path / "theirs") as theirs, jobs_of(tmp_path / "mine") as (service, archive):
        for _ in range(300):
            theirs.store(image(study=STUDY, series=f"{STUDY}.1"))
        peer = Peer("LFSCP", "127.0.0.1", theirs.port)
        store = archive.store
        began = threading.Event()

        def slow(received: Any) -> Any:
            began.set()
            threading.Event().wait(0.01)
            return store(received)

        archive.store = slow  # type: ignore[method-assign]
        job = service.submit(JobRequest("retrieve", peer, {"keys": {"StudyInstanceUID": STUDY}}))
        assert began.wait(DEADLINE_S)
        service.cancel(job.id)
        ended = wait(service, job)
        assert ended.state is State.CANCELLED
        assert 0 < archive.statistics().instances < 300
        archive.store = store  # type: ignore[method-assign]
        service.retry(job.id)
        assert wait(service, job).done == 300
        assert archive.statistics().instances == 300


def test_collect_brings_several_pacs_into_one_zip(dcmtk: Any, tmp_path: Path) -> None:
    with (
        served(tmp_path / "theirs") as theirs,
        dcmqrscp(tmp_path / "qr") as port,
        jobs_of(tmp_path / "mine") as (service, _),
    ):
        for number in range(2):
            plain = image(study=STUDY, series=f"{STUDY}.1", InstanceNumber=number)
            theirs.store(compressed(plain, RLE) if number else plain)
        other = sample(
            "CT_small.dcm", tmp_path / "in", StudyInstanceUID=OTHER_STUDY, PatientID="P1"
        )
        fill(port, other)
        peers = [Peer("LFSCP", "127.0.0.1", theirs.port), Peer(AE_TITLE, "127.0.0.1", port)]
        job = service.submit(JobRequest("collect", peers, {"keys": {"PatientID": "P1"}}))
        ended = wait(service, job)
        assert (ended.state, ended.done) == (State.DONE, 3), ended
        content = b"".join(service.package(job.id))
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        assert package.testzip() is None
        package.extractall(tmp_path / "zip")
    directory = dcmread(tmp_path / "zip" / "DICOMDIR")
    listed = {
        str(record.ReferencedSOPInstanceUIDInFile): Path(*record.ReferencedFileID)
        for record in directory.DirectoryRecordSequence
        if record.DirectoryRecordType == "IMAGE"
    }
    assert len(listed) == 3
    for uid, file in listed.items():
        assert dcmread(tmp_path / "zip" / file).SOPInstanceUID == uid
    checked = dcmtk.run("dcmdump", tmp_path / "zip" / "DICOMDIR")
    assert checked.code == 0, checked.output


def test_a_killed_process_goes_on_with_its_jobs_after_a_restart(tmp_path: Path) -> None:
    studies = [f"{STUDY}.{number}" for number in range(3)]
    with served(tmp_path / "theirs") as theirs:
        for study in studies:
            for _ in range(100):
                theirs.store(image(study=study, series=f"{study}.1"))
        peer = Peer("LFSCP", "127.0.0.1", theirs.port)
        arguments = [str(tmp_path / "mine"), json.dumps(peer.to_json()), *studies]
        process = subprocess.Popen(
            [sys.executable, job_runner.__file__, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stored\n"
        finally:
            process.kill()  # in the middle of the first study; the others sleep
            process.communicate()
        with jobs_of(tmp_path / "mine") as (service, archive):
            jobs = service.jobs()
            assert len(jobs) == 3
            for job in jobs:
                ended = wait(service, job)
                assert (ended.state, ended.done) == (State.DONE, 100), ended
            assert archive.statistics().instances == 300


def test_a_folder_is_sent_and_what_is_no_dicom_is_reported(dcmtk: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for kind in KINDS[:3]:
        sample(kind.file, root / "deep" / kind.file)
    (root / "notes.txt").write_text("no DICOM")
    there = tmp_path / "there"
    with (
        dcmtk.storescp(there) as port,
        jobs_of(tmp_path / "mine", web={"roots": [str(root)]}) as (service, _),
    ):
        request = JobRequest("send", Peer("STORESCP", "127.0.0.1", port), {"paths": [str(root)]})
        ended = wait(service, service.submit(request))
    assert (ended.state, ended.done, ended.failed) == (State.DONE, 3, 0)
    assert ended.result["problems"] == [
        {
            "what": str(root / "notes.txt"),
            "reason": "not sent: no DICOM file: the prefix DICM is missing",
        }
    ]
    assert dcmtk.contents(there) == dcmtk.contents(root / "deep")
