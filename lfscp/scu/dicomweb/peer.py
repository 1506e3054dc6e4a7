"""Describes a DICOMweb server and how to reach it: plain data that fits into JSON."""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from lfscp.scu.peer_fields import context_of, require_fields

_PORTS: Final = {"http": 80, "https": 443}
_MAX_URL: Final = 2048  # characters
_MIN_SECRET: Final = 4  # characters; what is shorter stands in any text
_HTTP_1_1: Final = ("http/1.1",)


@dataclass(frozen=True, slots=True)
class DICOMwebPeer:
    """A DICOMweb server to ask.

    Args:
        url: of its DICOMweb services, such as https://pacs.example/dicom-web; no user, no query.
        name: what the node calls it; empty for its URL.
        user: for Basic authentication, with `password`.
        token: for Bearer authentication, instead of a user.
        tls_ca_file: certificates to trust, PEM; None is the system's.
        tls_certificate_file: our certificate, PEM, when the server wants one; with `tls_key_file`.
        tls_verify: whether the certificate is verified, for an https URL.
        tls_check_host: whether the certificate must name the host.
        connect_timeout_s: longest wait for the connection.
        timeout_s: longest silence while we wait for the server.
    Raises:
        ValueError: a field is not what it should be; the text names it.
    """

    url: str
    name: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    tls_ca_file: str | None = None
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    tls_verify: bool = True
    tls_check_host: bool = True
    connect_timeout_s: float = 10.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _valid_url(self.url))
        for name in ("name", "user", "password", "token"):
            _require(isinstance(getattr(self, name), str), f"{name}: expected a text")
        if not self.name.isprintable():
            raise ValueError(f"name {self.name!r}: expected printable characters")
        self._check_credentials()
        for name in ("connect_timeout_s", "timeout_s"):
            seconds = getattr(self, name)
            is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            reason = f"{name} {seconds!r}: expected seconds, more than 0"
            _require(is_number and 0 < seconds <= 86400, reason)

    def _check_credentials(self) -> None:
        if self.token and (self.user or self.password):
            raise ValueError("token: expected either a token, or user and password")
        if self.password and not self.user:
            raise ValueError("user: expected one, since there is a password")
        if ":" in self.user or not self.user.isprintable():
            raise ValueError(f"user {self.user!r}: expected printable characters without a colon")
        if not self.password.isprintable():
            raise ValueError("password: expected printable characters")
        if not (self.token.isascii() and self.token.isprintable()) or " " in self.token:
            raise ValueError("token: expected ASCII characters without spaces")

    def __str__(self) -> str:
        """The name, or the URL, which has no secrets."""
        return self.name or self.url

    @property
    def authorization(self) -> str:
        """The header field Authorization; empty without a login."""
        if self.token:
            return f"Bearer {self.token}"
        if self.user:
            return f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"
        return ""

    def without_secrets(self, text: str) -> str:
        """What the server says, without the login: some repeat what they refuse."""
        secret = self.authorization.partition(" ")[2]
        for each in (secret, self.password):
            if len(each) >= _MIN_SECRET:
                text = re.sub(re.escape(each), "***", text, flags=re.IGNORECASE)
        return text

    @property
    def split_url(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    @property
    def port(self) -> int:
        """Its TCP port."""
        split = self.split_url
        return split.port or _PORTS[split.scheme]

    @property
    def has_login(self) -> bool:
        """Whether requests carry a password or a token."""
        return bool(self.user or self.token)

    @property
    def is_readable_on_the_way(self) -> bool:
        """Whether what is sent, the login too, can be read between here and the server."""
        split = self.split_url
        return split.scheme == "http" and not _is_here(split.hostname or "")

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS needs; None for an http URL.

        Raises:
            TLSFilesError: a certificate or key cannot be used; it is an OSError.
        """
        if self.split_url.scheme != "https":
            return None
        return context_of(self, _HTTP_1_1)

    def to_json(self) -> dict[str, Any]:
        """All fields, secrets among them, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DICOMwebPeer:
        """A peer from `to_json`'s values, or a person's.

        Raises:
            ValueError: an unknown field, one that is missing, or a wrong value.
        """
        require_fields(cls, values, ("url",))
        return cls(**values)


def is_url(target: str) -> bool:
    """Whether a text names a DICOMweb server, and no application entity."""
    return target.lower().startswith(("http://", "https://"))


def _is_here(host: str) -> bool:
    """Whether it is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(reason)


def _valid_url(url: object) -> str:
    """The URL without a slash at its end.

    Raises:
        ValueError: it is none of a DICOMweb server; a password in it is not repeated.
    """
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("url: expected https://HOST/PATH in ASCII characters")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise ValueError("url: expected https://HOST:PORT/PATH with a port to 65535") from None
    if "@" in split.netloc:
        raise ValueError("url: expected no user and no password in it; they have their own fields")
    if split.scheme not in _PORTS or not split.hostname or port == 0 or len(url) > _MAX_URL:
        raise ValueError(f"url {url[:_MAX_URL]!r}: expected https://HOST/PATH or http://HOST/PATH")
    if split.query or split.fragment:
        raise ValueError(f"url {url!r}: expected nothing behind its path")
    if split.path.rstrip("/").endswith("/studies"):
        raise ValueError(f"url {url!r}: expected all before /studies")
    return url.rstrip("/")
