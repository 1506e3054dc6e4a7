"""A certificate authority of the benchmark's own, made by openssl, and its client's TLS."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_AUTHORITY = (
    *("-addext", "basicConstraints=critical,CA:true"),
    *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
)
_SUBJECT = (
    *("-addext", "basicConstraints=critical,CA:false"),
    *("-addext", "keyUsage=critical,digitalSignature"),
    *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
    *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
)


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, and a certificate of it that servers and clients share."""

    authority: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """TLS as a client that verifies the server, and shows its certificate."""
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and have it issue a certificate for 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    made = Certificates(authority, folder / "peer.pem", folder / "peer.key")
    _openssl(*_AUTHORITY, "-subj", "/CN=peerbench", "-keyout", authority_key, "-out", authority)
    issued_by = ("-CA", authority, "-CAkey", authority_key)
    subject = ("-subj", "/CN=localhost", "-keyout", made.key, "-out", made.certificate)
    _openssl(*_SUBJECT, *issued_by, *subject)
    return made


def _openssl(*arguments: str | Path) -> None:
    command = ["openssl", *_NEW, "-days", "2", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
