"""Versions: of Python, lfscp and its libraries, and what is not installed."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from lfscp import __version__
from lfscp.doctor.finding import Finding, fine, warning, wrong
from lfscp.services.transcoding.codecs.decoders import decoder_for

if TYPE_CHECKING:
    from lfscp.config import Settings

_SUBJECT: Final = "versions"
# One transfer syntax of each family of codecs.
_CODECS: Final = {
    "JPEG baseline": "1.2.840.10008.1.2.4.50",
    "JPEG extended (12 bit)": "1.2.840.10008.1.2.4.51",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
}
_LIBRARIES: Final = ("pydicom", "pynetdicom", "sqlalchemy")


def examine(settings: Settings) -> Iterator[Finding]:
    """The versions, and the optional packages that these settings need."""
    libraries = ", ".join(f"{each} {metadata.version(each)}" for each in _LIBRARIES)
    python = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    yield fine(_SUBJECT, f"lfscp {__version__}, {python}, {libraries}")
    yield from _drivers(settings)
    missing = [name for name, uid in _CODECS.items() if not decoder_for(uid).is_available]
    if missing:
        yield warning(
            _SUBJECT,
            f"no decoder for {', '.join(missing)}: such objects are stored and sent as they are, "
            "but not shown, and not sent to those who take them uncompressed only",
            "pip install 'lfscp[codecs]'",
        )
    else:
        yield fine(_SUBJECT, f"decoders for {', '.join(_CODECS)}")


def _drivers(settings: Settings) -> Iterator[Finding]:
    needed = {
        ("psycopg", "postgres", "the driver of PostgreSQL"): settings.index.url.startswith("postg"),
        ("obstore", "s3", "the client for buckets"): settings.objects.is_bucket,
    }
    for (package, extra, what), is_needed in needed.items():
        if is_needed and find_spec(package) is None:
            yield wrong(_SUBJECT, f"{what} is not installed", f"pip install 'lfscp[{extra}]'")
