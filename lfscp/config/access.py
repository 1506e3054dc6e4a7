"""The settings of access: TLS, users, peers."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, SecretStr, model_validator

from lfscp.config.checks import (
    AETitle,
    Bool,
    ListenPort,
    ListOf,
    Permission,
    Port,
    check_dicomweb_url,
    check_host,
    is_password_hash,
)
from lfscp.config.declaration import Section, setting


def check_file(text: str) -> str:
    """A file as an absolute path, or nothing."""
    if "\0" in text:
        raise ValueError("the path of a file")
    return str(Path(text).expanduser().absolute()) if text else ""


def check_network(text: str) -> str:
    """An address, or a network as address/bits."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError("an address or a network, such as 10.0.0.7 or 10.1.0.0/16") from None


def check_identity(entry: str) -> str:
    """A user of associations, with the hash of the passcode or without."""
    name, colon, hashed = entry.partition(":")
    if not name.strip() or (colon and not is_password_hash(hashed)):
        raise ValueError(
            "NAME:HASH, or NAME alone for a user without a passcode; `lfscp hash-password` makes "
            "the hash"
        )
    return entry


def check_user(name: str) -> str:
    """A user of Basic authentication (RFC 7617)."""
    if ":" in name or not name.isprintable():
        raise ValueError("a name without colons and control characters")
    return name


def check_secret(secret: SecretStr) -> SecretStr:
    """A password, or nothing."""
    if not secret.get_secret_value().isprintable():
        raise ValueError("a text without control characters")
    return secret


def check_token(token: SecretStr) -> SecretStr:
    """A bearer token (RFC 6750 section 2.1), or nothing."""
    text = token.get_secret_value()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("letters, digits and signs of ASCII, without spaces")
    return token


File = Annotated[str, AfterValidator(check_file)]
Secret = Annotated[SecretStr, AfterValidator(check_secret)]
Token = Annotated[SecretStr, AfterValidator(check_token)]
Network = Annotated[str, AfterValidator(check_network)]
IdentityUser = Annotated[str, AfterValidator(check_identity)]


class TLS(Section):
    """The DICOM listener for TLS (PS3.15 annex B), beside the plain one."""

    enabled: Bool = setting(False, "Listen for TLS on tls.port as well.")
    port: ListenPort = setting(
        2762, "TCP port of TLS. 0 takes any free port, and the log says which."
    )
    certificate_file: File = setting(
        "", "Certificate of this node, then those of intermediate authorities (PEM).", live=True
    )
    key_file: File = setting(
        "",
        "Private key of this certificate, without a password (PEM). Empty means that it is in "
        "certificate_file.",
        live=True,
    )
    ca_file: File = setting(
        "", "Certificates of the authorities whose clients are trusted (PEM).", live=True
    )
    client_auth: Literal["none", "optional", "required"] = setting(
        "none",
        "Whether clients must show a certificate of an authority in ca_file: none (the node "
        "does not ask), optional or required. The node verifies each one that is shown.",
        live=True,
    )
    profile: Literal["bcp195", "non-downgrading"] = setting(
        "bcp195",
        "bcp195: TLS 1.2 and 1.3 with every cipher suite that RFC 9325 allows. non-downgrading:"
        " for TLS 1.2 only AES-GCM and ChaCha20 with ECDHE.",
        live=True,
    )
    minimum_version: Literal["1.2", "1.3"] = setting("1.2", "Lowest version of TLS.", live=True)

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if self.enabled and not self.certificate_file:
            raise ValueError("set certificate_file, since enabled is true")
        if self.client_auth != "none" and not self.ca_file:
            raise ValueError(f"set ca_file, since client_auth is {self.client_auth}")
        return self


class Identity(Section):
    """The users that peers name when they associate (PS3.7 section D.3.3.7)."""

    required: Bool = setting(
        False,
        "Reject associations that name no user. With false, only a wrong user is rejected.",
        live=True,
    )
    users: ListOf[IdentityUser] = setting(
        (),
        "Users that peers may name, each as NAME:HASH (`lfscp hash-password` makes the hash), "
        "or as NAME if no passcode is asked for. Empty: the node ignores the users of peers.",
        live=True,
    )

    @model_validator(mode="after")
    def _has_users(self) -> Self:
        if self.required and not self.users:
            raise ValueError("set users, since required is true")
        return self


class PeerSettings(Section):
    """Another node, by its AE title, or a DICOMweb server, by a name: one `[peers.TITLE]` each."""

    host: Annotated[str, AfterValidator(check_host)] = setting(
        "", "Host name or address of the peer. Must be given, unless url is."
    )
    port: Port = setting(0, "DICOM port of the peer. Must be given, unless url is.")
    url: Annotated[str, AfterValidator(check_dicomweb_url)] = setting(
        "",
        "Of a DICOMweb server, in place of host and port: the URL before /studies, such as "
        "https://pacs.example.org/dicom-web. Jobs search it, retrieve from it and send to it.",
    )
    user: Annotated[str, AfterValidator(check_user)] = setting(
        "",
        "User that this node names to the peer: in its associations (user identity), with url by "
        "Basic authentication.",
    )
    password: Secret = setting(
        SecretStr(""),
        "With user: the passcode or password. Better in password_file, or in the environment. An "
        "application entity may be content with a user alone.",
    )
    password_file: File = setting(
        "",
        "With user: a file with the passcode or password in its first line. Read anew for each "
        "association or job.",
    )
    token: Token = setting(
        SecretStr(""), "With url: a bearer token. Better in token_file, or in the environment."
    )
    token_file: File = setting(
        "", "With url: a file with the bearer token in its first line. Read anew for each job."
    )
    may: ListOf[Permission] = setting(
        get_args(Permission),
        "What the peer may ask of this node. With destination, objects may be moved to it. "
        "procedure-step is for MPPS, commit for storage commitment.",
    )
    may_move_to: ListOf[AETitle] = setting(
        (),
        "The only destinations to which the peer may move objects. Empty means every peer that "
        "is a destination.",
    )
    addresses: ListOf[Network] = setting(
        (),
        "Addresses and networks (10.1.0.0/16) from which the peer calls, besides host. If this "
        "is set, the node rejects its AE title from elsewhere.",
    )
    tls: Bool = setting(False, "Connect to the peer with TLS. A url says it by https.")
    tls_verify: Literal["host", "certificate", "none"] = setting(
        "host",
        "host: the peer's certificate must be valid and name its host. certificate: it must be "
        "valid. none: it is not verified.",
    )
    tls_ca_file: File = setting(
        "",
        "Certificates of the authorities that are trusted for this peer (PEM). Empty means the "
        "system's.",
    )
    tls_certificate_file: File = setting(
        "", "Certificate that this node shows to the peer when asked (PEM)."
    )
    tls_key_file: File = setting(
        "",
        "Private key of this certificate, without a password (PEM). Empty means that it is in "
        "tls_certificate_file.",
    )

    @property
    def is_dicomweb(self) -> bool:
        """Whether it is a DICOMweb server, which has no AE title and calls nobody."""
        return bool(self.url)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if self.url:
            for name in _OF_APPLICATION_ENTITIES:
                if name in self.model_fields_set:
                    raise ValueError(f"leave out {name}, since url is set")
        elif not (self.host and self.port):
            missing = "port" if self.host else "host"
            raise ValueError(f"set {missing}, or url for a DICOMweb server")
        else:
            for name in _OF_DICOMWEB:
                if getattr(self, name):
                    raise ValueError(f"set url, since {name} is set")
        _check_login(self)
        return self


_OF_APPLICATION_ENTITIES: Final[tuple[str, ...]] = (
    "host",
    "port",
    "may",
    "may_move_to",
    "addresses",
    "tls",
)
_OF_DICOMWEB: Final[tuple[str, ...]] = ("token", "token_file")
_LOGIN: Final[tuple[str, ...]] = ("user", "password", "password_file", *_OF_DICOMWEB)


def _check_login(peer: PeerSettings) -> None:
    """Refuse a login that is two, or half of one."""
    given = [name for name in _LOGIN if getattr(peer, name)]
    secrets = [name for name in given if name != "user"]
    if len(secrets) > 1:
        raise ValueError(f"leave out {secrets[1]}, since {secrets[0]} is set")
    is_basic = bool(secrets) and secrets[0].startswith("password")
    if peer.is_dicomweb and peer.user and not is_basic:
        raise ValueError("set password or password_file, since user is set")
    if is_basic and not peer.user:
        raise ValueError(f"set user, since {secrets[0]} is set")
