"""Defines the options of the commands that ask another node, and makes peer and query of them."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lfscp.ae_title import validate_ae_title
from lfscp.cli.errors import OptionError
from lfscp.cli.terminal import warn

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.scu.dicomweb.peer import DICOMwebPeer
    from lfscp.scu.peer import Peer

_MAX_TOKEN_BYTES: Final = 65_536
_DEFAULT_CALLED_AE_TITLE: Final = "ANY-SCP"  # as DCMTK's clients
_LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")

Target = Annotated[
    str,
    typer.Argument(
        metavar="NODE",
        help="The node to ask: AET@HOST:PORT, where AET@ may be left out, or the URL of a "
        "DICOMweb server, such as https://pacs.example/dicom-web.",
    ),
]
ApplicationEntity = Annotated[
    str, typer.Argument(metavar="AET@HOST:PORT", help="The node to ask. AET@ may be left out.")
]
User = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="NAME",
        help="User at a DICOMweb server. The password is taken from the variable "
        "LFSCP_PEER_PASSWORD, or asked for.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", help="A file with a Bearer token for a DICOMweb server."
    ),
]
OurTitle = Annotated[str, typer.Option("--aet", "-aet", metavar="TITLE", help="Our AE title.")]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", "-to", metavar="SECONDS", help="Longest wait for an answer.", min=0.1
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="Connect with TLS and verify the node.")]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Certificates to trust, PEM. [default: the system's]"
    ),
]
CertificateFile = Annotated[
    Path | None,
    typer.Option(
        "--cert",
        metavar="FILE",
        help="Our certificate, PEM. The file may also hold the private key.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="The private key, PEM, if the file of --cert does not hold it.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure", help="Connect with TLS, but do not verify the node. For tests only."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        "-k",
        metavar="KEYWORD=VALUE",
        help='A key, such as PatientName=DOE* or "0010,0010=DOE*". May be given several times. '
        "A find returns the values of keys that are given without a value.",
    ),
]
QueryLevel = Annotated[
    str | None,
    typer.Option(
        "--level",
        "-l",
        metavar="LEVEL",
        help="PATIENT, STUDY, SERIES or IMAGE; -k QueryRetrieveLevel=LEVEL says the same. "
        "[default: STUDY]",
    ),
]
PatientRoot = Annotated[bool, typer.Option("--patient", "-P", help="Use the Patient Root model.")]
StudyRoot = Annotated[
    bool, typer.Option("--study", "-S", help="Use the Study Root model. This is the default.")
]
PatientStudy = Annotated[
    bool, typer.Option("--psonly", "-O", help="Use the Patient/Study Only model. It is retired.")
]


def peer_of(
    target: str,
    aet: str,
    timeout_s: float,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    insecure: bool,
) -> Peer:
    """The node that the options name. Files for TLS mean TLS, also without --tls.

    Raises:
        OptionError: something is written wrongly.
    """
    from lfscp.scu.dicomweb.peer import is_url
    from lfscp.scu.peer import Peer

    if is_url(target):
        reason = "a DICOMweb server cannot do this; expected AET@HOST:PORT"
        raise OptionError(f"{target}: {reason}")
    title, _, address = target.rpartition("@")
    host, _, port = address.rpartition(":")
    try:
        number = int(port)
        title = validate_ae_title(title or _DEFAULT_CALLED_AE_TITLE)
    except ValueError:
        number = 0
    if not host or not 1 <= number <= 65535:
        raise OptionError(f"{target!r}: expected AET@HOST:PORT, for example PACS@10.0.0.5:104")
    _require_files(ca, cert, key)
    try:
        return Peer(
            title,
            host,
            number,
            calling_ae_title=aet,
            tls=tls or insecure or bool(ca or cert or key),
            tls_ca_file=None if ca is None else str(ca),
            tls_certificate_file=None if cert is None else str(cert),
            tls_key_file=None if key is None else str(key),
            tls_verify=not insecure,
            connect_timeout_s=min(10.0, timeout_s),
            acse_timeout_s=min(30.0, timeout_s),
            dimse_timeout_s=timeout_s,
        )
    except ValueError as error:
        raise OptionError(f"{target}: {error}") from None


def target_of(
    target: str,
    aet: str,
    timeout_s: float,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    insecure: bool,
    user: str | None,
    token_file: Path | None,
) -> Peer | DICOMwebPeer:
    """The node that the options name: an application entity, or a DICOMweb server.

    Raises:
        OptionError: something is written wrongly, or an option belongs to the other kind.
    """
    from lfscp.scu.dicomweb.peer import DICOMwebPeer, is_url

    if not is_url(target):
        for name, value in (("--user", user), ("--token-file", token_file)):
            if value is not None:
                raise OptionError(f"flag {name}: expected the URL of a DICOMweb server with it")
        return peer_of(target, aet, timeout_s, tls, ca, cert, key, insecure)
    if (tls or insecure or ca or cert or key) and not target.lower().startswith("https:"):
        raise OptionError(f"{target}: expected an https URL with options for TLS")
    _require_files(ca, cert, key)
    if user and token_file:
        raise OptionError("flags --user, --token-file: expected one of them")
    try:
        peer = DICOMwebPeer(
            target,
            user=user or "",
            password=_password() if user else "",
            token=_token(token_file) if token_file else "",
            tls_ca_file=None if ca is None else str(ca),
            tls_certificate_file=None if cert is None else str(cert),
            tls_key_file=None if key is None else str(key),
            tls_verify=not insecure,
            connect_timeout_s=min(10.0, timeout_s),
            timeout_s=timeout_s,
        )
    except ValueError as error:
        raise OptionError(str(error)) from None
    if (user or token_file) and peer.is_readable_on_the_way:
        warn(f"lfscp: {peer}: anybody on the way can read the login, as it is no https URL")
    return peer


def _require_files(*files: Path | None) -> None:
    for file in files:
        if file is not None and not file.is_file():
            raise OptionError(f"{file}: there is no such file")


def _password() -> str:
    """The password from the environment, or of the person at the terminal."""
    from lfscp.config.describe import PEER_PASSWORD_VARIABLE

    given = os.environ.get(PEER_PASSWORD_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise OptionError(f"flag --user: expected a password in {PEER_PASSWORD_VARIABLE}")
    return getpass("Password: ")


def _token(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise OptionError(f"{file}: {error.strerror}") from None
    text = content.decode("ascii", "replace").strip()
    if not text or len(content) > _MAX_TOKEN_BYTES:
        raise OptionError(f"{file}: expected a token")
    return text


@dataclass(frozen=True, slots=True)
class PeerQuery:
    """The query of a command: keys by keyword, the same as a dataset with the level, the model."""

    keys: dict[str, str]
    identifier: Dataset
    model: str


def query_of(
    keys: list[str] | None, level: str | None, patient: bool, study: bool, psonly: bool
) -> PeerQuery:
    """The query that the options name.

    Raises:
        OptionError: an unknown key or level, a value that a key cannot have, or several models.
    """
    from lfscp.scu.identifiers import identifier

    if patient + study + psonly > 1:
        raise OptionError("flags --patient, --study, --psonly: expected one of them")
    named = dict(_key(text) for text in keys or [])
    chosen = (named.pop("QueryRetrieveLevel", "") or level or "STUDY").upper()
    if chosen not in _LEVELS:
        raise OptionError(f"flag --level {chosen}: expected one of {', '.join(_LEVELS)}")
    model = "patient" if patient else "patient-study" if psonly else "study"
    try:
        return PeerQuery(named, identifier(named, chosen), model)
    except ValueError as error:
        raise OptionError(f"flag --key {error}") from None


def _key(text: str) -> tuple[str, str]:
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    name, _, value = text.partition("=")
    name = name.strip()
    tag = _TAG.fullmatch(name)
    if tag is not None:
        name = keyword_for_tag(int(tag[1] + tag[2], 16))
    if not name or tag_for_keyword(name) is None:
        raise OptionError(
            f"flag --key {text!r}: expected a keyword or tag of the DICOM dictionary, "
            "for example PatientName=DOE*"
        )
    return name, value
