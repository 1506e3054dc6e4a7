"""The settings of who may come in and how: TLS, users, peers."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from lfscp.config.checks import AETitle, Bool, ListenPort, Permission, Port, as_tuple, check_host
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
        raise ValueError("addresses or networks such as 10.0.0.7 or 10.1.0.0/16") from None


def check_identity(entry: str) -> str:
    """A user of associations, with the hash of the passcode or without."""
    name, colon, hashed = entry.partition(":")
    well_formed = hashed.startswith("scrypt$") and hashed.count("$") == 5
    if not name.strip() or (colon and not well_formed):
        raise ValueError(
            "NAME:HASH, where `lfscp hash-password` makes the hash, or NAME when no passcode is "
            "asked for"
        )
    return entry


File = Annotated[str, AfterValidator(check_file)]
Network = Annotated[str, AfterValidator(check_network)]
IdentityUser = Annotated[str, AfterValidator(check_identity)]


class TLS(Section):
    """The DICOM listener for TLS (PS3.15 annex B), beside the plain one."""

    enabled: Bool = setting(False, "Listen for TLS on port as well.")
    port: ListenPort = setting(2762, "TCP port of TLS; 0 takes any free port and the log says it.")
    certificate_file: File = setting(
        "", "This node's certificate, and those of the authorities in between; PEM.", live=True
    )
    key_file: File = setting(
        "", "Its private key, without password; PEM. Empty: in certificate_file.", live=True
    )
    ca_file: File = setting(
        "", "Certificates of the authorities whose clients are trusted; PEM.", live=True
    )
    client_auth: Literal["none", "optional", "required"] = setting(
        "none",
        "Whether clients show a certificate of ca_file's; one that is shown is always verified.",
        live=True,
    )
    profile: Literal["bcp195", "non-downgrading"] = setting(
        "bcp195",
        "bcp195: TLS 1.2 and 1.3 with every suite that RFC 9325 leaves. non-downgrading: of those "
        "of TLS 1.2 only AES-GCM and ChaCha20 with ECDHE.",
        live=True,
    )
    minimum_version: Literal["1.2", "1.3"] = setting("1.2", "Lowest version of TLS.", live=True)

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if self.enabled and not self.certificate_file:
            raise ValueError("certificate_file, since enabled is true")
        if self.client_auth != "none" and not self.ca_file:
            raise ValueError(f"ca_file, since client_auth is {self.client_auth}")
        return self


class Identity(Section):
    """The users that peers name when they associate (PS3.7 section D.3.3.7)."""

    required: Bool = setting(
        False, "Reject associations that name no user; otherwise only wrong ones are.", live=True
    )
    users: Annotated[tuple[IdentityUser, ...], BeforeValidator(as_tuple)] = setting(
        (),
        "Who may be named, each as NAME:HASH (`lfscp hash-password`), or NAME when no passcode is "
        "asked for. Empty: users are not looked at.",
        live=True,
    )

    @model_validator(mode="after")
    def _has_users(self) -> Self:
        if self.required and not self.users:
            raise ValueError("users, since required is true")
        return self


class Peer(Section):
    """Another application entity, by its AE title: `[peers.TITLE]`."""

    host: Annotated[str, AfterValidator(check_host)] = setting(..., "Its name or address.")
    port: Port = setting(..., "Its DICOM port.")
    may: Annotated[tuple[Permission, ...], BeforeValidator(as_tuple)] = setting(
        ("echo", "store", "query", "retrieve", "destination"),
        "What it may ask of this node; destination: others may move objects to it.",
    )
    may_move_to: Annotated[tuple[AETitle, ...], BeforeValidator(as_tuple)] = setting(
        (), "The only destinations it may move objects to; empty: all that are any."
    )
    addresses: Annotated[tuple[Network, ...], BeforeValidator(as_tuple)] = setting(
        (),
        "Addresses and networks (10.1.0.0/16) that it calls from, besides host; when given, its AE "
        "title is rejected from elsewhere.",
    )
    tls: Bool = setting(False, "Connect to it with TLS.")
    tls_verify: Literal["host", "certificate", "none"] = setting(
        "host",
        "host: its certificate is good and names its host. certificate: it is good. none: anything "
        "goes.",
    )
    tls_ca_file: File = setting(
        "", "Certificates of the authorities trusted for it, PEM; empty is the system's."
    )
    tls_certificate_file: File = setting(
        "", "Certificate that this node shows to it when asked; PEM."
    )
    tls_key_file: File = setting(
        "", "Its private key, without password; PEM. Empty: in tls_certificate_file."
    )
