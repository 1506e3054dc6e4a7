"""The page of a real node: when it is there, when it is not, and how it ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from lfscp.config.passwords import new_token
from tests.support.dcmtk import free_port
from tests.support.node_process import LFSCP, environment, run_lfscp
from tests.support.web_objects import CT_STUDY, write_all


def ask(url: str, **headers: str) -> tuple[int, Any]:
    """GET; gives status and body."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own node
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def send(url: str, body: bytes, **headers: str) -> Any:
    """POST; gives the answer's JSON."""
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - our own node
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
        return json.loads(answer.read())


def page_of(node: Any) -> str:
    return str(node.wait_for("page")["url"])


def test_a_node_without_http_has_no_page(start_node):
    assert start_node(flags=["--no-http"]).events("page") == []


def test_a_node_imports_nothing_of_the_page_before_the_first_visitor():
    program = "import sys, lfscp.cli.app, lfscp.node.serve; "
    program += "import lfscp.node.web_service; "
    program += "print(sorted({'fastapi', 'uvicorn', 'jinja2', 'lfscp.web.app'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_page_shows_what_a_modality_sent_and_who_is_connected(
    start_node, dcmtk, tmp_path, workers
):
    node = start_node(flags=["--http-port", "0", "--workers", workers])
    files = sorted(write_all(tmp_path / "files", slices=2).glob("ct*.dcm"))
    dcmtk.done(dcmtk.store(node.port, *files))

    url = page_of(node)
    status, body = ask(f"{url}api/studies")
    rows = json.loads(body)["rows"]
    assert status == 200
    assert [(row["study_instance_uid"], row["number_of_instances"]) for row in rows] == [
        (CT_STUDY, 2)
    ]
    assert ask(f"{url}readyz")[0] == 200
    processes = json.loads(ask(f"{url}api/node")[1])["processes"]
    assert len(processes) == workers
    assert all(process["leader"] for process in processes)


def test_an_open_stream_of_news_does_not_hold_up_the_stop(start_node):
    node = start_node(flags=["--http-port", "0"])
    request = urllib.request.Request(f"{page_of(node)}api/events")  # noqa: S310 - our own node
    with urllib.request.urlopen(request, timeout=60) as news:  # noqa: S310 - likewise
        assert news.readline() == b"event: node\n"
        assert node.stop() == 0
        rest = news.read()
    assert b"data:" in rest


def test_the_default_port_taken_means_no_page_and_one_asked_for_means_no_node(start_node, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_lfscp(
            "serve", "--http-port", port, "--port", free_port(), "--data-dir", tmp_path
        )

    assert done.returncode == 1
    assert f"cannot serve the page on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_page_that_others_reach_needs_a_token_and_then_asks_for_it(start_node, tmp_path):
    refused = run_lfscp("serve", "--data-dir", tmp_path, env={"LFSCP_WEB__HOST": "0.0.0.0"})  # noqa: S104
    assert refused.returncode == 2
    assert "users, tokens, token_hash or oidc.issuer" in refused.stderr

    token, hashed = new_token()
    node = start_node(
        configuration=f'[web]\nhost = "0.0.0.0"\ntoken_hash = "{hashed}"\n',
        flags=["--http-port", "0"],
    )
    url = page_of(node).replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - the log's own words
    assert ask(f"{url}api/studies")[0] == 401
    assert ask(f"{url}api/studies", Authorization=f"Bearer {token}")[0] == 200


def test_hash_password_makes_what_the_configuration_takes(start_node):
    made = subprocess.run(
        [LFSCP, "hash-password"],
        input="secret\n",
        env=environment(),
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert made.startswith("scrypt$16384$8$1$")  # to try one password costs 16 MB and some 50 ms
    node = start_node(configuration=f'[web]\nusers = ["anna:{made}"]\n', flags=["--http-port", "0"])
    basic = "Basic YW5uYTpzZWNyZXQ="  # anna:secret
    assert ask(f"{page_of(node)}api/studies", Authorization=basic)[0] == 200


def test_a_killed_node_goes_on_with_its_jobs_without_a_visitor(start_node, tmp_path):
    remote_port = free_port()
    folder = write_all(tmp_path / "files", slices=3)
    node = start_node(
        "local",
        configuration=f'web.roots = ["{folder}"]\njobs.retry_delay_s = 1.0\n',
        flags=["--http-port", "0", "--peer", f"REMOTE=127.0.0.1:{remote_port}"],
    )
    asked = json.dumps({"peer": "REMOTE", "paths": [str(folder)], "retries": 100}).encode()
    send(f"{page_of(node)}api/send", asked, **{"Content-Type": "application/json"})
    node.wait_for("job started")
    node.kill()

    remote = start_node("remote", flags=["--port", remote_port])
    node.start()
    remote.wait_for("C-STORE", count=5)
    node.wait_for("job ended", state="done")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_peer_that_was_added_is_a_destination_of_the_node_at_once(
    start_node, dcmtk, tmp_path, workers
):
    node = start_node(flags=["--http-port", "0", "--workers", workers])
    files = sorted(write_all(tmp_path / "files", slices=2).glob("ct*.dcm"))
    dcmtk.done(dcmtk.store(node.port, *files))

    def move():
        keys = {"StudyInstanceUID": CT_STUDY}
        return dcmtk.move(node.port, "STUDY", keys, to="ADDED").status

    assert move() == 0xA801
    with dcmtk.storescp(tmp_path / "there") as port:
        peer = json.dumps({"ae_title": "ADDED", "host": "127.0.0.1", "port": port}).encode()
        send(f"{page_of(node)}api/peers", peer, **{"Content-Type": "application/json"})
        assert [move() for _ in range(4)] == [0] * 4, "in whichever process"
        assert len(dcmtk.contents(tmp_path / "there")) == 2
    removal = urllib.request.Request(f"{page_of(node)}api/peers/ADDED", method="DELETE")  # noqa: S310
    urllib.request.urlopen(removal, timeout=60).close()  # noqa: S310 - our own node
    assert [move() for _ in range(4)] == [0xA801] * 4
