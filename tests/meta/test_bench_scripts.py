"""The benchmarks run, on tiny sizes, and check the work they measure; no figure is looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.dicom_peer import until
from tests.support.node_process import run_script

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"


def run(script: Path, *arguments: object) -> str:
    """What a benchmark prints; it must end well and say nothing on standard error."""
    done = run_script(script, *arguments, env={"PYTHONWARNINGS": "error"}, timeout_s=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_stages_of_every_operation_are_found_and_add_up(tmp_path):
    printed = run(
        *(BENCH / "stages.py", "--repeats", 3, "--sizes", 8, "--studies", 3),
        *("--folders", tmp_path, "--json", tmp_path / "stages.json"),
    )
    assert "Not there any more" not in printed, "a probed function is gone: stage_probes.py"
    for stage in (
        "header: read and check",
        "INSERT and its commit",
        "encode identifier",
        "sendfile()",
    ):
        assert stage in printed
    compared = run(
        *(BENCH / "stages.py", "--only", "echo", "--repeats", 3, "--folders", tmp_path),
        *("--before", tmp_path / "stages.json"),
    )
    assert "C-ECHO: before" in compared


def test_handover_is_measured_for_each_kind_of_server():
    printed = run(BENCH / "handover.py", "--rounds", 1, "--connections", 4, "--bursts", 2)
    for server in ("leader/follower", "ThreadPoolExecutor", "thread per connection"):
        assert f"{server}, bursts of 2" in printed


def test_negotiation_is_measured_beside_pynetdicoms():
    printed = run(BENCH / "negotiation.py", "--repeats", 1)
    assert printed.count("decide on the contexts") == 2


def test_worklists_are_compared_on_the_same_items(tmp_path):
    printed = run(
        *(BENCH / "worklist.py", "--items", 200, "--seconds", 0.1, "--folder", tmp_path),
        *("--targets", "lfscp,wlmscpfs"),
    )
    assert "200 items" in printed
    assert "| lfscp" in printed


def test_each_workers_share_of_connections_is_told():
    printed = run(BENCH / "workers.py", "--workers", 2, "--count", 16)
    assert "2 workers, one after another" in printed
    assert "2 workers, all held open" in printed


def test_growth_names_every_plan_and_finds_no_scan(tmp_path):
    printed = run(
        *(BENCH / "growth.py", "--instances", "100,300", "--associations", 2, "--repeats", 1),
        *("--folder", tmp_path),
    )
    assert "300 instances" in printed
    assert "STUDY by Accession Number: SEARCH study USING INDEX" in printed


def test_the_page_is_asked_for_every_order_and_filter(tmp_path):
    printed = run(
        *(BENCH / "page.py", "--studies", 120, "--repeats", 1, "--limit", 60_000),
        *("--folder", tmp_path, "--markdown"),
    )
    assert "120 studies and 1,200 objects" in printed
    assert "| by received, from the end" in printed
    assert "| filter: calling AE, by name" in printed


def test_a_profile_of_an_association_is_printed(tmp_path):
    printed = run(
        BENCH / "profile_association.py", "store", "--count", 3, "--folder", tmp_path, "--lines", 5
    )
    assert "function calls" in printed


def test_the_comparison_with_peers_lists_its_workloads():
    printed = run(BENCH / "peers", "--list")
    assert "store-512k" in printed
    assert "lfscp" in printed


def test_the_comparison_with_peers_is_a_module_too():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "peers", "--list"],
        env={**os.environ, "PYTHONPATH": str(BENCH)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "store-512k" in done.stdout


def test_the_comparison_of_dicomweb_has_workloads_and_servers_of_its_own():
    printed = run(BENCH / "peers", "--dicomweb", "--list")
    assert "frames-jpeg2000" in printed
    assert "DICOMweb plugin" in printed
    assert "store-512k" not in printed


def test_two_servers_are_compared_burst_by_burst(tmp_path):
    printed = run(
        *(BENCH / "in_turn.py", "--targets", "lfscp,storescp-fork", "--associations", "1,2"),
        *("--burst", 4, "--bursts", 3, "--starts", 2, "--small", "--data-root", tmp_path),
        *("--json", tmp_path / "bursts.json"),
    )
    assert printed.count("±") == 2
    bursts = json.loads((tmp_path / "bursts.json").read_text())
    of_two = [bursts["2"][name] for name in ("lfscp", "storescp-fork")]
    assert [len(each["rates"]) for each in of_two] == [4, 4]
    assert all(ms > 0 for each in of_two for ms in each["senders_ms"])


def test_a_benchmark_that_is_ended_leaves_no_server_and_no_folder(tmp_path):
    servers = ("--targets", "storescp,storescp-fork")
    work = ("--small", "--burst", "40", "--starts", "1000", "--associations", "1")
    where = ("--data-root", tmp_path)
    benchmark = subprocess.Popen(
        [sys.executable, BENCH / "in_turn.py", *servers, *work, *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert until(lambda: len(started_by(benchmark.pid)) >= 2)
    started = started_by(benchmark.pid)
    benchmark.terminate()
    assert benchmark.wait(30) != 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert list(tmp_path.glob("in-turn-*")) == []


def started_by(pid: int) -> list[int]:
    """DCMTK's servers that a process has started and that live."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(each) for each in children if Path(f"/proc/{each}/comm").read_text() == "storescp\n"
    ]


def test_what_an_association_costs_is_told_of_each_server(tmp_path):
    printed = run(
        *(BENCH / "associations.py", "--targets", "lfscp,storescp-fork"),
        *("--burst", 2, "--bursts", 2, "--data-root", tmp_path),
    )
    for work in ("assoc", "assoc-big", "assoc-store"):
        assert printed.count(f"| {work} ") == 2


def test_objects_are_stored_over_tls_and_on_a_connection_each(tmp_path):
    printed = run(
        *(BENCH / "peers", "--quick", "--rounds", 1, "--targets", "lfscp,storescp-fork"),
        *("--only", "store-512k-tls,assoc-store", "--data-root", tmp_path),
    )
    assert "assoc-store" in printed
    assert "invalid" not in printed.partition("Ratios")[0].partition("| figure")[2]


def test_objects_are_deidentified_by_both_profiles(tmp_path):
    printed = run(BENCH / "deidentify.py", 5, tmp_path)
    assert printed.count("a second and core") == 3
