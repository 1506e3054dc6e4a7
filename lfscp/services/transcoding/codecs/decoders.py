"""Chooses the decoders of pydicom that the node uses, and adds its own.

Rules: of several that are installed, the one that is strict and under a permissive licence decodes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Final

from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import JPEGLSLossless, JPEGLSNearLossless

from lfscp.services.transcoding.codecs import libjpeg_turbo

# Of JPEG-LS, the other decoder makes up samples where some are missing.
_PREFERRED: Final = {
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "pyjpegls"),
    **dict.fromkeys(libjpeg_turbo.SYNTAXES, libjpeg_turbo.NAME),
}


def decoder_for(transfer_syntax_uid: str) -> Decoder:
    """The decoder of a transfer syntax, with every plugin that is installed.

    Raises:
        NotImplementedError: there is none.
    """
    _add_ours()
    return get_decoder(transfer_syntax_uid)


def preferred_plugin(decoder: Decoder) -> str:
    """The plugin that is to decode; "" leaves it to pydicom."""
    name = _PREFERRED.get(decoder.UID, "")
    return name if name in decoder.available_plugins else ""


@cache
def _add_ours() -> None:
    for each in libjpeg_turbo.SYNTAXES:
        with suppress(ValueError):  # it is there, as another part of this process has added it
            get_decoder(each).add_plugin(
                libjpeg_turbo.NAME, (libjpeg_turbo.__name__, libjpeg_turbo.decode_frame.__name__)
            )
