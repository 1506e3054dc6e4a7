"""Encodes the frames that the node sends, in a process of its own; see `processes.forking`.

Rules: as in `decoding_process`. Each frame is decoded again and compared: one that the codec does
not keep bit for bit is an error.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from typing import Any, Final

from pydicom.pixels.encoders.base import get_encoder

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.processes.connection import Connection, Message
from lfscp.processes.memory import give_back_memory, limit_data
from lfscp.services.transcoding.compressed_frames import decode_compressed
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoders import decoder_for

IDLE_S: Final = 60.0  # of the first process
_NO_FRAME_S: Final = 10.0
_SLACK_BYTES: Final = 48 << 20  # of memory for what is imported late
_PARTS: Final = ("openjpeg", "jpeg_ls")  # what the codecs import when they are first used


def prepare() -> None:
    """Import the codecs."""
    logging.disable()  # errors go into the answers
    warnings.simplefilter("ignore")
    for part in _PARTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(part)


def serve(connection: Connection, own_bytes: int) -> None:
    """Encode frames until no more come.

    Args:
        own_bytes: memory that this process takes anyway.
    Raises:
        EOFError, OSError: no more come.
    """
    while True:
        request = connection.receive(_NO_FRAME_S)
        limit_data(own_bytes + request.fields["memory"] + _SLACK_BYTES)
        connection.send(*_answer(connection, request))
        give_back_memory()


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
