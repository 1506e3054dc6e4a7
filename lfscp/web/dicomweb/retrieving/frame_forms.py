"""Decides in which form the frames of an object are sent (PS3.18 section 8.7.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicomweb.media_types import OCTETS, UNCOMPRESSED, media_type_of, today
from lfscp.web.dicomweb.accept import AS_STORED, Wanted, not_acceptable


@dataclass(frozen=True, slots=True)
class FrameForm:
    """How frames are sent.

    Args:
        transfer_syntax: of their bytes.
        decodes: whether they are decoded for it.
    """

    media_type: str
    transfer_syntax: str
    decodes: bool
    is_multipart: bool

    @property
    def content_type(self) -> str:
        """Of one frame."""
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}"


def form_of(
    wanted: Iterable[Wanted], stored: str, *, is_compressed: bool, decodes: bool, is_single: bool
) -> FrameForm:
    """The best form that the client takes and that can be made.

    Args:
        stored: the transfer syntax of the object.
        decodes: whether compressed frames can be decoded.
        is_single: whether it is one frame, which needs no multipart answer.
    Raises:
        Problem: there is none (406).
    """
    for each in wanted:
        if each.is_multipart is False and not is_single:
            continue
        made = _made(each, stored, is_compressed=is_compressed, decodes=decodes)
        if made is not None:
            media_type, syntax, is_decoded = made
            return FrameForm(media_type, syntax, is_decoded, each.is_multipart is not False)
    raise not_acceptable(_offered(stored, is_compressed=is_compressed, decodes=decodes))


def _made(
    wanted: Wanted, stored: str, *, is_compressed: bool, decodes: bool
) -> tuple[str, str, bool] | None:
    """Media type, transfer syntax, and whether the frames are decoded for it."""
    syntax = wanted.transfer_syntax
    own = media_type_of(stored)
    asked = Wanted(today(wanted.media_type), syntax)
    takes_octets = asked.takes(OCTETS)
    if not is_compressed:
        fits = syntax in ("", AS_STORED, *UNCOMPRESSED)
        return (OCTETS, EXPLICIT_VR_LITTLE_ENDIAN, False) if takes_octets and fits else None
    if syntax in (AS_STORED, stored):
        if asked.takes(own):
            return own, stored, False
        return (OCTETS, stored, False) if takes_octets else None
    if takes_octets and syntax in ("", *UNCOMPRESSED) and decodes:
        return OCTETS, EXPLICIT_VR_LITTLE_ENDIAN, True
    return (own, stored, False) if not syntax and asked.takes(own) and own != OCTETS else None


def _offered(stored: str, *, is_compressed: bool, decodes: bool) -> list[str]:
    if not is_compressed:
        return [OCTETS]
    own = f"{media_type_of(stored)}; transfer-syntax={stored}"
    return [OCTETS, own] if decodes else [own]
