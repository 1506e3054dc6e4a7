"""Two nodes of one PostgreSQL index share worklist, performed steps and commitments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.index.index import Index
from lfscp.archive.index.tables.workflow_tables import commitment
from tests.e2e.test_commitment_node import TRANSACTION, peers, stored
from tests.e2e.test_procedure_step_nodes import description
from tests.e2e.test_procedure_steps import change, create
from tests.e2e.test_worklist_node import found
from tests.support.dicom_peer import until
from tests.support.modality import HeldAnswer, Modality, ask
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.procedure_step_peer import modality
from tests.support.procedure_steps import ended
from tests.support.worklist_files import bare, put

STEP = "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus"


@pytest.fixture
def shared(postgresql_url: str, tmp_path: Path) -> str:
    """The part of the configuration that the nodes have in common."""
    objects = tmp_path / "objects"
    return f'[index]\nurl = "{postgresql_url}"\n[objects]\nurl = "file://{objects}"\n'


def on_the_worklist(node: NodeProcess, status: str = "") -> set[str]:
    """The accession numbers that a device is shown."""
    items = found(node, "AccessionNumber", f"{STEP}={status}")
    return {str(each.AccessionNumber) for each in items}


@pytest.mark.usefixtures("dcmtk")
def test_a_step_that_begins_at_one_node_ends_at_the_other(
    start_node: StartNode, shared: str, tmp_path: Path
) -> None:
    one, other = (start_node(name, configuration=shared) for name in ("one", "other"))
    config = tmp_path / "command.toml"
    config.write_text(shared)
    file = put(tmp_path / "item.wl", bare(1))
    added = run_lfscp("worklist", "add", file, "--config", config, "--data-dir", one.data_dir)
    assert added.returncode == 0, added.stderr
    assert on_the_worklist(other) == {"A1"}
    with modality(one.port) as device:
        assert create(device).status == 0x0000
    assert on_the_worklist(other, "SCHEDULED") == set()
    assert on_the_worklist(other, "STARTED") == {"A1"}
    with modality(other.port) as device:
        assert change(device, ended(PerformedProcedureStepDescription="done")).status == 0x0000
    assert description(one) == ("COMPLETED", "done")
    assert on_the_worklist(one, "COMPLETED") == {"A1"}
    with modality(one.port) as device:
        assert change(device, ended()).status == 0x0110
        assert create(device).status == 0x0111


@pytest.mark.usefixtures("dcmtk")
def test_the_files_of_one_node_are_seen_at_the_other_and_left_alone_by_it(
    start_node: StartNode, shared: str, tmp_path: Path
) -> None:
    folders = [tmp_path / "files", tmp_path / "others"]
    for number, each in enumerate(folders, 1):
        each.mkdir()
        put(each / "item.wl", bare(number))
    one, other = (
        start_node(each.name, configuration=f'worklist.folder = "{each}"\n{shared}')
        for each in folders
    )
    assert until(lambda: on_the_worklist(one) == {"A1", "A2"}, 30)
    assert on_the_worklist(other) == {"A1", "A2"}
    (folders[1] / "item.wl").unlink()
    assert on_the_worklist(other) == {"A1"}
    other.stop()
    put(folders[1] / "item.wl", bare(2))
    without = start_node("others", configuration=shared)  # no folder any more
    assert on_the_worklist(without) == {"A1"}
    one.kill()
    assert on_the_worklist(without) == {"A1"}
    (folders[0] / "item.wl").unlink()
    one.start()
    assert on_the_worklist(one) == set()


def test_a_node_that_dies_with_a_commitment_leaves_it_to_the_other(
    start_node: StartNode, shared: str, postgresql_url: str, tmp_path: Path
) -> None:
    answer = HeldAnswer()
    device = Modality(answer=answer)
    with device.listening() as port:
        configuration = shared + peers(port)
        one = start_node("one", configuration=configuration)
        with device.association(one.port) as assoc:
            assert ask(assoc, TRANSACTION, stored(one, tmp_path / "sent")) == 0x0000
            assert answer.has_report.wait(60)
            other = start_node("other", configuration=configuration)
            one.kill()
            answer.may_answer.set()
        device.wait_for_report()
        row = held(postgresql_url)
        assert (row.state, bool(row.held_by)) == ("verified", True)
        let_the_lease_end(postgresql_url)
        report = device.wait_for_report(2)
        assert report.on_new_association
        assert report.transaction_uid == TRANSACTION
        other.wait_for("storage commitment reported")
    assert held(postgresql_url).state == "reported"


def held(url: str) -> Any:
    """The row of the commitment."""
    index = Index(url)
    try:
        with index.engine.connect() as connection:
            return connection.execute(commitment.select()).one()
    finally:
        index.close()


def let_the_lease_end(url: str) -> None:
    """The time is over for which it was held."""
    index = Index(url)
    try:
        index.transact(lambda each: each.execute(commitment.update().values(held_until=0)))
    finally:
        index.close()
