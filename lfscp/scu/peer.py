"""Describes another application entity and how to reach it: plain data that fits into JSON."""

from __future__ import annotations

import ssl
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lfscp.ae_title import validate_ae_title
from lfscp.scu.peer_fields import context_of, require_fields, tls_fields

if TYPE_CHECKING:
    from lfscp.config.access import PeerSettings as ConfiguredPeer
    from lfscp.config.server import ServerSection


@dataclass(frozen=True, slots=True)
class Peer:
    """An application entity to ask.

    Args:
        ae_title: the AE title we call.
        calling_ae_title: ours.
        user: named to the peer with each association (PS3.7 section D.3.3.7); "" names nobody.
        password: of this user, as passcode; "" if the peer asks for none.
        tls: whether to connect with TLS; its certificate is verified unless `tls_verify` is False,
            and must name the host unless `tls_check_host` is False.
        tls_ca_file: certificates to trust, PEM; None is the system's.
        tls_certificate_file: our certificate, PEM, when the peer wants one; with `tls_key_file`.
        connect_timeout_s: longest wait for the connection.
        acse_timeout_s: longest wait for the answer to our association request.
        dimse_timeout_s: longest silence while we wait for a response.
    Raises:
        ValueError: a field is not what it should be; the text names it.
    """

    ae_title: str
    host: str
    port: int
    calling_ae_title: str = "LFSCP"
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    tls_ca_file: str | None = None
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    tls_verify: bool = True
    tls_check_host: bool = True
    connect_timeout_s: float = 10.0
    acse_timeout_s: float = 30.0
    dimse_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("ae_title", "calling_ae_title"):
            try:
                object.__setattr__(self, name, validate_ae_title(getattr(self, name)))
            except ValueError as error:
                raise ValueError(f"{name} {getattr(self, name)!r}: expected {error}") from None
        if not (isinstance(self.user, str) and isinstance(self.password, str)):
            raise ValueError("user and password: expected texts")  # noqa: TRY004 - as the others
        if self.password and not self.user:
            raise ValueError("user: expected a name, since there is a password")
        if not isinstance(self.host, str) or not self.host.strip():
            raise ValueError(f"host {self.host!r}: expected a name or an address")
        object.__setattr__(self, "host", self.host.strip().removeprefix("[").removesuffix("]"))
        if type(self.port) is not int or not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port!r}: expected a number from 1 to 65535")
        for name in ("connect_timeout_s", "acse_timeout_s", "dimse_timeout_s"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not 0 < seconds <= 86400:
                raise ValueError(f"{name} {seconds!r}: expected seconds, more than 0")

    @property
    def is_readable_on_the_way(self) -> bool:
        """Whether anybody between here and the peer can read the passcode."""
        return bool(self.password) and not self.tls

    def __str__(self) -> str:
        """The peer as on the command line, without the user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"

    @classmethod
    def configured(cls, ae_title: str, peer: ConfiguredPeer, server: ServerSection) -> Peer:
        """A peer of the configuration, called by this node; without the user."""
        return cls(
            ae_title,
            peer.host,
            peer.port,
            calling_ae_title=server.ae_title,
            tls=peer.tls,
            **tls_fields(peer),
            connect_timeout_s=min(10.0, server.acse_timeout_s),
            acse_timeout_s=server.acse_timeout_s,
            dimse_timeout_s=max(60.0, server.dimse_timeout_s),
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS needs; None without TLS.

        Raises:
            TLSFilesError: a certificate or key cannot be used; it is an OSError.
        """
        if not self.tls:
            return None
        return context_of(self)

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Peer:
        """A peer from `to_json`'s values, or a person's.

        Raises:
            ValueError: an unknown field, one that is missing, or a wrong value.
        """
        require_fields(cls, values, ("ae_title", "host", "port"))
        return cls(**values)
