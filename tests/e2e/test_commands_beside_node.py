"""`import` and `check` beside a node that runs, with several workers, and that stores meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.node_process import StartNode, run_lfscp
from tests.support.sample_objects import of_sender

STUDY = "1.2.826.0.1.3680043.8.498.19"


@pytest.mark.parametrize("index", ["sqlite", "postgresql"])
def test_an_import_goes_on_beside_stores_and_a_restart(
    start_node: StartNode, tmp_path: Path, index: str, request: pytest.FixtureRequest
) -> None:
    url = "" if index == "sqlite" else request.getfixturevalue("postgresql_url")
    configuration = f'[index]\nurl = "{url}"\n'
    node = start_node(configuration=configuration, flags=["--workers", "2"])
    options = ["--config", tmp_path / "node/lfscp.toml", "--data-dir", node.data_dir]
    for number, folder in enumerate(("sent", "imported", "later")):
        count = 200 if folder == "later" else 20
        of_sender(tmp_path / folder, number, count, study=f"{STUDY}.{number}", patient=folder)
    there = f"LFSCP@127.0.0.1:{node.port}"
    sender = threading.Thread(target=run_lfscp, args=("send", there, tmp_path / "sent"))
    sender.start()
    done = run_lfscp("import", tmp_path / "imported", *options)
    checked = run_lfscp("check", *options)
    sender.join()
    assert (done.returncode, done.stdout) == (0, "20 stored\n"), done.stderr
    assert (checked.returncode, checked.stdout) == (0, "index and objects agree\n")
    found = run_lfscp("find", there, "-k", f"StudyInstanceUID={STUDY}.1", "-l", "STUDY").stdout
    assert found.endswith("1 match\n")

    importer = threading.Thread(target=run_lfscp, args=("import", tmp_path / "later", *options))
    importer.start()
    while len(list(node.objects.glob("*/*/*.dcm"))) <= 40:
        assert importer.is_alive() or importer.ident is None
    node.kill()  # the import goes on, and the node starts beside it
    node.start()
    importer.join()
    assert node.stop() == 0
    last = run_lfscp("check", *options)
    assert (last.returncode, last.stdout) == (0, "index and objects agree\n")
    everything = list(node.objects.glob("*/*/*.dcm"))
    assert len(everything) == 240
