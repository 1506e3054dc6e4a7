"""The command `doctor` beside a node that runs: exit codes, lines for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.dcmtk import free_port
from tests.support.node_process import StartNode, run_lfscp


def test_beside_a_node_that_runs_its_ports_and_peers_answer(
    start_node: StartNode, tmp_path: Path
) -> None:
    port = free_port()
    itself = f'[peers.ITSELF]\nhost = "127.0.0.1"\nport = {port}\n'
    server = f'[server]\nhost = "127.0.0.1"\nport = {port}\n[web]\nenabled = false\n'
    node = start_node(configuration=server + itself, flags=["--port", port])
    options = ["--config", tmp_path / "node/lfscp.toml", "--data-dir", node.data_dir]
    done = run_lfscp("doctor", *options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok       ports") and str(port) in line for line in lines)
    assert any(line.startswith("ok       peers     ITSELF: ITSELF@127.0.0.1") for line in lines)
    assert lines[-1].startswith("0 wrong, ")

    node.stop()
    found = [
        json.loads(line) for line in run_lfscp("doctor", *options, "--json").stdout.splitlines()
    ]
    (peer,) = [each for each in found if each["subject"] == "peers"]
    assert peer["verdict"] == "warning"
    assert "Connection refused" in peer["text"]
    assert peer["advice"]
    assert "peers" not in run_lfscp("doctor", *options, "--no-peers").stdout


def test_what_is_wrong_is_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "lfscp.toml").write_text("[storage]\nreserve_mb = 1000000000\n")
    (tmp_path / "data").mkdir(mode=0o750)
    options = ["--config", tmp_path / "lfscp.toml", "--data-dir", tmp_path / "data"]
    done = run_lfscp("doctor", "--no-peers", *options)
    assert done.returncode == 1
    assert "wrong    disk" in done.stdout
    (tmp_path / "lfscp.toml").write_text("[storage]\nreserve = 1\n")
    assert run_lfscp("doctor", *options).returncode == 2
