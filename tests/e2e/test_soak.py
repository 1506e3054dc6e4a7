"""The soaks, short: nodes that are killed while all kinds of clients are at it."""

from pathlib import Path

import pytest

from tests.support.node_process import run_script

RUN = Path(__file__).parents[2] / "scripts" / "soaking" / "run.py"
WORKFLOW = RUN.with_name("workflow.py")
DICOMWEB = RUN.with_name("dicomweb.py")
ROUTES = RUN.with_name("routes.py")


def table(printed: str) -> dict[str, str]:
    """The rows that a soak prints: what is in the first column, and what in the second."""
    lines = [line.strip("| ").partition("|") for line in printed.splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


@pytest.mark.timeout(200)
def test_what_was_acknowledged_survives_a_short_soak(tmp_path: Path) -> None:
    options = ["--minutes", "0.15", "--kill-every", "5", "--modalities", "6", "--askers", "1"]
    options += ["--breakers", "2", "--attackers", "2"]
    soak = run_script(RUN, *options, "--folder", tmp_path / "soak", timeout_s=180)
    assert soak.returncode == 0, soak.stdout + soak.stderr
    rows = table(soak.stdout)
    assert rows["SIGKILLs"] == "1"
    verified, _, acknowledged = rows["acknowledged and there, byte for byte"].partition(" of ")
    assert verified == acknowledged
    assert int(verified.replace(",", "")) > 20


@pytest.mark.timeout(200)
def test_what_a_hospital_was_promised_survives_a_short_soak(
    tmp_path: Path, index_url: str | None
) -> None:
    # Two processes that share one file are harder on SQLite than on a server.
    workers = "1" if index_url else "2"
    options = ["--kills", "3", "--life", "1", "--modalities", "2", "--workers", workers]
    options += ["--index-url", index_url or ""]
    soak = run_script(WORKFLOW, *options, "--folder", tmp_path / "soak", timeout_s=180)
    assert soak.returncode == 0, soak.stdout + soak.stderr
    rows = table(soak.stdout)
    assert int(rows["N-CREATE"]) > 0


@pytest.mark.timeout(300)
def test_what_two_nodes_were_given_by_dicomweb_survives_a_short_soak(tmp_path: Path) -> None:
    soak = run_script(
        DICOMWEB, "--kills", "2", "--life", "1", "--folder", tmp_path / "soak", timeout_s=280
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
    rows = table(soak.stdout)
    acknowledged, verified = (
        int(rows[name].replace(",", ""))
        for name in ("objects acknowledged", "objects verified byte for byte")
    )
    assert verified >= acknowledged > 0


@pytest.mark.timeout(300)
def test_what_nodes_send_on_by_routes_survives_a_short_soak(tmp_path: Path) -> None:
    options = ["--kills", "1", "--life", "1", "--workers", "1", "--modalities", "2"]
    soak = run_script(ROUTES, *options, "--folder", tmp_path / "soak", timeout_s=280)
    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert "there byte for byte, third" in soak.stdout
