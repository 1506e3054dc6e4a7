"""TLS contexts after BCP 195, words for files that cannot be used, and a socket for two threads."""

import socket
import ssl
import threading

import pytest

from lfscp.upperlayer.connection.tls import (
    ServerTLS,
    TLSFilesError,
    adopt,
    client_context,
    server_context,
)
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority):
    return authority.issue("node")


def shake_hands(server, client):
    """Both ends of a connection whose handshake is done."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    theirs.settimeout(20)
    done = []

    def serve():
        try:
            done.append(server.wrap_socket(ours, server_side=True))
        except OSError as problem:
            ours.close()
            done.append(problem)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        connected = client.wrap_socket(theirs, server_hostname="127.0.0.1")
    except OSError:
        theirs.close()
        raise
    finally:
        thread.join(20)
    return done[0], connected


def closing(*sockets):
    for each in sockets:
        each.close()


def modern(authority, **attributes):
    context = ssl.create_default_context(cafile=str(authority.file))
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("profile", ["bcp195", "non-downgrading"])
def test_both_versions_are_spoken(authority, own, profile, version):
    server = server_context(ServerTLS(own.file, own.key, profile=profile))
    ours, theirs = shake_hands(server, modern(authority, maximum_version=version))
    assert theirs.version() == version.name.replace("_", ".")
    closing(ours, theirs)


def test_a_client_that_follows_rfc_5280_to_the_letter_takes_what_the_documents_ask_for(
    authority, own
):
    """As a client in Python 3.13 or newer does."""
    strict = modern(authority)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    closing(*shake_hands(server_context(ServerTLS(own.file, own.key)), strict))


def test_such_a_client_refuses_an_authority_without_key_usage_but_the_node_does_not(
    tmp_path, authority, own
):
    lax = Authority(tmp_path, "lax", key_usage=False)
    node = lax.issue("lax-node")
    strict = modern(lax)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    server = server_context(ServerTLS(node.file, node.key))
    with pytest.raises(ssl.SSLCertVerificationError, match="key usage"):
        shake_hands(server, strict)
    closing(*shake_hands(server, client_context(ca_file=lax.file)))


def test_nothing_older_is_spoken(own):
    assert server_context(ServerTLS(own.file, own.key)).minimum_version is ssl.TLSVersion.TLSv1_2
    assert client_context().minimum_version is ssl.TLSVersion.TLSv1_2
    only = ServerTLS(own.file, own.key, minimum_version="1.3")
    assert server_context(only).minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(("profile", "accepts"), [("bcp195", True), ("non-downgrading", False)])
def test_cbc_is_for_the_wider_profile_only(authority, own, profile, accepts):
    client = modern(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    server = server_context(ServerTLS(own.file, own.key, profile=profile))
    if accepts:
        closing(*shake_hands(server, client))
    else:
        with pytest.raises(ssl.SSLError):
            shake_hands(server, client)


def suites(profile, own):
    context = server_context(ServerTLS(own.file, own.key, profile=profile))
    return [each["name"] for each in context.get_ciphers()]


def test_no_suite_is_without_forward_secrecy_or_with_sha1(own):
    for name in suites("bcp195", own):
        assert name.startswith(("TLS_", "ECDHE-")), name
        assert not name.endswith("-SHA"), name


def test_files_that_cannot_be_used_are_named(tmp_path, authority, own):
    other = authority.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no PEM")
    missing = tmp_path / "missing.pem"
    for certificate, key, guilty in (
        (missing, own.key, missing),
        (own.file, missing, missing),
        (text, own.key, text),
        (own.file, other.key, other.key),
    ):
        with pytest.raises(TLSFilesError, match=guilty.name):
            server_context(ServerTLS(certificate, key))
    with pytest.raises(TLSFilesError, match=text.name):
        server_context(ServerTLS(own.file, own.key, text))
    with pytest.raises(TLSFilesError, match=missing.name):
        client_context(ca_file=missing)


def test_a_clients_context_is_made_anew_when_a_file_has_changed(tmp_path, authority):
    copy = tmp_path / "ca.pem"
    copy.write_bytes(authority.file.read_bytes())
    first = client_context(ca_file=copy)
    assert client_context(ca_file=copy) is first
    copy.unlink()
    copy.write_bytes(authority.file.read_bytes() * 2)
    assert client_context(ca_file=copy) is not first


@pytest.mark.parametrize(
    ("verification", "accepts"), [("host", False), ("certificate", True), ("none", True)]
)
def test_the_host_s_name_counts_only_when_asked_for(authority, verification, accepts):
    elsewhere = authority.issue("elsewhere", "DNS:elsewhere.example")
    server = server_context(ServerTLS(elsewhere.file, elsewhere.key))
    client = client_context(ca_file=authority.file, verification=verification)
    if accepts:
        closing(*shake_hands(server, client))
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, client)


@pytest.fixture
def connection(authority, own):
    server = server_context(ServerTLS(own.file, own.key))
    ours, theirs = shake_hands(server, client_context(ca_file=authority.file))
    yield adopt(ours, 10.0), theirs
    closing(ours, theirs)


def test_a_read_ends_with_its_time(connection):
    ours, theirs = connection
    ours.receive_limit_s = 0.05
    with pytest.raises(TimeoutError):
        ours.recv_into(bytearray(10))
    theirs.sendall(b"now")
    into = bytearray(10)
    assert into[: ours.recv_into(into)] == b"now"


def test_a_send_that_nobody_takes_ends_with_its_time(connection):
    ours, _ = connection
    ours.send_limit_s = 0.05
    with pytest.raises(TimeoutError):
        ours.sendall(bytes(50_000_000))


def test_one_thread_reads_while_another_sends(connection):
    ours, theirs = connection
    size = 3_000_000
    ours.receive_limit_s = 20
    got = bytearray()

    def read():
        into = bytearray(65536)
        while len(got) < size:
            got.extend(into[: ours.recv_into(into)])

    def answer():
        theirs.sendall(bytes(size))

    back = bytearray()

    def take():
        while len(back) < size:
            back.extend(theirs.recv(65536))

    threads = [threading.Thread(target=each, daemon=True) for each in (read, take)]
    for each in threads:
        each.start()
    ours.sendall(b"\1" * size)
    threads[1].join(20)
    answer()
    threads[0].join(20)
    assert (len(got), bytes(back)) == (size, b"\1" * size)


def test_the_end_is_said_to_the_other_side(connection):
    ours, theirs = connection
    theirs.suppress_ragged_eofs = False  # an end without close_notify would raise
    ours.shutdown(socket.SHUT_RDWR)
    assert theirs.recv(1) == b""
