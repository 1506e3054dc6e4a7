"""Decodes the frames that the node sends, in a process of its own; see `processes.forking`.

Rules: most codecs block the interpreter while they work, take as much memory as the bytes demand,
and may crash on them. In here none of that reaches an association. The process ends when no frame
comes for some seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from typing import Any, Final

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.processes.connection import Connection, Message
from lfscp.processes.memory import give_back_memory, limit_data
from lfscp.services.transcoding.compressed_frames import decode_compressed
from lfscp.services.transcoding.decoded import DecodingError, MoreMemoryNeededError
from lfscp.services.transcoding.decoders import decoder_for

IDLE_S: Final = 60.0  # of the first process
_NO_FRAME_S: Final = 10.0
_SLACK_BYTES: Final = 24 << 20  # of memory for what is imported late
# What the codecs import when they are first used.
_PARTS: Final = (
    *("imagecodecs._jpeg8", "PIL.JpegImagePlugin", "PIL.Jpeg2KImagePlugin"),
    *("openjpeg", "libjpeg", "jpeg_ls"),
)


def prepare() -> None:
    """Import the codecs."""
    logging.disable()  # errors go into the answers
    warnings.simplefilter("ignore")
    for part in _PARTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(part)


def serve(connection: Connection, own_bytes: int) -> None:
    """Decode frames until no more come.

    Args:
        own_bytes: memory that this process takes anyway.
    Raises:
        EOFError, OSError: no more come.
    """
    while True:
        request = connection.receive(_NO_FRAME_S)
        # A codec that takes more fails.
        limit_data(own_bytes + request.fields["memory"] + _SLACK_BYTES)
        connection.send(*_answer(connection, request))
        give_back_memory()


def _answer(connection: Connection, request: Message) -> tuple[dict[str, Any], memoryview]:
    asked, nothing = request.fields, memoryview(b"")
    frame = connection.read(request.length)
    try:
        decoder, image = decoder_for(asked["syntax"]), ImagePixel(**asked["image"])
        decoded = decode_compressed(
            decoder, frame, image, asked["room"], as_described=asked["described"]
        )
    except MoreMemoryNeededError as error:
        return {"more": error.more_bytes}, nothing
    except DecodingError as error:
        return {"error": str(error)}, nothing
    except MemoryError:
        return {"error": "it needs more memory than its header says"}, nothing
    content = decoded.values.reshape(-1).view("u1").data
    return {"photometric": decoded.photometric_interpretation}, content
