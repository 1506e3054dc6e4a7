"""DCMTK's findscu -W against a node: answers, log, audit trail, further AE titles."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.worklist import Worklist
from tests.support.dcmtk import Result, read_all, run
from tests.support.dicom_peer import ASSOCIATE_RJ, Peer, associate_rq
from tests.support.node_process import NodeProcess, StartNode
from tests.support.worklist_items import scheduled_step, worklist_tree

TITLES = """
server.require_called_ae_title = true
server.ae_titles = ["WORKLIST", "STORE"]
"""


@contextmanager
def worklist_of(node: NodeProcess) -> Iterator[Worklist]:
    """The worklist of a node, by another process that has its index open."""
    index = Index(sqlite_url(node.data_dir / "index.sqlite"))
    yield Worklist(index)
    index.close()


def findscu(node: NodeProcess, *keys: str, options: tuple[object, ...] = ()) -> Result:
    asked = [part for key in keys for part in ("-k", key)]
    return run("findscu", "-W", "-d", *options, *asked, "127.0.0.1", node.port)


def found(node: NodeProcess, *keys: str) -> list[Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        result = findscu(node, *keys, options=("-X", "-od", folder))
        assert result.code == 0, result.output
        return read_all(Path(folder))


def test_findscu_finds_what_is_to_be_done_on_its_station(dcmtk: Any, node: NodeProcess) -> None:
    other = scheduled_step(ScheduledStationAETitle="MR01", Modality="MR")
    with worklist_of(node) as worklist:
        worklist.add(worklist_tree(1, PatientName="Müller^Jörg"))
        worklist.add(worklist_tree(2, other))
    step = "ScheduledProcedureStepSequence[0]"
    (item,) = found(
        node,
        "SpecificCharacterSet=ISO_IR 100",
        "PatientName",
        "PatientID",
        "PatientWeight",
        f"{step}.ScheduledStationAETitle=CT01",
        f"{step}.ScheduledProcedureStepStartDate=20261101-20261231",
        f"{step}.Modality",
    )
    assert item.PatientName == "Müller^Jörg"
    assert item.PatientID == "P1"
    assert item.PatientWeight is None
    assert item.ScheduledProcedureStepSequence[0].Modality == "CT"
    line = node.wait_for("C-FIND")
    assert line["sop_class_uid"] == "1.2.840.10008.5.1.4.31"
    assert (line["status"], line["matches"]) == ("0x0000", 1)
    asked = {name: line[name] for name in ("station", "modality", "date") if name in line}
    assert asked == {"station": "CT01", "date": "20261101-20261231"}
    assert "Müller" not in node.log


def test_two_items_in_the_key_of_the_steps_are_refused(dcmtk: Any, node: NodeProcess) -> None:
    step = "ScheduledProcedureStepSequence"
    result = findscu(node, f"{step}[0].Modality=CT", f"{step}[1].Modality=MR")
    assert result.status == 0xA900
    assert "(0040,0100)" in result.output
    assert node.wait_for("C-FIND")["reason"].endswith("a sequence key holds one item")


def test_a_query_is_in_the_audit_trail(dcmtk: Any, node: NodeProcess) -> None:
    with worklist_of(node) as worklist:
        worklist.add(worklist_tree())
    found(node, "PatientID=P1")
    assert node.stop() == 0
    records = (node.data_dir / "audit.log").read_text().splitlines()
    (query,) = [line for line in records if "1.2.840.10008.5.1.4.31" in line]
    assert "PatientID=P1" in query


def test_a_node_answers_to_its_further_titles_and_to_no_other(
    dcmtk: Any, start_node: StartNode
) -> None:
    node = start_node(configuration=TITLES)
    for title in ("LFSCP", "WORKLIST", "STORE"):
        assert dcmtk.echo(node.port, "-aec", title).code == 0
    with Peer(("127.0.0.1", node.port)) as peer:
        peer.send(associate_rq(called="OTHER"))
        assert peer.pdu() == (ASSOCIATE_RJ, bytes([0, 1, 1, 7]))
    reason = node.wait_for("association ended")["reason"]
    assert reason == "called AE title not recognised: this is LFSCP or WORKLIST or STORE"


def test_further_titles_change_by_a_reload(dcmtk: Any, start_node: StartNode) -> None:
    node = start_node(configuration=TITLES)
    node.reload('server.require_called_ae_title = true\nserver.ae_titles = ["NEW"]')
    assert dcmtk.echo(node.port, "-aec", "NEW").code == 0
    assert dcmtk.echo(node.port, "-aec", "LFSCP").code == 0
    assert dcmtk.echo(node.port, "-aec", "WORKLIST").code != 0
    node.reload("server.require_called_ae_title = true")
    assert dcmtk.echo(node.port, "-aec", "NEW").code != 0
    assert dcmtk.echo(node.port, "-aec", "LFSCP").code == 0
    node.reload("")
    assert dcmtk.echo(node.port, "-aec", "ANYTHING").code == 0
