"""The settings of DICOMweb: its address as others see it, and the sites that may use it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator

from lfscp.config.checks import Count, ListOf, check_http_url, check_origin
from lfscp.config.declaration import Section, setting

_PUBLIC_URL: Final = 'empty, or a URL as "https://pacs.example.org/dicom-web"'


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
    parts = check_http_url(url, expected)
    if parts.query or parts.fragment or set('"<>\\') & set(url):
        raise ValueError(expected)
    return url.rstrip("/")


class DICOMweb(Section):
    """DICOMweb (PS3.18): search, retrieve and store over HTTP, at /dicom-web and /wado."""

    public_url: Annotated[str, AfterValidator(check_public_url)] = setting(
        "",
        "URL of /dicom-web as clients see it, for the URLs in answers. Set it if a reverse proxy "
        "has another path. Empty means the scheme and host that the client asked for, as "
        "trusted_proxies tell them.",
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
