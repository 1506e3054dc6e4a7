"""systemd's protocols, spoken to a socket of the test instead of to systemd."""

import os
import socket
from pathlib import Path

import pytest

from lfscp.observe import systemd


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A socket that hears what systemd would."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield heard


def test_notify_sends_one_datagram_of_assignments(manager):
    assert systemd.notify("READY=1", "STATUS=listening")
    assert manager.recv(1000) == b"READY=1\nSTATUS=listening"


def test_notify_without_systemd_does_nothing(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")


def test_notify_survives_a_manager_that_has_gone(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not systemd.notify("READY=1")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(monkeypatch, environment, expected):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert expected == systemd.watchdog_interval_s()


def handed_over(count="1", names="x"):
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}


NAMES = ("plain", "secure")


def test_the_listening_socket_is_taken_and_its_variables_removed():
    environment = handed_over()
    with socket.create_server(("127.0.0.1", 0)) as opened:
        descriptor = os.dup(opened.fileno())

        taken = systemd.take_listening_sockets(environment, NAMES, descriptor)

        assert list(taken) == ["plain"]
        with taken["plain"] as listener:
            assert opened.getsockname() == listener.getsockname()
        assert environment == {}


@pytest.fixture
def two_in_a_row():
    """Two listening sockets under descriptors in a row, as systemd gives them; first descriptor."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        first = max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 10
        os.dup2(one.fileno(), first)
        os.dup2(two.fileno(), first + 1)
        yield first, one.getsockname(), two.getsockname()


@pytest.mark.parametrize(
    ("given", "expected"),
    [("lfscp.socket:lfscp.socket", NAMES), ("plain:secure", NAMES), ("secure:plain", NAMES[::-1])],
)
def test_two_sockets_are_told_apart_by_name_or_order(two_in_a_row, given, expected):
    first, *addresses = two_in_a_row
    taken = systemd.take_listening_sockets(handed_over("2", given), NAMES, first)
    found = {name: sock.getsockname() for name, sock in taken.items()}
    for sock in taken.values():
        sock.close()
    assert dict(zip(expected, addresses, strict=True)) == found


def test_sockets_for_another_process_are_left_alone():
    assert systemd.take_listening_sockets({**handed_over(), "LISTEN_PID": "1"}, NAMES) == {}
    assert systemd.take_listening_sockets({}, NAMES) == {}


def test_more_sockets_than_are_known_or_no_listener_are_refused():
    with pytest.raises(systemd.SystemdError, match="expected 1 to 2 ListenStream"):
        systemd.take_listening_sockets(handed_over("3"), NAMES)
    with socket.socket() as connecting:
        descriptor = os.dup(connecting.fileno())
    with pytest.raises(systemd.SystemdError, match="expected a TCP ListenStream"):
        systemd.take_listening_sockets(handed_over(), NAMES, descriptor)
