"""TLS: beside the plain port or alone, with DCMTK's clients and others that misbehave."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support import pynetdicom_client
from tests.support.certificates import Authority, Certificate
from tests.support.dcmtk import contents, dataset_bytes
from tests.support.dicom_peer import ABORT, Peer
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.sample_objects import made, sample

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom node and clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    """The node's own."""
    return authority.issue("node")


def tls(certificate: Certificate, more: str = "", server: str = "") -> str:
    """A configuration with TLS on any free port."""
    return f"""
[server]
{server}
[tls]
enabled = true
port = 0
certificate_file = "{certificate.file}"
key_file = "{certificate.key}"
{more}
"""


def trusting(authority: Authority, shown: Certificate | None = None) -> tuple[object, ...]:
    """DCMTK's options for TLS."""
    own = ("+tls", shown.key, shown.file) if shown is not None else ("--anonymous-tls",)
    return (*own, "+cf", authority.file)


def client_context(authority: Authority) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    return ssl.create_default_context(cafile=str(authority.file))


def secure(peer: Peer, authority: Authority) -> ssl.SSLSocket:
    """Do the client's handshake on a peer's connection."""
    context = client_context(authority)
    peer.sock = context.wrap_socket(peer.sock, server_hostname="127.0.0.1")
    assert isinstance(peer.sock, ssl.SSLSocket)
    return peer.sock


def test_plain_and_tls_are_served_side_by_side(
    dcmtk: Any,
    start_node: StartNode,
    authority: Authority,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    node = start_node(configuration=tls(certificate))
    small = sample("CT_small.dcm", tmp_path)
    large = made(tmp_path / "large", PixelData=bytes(6_000_000))
    options = trusting(authority)
    assert dcmtk.echo(node.port).code == 0
    assert dcmtk.echo(node.tls_port, *options).code == 0
    assert dcmtk.store(node.port, small).code == 0
    assert dcmtk.store(node.tls_port, large, options=options).code == 0
    keys = {"StudyInstanceUID": next(iter(stored_study(node, large)))}
    encrypted = {"tls_args": (client_context(authority), "127.0.0.1")}
    _, got = pynetdicom_client.get(node.tls_port, keys, "STUDY", [(CT, EXPLICIT)], **encrypted)
    assert [data for _, data in got.values()] == [dataset_bytes(large)]
    # Neither speaks the other's language.
    assert dcmtk.echo(node.port, *options).code != 0
    assert dcmtk.echo(node.tls_port).code != 0


def stored_study(node: NodeProcess, file: Path) -> set[str]:
    """The study of the node's object that is the file's."""
    wanted = dataset_bytes(file)
    return {
        path.parents[1].name
        for path in node.objects.rglob("*.dcm")
        if dataset_bytes(path) == wanted
    }


def test_tls_may_be_all_there_is(
    dcmtk: Any, start_node: StartNode, authority: Authority, certificate: Certificate
) -> None:
    node = start_node(configuration=tls(certificate, server="plain = false"))
    assert node.port == node.tls_port
    assert dcmtk.echo(node.tls_port, *trusting(authority)).code == 0
    assert dcmtk.echo(node.tls_port).code != 0


def test_clients_must_show_a_certificate_that_is_trusted(
    dcmtk: Any,
    start_node: StartNode,
    authority: Authority,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    required = f'client_auth = "required"\nca_file = "{authority.file}"'
    node = start_node(configuration=tls(certificate, required))
    stranger = Authority(tmp_path, "stranger").issue("mallory")
    assert dcmtk.echo(node.tls_port, *trusting(authority, authority.issue("client"))).code == 0
    assert dcmtk.echo(node.tls_port, *trusting(authority)).code != 0
    assert dcmtk.echo(node.tls_port, *trusting(authority, stranger)).code != 0
    assert node.stop() == 0
    reasons = [each["reason"] for each in node.events("association ended")]
    assert sum("TLS handshake failed" in reason for reason in reasons) == 2


def test_who_stalls_in_the_handshake_holds_nobody_up(
    dcmtk: Any, start_node: StartNode, authority: Authority, certificate: Certificate
) -> None:
    node = start_node(configuration=tls(certificate, server="acse_timeout_s = 2.0"))
    stalled = [socket.create_connection(("127.0.0.1", node.tls_port)) for _ in range(5)]
    try:
        stalled[0].sendall(b"\x16\x03")  # the beginning of a handshake
        assert dcmtk.echo(node.port).code == 0
        assert dcmtk.echo(node.tls_port, *trusting(authority)).code == 0
        for each in stalled:
            each.settimeout(30)
            assert each.recv(1) == b""
    finally:
        for each in stalled:
            each.close()


def test_time_limits_hold_over_tls(
    start_node: StartNode, authority: Authority, certificate: Certificate
) -> None:
    node = start_node(configuration=tls(certificate, server="network_timeout_s = 1.0"))
    with Peer(("127.0.0.1", node.tls_port), timeout=30) as idle:
        secure(idle, authority)
        idle.associate(called="LFSCP")
        assert idle.echo() == 0
        assert idle.pdu()[0] == ABORT
    node.wait_for("association ended", reason="idle for longer than the network timeout")


def test_a_certificate_is_replaced_while_associations_run(
    start_node: StartNode, authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    node = start_node(configuration=tls(certificate), errors_expected=True)
    next_one = authority.issue("next", "IP:127.0.0.1")

    def shown() -> Any:
        with Peer(("127.0.0.1", node.tls_port)) as peer:
            return secure(peer, authority).getpeercert()

    before = shown()
    with Peer(("127.0.0.1", node.tls_port)) as running:
        secure(running, authority)
        running.associate(called="LFSCP")
        node.reload(tls(next_one))
        after = shown()
        assert after["subject"] != before["subject"]
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        said = node.reload(
            tls(Certificate(broken, next_one.key)),
            says="configuration not reloaded, the old one stays",
        )
        assert str(broken) in said["reason"]
        assert shown() == after
        assert running.echo() == 0
        running.release()
    assert [line for line in node.complaints() if "configuration not reloaded" not in line] == []


def test_a_successor_serves_tls_as_well_with_the_certificate_of_its_own_configuration(
    dcmtk: Any, start_node: StartNode, authority: Authority, certificate: Certificate
) -> None:
    old = start_node(configuration=tls(certificate))
    later = authority.issue("later")
    new = start_node(configuration=tls(later), flags=["--take-over"])
    assert (new.port, new.tls_port) == (old.port, old.tls_port)
    assert old.wait() == 0
    assert dcmtk.echo(new.tls_port, *trusting(authority)).code == 0
    with Peer(("127.0.0.1", new.tls_port)) as peer:
        shown: Any = secure(peer, authority).getpeercert()
    assert shown["subject"] == ((("commonName", "later"),),)


def test_objects_are_moved_over_tls(
    dcmtk: Any, start_node: StartNode, authority: Authority, tmp_path: Path
) -> None:
    receiver = authority.issue("receiver")
    own = authority.issue("mover")
    file = sample("CT_small.dcm", tmp_path)
    shown = ("+tls", receiver.key, receiver.file, "+cf", authority.file)
    with dcmtk.storescp(tmp_path / "got", *shown, answers_echo=False) as port:
        node = start_node(
            configuration=f"""
[peers.DST]
host = "127.0.0.1"
port = {port}
tls = true
tls_ca_file = "{authority.file}"
tls_certificate_file = "{own.file}"
tls_key_file = "{own.key}"
[peers.STRANGER]
host = "127.0.0.1"
port = {port}
tls = true
"""
        )
        assert dcmtk.store(node.port, file).code == 0
        uid = next(iter(contents(node.objects)))
        study = next(node.objects.glob("*/*/*.dcm"))
        keys = {"StudyInstanceUID": study.parents[1].name}
        assert dcmtk.move(node.port, "STUDY", keys, to="DST").status == 0
        assert list(contents(tmp_path / "got")) == [uid]
        # The system's authorities do not vouch for the receiver.
        assert dcmtk.move(node.port, "STUDY", keys, to="STRANGER").status == 0xA702


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("[tls]\nenabled = true", "tls: set certificate_file, since enabled is true"),
        ('[tls]\nclient_auth = "required"', "tls: set ca_file, since client_auth is required"),
        ("[server]\nplain = false", "tls: set enabled, since server.plain is false"),
        ('[tls]\nenabled = true\ncertificate_file = "/nowhere.pem"', "/nowhere.pem: No such file"),
    ],
)
def test_wrong_settings_stop_the_start(tmp_path: Path, wrong: str, expected: str) -> None:
    file = tmp_path / "lfscp.toml"
    file.write_text(wrong)
    ended = run_lfscp(
        "serve", "--config", file, "--data-dir", tmp_path / "data", "--no-http", "--port", 0
    )
    assert ended.returncode == 2
    assert expected in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False)])
def test_a_key_that_everybody_can_read_is_warned_of(
    start_node: StartNode, authority: Authority, mode: int, warned: bool
) -> None:
    own = authority.issue(f"mode-{mode:o}")
    own.key.chmod(mode)
    node = start_node(configuration=tls(own))
    node.wait_for("listening")

    found = node.events("everybody can read a private key")
    assert [each["file"] for each in found] == [str(own.key)] * warned
