"""A successor takes a node's place while devices and a hospital's system work with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_commit_nodes import send_with_commitment
from tests.e2e.test_commitment_node import TRANSACTION, peers, stored
from tests.e2e.test_hl7 import code
from tests.e2e.test_workflow_nodes import on_the_worklist
from tests.support.committing_peer import committing_peer, report
from tests.support.dcmtk import free_port
from tests.support.dicom_peer import until
from tests.support.hl7_messages import MLLPClient, orm
from tests.support.modality import HeldAnswer, Modality, ask
from tests.support.node_process import StartNode
from tests.support.pynetdicom_client import store
from tests.support.sample_objects import made
from tests.support.worklist_files import bare, put

SENT = "1.2.826.0.1.3680043.8.498.1"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_successor_goes_on_with_all_that_the_node_was_at(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, workers: int
) -> None:
    answer = HeldAnswer()
    device, hl7 = Modality(answer=answer), free_port()
    folder = tmp_path / "files"
    folder.mkdir()
    put(folder / "1.wl", bare(1))
    with device.listening() as port, committing_peer() as pacs:
        configuration = f"""
            [worklist]
            folder = "{folder}"
            hl7_port = {hl7}
            hl7_stations = ["CT=CT01"]
            {peers(port)}
        """
        flags = ["--workers", workers, "--http-port", "0"]
        old = start_node(configuration=configuration, flags=flags)
        assert store(old.port, made(tmp_path / "in", StudyInstanceUID=SENT)) == [0x0000]
        references = stored(old, tmp_path / "sent")
        job = send_with_commitment(old, pacs)
        asked = pacs.wait_until_asked()
        old.wait_for("job ended", job=job, state="sleeping")
        with MLLPClient(hl7) as before, device.association(old.port) as assoc:
            assert code(before.ask(orm())) == "AA"
            assert ask(assoc, TRANSACTION, references) == 0x0000
            assert answer.has_report.wait(60)
            new = start_node(configuration=configuration, flags=[*flags, "--take-over"])
            old.wait_for("stopping", signal="SIGUSR1")
            put(folder / "2.wl", bare(2))
            assert before.answer() == ""  # it ends between two messages
            with MLLPClient(hl7) as after:
                assert code(after.ask(orm(filler="F201^RIS", accession="A301"))) == "AA"
            answer.may_answer.set()
            # Once the answer is through: pynetdicom may lose one of two messages that cross.
            old.wait_for("storage commitment reported")
            assert ask(assoc, f"{TRANSACTION}.2", references) == 0x0000
        assert old.wait() == 0
        device.wait_for_report(2)
        assert pacs.send_report(("127.0.0.1", new.port), report(asked)[1]).Status == 0x0000
        assert new.wait_for("job ended", job=job, state="done")["done"] == 1
        wanted = {"A1", "A2", "A300", "A301"}
        assert until(lambda: on_the_worklist(new) == wanted)
    names = [each.transaction_uid for each in device.reports]
    assert sorted(names) == [TRANSACTION, f"{TRANSACTION}.2"]
    assert old.complaints() == []
