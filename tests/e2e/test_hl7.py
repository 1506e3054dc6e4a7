"""A hospital's orders over MLLP, and what a device sees of them with findscu -W."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.dcmtk import free_port
from tests.support.hl7_messages import MLLPClient, adt, omi, orm, segment
from tests.support.node_process import NodeProcess, StartNode, run_lfscp

CONFIGURATION = """
[worklist]
hl7_port = {port}
hl7_stations = ["CT=CT01"]
[audit]
enabled = true
"""
DOCUMENT = Path(__file__).parents[2] / "config/hl7.md"
SENDERS = 4
ORDERS = 15  # of each


def code(answer: str) -> str:
    """AA, AE or AR."""
    return segment(answer, "MSA")[1]


def seen(dcmtk: Any, node: NodeProcess, *keys: str) -> str:
    """What findscu -W shows of the worklist."""
    shown = dcmtk.run(
        "findscu", "-W", "-k", "PatientName", "-k", "PatientID", "-k", "AccessionNumber",
        "-k", "ScheduledProcedureStepSequence[0].Modality",
        "-k", "ScheduledProcedureStepSequence[0].ScheduledStationAETitle",
        "-k", "ScheduledProcedureStepSequence[0].ScheduledProcedureStepID",
        *keys, "127.0.0.1", node.port,
    )  # fmt: skip
    assert shown.code == 0, shown.output
    return str(shown.output)


@pytest.fixture(params=[1, 2])
def hospital(request: pytest.FixtureRequest, start_node: StartNode) -> tuple[NodeProcess, int]:
    """A node of one process, then of several, and its port for HL7."""
    port = free_port()
    flags = ["--workers", request.param]
    node = start_node(configuration=CONFIGURATION.format(port=port), flags=flags)
    assert node.events("listening")[-1]["hl7_port"] == port
    return node, port


def test_a_device_sees_what_a_hospital_orders_changes_and_cancels(
    dcmtk: Any, hospital: tuple[NodeProcess, int]
) -> None:
    node, port = hospital
    with MLLPClient(port) as client:
        assert code(client.ask(orm(), chunk=3)) == "AA"
        shown = seen(
            dcmtk, node, "-k", "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=CT01"
        )
        assert "A300" in shown
        assert "4711" in shown
        assert code(client.ask(omi())) == "AA"
        assert "SPS2" in seen(dcmtk, node, "-k", "ScheduledProcedureStepSequence[0].Modality=MR")
        assert (
            code(client.ask(adt("A40", "MRG|4711^^^HOSP", pid="PID|1||9000^^^HOSP||New^Name")))
            == "AA"
        )
        shown = seen(dcmtk, node, "-k", "AccessionNumber=A300")
        assert "9000" in shown
        assert "New^Name" in shown
        for cancel in (orm("CA"), omi("CA")):
            assert code(client.ask(cancel)) == "AA"
        assert "A300" not in seen(dcmtk, node)
        assert code(client.ask(orm(modality="ZZ"))) == "AE"
        assert code(client.ask(b"rubbish")) == "AR"
    node.wait_for("HL7 message", answer="AR")
    assert "ller" not in "".join(map(json.dumps, node.events("HL7 message")))
    trail = (node.data_dir / "audit.log").read_text(encoding="utf-8")
    assert trail.count("Procedure Record") == 5


def test_an_order_that_was_accepted_survives_the_death_of_the_node(
    dcmtk: Any, hospital: tuple[NodeProcess, int]
) -> None:
    node, port = hospital
    accepted: list[str] = []
    enough = threading.Event()

    def send(sender: int) -> None:
        with MLLPClient(port) as client:
            for number in range(ORDERS):
                name = f"{sender}X{number}"
                said = client.ask(
                    orm(
                        placer=f"P{name}",
                        filler=f"F{name}",
                        accession=f"ACC{name}",
                        study=f"1.2.3.{sender}.{number}",
                    )
                )
                if not said:
                    return
                assert code(said) == "AA"
                accepted.append(f"ACC{name}")
                if len(accepted) >= SENDERS * 3:
                    enough.set()

    def until_it_dies(sender: int) -> None:
        try:
            send(sender)
        except OSError:
            return

    threads = [threading.Thread(target=until_it_dies, args=(each,)) for each in range(SENDERS)]
    for each in threads:
        each.start()
    assert enough.wait(60)
    node.kill()
    for each in threads:
        each.join(60)
    node.start()
    shown = seen(dcmtk, node)
    assert [each for each in accepted if f"[{each}" not in shown] == []


def test_the_first_example_of_the_document_runs(dcmtk: Any, start_node: StartNode) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (_, configuration), (_, send), (_, ask) = blocks
    port = str(free_port())
    node = start_node(configuration=configuration.replace("2575", port))
    said = subprocess.run(
        ["bash", "-c", send.replace("2575", port)], capture_output=True, text=True, timeout=60
    )
    assert "MSA|AA|1" in said.stdout
    shown = dcmtk.run(*ask.replace("11112", str(node.port)).split())
    assert "Doe^Jane" in shown.output


def test_a_port_that_is_taken_stops_the_start_with_a_line(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node()
    configuration = tmp_path / "lfscp.toml"
    configuration.write_text(f"[worklist]\nhl7_port = {node.port}\n")
    where = ("--config", configuration, "--data-dir", tmp_path / "other", "--port", 0)
    refused = run_lfscp("serve", *where, "--host", "127.0.0.1", "--no-http")
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{node.port}" in refused.stderr
    assert "choose another port (worklist.hl7_port)" in refused.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_orders_go_on_while_nodes_follow_each_other(
    dcmtk: Any, start_node: StartNode, workers: int
) -> None:
    port = free_port()
    options: dict[str, Any] = {
        "configuration": CONFIGURATION.format(port=port),
        "flags": ["--workers", workers, "--take-over"],
    }
    first = start_node(**options)
    with MLLPClient(port) as before:
        assert code(before.ask(orm())) == "AA"
        second = start_node(**options)
        assert before.answer() == ""  # the connection ends; it may be made again at once
    with MLLPClient(port) as client:
        assert (
            code(client.ask(orm(placer="P2", filler="F2", accession="A301", study="1.2.3"))) == "AA"
        )
    assert first.wait() == 0
    shown = seen(dcmtk, second)
    assert "A300" in shown
    assert "A301" in shown
