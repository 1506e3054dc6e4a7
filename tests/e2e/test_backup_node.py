"""`lfscp backup` beside a node that stores, and a node that goes on with what was restored."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support import pynetdicom_client
from tests.support.dcmtk import contents
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.sample_objects import CT, made

EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "1.2.826.0.1.3680043.8.498.16"
SUCCESS = 0x0000


def done(*arguments: object, code: int = 0) -> str:
    """What a command prints."""
    result = run_lfscp(*arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_a_backup_of_a_node_that_stores_is_restored_and_served(
    start_node: StartNode, tmp_path: Path
) -> None:
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}
    files = [made(tmp_path / "sent", **uids) for _ in range(60)]
    node = start_node()
    acknowledged: list[Path] = []
    begun = threading.Event()

    def send() -> None:
        for at in range(0, 60, 6):
            piece = files[at : at + 6]
            assert pynetdicom_client.store(node.port, *piece) == [SUCCESS] * 6
            acknowledged.extend(piece)
            begun.set()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert begun.wait(60)
        before = {file.stem for file in list(acknowledged)}
        said = done("backup", tmp_path / "backup", "--verify", "--data-dir", node.data_dir)
        assert "linked" in said
    finally:
        sender.join()
    again = done("backup", tmp_path / "backup", "--data-dir", node.data_dir)
    assert again.startswith("60 objects")
    assert "kept" in again
    assert before <= {path.stem for path in (tmp_path / "backup/objects").rglob("*.dcm")}
    restored = done("restore", tmp_path / "backup", "--data-dir", tmp_path / "new/data")
    assert restored.endswith("index and objects agree\n")
    new = NodeProcess(tmp_path / "new")
    try:
        new.start()
        asked = {"StudyInstanceUID": STUDY}
        status, got = pynetdicom_client.get(new.port, asked, "STUDY", [(CT, EXPLICIT)])
        assert status == SUCCESS
        assert got == contents(tmp_path / "sent")
        assert new.stop() == 0
    finally:
        new.kill()


def test_a_restore_into_a_node_s_own_folder_is_refused(node: NodeProcess, tmp_path: Path) -> None:
    done("backup", tmp_path / "backup", "--data-dir", node.data_dir)
    said = done("restore", tmp_path / "backup", "--data-dir", node.data_dir, code=1)
    assert "stop the node first" in said
    said = done("restore", tmp_path / "empty", "--data-dir", tmp_path / "new", code=1)
    assert "there is no backup.json" in said


def test_studies_are_recycled_while_the_node_runs_but_not_protected_ones(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node()
    for number in (1, 2, 3):
        file = made(tmp_path / "sent", StudyInstanceUID=f"{STUDY}.{number}")
        assert pynetdicom_client.store(node.port, file) == [SUCCESS]
    assert "is protected" in done("protect", f"{STUDY}.1", "--data-dir", node.data_dir)
    assert "no study" in done("protect", "1.9", "--data-dir", node.data_dir, code=1)
    assert node.stop() == 0
    configuration = node.data_dir.with_name("lfscp.toml")
    configuration.write_text("[retention]\nmax_studies = 2\nquiet_s = 0.001\ninterval_s = 0.2\n")
    limited = ("--config", configuration, "--data-dir", node.data_dir)
    planned = done("retention", "--dry-run", *limited)
    assert planned.splitlines()[0].startswith(f"{STUDY}.2  1 instances")
    assert planned.splitlines()[1].startswith("1 studies with 1 instances")
    node.start()
    line = node.wait_for("study recycled")
    assert line["study_instance_uid"] == f"{STUDY}.2"
    assert "does this itself" in done("retention", *limited, code=1)
    left = pynetdicom_client.find(node.port, {"StudyInstanceUID": ""}, "STUDY")
    assert sorted(each.StudyInstanceUID for each in left) == [f"{STUDY}.1", f"{STUDY}.3"]
    assert "no longer" in done("unprotect", f"{STUDY}.1", "--data-dir", node.data_dir)
    assert node.stop() == 0
    assert done("retention", *limited) == "0 studies deleted\n"
    assert "no limit is set" in done("retention", "--data-dir", node.data_dir, code=1)


def test_others_may_read_nothing_whatever_the_umask(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(
        wrapper=["sh", "-c", 'umask 0; exec "$0" "$@"'], configuration="[audit]\nenabled = true\n"
    )
    assert pynetdicom_client.store(node.port, made(tmp_path / "sent")) == [SUCCESS]
    result = run_lfscp("backup", tmp_path / "backup", "--data-dir", node.data_dir, umask=0)
    assert result.returncode == 0, result.stderr
    made_by_us = [path for root in (node.data_dir, tmp_path / "backup") for path in root.rglob("*")]
    assert {path.name for path in made_by_us} >= {"index.sqlite-wal", "audit.log", "backup.json"}
    modes = {path.name: path.stat().st_mode & 0o777 for path in made_by_us if not path.is_socket()}
    assert {name for name, mode in modes.items() if mode & 0o027} == set()
