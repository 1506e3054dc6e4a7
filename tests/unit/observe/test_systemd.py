"""systemd's protocols, spoken to a socket of the test instead of to systemd."""

import os
import socket

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


def handed_over(count="1"):
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": "x"}


def test_the_listening_socket_is_taken_and_its_variables_removed():
    environment = handed_over()
    with socket.create_server(("127.0.0.1", 0)) as opened:
        descriptor = os.dup(opened.fileno())

        listener = systemd.take_listening_socket(environment, descriptor)

        assert listener is not None
        with listener:
            assert opened.getsockname() == listener.getsockname()
        assert environment == {}


def test_sockets_for_another_process_are_left_alone():
    assert systemd.take_listening_socket({**handed_over(), "LISTEN_PID": "1"}) is None
    assert systemd.take_listening_socket({}) is None


def test_two_sockets_or_no_listener_are_refused():
    with pytest.raises(systemd.SystemdError, match="expected one ListenStream"):
        systemd.take_listening_socket(handed_over("2"))
    with socket.socket() as connecting:
        descriptor = os.dup(connecting.fileno())
    with pytest.raises(systemd.SystemdError, match="expected a TCP ListenStream"):
        systemd.take_listening_socket(handed_over(), descriptor)
