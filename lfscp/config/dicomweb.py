"""The settings of DICOMweb: its address as others see it, and the sites that may use it."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

from lfscp.config.checks import Count, ListOf, check_host
from lfscp.config.declaration import Section, setting

_PUBLIC_URL: Final = 'empty, or a URL as "https://pacs.example.org/dicom-web"'
_ORIGIN: Final = 'an origin as "https://viewer.example.org" or "http://localhost:3000"'


def _http_parts(url: str, expected: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and parts.port != 0 and "@" not in parts.netloc
        check_host(parts.hostname or "")
    except ValueError:
        is_http = False
    if not is_http or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(expected)
    return parts


def check_public_url(url: str) -> str:
    """The URL of DICOMweb without a slash at its end, or nothing."""
    return check_url(url, _PUBLIC_URL)


def check_url(url: str, expected: str) -> str:
    """A URL to which paths are added, without a slash at its end, or nothing.

    Args:
        expected: what to say of one that is wrong.
    """
    if not url:
        return url
    parts = _http_parts(url, expected)
    if parts.query or parts.fragment or set('"<>\\') & set(url):
        raise ValueError(expected)
    return url.rstrip("/")


def check_origin(origin: str) -> str:
    """An origin as browsers send it: scheme, host, and the port if it is not the scheme's."""
    parts = _http_parts(origin, _ORIGIN)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(_ORIGIN)
    host, port = parts.netloc.lower(), {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{host.removesuffix(port)}"


class DICOMweb(Section):
    """DICOMweb (PS3.18): search, retrieve and store over HTTP, at /dicom-web and /wado."""

    public_url: Annotated[str, AfterValidator(check_public_url)] = setting(
        "",
        "URL of /dicom-web as clients see it, for the URLs in answers. Set it if a reverse proxy "
        "has another path. Empty means the host that the client asked.",
        live=True,
    )
    cors_origins: ListOf[Annotated[str, AfterValidator(check_origin)]] = setting(
        (),
        "Origins of other sites whose pages may use DICOMweb (CORS), for example "
        "https://viewer.example.org. Logins and roles hold for them too.",
        live=True,
    )
    metadata_cache_mb: Count = setting(
        256, "Most disk space for the metadata of series, in data_dir/cache, in megabytes."
    )
