"""Tells the media type of compressed pixel data by its transfer syntax (PS3.18 section 8.7.3.3)."""

from __future__ import annotations

from typing import Final

from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

DICOM: Final = "application/dicom"
OCTETS: Final = "application/octet-stream"
ZIP: Final = "application/zip"
# Uncompressed frames have the same bytes in both; they go out as the first.
UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_ROOT: Final = "1.2.840.10008.1.2."
_OF_SYNTAX: Final = {
    f"{_ROOT}{tail}": media_type
    for media_type, tails in {
        "image/jpeg": "4.50 4.51 4.57 4.70",
        "image/jls": "4.80 4.81",
        "image/jp2": "4.90 4.91",
        "image/jpx": "4.92 4.93",
        "image/jxl": "4.110 4.111 4.112",
        "image/jphc": "4.201 4.202 4.203",
        "image/dicom-rle": "5",
        "video/mpeg": "4.100 4.100.1 4.101 4.101.1",
        "video/mp4": "4.102 4.102.1 4.103 4.103.1 4.104 4.104.1 4.105 4.105.1 4.106 4.106.1",
        "video/H265": "4.107 4.108",
        "application/x-deflate": "8.1",
    }.items()
    for tail in tails.split()
}
# Older names, which clients still ask for.
_ALSO: Final = {
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-jls": "image/jls",
    "video/mpeg2": "video/mpeg",
    "video/h265": "video/H265",
}


def media_types() -> dict[str, str]:
    """The media type of stored frames by transfer syntax UID."""
    return dict(_OF_SYNTAX)


def media_type_of(transfer_syntax_uid: str) -> str:
    """The media type of frames that are stored like this."""
    return _OF_SYNTAX.get(transfer_syntax_uid, OCTETS)


def is_video(transfer_syntax_uid: str) -> bool:
    """Whether all frames are one stream, which is never decoded."""
    return media_type_of(transfer_syntax_uid).startswith("video/")


def today(media_type: str) -> str:
    """The name that a media type has today."""
    return _ALSO.get(media_type, media_type)
