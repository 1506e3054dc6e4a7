"""Encodes the frames that the node sends, in a process of its own; see `processes.forking`.

Rules: as in `decoding_process`. Each frame is decoded again and compared: one that the codec does
not keep bit for bit is an error.
"""

from __future__ import annotations

from typing import Any, Final

from pydicom.pixels.encoders.base import get_encoder

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.processes.connection import Connection, Message
from lfscp.services.transcoding.codecs.compressed_frames import decode_compressed
from lfscp.services.transcoding.codecs.decoders import decoder_for
from lfscp.services.transcoding.codecs.frame_process import (
    FIRST_IDLE_S,
    import_codecs,
    serve_frames,
)
from lfscp.services.transcoding.decoded import DecodingError

IDLE_S: Final = FIRST_IDLE_S
_SLACK_BYTES: Final = 48 << 20  # of memory for what is imported late
_PARTS: Final = ("openjpeg", "jpeg_ls")  # what the codecs import when they are first used


def prepare() -> None:
    """Import the codecs."""
    import_codecs(_PARTS)


def serve(connection: Connection, own_bytes: int) -> None:
    """Encode frames until no more come; see `serve_frames`."""
    serve_frames(connection, own_bytes + _SLACK_BYTES, _answer)


def _answer(connection: Connection, request: Message) -> tuple[dict[str, Any], bytes]:
    frame = bytes(connection.read(request.length))
    try:
        return {}, _encoded(frame, ImagePixel(**request.fields["image"]), request.fields["syntax"])
    except DecodingError as error:
        return {"error": str(error)}, b""
    except MemoryError:
        return {"error": "it needs more memory than there is for it"}, b""
    except Exception:  # noqa: BLE001 - the codecs raise many kinds
        return {"error": "the codec does not take such pixels"}, b""


def _encoded(frame: bytes, image: ImagePixel, transfer_syntax_uid: str) -> bytes:
    encoded = get_encoder(transfer_syntax_uid).encode(
        frame,
        rows=image.rows,
        columns=image.columns,
        number_of_frames=1,
        samples_per_pixel=image.samples_per_pixel,
        bits_allocated=image.bits_allocated,
        bits_stored=image.bits_stored,
        pixel_representation=int(image.is_signed),
        photometric_interpretation=image.photometric_interpretation,
        planar_configuration=0,
    )
    decoded = decode_compressed(decoder_for(transfer_syntax_uid), encoded, image)
    if decoded.values.reshape(-1).view("u1").tobytes() != frame:
        raise DecodingError("the codec does not keep these pixels as they are")
    return encoded
