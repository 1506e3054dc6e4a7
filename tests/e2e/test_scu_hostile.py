"""The client's commands and peers that want to steer the terminal, lie, or never end."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support import dicom_peer as peer
from tests.support.node_process import LFSCP, environment, run_lfscp
from tests.support.scripted_peer import (
    ACCEPTED,
    C_ECHO_RSP,
    C_FIND_RSP,
    C_GET_RSP,
    C_MOVE_RSP,
    C_STORE_RSP,
    GET,
    MOVE,
    REFUSED,
    RELEASED,
    SUCCESS,
    TAKING_ANY,
    brought,
    counters,
    found,
    got,
    response,
    scripted,
    value,
)

STEERING = b"\x1b]0;owned\x07\x1b[2J\r\nok: 3 \x9b31m\n"
COMMENT = peer.element(0x0902, STEERING)
LAST = peer.message(1, response(C_FIND_RSP, peer.STUDY_ROOT_FIND, SUCCESS)) + RELEASED


def shown(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What a command shows; nothing of it steers a terminal, and nobody sees an exception."""
    result = run_lfscp(*arguments)
    for text in (result.stdout, result.stderr):
        assert all(each.isprintable() or each == "\n" for each in text), text
        assert "Error" not in text, text
        assert "Warning" not in text, text
    return result


def refused(field: int, sop_class: str) -> bytes:
    return peer.message(1, response(field, sop_class, REFUSED, COMMENT))


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("find", "-k", "PatientName"), ACCEPTED + refused(C_FIND_RSP, peer.STUDY_ROOT_FIND)),
        (("move", "-k", "StudyInstanceUID=1.2.3"), ACCEPTED + refused(C_MOVE_RSP, MOVE)),
        (("echo",), ACCEPTED + refused(C_ECHO_RSP, peer.VERIFICATION)),
        (("echo",), b"\x1b[31mSSH-2.0\r\n" * 9),
    ],
    ids=["find", "move", "echo", "no DICOM"],
)
def test_a_refusal_is_one_line(command: tuple[str, ...], answer: bytes) -> None:
    with scripted(answer) as asked:
        result = shown(command[0], asked, *command[1:], "-to", "5")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


def test_a_refused_object_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m\n.dcm"
    file.write_bytes(b"\0" * 128 + b"DICM" + peer.data_set())
    with scripted(ACCEPTED + refused(C_STORE_RSP, peer.CT)) as asked:
        result = shown("send", asked, file, "-to", "5")
    assert result.returncode == 1


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_match_and_an_unknown_character_set_steer_nothing(options: tuple[str, ...]) -> None:
    match = value(8, 5, STEERING + b"  ") + value(0x10, 0x10, STEERING + b"\xe2\x80\xae ")
    with scripted(ACCEPTED + found(match) + LAST) as asked:
        result = shown("find", asked, "-k", "PatientName", *options)
    assert result.returncode == 0
    assert "owned" in result.stdout


def test_what_a_get_reports_is_what_is_in_the_folder(tmp_path: Path) -> None:
    answer = (
        TAKING_ANY
        + brought("9.9.9.9", "9.9", context_id=3)
        + brought(context_id=3)
        + got(65535)
        + RELEASED
    )
    keys = ("-k", "StudyInstanceUID=1.2.3")
    with scripted(answer) as asked:
        result = shown("get", asked, *keys, "-od", tmp_path)
    assert result.returncode == 1
    assert "9.9.9.9: not stored, is of study 9.9, which was not requested" in result.stderr
    assert result.stdout.startswith(f"1 object to {tmp_path}, ")
    assert [file.name for file in tmp_path.iterdir()] == ["1.2.3.4.dcm"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_get_that_is_ended_leaves_no_half_object(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    begun = threading.Event()
    piece = peer.p_data(peer.pdv(3, 0, b"A" * 16000))

    def script(connection: socket.socket) -> None:
        connection.sendall(TAKING_ANY + peer.p_data(peer.pdv(3, 3, peer.store_rq())))
        while True:
            connection.sendall(piece)
            if any(tmp_path.iterdir()):
                begun.set()

    with scripted(script) as asked:
        command = [LFSCP, "get", str(asked), "-od", tmp_path, "-k", "PatientName=X"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment())
        try:
            assert begun.wait(60)
            process.send_signal(number)
            assert process.wait(60) == code
        finally:
            process.kill()
            process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_a_get_that_the_peer_gives_up_is_no_success(tmp_path: Path) -> None:
    last = peer.message(1, response(C_GET_RSP, GET, 0xC001, counters(1)))
    with scripted(TAKING_ANY + brought(context_id=3) + last + RELEASED) as asked:
        result = shown("get", asked, "-k", "StudyInstanceUID=1.2.3", "-od", tmp_path)
    assert (result.returncode, "0xC001" in result.stdout) == (1, True)
