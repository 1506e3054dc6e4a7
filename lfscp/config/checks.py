"""Checks the values of settings, and defines their types.

Each check raises ValueError with what was expected; `sources` makes the line for the administrator
of it, with file and key.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from lfscp.ae_title import validate_ae_title

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ORIGIN: Final = 'an origin as "https://viewer.example.org" or "http://localhost:3000"'
_MAX_URL: Final = 2048  # characters
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


def check_folder(path: Path) -> Path:
    """A folder as an absolute path."""
    if str(path) in ("", ".") or "\0" in str(path):
        raise ValueError("the path of a folder")
    return path.expanduser().absolute()


def check_objects_url(url: str) -> str:
    """Where objects may be stored."""
    expected = 'empty, "file:///absolute/path", or "s3://bucket/prefix"'
    parts = _parts(url, expected)
    is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    is_bucket = parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc)
    is_plain = not (is_bucket and (parts.query or parts.fragment)) and "\0" not in unquote(url)
    if url and not ((is_folder or is_bucket) and is_plain):
        raise ValueError(expected)
    return url


def _parts(url: str, expected: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # brackets without an address in them, a port that is no number
        raise ValueError(expected) from None
    if port == 0:
        raise ValueError(expected)
    return parts


def check_host(host: str) -> str:
    """A name or an address, as it can be looked up."""
    bare = host.strip().removeprefix("[").removesuffix("]")
    try:
        bare.encode("idna")
        is_name = bool(bare) and bare.isprintable() and not set(" /@[]") & set(bare)
    except UnicodeError:  # an empty label, or one that is too long
        is_name = False
    if not is_name:
        raise ValueError("the name or address of a host, for example pacs.example.org or 10.0.0.5")
    return host


def check_http_url(url: str, expected: str) -> SplitResult:
    """The parts of a URL of HTTP without a name and password."""
    parts = _parts(url, expected)
    is_http = parts.scheme in ("http", "https") and "@" not in parts.netloc
    try:
        check_host(parts.hostname or "")
    except ValueError:
        is_http = False
    if not is_http or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(expected)
    return parts


def check_origin(origin: str) -> str:
    """An origin as browsers send it: scheme, host, and the port if it is not the scheme's."""
    parts = check_http_url(origin, _ORIGIN)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(_ORIGIN)
    host, port = parts.netloc.lower(), {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{host.removesuffix(port)}"


def check_endpoint(url: str) -> str:
    """Where an object store answers."""
    expected = 'empty, or "https://host:port" without a name and password'
    parts = _parts(url, expected)
    is_http = parts.scheme in ("http", "https") and " " not in url and not parts.username
    try:
        check_host(parts.hostname or "")
    except ValueError:
        is_http = False
    if url and not is_http:
        raise ValueError(expected)
    return url


def check_dicomweb_url(url: str) -> str:
    """Where a DICOMweb server answers, without a slash at its end."""
    expected = (
        "the URL of a DICOMweb server before /studies, such as "
        '"https://pacs.example.org/dicom-web", without a name, a password and parameters'
    )
    parts = _parts(url, expected)
    is_plain = len(url) <= _MAX_URL and url.isascii() and url.isprintable()
    is_plain = is_plain and not set(' "<>\\^`{|}') & set(url)
    is_base = parts.scheme in ("http", "https") and not (parts.query or parts.fragment)
    is_base = is_base and not parts.path.rstrip("/").endswith("/studies")
    try:
        check_host(parts.hostname or "")
    except ValueError:
        is_base = False
    if url and ("@" in parts.netloc or not is_plain or not is_base or url[-1] in "?#"):
        raise ValueError(expected)
    return url.rstrip("/")


def check_index_url(url: str) -> str:
    """What database the index may be in."""
    beginnings = ("sqlite:///", "sqlite+pysqlite:///", "postgresql://", "postgresql+psycopg://")
    if url and not (url.startswith(beginnings) and _is_sqlalchemy_url(url)):
        raise ValueError(
            'empty, or an SQLAlchemy URL: "sqlite:////absolute/path" or '
            '"postgresql+psycopg://user@host:port/database"'
        )
    return url


def _is_sqlalchemy_url(url: str) -> bool:
    from sqlalchemy.engine import make_url  # slow to import
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
        asked = parsed.normalized_query.get("port", ())  # of several servers
        ports = [int(port) for each in asked for port in each.split(",") if port]
    except (ArgumentError, ValueError):
        return False
    if parsed.port is not None:
        ports.append(parsed.port)
    if not all(1 <= port <= 65535 for port in ports) or "\0" in unquote(url):
        return False
    is_file = parsed.database and parsed.database != ":memory:"  # each connection has its own
    return bool(is_file) or parsed.drivername.startswith("postgresql")


def check_sop_class_uid(uid: str) -> str:
    """A UID."""
    components = uid.split(".")
    if not 1 <= len(uid) <= 64 or not all(part.isascii() and part.isdigit() for part in components):
        raise ValueError("a UID: digits and dots, at most 64 characters")
    return uid


def check_token_hash(text: str) -> str:
    """The hash of a token, or nothing."""
    digest = text.removeprefix("sha256$")
    if text and (digest == text or len(digest) != 64 or not _HEXADECIMAL.issuperset(digest)):
        raise ValueError("empty, or what `lfscp hash-password --token` prints as the hash")
    return text


def is_password_hash(text: str) -> bool:
    """Whether a text looks like what `lfscp hash-password` prints."""
    return text.startswith("scrypt$") and text.count("$") == 5


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def lower(text: object) -> object:
    """Text in lower case; other values are left to the type."""
    return text.lower() if isinstance(text, str) else text


def as_tuple(items: object) -> object:
    """A list as a tuple; a single value is an error."""
    if not isinstance(items, list | tuple):
        raise ValueError("a list")  # noqa: TRY004 - pydantic turns only ValueError into its own report
    return tuple(items)


def no_title_twice(peers: object) -> object:
    """Peers by AE title; spaces around a title do not count."""
    titles = [str(title).strip(" ") for title in peers] if isinstance(peers, dict) else []
    for title in titles:
        if titles.count(title) > 1:
            raise ValueError(f"name each AE title once; {title} is there twice")
    return peers


T = TypeVar("T")
ListOf = Annotated[tuple[T, ...], BeforeValidator(as_tuple)]
Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
ListenPort = Annotated[int, Strict(), Field(ge=0, le=65535)]
Seconds = Annotated[float, Strict(), Field(gt=0, le=86400, allow_inf_nan=False)]
Count = Annotated[int, Strict(), Field(ge=0)]
Amount = Annotated[float, Strict(), Field(ge=0, le=1e9, allow_inf_nan=False)]
AETitle = Annotated[str, BeforeValidator(validate_ae_title)]
Folder = Annotated[Path, AfterValidator(check_folder)]
SOPClassUID = Annotated[str, AfterValidator(check_sop_class_uid)]
Permission = Literal[
    "echo", "store", "query", "retrieve", "destination", "worklist", "procedure-step", "commit"
]
Level = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(lower)]
