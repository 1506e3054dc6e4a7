"""Nodes that ask each association for a user, and lfscp as their client: commands, moves, jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from lfscp.config.passwords import hash_password
from tests.support.dcmtk import free_port
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.sample_objects import sample

PASSCODE = "pässword of anna"
REQUIRED = f'[identity]\nrequired = true\nusers = ["anna:{hash_password(PASSCODE)}", "ct"]\n'
STUDY = "1.2.826.0.1.3680043.8.498.18"
BY_ENVIRONMENT = {"LFSCP_PEER_PASSWORD": PASSCODE}


@pytest.fixture
def node(start_node: StartNode) -> NodeProcess:
    """A node that asks for users, with a study that anna has sent."""
    return start_node(configuration=REQUIRED)


def of_anna(*command: object, **env: str) -> Any:
    return run_lfscp(*command, "--user", "anna", env=env or BY_ENVIRONMENT)


def test_every_command_names_its_user(node: NodeProcess, tmp_path: Path) -> None:
    file = sample("CT_small.dcm", tmp_path / "in", StudyInstanceUID=STUDY)
    there, study = f"LFSCP@127.0.0.1:{node.port}", ["-k", f"StudyInstanceUID={STUDY}"]
    for done in (
        of_anna("echo", there),
        of_anna("send", there, file),
        of_anna("find", there, *study),
        of_anna("get", there, *study, "-od", tmp_path / "out"),
        of_anna("commit", there, file, "--wait", "30"),
    ):
        assert done.returncode == 0, done.stderr
        assert PASSCODE not in done.stdout + done.stderr
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 1
    assert PASSCODE not in "\n".join(node.lines)


def test_a_passcode_may_be_in_a_file_and_a_user_may_have_none(
    node: NodeProcess, tmp_path: Path
) -> None:
    there = f"LFSCP@127.0.0.1:{node.port}"
    secret = tmp_path / "passcode"
    secret.write_text(f"{PASSCODE}\n", encoding="utf-8")
    by_file = run_lfscp("echo", there, "--user", "anna", "--password-file", secret)
    assert by_file.returncode == 0, by_file.stderr
    assert "anybody on the way can read the passcode" in by_file.stderr
    alone = run_lfscp("echo", there, "--user", "ct", env={"LFSCP_PEER_PASSWORD": ""})
    assert (alone.returncode, alone.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "rejected the association: No reason given (Rejected Permanent); "
             "does it ask for a user?"),
        (["--user", "anna"], "are user and passcode right?"),
        (["--user", "nobody"], "are user and passcode right?"),
    ],
)  # fmt: skip
def test_a_wrong_user_is_rejected_and_the_command_says_so(
    node: NodeProcess, options: list[str], expected: str
) -> None:
    there = f"LFSCP@127.0.0.1:{node.port}"
    done = run_lfscp("echo", there, *options, env={"LFSCP_PEER_PASSWORD": "wrong"})
    assert done.returncode == 1
    assert expected in done.stderr


def test_options_of_a_login_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for options, expected in (
        (["--user", "anna"], "expected a password in LFSCP_PEER_PASSWORD or --password-file"),
        (["--password-file", tmp_path / "p"], "flag --password-file: expected --user with it"),
        (["--user", "anna", "--password-file", tmp_path / "p"], "No such file or directory"),
        (["--token-file", tmp_path / "p"], "expected the URL of a DICOMweb server with it"),
    ):
        done = run_lfscp("echo", "LFSCP@127.0.0.1:1", *options)
        assert done.returncode == 2
        assert expected in done.stderr


@pytest.fixture
def two_nodes(start_node: StartNode, tmp_path: Path) -> tuple[NodeProcess, NodeProcess]:
    """Two nodes that ask for users, and know each other as anna."""
    ports = {"ONE": free_port(), "TWO": free_port()}
    secret = tmp_path / "passcode"
    secret.write_text(PASSCODE, encoding="utf-8")
    secret.chmod(0o600)
    made = []
    for title, other in (("ONE", "TWO"), ("TWO", "ONE")):
        peer = f'host = "127.0.0.1"\nport = {ports[other]}\nuser = "anna"\n'
        where = f'[peers.{other}]\n{peer}password_file = "{secret}"\n'
        flags = ["--port", ports[title], "--aet", title, "--http-port", "0"]
        made.append(start_node(title, configuration=REQUIRED + where, flags=flags))
    return made[0], made[1]


def test_a_move_names_the_user_of_its_destination(
    two_nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path
) -> None:
    one, two = two_nodes
    file = sample("CT_small.dcm", tmp_path / "in", StudyInstanceUID=STUDY)
    there = f"ONE@127.0.0.1:{one.port}"
    assert of_anna("send", there, file).returncode == 0
    moved = of_anna("move", there, "-k", f"StudyInstanceUID={STUDY}", "-aem", "TWO")
    assert (moved.returncode, moved.stdout) == (0, "1 object to TWO\n"), moved.stderr
    assert len(list(two.objects.glob("*/*/*.dcm"))) == 1


def test_a_job_and_the_report_on_its_commitment_name_their_users(
    two_nodes: tuple[NodeProcess, NodeProcess], tmp_path: Path
) -> None:
    one, two = two_nodes
    file = sample("CT_small.dcm", tmp_path / "in", StudyInstanceUID=STUDY)
    assert of_anna("send", f"ONE@127.0.0.1:{one.port}", file).returncode == 0
    asked = {"peer": "TWO", "studies": [STUDY], "commit": True}
    page = one.wait_for("page")["url"]
    with httpx2.Client(trust_env=False, timeout=30) as client:
        answer = client.post(f"{page}api/send", json=asked)
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        one.wait_for("job ended", job=job, state="done")
        shown = client.get(f"{page}api/jobs/{job}").text
    assert "anna" not in shown
    assert PASSCODE not in shown
    written = b"".join(each.read_bytes() for each in one.data_dir.glob("index.db*"))
    assert PASSCODE.encode() not in written
    assert len(list(two.objects.glob("*/*/*.dcm"))) == 1


def test_no_other_place_gets_the_user_of_a_peer(
    two_nodes: tuple[NodeProcess, NodeProcess],
) -> None:
    """A job may name any host and port with a configured title."""
    one, two = two_nodes
    peer = {"ae_title": "TWO", "host": "localhost", "port": two.port}  # configured as 127.0.0.1
    page = one.wait_for("page")["url"]
    with httpx2.Client(trust_env=False, timeout=30) as client:
        job = client.post(f"{page}api/echo", json={"peer": peer}).json()["id"]
    ended = one.wait_for("job ended", job=job, state="failed")
    assert ended["reason"] == "peer rejected"
    two.wait_for("association ended", reason="user identity not verified: none is named")
