"""A retrieve that also writes files into a folder of the node: as part of the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.jobs.request import InvalidRequestError, JobRequest
from lfscp.jobs.service import JobService
from lfscp.scu.peer import Peer
from tests.e2e.test_jobs_retrieve import STUDY, jobs_of, retrieve, wait
from tests.support.served_archive import image, served

KEYS = {"StudyInstanceUID": STUDY}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def stored(theirs: Any, count: int = 3) -> Peer:
    """A peer that has a study."""
    for _ in range(count):
        theirs.store(image(study=STUDY, series=f"{STUDY}.1"))
    return Peer("LFSCP", "127.0.0.1", theirs.port)


def test_a_study_comes_as_files_too_with_the_archives_bytes(
    root: Path, dcmtk: Any, tmp_path: Path
) -> None:
    roots = {"roots": [str(root)]}
    with served(tmp_path / "theirs") as theirs, jobs_of(tmp_path / "mine", web=roots) as (jobs, _):
        peer = stored(theirs)
        ended = retrieve(jobs, peer, folder=str(root))
        assert (ended.state, ended.done) == (State.DONE, 3)
        assert ended.reason == f"3 files written to {root}"
        assert (ended.result["folder"], ended.result["written"]) == (str(root), 3)
        files = sorted((root / STUDY).iterdir())
        assert [file.suffix for file in files] == [".dcm"] * 3
        assert dcmtk.contents(root) == dcmtk.contents(tmp_path / "theirs" / "objects")

        one = files[0].stem
        keys = {**KEYS, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": one}
        (root / "one").mkdir()
        alone = retrieve(jobs, peer, keys=keys, level="IMAGE", folder=str(root / "one"))
        assert alone.state is State.DONE
        assert [file.stem for file in (root / "one").rglob("*.dcm")] == [one]


@pytest.mark.parametrize(
    ("parameters", "field", "reason"),
    [
        ({"folder": "/etc"}, "folder", "outside the folders that may be used"),
        ({"folder": "{root}/../other"}, "folder", "outside the folders that may be used"),
        ({"folder": "{root}/none"}, "folder", "there is no such file or folder"),
        ({"folder": "{root}/file"}, "folder", "is no folder"),
        ({"folder": 7}, "folder", "expected the path of a folder"),
        ({"folder": "{root}", "destination": "OTHER"}, "folder", "do not come here"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_at_once(
    root: Path, tmp_path: Path, parameters: dict[str, Any], field: str, reason: str
) -> None:
    (root / "file").touch()
    given = {
        name: value.format(root=root) if isinstance(value, str) else value
        for name, value in parameters.items()
    }
    with jobs_of(tmp_path / "mine", web={"roots": [str(root)]}) as (service, _):
        request = JobRequest("retrieve", Peer("X", "h", 1), {"keys": KEYS, **given})
        with pytest.raises(InvalidRequestError, match=reason) as refused:
            service.submit(request)
        assert refused.value.field == f"parameters.{field}"
        assert service.jobs() == []


def test_what_cannot_be_written_fails_the_job_and_is_written_by_the_next_attempt(
    root: Path, tmp_path: Path
) -> None:
    (root / STUDY).write_text("in the way")
    roots = {"roots": [str(root)]}
    with jobs_of(tmp_path / "mine", web=roots) as (service, archive):
        with served(tmp_path / "theirs") as theirs:
            peer = stored(theirs)
            failed = retrieve(service, peer, folder=str(root))
            assert (failed.state, failed.done, failed.failed) == (State.FAILED, 0, 3)
            expected = "3 of 3 objects could not be retrieved and written: not written: File exists"
            assert failed.reason == expected
            assert archive.statistics().instances == 3
            (root / STUDY).unlink()
            service.retry(failed.id)
            ended = wait(service, failed)
        assert (ended.state, ended.done, ended.failed) == (State.DONE, 3, 0)
        assert ended.result["methods"] == {}, "it was not retrieved a second time"
        assert len(list(root.rglob("*.dcm"))) == 3


def test_a_link_in_the_folder_leads_nowhere_else(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / STUDY).symlink_to(outside)
    roots = {"roots": [str(root)]}
    with served(tmp_path / "theirs") as theirs, jobs_of(tmp_path / "mine", web=roots) as (jobs, _):
        ended = retrieve(jobs, stored(theirs), folder=str(root))
        assert ended.state is State.FAILED
        assert "outside the folders that may be used" in ended.reason
        assert list(outside.iterdir()) == []


def test_an_interrupted_retrieve_writes_its_files_after_the_restart(
    root: Path, tmp_path: Path
) -> None:
    settings = {"data_dir": tmp_path / "mine", "web": {"roots": [str(root)]}}
    chosen = Settings.model_validate(settings)

    def until_the_end(_job: Job, control: Control, *_others: object) -> JobEnd:
        control.stop.wait()
        control.check()
        return JobEnd()

    with served(tmp_path / "theirs") as theirs:
        peer = stored(theirs)
        with Archive.open(tmp_path / "mine", durability="os") as archive:
            first = JobService(archive, chosen, perform=until_the_end)
            first.start()
            job = first.submit(JobRequest("retrieve", peer, {"keys": KEYS, "folder": str(root)}))
            wait(first, job, lambda now: now.state is State.ACTIVE)
            assert [left.id for left in first.terminate(0)] == [job.id]
        with jobs_of(tmp_path / "mine", web={"roots": [str(root)]}) as (service, _):
            assert wait(service, job).state is State.DONE
    assert len(list(root.rglob("*.dcm"))) == 3
