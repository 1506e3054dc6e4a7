"""A node's life from outside: readiness, draining, a second signal, what keeps it from starting."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

CODE = "from lfscp.cli import main; main()"


class Running:
    """`lfscp serve` in a process of its own, on a port that the system chose."""

    def __init__(self, data_dir, *arguments, environment=None, pass_fds=(), before=""):
        options = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(data_dir)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", before + CODE, *options, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            pass_fds=pass_fds,
        )
        self.log = []

    def wait_until(self, event):
        """Read the log up to the line of an event."""
        for line in self.process.stderr:
            self.log.append(line)
            if f": {event}" in line:
                return line
        raise AssertionError(f"ended without {event!r}: {self.log}")

    def port(self):
        return int(re.search(r"port=(\d+)", self.wait_until("listening"))[1])

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.rest()

    def rest(self):
        """The exit code, after the log has been read to its end."""
        self.log += self.process.stderr.readlines()
        return self.process.wait(30)


@pytest.fixture
def serve(tmp_path):
    """Start nodes; those that still run at the end are killed."""
    nodes = []

    def start(*arguments, data_dir=tmp_path / "data", **options):
        nodes.append(Running(data_dir, *arguments, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait()
        node.process.stderr.close()


@contextlib.contextmanager
def association(port):
    ae = AE("TESTER")
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port)
    assert assoc.is_established
    yield assoc
    if assoc.is_established:
        assoc.release()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_as_soon_as_it_says_so_and_a_signal_ends_it_with_0(serve, number):
    node = serve()
    with association(node.port()) as assoc:
        assert assoc.send_c_echo().Status == 0x0000

    assert node.end(number) == 0
    assert "drained=True" in node.log[-1]
    assert "Traceback" not in "".join(node.log)


def test_a_signal_lets_an_idle_association_not_hold_up_the_end(serve):
    node = serve()
    with association(node.port()) as assoc:
        assert assoc.send_c_echo().Status == 0x0000
        assert node.end() == 0


def test_the_drain_has_a_deadline_and_new_associations_are_refused(serve):
    node = serve(environment={"LFSCP_SERVER__DRAIN_TIMEOUT_S": "0.5"})
    port = node.port()
    with socket.create_connection(("127.0.0.1", port)) as silent:
        # A peer that stops in the middle of its association request keeps a thread busy.
        silent.sendall(b"\x01\x00\x00\x00")
        node.process.send_signal(signal.SIGTERM)
        node.wait_until("stopping")
        assert node.rest() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_second_signal_ends_the_drain_at_once(serve):
    node = serve(environment={"LFSCP_SERVER__DRAIN_TIMEOUT_S": "86400"})
    with socket.create_connection(("127.0.0.1", node.port())) as silent:
        silent.sendall(b"\x01\x00\x00\x00")
        node.process.send_signal(signal.SIGTERM)
        node.wait_until("stopping")
        assert node.end() == 0


def test_a_port_in_use_is_said_in_one_line(serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = serve("--port", str(taken.getsockname()[1]))
        assert node.rest() == 1
    assert re.fullmatch(r"lfscp: cannot listen on .*Address already in use; .*\n", node.log[-1])


def test_a_data_folder_in_use_is_said_in_one_line(serve):
    serve().port()
    second = serve()

    assert second.rest() == 1
    assert len(second.log) == 1
    assert "another node uses" in second.log[0]


def test_a_data_folder_that_cannot_be_made_is_said_in_one_line(serve, tmp_path):
    (tmp_path / "file").write_text("")
    node = serve(data_dir=tmp_path / "file" / "data")

    assert node.rest() == 1
    assert len(node.log) == 1
    assert node.log[0].startswith("lfscp: cannot open the archive: ")


def test_systemd_is_told_of_readiness_watchdog_and_end(serve, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        node = serve(environment=environment)
        port = node.port()

        assert heard.recv(1000).decode() == f"READY=1\nSTATUS=listening on 127.0.0.1:{port}"
        status = heard.recv(1000).decode()
        assert re.fullmatch(r"WATCHDOG=1\nSTATUS=leader \S+, waiting 0, running 1", status)
        assert node.end() == 0
        told = []
        while not told or "STOPPING=1" not in told[-1]:
            told.append(heard.recv(1000).decode())


def test_a_socket_from_systemd_is_listened_on(serve):
    # What systemd does: the listener is descriptor 3, and LISTEN_PID is the process itself.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        before = (
            f"import os; os.dup2({descriptor}, 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
        )
        environment = {"LISTEN_FDS": "1"}
        node = serve(environment=environment, pass_fds=(descriptor,), before=before)
        assert node.port() == listener.getsockname()[1]
        with association(listener.getsockname()[1]) as assoc:
            assert assoc.send_c_echo().Status == 0x0000
        assert node.end() == 0


def test_only_known_peers_may_associate_when_that_is_required(serve):
    environment = {"LFSCP_SERVER__REQUIRE_KNOWN_PEERS": "true"}
    node = serve("--peer", "OTHER=127.0.0.1:104", environment=environment)
    port = node.port()
    ae = AE("TESTER")
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port)

    assert assoc.is_rejected
    reason = assoc.acceptor.primitive
    assert (reason.result, reason.result_source, reason.diagnostic) == (1, 1, 3)
    with_name = AE("OTHER")
    with_name.add_requested_context(Verification)
    assoc = with_name.associate("127.0.0.1", port)
    assert assoc.is_established
    assoc.release()


def test_the_log_is_json_when_asked_and_names_the_peer(serve):
    node = serve("--log-format", "json")
    line = node.process.stderr.readline()
    assert '"event":"listening"' in line
    port = int(re.search(r'"port":(\d+)', line)[1])
    with association(port) as assoc:
        assoc.send_c_echo()
    assert node.end() == 0
    echoed = next(each for each in node.log if "C-ECHO" in each)
    assert '"calling_ae_title":"TESTER"' in echoed
    assert '"status":"0x0000"' in echoed


def test_it_starts_again_over_what_it_left(serve):
    for _ in range(2):
        node = serve()
        node.port()
        assert node.end() == 0
