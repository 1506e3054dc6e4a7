"""What a setting's value must be: checks that say in words what was expected, and their types.

Each check raises ValueError with the expectation; the line for the administrator, with file and
key, is made of it in `sources`.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, Strict

AE_TITLE_LENGTH: Final = 16  # PS3.5 table 6.2-1, VR AE
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


def validate_ae_title(title: object) -> str:
    """Check one AE title and strip its insignificant spaces.

    Raises:
        ValueError: not 1 to 16 characters of the default repertoire, or backslash or control in it.
    Source: PS3.5 table 6.2-1, VR AE.
    """
    if not isinstance(title, str):
        raise ValueError("an AE title in quotes")  # noqa: TRY004 - see as_tuple
    stripped = title.strip(" ")
    well_formed = stripped.isascii() and stripped.isprintable() and "\\" not in stripped
    if not 1 <= len(stripped) <= AE_TITLE_LENGTH or not well_formed:
        raise ValueError(
            "an AE title of 1 to 16 ASCII characters without backslash or control characters"
        )
    return stripped


def check_folder(path: Path) -> Path:
    """A folder as an absolute path."""
    if str(path) in ("", ".") or "\0" in str(path):
        raise ValueError("the path of a folder")
    return path.expanduser().absolute()


def check_objects_url(url: str) -> str:
    """Where objects may be stored."""
    expected = 'empty, "file:///absolute/path", or "s3://bucket/prefix"'
    parts = _parts(url, expected)
    if "\0" in unquote(url):
        raise ValueError(expected)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return url
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or ":" in parts.netloc)
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc) and is_plain:
        return url
    if url:
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


def check_endpoint(url: str) -> str:
    """Where an object store answers."""
    expected = 'empty, or "https://host:port" without a name and password'
    parts = _parts(url, expected)
    is_http = parts.scheme in ("http", "https") and " " not in url
    if url and (not is_http or not parts.hostname or parts.username):
        raise ValueError(expected)
    if parts.hostname:
        try:
            check_host(parts.hostname)
        except ValueError:
            raise ValueError(expected) from None
    return url


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
    from sqlalchemy.engine import make_url  # takes its time, and few name a database
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
    # In memory it would be another one for each connection.
    return parsed.drivername.startswith("postgresql") or parsed.database not in (
        *(None, ""),
        ":memory:",
    )


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


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def lower(text: object) -> object:
    """Text without regard to case; what is no text is left to the type."""
    return text.lower() if isinstance(text, str) else text


def as_tuple(items: object) -> object:
    """A list as a tuple; a single value is none."""
    if not isinstance(items, list | tuple):
        raise ValueError("a list")  # noqa: TRY004 - pydantic turns only ValueError into its own report
    return tuple(items)


def no_title_twice(peers: object) -> object:
    """Peers by AE title, spaces around a title not counted."""
    titles = [str(title).strip(" ") for title in peers] if isinstance(peers, dict) else []
    for title in titles:
        if titles.count(title) > 1:
            raise ValueError(f"each AE title once; {title} is there twice")
    return peers


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
Permission = Literal["echo", "store", "query", "retrieve", "destination"]
Level = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(lower)]
