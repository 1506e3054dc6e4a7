"""The day of a modality against a node: worklist, performed procedure step, images, commitment."""

import importlib.util
import json
import urllib.request
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "modality_day.py"


@pytest.fixture
def modality_day():
    spec = importlib.util.spec_from_file_location("modality_day", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(url):
    with urllib.request.urlopen(url) as found:  # noqa: S310 - the node's own
        return json.load(found)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_modality_is_served_from_the_worklist_to_the_commitment(
    start_node, modality_day, workers
):
    node = start_node(flags=["--http-port", "0", "--workers", workers])
    http = node.wait_for("page")["url"]
    day = modality_day.Day(("LFSCP", "127.0.0.1", node.port), http)

    number = day.put_on_the_worklist()
    assert day.state_of(number) == "SCHEDULED"
    item = day.ask_the_worklist()
    assert item.PatientName == "Müller^Jörg"

    performed = day.begin(item)
    assert day.state_of(number) == "STARTED"
    day.store(item)
    day.complete(performed)
    assert day.state_of(number) == "COMPLETED"
    with pytest.raises(SystemExit, match="0 items"):  # what is done is not to be done again
        day.ask_the_worklist()

    assert answer(f"{http}api/mpps/{performed}")["status"] == "COMPLETED"

    assert day.commit() == 0
    node.wait_for("storage commitment reported")  # the answer to the report has come, too
    node.kill()
    node.start()
    http = node.wait_for("page", count=2)["url"]
    commitments = answer(f"{http}api/commitments")
    assert [each["state"] for each in commitments["rows"]] == ["reported"]
