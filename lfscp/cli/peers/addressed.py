"""Makes of the options the node that is asked: an application entity, or a DICOMweb server."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lfscp.ae_title import validate_ae_title
from lfscp.cli.errors import OptionError
from lfscp.cli.terminal import warn

if TYPE_CHECKING:
    from lfscp.scu.dicomweb.peer import DICOMwebPeer
    from lfscp.scu.peer import Peer

_DEFAULT_CALLED_AE_TITLE: Final = "ANY-SCP"  # as DCMTK's clients


@dataclass(frozen=True, slots=True)
class Login:
    """The options of a login: --user, --password-file, --token-file."""

    user: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None


def peer_of(
    target: str,
    aet: str,
    timeout_s: float,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    insecure: bool,
    login: Login,
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
    title, host, port = _parts_of(target)
    if login.token_file is not None:
        raise OptionError("flag --token-file: expected the URL of a DICOMweb server with it")
    try:
        peer = Peer(
            title,
            host,
            port,
            calling_ae_title=aet,
            user=login.user or "",
            password=_password(login),
            tls=tls or insecure or bool(ca or cert or key),
            **_tls_fields(ca, cert, key, insecure),
            connect_timeout_s=min(10.0, timeout_s),
            acse_timeout_s=min(30.0, timeout_s),
            dimse_timeout_s=timeout_s,
        )
    except ValueError as error:
        raise OptionError(f"{target}: {error}") from None
    if peer.is_readable_on_the_way:
        warn(f"lfscp: {peer}: anybody on the way can read the passcode; --tls hides it")
    return peer


def _parts_of(target: str) -> tuple[str, str, int]:
    """AE title, host and port."""
    title, _, address = target.rpartition("@")
    host, _, port = address.rpartition(":")
    try:
        number = int(port)
        title = validate_ae_title(title or _DEFAULT_CALLED_AE_TITLE)
    except ValueError:
        number = 0
    if not host or not 1 <= number <= 65535:
        raise OptionError(f"{target!r}: expected AET@HOST:PORT, for example PACS@10.0.0.5:104")
    return title, host, number


def target_of(
    target: str,
    aet: str,
    timeout_s: float,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    insecure: bool,
    login: Login,
) -> Peer | DICOMwebPeer:
    """The node that the options name: an application entity, or a DICOMweb server.

    Raises:
        OptionError: something is written wrongly, or an option belongs to the other kind.
    """
    from lfscp.scu.dicomweb.peer import DICOMwebPeer, is_url

    if not is_url(target):
        if "://" in target:
            raise OptionError(f"{target}: expected http:// or https:// of a DICOMweb server")
        return peer_of(target, aet, timeout_s, tls, ca, cert, key, insecure, login)
    if (tls or insecure or ca or cert or key) and not target.lower().startswith("https:"):
        raise OptionError(f"{target}: expected an https URL with options for TLS")
    tls_fields = _tls_fields(ca, cert, key, insecure)
    user, token_file = login.user, login.token_file
    if user and token_file:
        raise OptionError("flags --user, --token-file: expected one of them")
    try:
        peer = DICOMwebPeer(
            target,
            user=user or "",
            password=_password(login),
            token=_secret(token_file, "a token") if token_file else "",
            **tls_fields,
            connect_timeout_s=min(10.0, timeout_s),
            timeout_s=timeout_s,
        )
    except ValueError as error:
        raise OptionError(str(error)) from None
    if (user or token_file) and peer.is_readable_on_the_way:
        warn(f"lfscp: {peer}: anybody on the way can read the login, as it is no https URL")
    return peer


def _tls_fields(
    ca: Path | None, cert: Path | None, key: Path | None, insecure: bool
) -> dict[str, Any]:
    """The fields for TLS, which both kinds of node have."""
    files = {"tls_ca_file": ca, "tls_certificate_file": cert, "tls_key_file": key}
    for file in files.values():
        if file is not None and not file.is_file():
            raise OptionError(f"{file}: there is no such file")
    named = {field: None if file is None else str(file) for field, file in files.items()}
    return {**named, "tls_verify": not insecure}


def _password(login: Login) -> str:
    """The password from a file, the environment, or the person at the terminal; "" for none."""
    if not login.user:
        if login.password_file is not None:
            raise OptionError("flag --password-file: expected --user with it")
        return ""
    if login.password_file is not None:
        return _secret(login.password_file, "a password")
    from lfscp.config.describe import PEER_PASSWORD_VARIABLE

    given = os.environ.get(PEER_PASSWORD_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise OptionError(
            f"flag --user: expected a password in {PEER_PASSWORD_VARIABLE} or --password-file"
        )
    return getpass("Password: ")


def _secret(file: Path, what: str) -> str:
    from lfscp.config.peer_secrets import read_secret

    try:
        return read_secret(str(file))
    except OSError as error:
        raise OptionError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise OptionError(f"{file}: expected {what}; {error}") from None
