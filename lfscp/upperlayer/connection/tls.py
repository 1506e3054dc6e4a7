"""TLS as DICOM wants it (PS3.15 annex B): contexts of both sides, a socket for two threads.

TLS 1.2 and 1.3, and nothing older, as BCP 195 says (RFC 8996, RFC 9325). An OpenSSL connection must
not be read and written at the same time, but an association is aborted by another thread while its
own waits for the peer: so a `TLSSocket` never blocks inside OpenSSL, it waits outside, with its own
time limits, since SO_RCVTIMEO would only make OpenSSL try again.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

Profile = Literal["bcp195", "non-downgrading"]
ClientAuthentication = Literal["none", "optional", "required"]
Verification = Literal["host", "certificate", "none"]

# For TLS 1.2, in order; those of TLS 1.3 are all good, and OpenSSL's own choice.
_SUITES: Final[dict[Profile, str]] = {
    # RFC 9325 section 4.2; CBC with SHA-2 for devices that know nothing newer.
    "bcp195": "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:ECDHE+AES:!SHA1",
    "non-downgrading": "ECDHE+AESGCM:ECDHE+CHACHA20",  # PS3.15 section B.13
}
_CLIENT_AUTHENTICATION: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """How a listener does TLS.

    Args:
        certificate_file: its certificate, then those of the authorities in between; PEM.
        key_file: its private key, not encrypted; PEM. The same file may hold both.
        ca_file: certificates of the authorities whose clients are trusted; PEM.
        client_authentication: whether clients must show a certificate. One that is shown is always
            verified.
        minimum_version: the lowest version spoken.
    """

    certificate_file: Path
    key_file: Path
    ca_file: Path | None = None
    client_authentication: ClientAuthentication = "none"
    profile: Profile = "bcp195"
    minimum_version: Literal["1.2", "1.3"] = "1.2"


class TLSFilesError(OSError):
    """A certificate or key cannot be used; the text names the file and says why."""


def server_context(tls: ServerTLS) -> ssl.SSLContext:
    """What a listener needs to do TLS.

    Raises:
        TLSFilesError: a file cannot be read, is no PEM, or certificate and key do not belong
            together.
    Source: PS3.15 sections B.12 and B.13.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, tls.profile, tls.minimum_version)
    _load_own(context, tls.certificate_file, tls.key_file)
    context.verify_mode = _CLIENT_AUTHENTICATION[tls.client_authentication]
    if tls.ca_file is not None:
        _load_authorities(context, tls.ca_file)
    return context


def client_context(
    *,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    verification: Verification = "host",
    profile: Profile = "bcp195",
    alpn_protocols: tuple[str, ...] = (),
) -> ssl.SSLContext:
    """What an outbound association needs to do TLS; made anew only when a file has changed.

    Args:
        ca_file: authorities to trust; None is the system's.
        certificate_file: our own, for a peer that wants to see one; with `key_file`.
        verification: host: the certificate is good and names the host; certificate: it is good;
            none: anything goes.
        alpn_protocols: what is spoken inside, for a protocol that is negotiated (RFC 7301).
    Raises:
        TLSFilesError: as `server_context`.
    """
    files = tuple(_seen(path) for path in (ca_file, certificate_file, key_file))
    return _client_context(
        files, ca_file, certificate_file, key_file, verification, profile, alpn_protocols
    )


@functools.lru_cache(maxsize=64)
def _client_context(
    _files: tuple[object, ...],
    ca_file: Path | None,
    certificate_file: Path | None,
    key_file: Path | None,
    verification: Verification,
    profile: Profile,
    alpn_protocols: tuple[str, ...],
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if alpn_protocols:
        context.set_alpn_protocols(list(alpn_protocols))
    _restrict(context, profile, "1.2")
    context.check_hostname = verification == "host"
    if verification == "none":
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is not None:
        _load_authorities(context, ca_file)
    else:
        context.load_default_certs()
    if certificate_file is not None:
        _load_own(context, certificate_file, key_file or certificate_file)
    return context


def _seen(path: Path | None) -> tuple[int, int] | None:
    """What changes when a file is replaced."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError as error:
        raise TLSFilesError(f"{path}: {error.strerror}") from None
    return found.st_mtime_ns, found.st_ino


def _restrict(context: ssl.SSLContext, profile: Profile, minimum_version: str) -> None:
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if minimum_version == "1.3" else ssl.TLSVersion.TLSv1_2
    )
    context.set_ciphers(_SUITES[profile])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE


def _load_own(context: ssl.SSLContext, certificate_file: Path, key_file: Path) -> None:
    for path in (certificate_file, key_file):  # OpenSSL's own message names no file
        _require_readable(path)
    try:
        context.load_cert_chain(certificate_file, key_file, password=_no_password)
    except ValueError:
        raise TLSFilesError(f"{key_file}: an encrypted key; give one without password") from None
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        names = f"{certificate_file} with {key_file}"
        raise TLSFilesError(f"{names}: no certificate with its key in PEM ({reason})") from None


def _load_authorities(context: ssl.SSLContext, ca_file: Path) -> None:
    _require_readable(ca_file)
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise TLSFilesError(f"{ca_file}: no certificates in PEM ({reason})") from None


def _require_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise TLSFilesError(f"{path}: {error.strerror}") from None


def _no_password() -> str:
    raise ValueError("encrypted")  # else OpenSSL asks for it on the terminal


class TLSSocket(ssl.SSLSocket):
    """An established TLS connection that one thread reads while another may send.

    Made from an `ssl.SSLSocket` by `adopt`.

    Attributes:
        receive_limit_s: longest wait of one `recv_into`; None is for ever.
        send_limit_s: longest time in which a peer may take nothing of what is sent.
    """

    receive_limit_s: float | None
    send_limit_s: float | None
    _using: threading.Lock  # held in every call of OpenSSL
    _arrival: select.poll

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """At least one byte, 0 at the end.

        Raises:
            TimeoutError: nothing came within `receive_limit_s`.
        """
        size = nbytes or memoryview(buffer).nbytes
        while True:
            try:
                with self._using:
                    return super().recv_into(buffer, size, flags)
            except ssl.SSLWantReadError:
                _await(self._arrival, self.receive_limit_s)
            except ssl.SSLWantWriteError:
                self._await_room()

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Some of it; how many bytes.

        Raises:
            TimeoutError: the peer took nothing for `send_limit_s`.
        """
        while True:
            try:
                with self._using:
                    return super().send(data, flags)
            except ssl.SSLWantWriteError:
                self._await_room()
            except ssl.SSLWantReadError:  # a key update of TLS 1.3; the reader takes it
                _await(_poll(self, select.POLLIN), self.send_limit_s)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """All of it.

        Raises:
            TimeoutError: the peer took nothing for `send_limit_s`.
        """
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self.send(rest, flags) :]

    def _await_room(self) -> None:
        _await(_poll(self, select.POLLOUT), self.send_limit_s)

    def shutdown(self, how: int) -> None:
        """Say that this is the end (close_notify), without waiting for the answer, and end."""
        with self._using:
            with contextlib.suppress(OSError, ValueError):
                self.unwrap()
            super().shutdown(how)


def adopt(sock: ssl.SSLSocket, send_limit_s: float | None) -> TLSSocket:
    """Make a `TLSSocket` of a connection whose handshake is done."""
    sock.setblocking(False)
    # The class is changed in place: `SSLContext.sslsocket_class` would change a caller's context.
    sock.__class__ = TLSSocket
    assert isinstance(sock, TLSSocket)  # noqa: S101 - for the type checker
    sock.receive_limit_s = None
    sock.send_limit_s = send_limit_s
    sock._using = threading.Lock()
    sock._arrival = _poll(sock, select.POLLIN)
    return sock


def _poll(sock: socket.socket, events: int) -> select.poll:
    poll = select.poll()
    poll.register(sock, events)
    return poll


def _await(poll: select.poll, limit_s: float | None) -> None:
    if not poll.poll(None if limit_s is None else max(1.0, limit_s * 1000)):
        raise TimeoutError("timed out")
