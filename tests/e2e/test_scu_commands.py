"""`lfscp echo|find|get|move|send` as a person or a script uses them, against a real node."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.node_process import LFSCP, NodeProcess, environment, run_lfscp
from tests.support.sample_objects import made, sample

STUDY = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with two objects of one study, deep inside, and a text."""
    folder = tmp_path / "in"
    for number in range(2):
        sample(
            "CT_small.dcm",
            folder / "deep" / str(number),
            StudyInstanceUID=STUDY,
            PatientName="Müller^Jürgen",
            SpecificCharacterSet="ISO_IR 100",
        )
    (folder / "notes.txt").write_text("no DICOM")
    return folder


def at(node: NodeProcess, title: str = "LFSCP") -> str:
    return f"{title}@127.0.0.1:{node.port}"


def test_send_find_get_and_move(start_node: Any, files: Path, dcmtk: Any, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with dcmtk.storescp(there) as port:
        node = start_node(flags=["--peer", f"DEST=127.0.0.1:{port}"])

        sent = run_lfscp("send", at(node), files)
        assert (sent.returncode, sent.stdout) == (0, "2 sent\n")
        assert "notes.txt: not sent, no DICOM file" in sent.stderr

        found = run_lfscp("find", at(node), "-k", "PatientName=M*", "-k", "StudyInstanceUID")
        assert found.returncode == 0
        assert "Müller^Jürgen" in found.stdout
        assert found.stdout.endswith("1 match\n")

        out = tmp_path / "out"
        got = run_lfscp("get", at(node), "-k", f"0020,000D={STUDY}", "-od", out)
        assert got.returncode == 0, got.stderr
        assert dcmtk.contents(out) == dcmtk.contents(files / "deep")

        none = run_lfscp("get", at(node), "-k", "StudyInstanceUID=1.2.3", "-od", tmp_path / "none")
        assert none.returncode == 0, none.stderr  # as of `lfscp find`
        assert none.stdout == f"nothing matches: 0 objects to {tmp_path / 'none'}\n"

        moved = run_lfscp("move", at(node), "-k", f"StudyInstanceUID={STUDY}", "-aem", "DEST")
        assert (moved.returncode, moved.stdout) == (0, "2 objects to DEST\n")
        assert dcmtk.contents(there) == dcmtk.contents(files / "deep")


def test_results_for_scripts_are_json(node: NodeProcess, files: Path, tmp_path: Path) -> None:
    sent = json.loads(run_lfscp("send", at(node), files, "--json").stdout)
    assert (sent["completed"], sent["failed"]) == (2, [])
    assert [each["reason"] for each in sent["not_sent"]] == [
        "no DICOM file: the prefix DICM is missing"
    ]
    keys = ("-k", "PatientName", "-k", "StudyInstanceUID")
    [match] = run_lfscp("find", at(node), *keys, "--json").stdout.splitlines()
    assert json.loads(match)["PatientName"] == "Müller^Jürgen"
    key = ("-k", f"StudyInstanceUID={STUDY}")
    got = json.loads(run_lfscp("get", at(node), *key, "-od", tmp_path / "o", "--json").stdout)
    assert (got["completed"], got["files"], got["status"]) == (2, 2, 0)
    assert json.loads(run_lfscp("echo", at(node), "--json").stdout)["duration_ms"] > 0


def test_a_query_can_be_cut_short(node: NodeProcess, tmp_path: Path) -> None:
    for number in range(3):
        uids = {"StudyInstanceUID": f"{STUDY}.{number}", "SeriesInstanceUID": f"{STUDY}.{number}.1"}
        sample("CT_small.dcm", tmp_path / "in" / str(number), **uids)
    assert run_lfscp("send", at(node), tmp_path / "in").returncode == 0
    found = run_lfscp("find", at(node), "-k", "StudyInstanceUID", "--cancel", "2", "--json")
    assert (found.returncode, len(found.stdout.splitlines())) == (0, 2)


def test_what_failed_is_one_line_and_exit_code_1(node: NodeProcess, dcmtk: Any) -> None:
    key = ("-k", f"StudyInstanceUID={STUDY}")
    for command, expected in (
        (("echo", f"X@127.0.0.1:{dcmtk.free_port()}"), "cannot be reached: Connection refused"),
        (("move", at(node), *key, "-aem", "NOBODY"), "NOBODY is no move destination here"),
        (("get", at(node), "-k", "PatientID=P1"), "status 0xA900"),
    ):
        result = run_lfscp(*command)
        assert result.returncode == 1, result
        assert expected in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("find", "nowhere"), "expected AET@HOST:PORT"),
        (("find", "A@h:1", "-k", "PatientNam=X"), "expected a keyword or tag"),
        (("find", "A@h:1", "-k", "Rows=a"), "flag --key Rows: 'a' is no value of VR US"),
        (("get", "A@h:1", "-k", "RequestAttributesSequence=x"), "of VR SQ can only be asked for"),
        (("find", "A@h:1", "-l", "FRAME"), "expected one of PATIENT, STUDY, SERIES, IMAGE"),
        (("find", "A@h:1", "-P", "-S"), "expected one of them"),
        (("echo", "A@h:1", "--aet", "MUCH_TOO_LONG_A_TITLE"), "calling_ae_title"),
        (("echo", "A@h:1", "--ca", "/nowhere.pem"), "there is no such file"),
        (("send", "A@h:1", "/nowhere"), "there is no such file or folder"),
    ],
)
def test_what_is_asked_wrongly_is_exit_code_2(arguments: tuple[str, ...], expected: str) -> None:
    result = run_lfscp(*arguments)
    assert result.returncode == 2
    assert expected in result.stderr


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_lfscp("get", "A@127.0.0.1:1", "-k", "PatientID=P1", "-od", tmp_path / "file")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"lfscp: {tmp_path / 'file'}: File exists\n"


def test_nothing_to_send_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    result = run_lfscp("send", "A@127.0.0.1:1", tmp_path)
    assert result.returncode == 1
    assert "there is no DICOM file to send" in result.stderr


def test_a_terminal_gets_a_progress_bar(node: NodeProcess, files: Path) -> None:
    ours, theirs = pty.openpty()
    command = [str(LFSCP), "send", at(node), str(files)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment({"TERM": "xterm"})
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # Linux says so when the other side is closed
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"sending" in shown
    assert b"2/2" in shown


def test_ctrl_c_ends_a_query_that_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"X@127.0.0.1:{silent.getsockname()[1]}"
        command = [str(LFSCP), "find", target, "-k", "PatientName", "-to", "30"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment())
        silent.settimeout(60)
        try:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGINT)
                assert process.wait(60) != 0
        finally:
            process.kill()
            process.communicate()


def test_with_tls_the_peer_is_verified(node: NodeProcess, tmp_path: Path) -> None:
    """A TLS end in front of the node: trusted with its certificate, refused without."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = threading.Thread(target=_relay, args=(listener, context, node.port), daemon=True)
        relay.start()
        target = f"LFSCP@localhost:{listener.getsockname()[1]}"
        trusted = run_lfscp("echo", target, "--ca", certificate)
        refused = run_lfscp("echo", target, "--tls")
        unverified = run_lfscp("echo", target, "--insecure")
        listener.shutdown(socket.SHUT_RDWR)  # ends the relay's accept; closing would not
        relay.join(10)
    assert trusted.returncode == 0, trusted.stderr
    assert refused.returncode == 1
    assert "certificate verify failed" in refused.stderr
    assert unverified.returncode == 0


def _relay(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """End TLS and pass on what comes, one connection after another."""
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        try:
            client = context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            continue
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            other = threading.Thread(target=_copy, args=(server, client), daemon=True)
            other.start()
            _copy(client, server)
            other.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.mark.parametrize("command", ["echo", "find", "get"])
def test_a_command_imports_only_what_it_needs(
    node: NodeProcess, command: str, tmp_path: Path
) -> None:
    """Most of a short command's time goes into imports."""
    keys = [] if command == "echo" else ["-k", "StudyInstanceUID=1.2.3"]
    keys += ["-od", str(tmp_path)] if command == "get" else []
    program = f"""
import sys
sys.argv = ["lfscp", *{[command, at(node), *keys]!r}]
from lfscp.cli import main
try:
    main()
except SystemExit:
    pass
heavy = ("sqlalchemy", "fastapi", "rich", "requests", "structlog")
heavy += ("lfscp.config", "lfscp.archive.archive")
print("imported", [name for name in heavy if sys.modules.get(name)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert done.stdout.splitlines()[-1] == "imported []", done.stdout + done.stderr


def test_ctrl_c_ends_the_wait_for_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"X@127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [LFSCP, "echo", "--timeout", "600", target],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            silent.settimeout(60)
            connection = silent.accept()[0]
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
        connection.close()
    assert process.returncode == 130
    assert said == f"lfscp: interrupted while waiting for {target}\n"


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_what_a_receiver_says_of_an_object_it_refuses_is_shown(
    node: NodeProcess, tmp_path: Path, as_json: bool
) -> None:
    made(tmp_path, StudyInstanceUID=None)
    flags = ["--json"] if as_json else []
    result = run_lfscp("send", at(node), tmp_path, *flags)
    assert result.returncode == 1
    shown = result.stdout if as_json else result.stderr
    assert "the receiver answered 0xC000: (0020,000D) is missing" in shown
