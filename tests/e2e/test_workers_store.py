"""Worker processes that store at once share one index, and no client ever meets its locks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.dcmtk import contents
from tests.support.node_process import StartNode
from tests.support.sample_objects import of_sender

SENDERS = 4
OBJECTS = 25
STUDY = "1.2.826.0.1.3680043.8.498.77"


def test_workers_that_store_at_once_never_answer_that_the_index_is_locked(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, index_url: str | None
) -> None:
    batches = [
        of_sender(tmp_path, sender, OBJECTS, study=STUDY, patient="P77")
        for sender in range(SENDERS)
    ]
    configuration = f'[index]\nurl = "{index_url or ""}"'
    node = start_node(flags=["--workers", 2], configuration=configuration)
    with ThreadPoolExecutor(SENDERS + 1) as senders:
        stores = [senders.submit(dcmtk.store, node.port, *batch) for batch in batches]
        while not all(one.done() for one in stores):  # readers beside the writers
            dcmtk.find(node.port, "STUDY", {"StudyInstanceUID": STUDY, "PatientName": ""})
        for one in stores:
            output = dcmtk.done(one.result()).output
            assert output.count("Received Store Response (Success)") == OBJECTS
    (found,) = dcmtk.find(
        node.port,
        "STUDY",
        {"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": ""},
    )
    assert found.NumberOfStudyRelatedInstances == SENDERS * OBJECTS
    sent = [file.stem for batch in batches for file in batch]
    assert sorted(contents(node.objects)) == sorted(sent)
    assert [line for line in node.lines if "locked" in line] == []
