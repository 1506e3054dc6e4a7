"""What the descriptions of peers have in common: the names of their fields, and TLS from them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lfscp.upperlayer.connection.tls import Verification, client_context

if TYPE_CHECKING:
    from lfscp.config.access import PeerSettings


class TlsFields(Protocol):
    """The fields for TLS; see the peers that have them."""

    @property
    def tls_ca_file(self) -> str | None: ...
    @property
    def tls_certificate_file(self) -> str | None: ...
    @property
    def tls_key_file(self) -> str | None: ...
    @property
    def tls_verify(self) -> bool: ...
    @property
    def tls_check_host(self) -> bool: ...


def context_of(peer: TlsFields, alpn_protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """What TLS needs to connect to a peer.

    Raises:
        TLSFilesError: a certificate or key cannot be used; it is an OSError.
    """
    verification: Verification = "host" if peer.tls_check_host else "certificate"
    return client_context(
        ca_file=_path(peer.tls_ca_file),
        certificate_file=_path(peer.tls_certificate_file),
        key_file=_path(peer.tls_key_file),
        verification=verification if peer.tls_verify else "none",
        alpn_protocols=alpn_protocols,
    )


def tls_fields(peer: PeerSettings) -> dict[str, Any]:
    """The fields for TLS of a peer of the configuration."""
    return {
        "tls_ca_file": peer.tls_ca_file or None,
        "tls_certificate_file": peer.tls_certificate_file or None,
        "tls_key_file": peer.tls_key_file or None,
        "tls_verify": peer.tls_verify != "none",
        "tls_check_host": peer.tls_verify == "host",
    }


def _path(file: str | None) -> Path | None:
    return Path(file) if file else None


def require_fields(peer: type[Any], values: dict[str, Any], required: Sequence[str]) -> None:
    """Check the names of fields that a person may have written.

    Args:
        peer: the dataclass that they are for.
    Raises:
        ValueError: an unknown field, or one that is missing.
    """
    known = {field.name for field in fields(peer)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"the field {missing[0]!r} is missing")
