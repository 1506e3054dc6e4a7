"""The soaks, short: nodes that are killed while all kinds of clients are at it."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "scripts" / "soaking" / "run.py"
WORKFLOW = RUN.with_name("workflow.py")
DICOMWEB = RUN.with_name("dicomweb.py")
ROUTES = RUN.with_name("routes.py")


@pytest.mark.timeout(200)
def test_what_was_acknowledged_survives_a_short_soak(tmp_path: Path) -> None:
    options = ["--minutes", "0.15", "--kill-every", "5", "--modalities", "6", "--askers", "1"]
    options += ["--breakers", "2", "--attackers", "2"]
    soak = subprocess.Popen(
        [sys.executable, RUN, *options, "--folder", tmp_path / "soak"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, complaints = soak.communicate(timeout=180)
    finally:
        soak.terminate()  # it ends its server, should it still run
        soak.wait(30)
    assert soak.returncode == 0, printed + complaints
    rows = dict(map(str.strip, line.strip("| ").split("|")) for line in printed.splitlines()[2:])
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
    soak = subprocess.Popen(
        [sys.executable, WORKFLOW, *options, "--folder", tmp_path / "soak"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, complaints = soak.communicate(timeout=180)
    finally:
        soak.terminate()  # it ends its server, should it still run
        soak.wait(30)
    assert soak.returncode == 0, printed + complaints
    rows = dict(map(str.strip, line.strip("| ").split("|", 1)) for line in printed.splitlines())
    assert int(rows["N-CREATE"]) > 0


@pytest.mark.timeout(300)
def test_what_two_nodes_were_given_by_dicomweb_survives_a_short_soak(tmp_path: Path) -> None:
    soak = subprocess.Popen(
        [sys.executable, DICOMWEB, "--kills", "2", "--life", "1", "--folder", tmp_path / "soak"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, complaints = soak.communicate(timeout=280)
    finally:
        soak.terminate()  # it ends its nodes, should they still run
        soak.wait(30)
    assert soak.returncode == 0, printed + complaints
    rows = dict(map(str.strip, line.strip("| ").split("|", 1)) for line in printed.splitlines())
    acknowledged, verified = (
        int(rows[name].replace(",", ""))
        for name in ("objects acknowledged", "objects verified byte for byte")
    )
    assert verified >= acknowledged > 0


@pytest.mark.timeout(300)
def test_what_nodes_send_on_by_routes_survives_a_short_soak(tmp_path: Path) -> None:
    options = ["--kills", "1", "--life", "1", "--workers", "1", "--modalities", "2"]
    soak = subprocess.Popen(
        [sys.executable, ROUTES, *options, "--folder", tmp_path / "soak"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, complaints = soak.communicate(timeout=280)
    finally:
        soak.terminate()  # it ends its nodes, should they still run
        soak.wait(30)
    assert soak.returncode == 0, printed + complaints
    assert "there byte for byte, third" in printed
