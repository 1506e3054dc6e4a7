"""Decodes the frames that the node sends, in a process of its own; see `processes.forking`.

Rules: most codecs block the interpreter while they work, take as much memory as the bytes demand,
and may crash on them. In here none of that reaches an association.
"""

from __future__ import annotations

from typing import Any, Final

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.processes.connection import Connection, Message
from lfscp.services.transcoding.codecs.compressed_frames import decode_compressed
from lfscp.services.transcoding.codecs.decoders import decoder_for
from lfscp.services.transcoding.codecs.frame_process import (
    FIRST_IDLE_S,
    import_codecs,
    serve_frames,
)
from lfscp.services.transcoding.decoded import DecodingError, MoreMemoryNeededError

IDLE_S: Final = FIRST_IDLE_S
_SLACK_BYTES: Final = 24 << 20  # of memory for what is imported late
# What the codecs import when they are first used.
_PARTS: Final = (
    *("imagecodecs._jpeg8", "imagecodecs._imcd", "PIL.JpegImagePlugin", "PIL.Jpeg2KImagePlugin"),
    *("openjpeg", "libjpeg", "jpeg_ls"),
)


def prepare() -> None:
    """Import the codecs."""
    import_codecs(_PARTS)


def serve(connection: Connection, own_bytes: int) -> None:
    """Decode frames until no more come; see `serve_frames`."""
    serve_frames(connection, own_bytes + _SLACK_BYTES, _answer)


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
