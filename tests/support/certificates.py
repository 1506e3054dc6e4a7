"""Certificates for the tests of TLS, made by openssl: an authority, and whom it vouches for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

# Who verifies by RFC 5280 to the letter, as Python from 3.13 on, refuses an authority without key
# usage. Key identifiers are openssl's own doing.
AUTHORITY = ("-addext", "basicConstraints=critical,CA:true")
KEY_USAGE = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
SUBJECT = (
    *("-addext", "basicConstraints=critical,CA:false"),
    *("-addext", "keyUsage=critical,digitalSignature"),
    *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
)
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both PEM files."""

    file: Path
    key: Path


class Authority:
    """A certificate authority of the test's own, in a folder."""

    def __init__(
        self, folder: Path, name: str = "test-authority", *, key_usage: bool = True
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        extensions = (*AUTHORITY, *KEY_USAGE) if key_usage else AUTHORITY
        _openssl(*EC, *extensions, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.file)

    def issue(self, name: str, *alternatives: str) -> Certificate:
        """A certificate for `name`, valid for these names ("IP:127.0.0.1")."""
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        signed = ("-CA", self.file, "-CAkey", self._key, "-subj", f"/CN={name}")
        names = ",".join(alternatives or ("IP:127.0.0.1", "DNS:localhost"))
        _openssl(
            *EC,
            *signed,
            *SUBJECT,
            "-addext",
            f"subjectAltName={names}",
            "-keyout",
            made.key,
            "-out",
            made.file,
        )
        return made


def _openssl(*arguments: object) -> None:
    command = ["openssl", "req", "-x509", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
