"""The process that runs the codecs, apart from those that serve; see `codec_client`.

Rules: most codecs keep the interpreter to themselves while they work, take what memory the bytes
make them take, and may crash on them; here none of that reaches an association. It reads one
request after another from its standard input, a Unix socket: each hands over another socket, whose
frames a forked process decodes, with a limit to its memory, until that socket is closed or nothing
comes of it for some seconds. What is imported is shared by all of them; their memory goes with
them. It ends with the process that started it, or when nobody has asked for a while. One thread.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import warnings
from typing import Any, Final

from pydicom.pixels.decoders.base import get_decoder

from lfscp.dicom.image_pixel import ImagePixel
from lfscp.observe.processes import data_bytes
from lfscp.services.transcoding.compressed_frames import decode_compressed
from lfscp.services.transcoding.decoded import DecodingError, MoreMemoryNeededError
from lfscp.services.transcoding.free_memory import give_back_memory

IDLE_S: Final = 60.0
NO_FRAME_S: Final = 10.0  # without a request, until one of its processes ends
LENGTH: Final = struct.Struct("<L")
_SLACK_BYTES: Final = 24 << 20  # of memory for what is imported late
# What the codecs import when they are first used.
_PARTS: Final = ("PIL.JpegImagePlugin", "PIL.Jpeg2KImagePlugin", "openjpeg", "libjpeg", "jpeg_ls")


def send_message(sock: socket.socket, message: dict[str, Any], *content: memoryview) -> None:
    """Send a message, and the bytes that belong to it."""
    encoded = json.dumps(message).encode()
    sock.sendall(LENGTH.pack(len(encoded)) + encoded)
    for each in content:
        sock.sendall(each)


def serve(control: socket.socket) -> None:
    """Answer requests until there are no more."""
    while select.select([control], [], [], IDLE_S)[0]:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        if os.fork() == 0:
            control.close()
            with socket.socket(fileno=descriptors[0]) as sock:
                _decode_all(sock)
            os._exit(0)
        os.close(descriptors[0])


def _decode_all(sock: socket.socket) -> None:
    """Decode the frames that the other side of a socket sends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    base = data_bytes()
    send_message(sock, {"pid": os.getpid()})
    with contextlib.suppress(EOFError, OSError):
        while select.select([sock], [], [], NO_FRAME_S)[0]:
            request = _read(sock)
            # Have the codec fail that takes more than it should.
            limit = base + request["memory"] + _SLACK_BYTES
            with contextlib.suppress(OSError, ValueError):  # what runs us may forbid it
                resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
            _answer(sock, request)
            give_back_memory()


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes, without a copy of them unless a signal comes between."""
    pieces: list[bytes] = []
    while size:
        piece = sock.recv(size, socket.MSG_WAITALL)
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _read(sock: socket.socket) -> dict[str, Any]:
    (length,) = LENGTH.unpack(_read_exactly(sock, LENGTH.size))
    message: dict[str, Any] = json.loads(_read_exactly(sock, length))
    return message


def _answer(sock: socket.socket, request: dict[str, Any]) -> None:
    frame = _read_exactly(sock, request["size"])
    decoder = get_decoder(request["syntax"])
    try:
        image = ImagePixel(**request["image"])
        decoded = decode_compressed(decoder, frame, image, request["room"])
    except MoreMemoryNeededError as error:
        send_message(sock, {"more": error.more_bytes})
    except DecodingError as error:
        send_message(sock, {"error": str(error)})
    except MemoryError:
        send_message(sock, {"error": "it needs more memory than its header says"})
    else:
        content = decoded.values.reshape(-1).view("u1").data
        message = {
            "size": len(content),
            "photometric": decoded.photometric_interpretation,
        }
        send_message(sock, message, content)


def main() -> None:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its end is that of who started it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those forked
    logging.disable()  # what goes wrong is answered
    warnings.simplefilter("ignore")
    for part in _PARTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(part)
    serve(socket.socket(fileno=sys.stdin.fileno()))


if __name__ == "__main__":
    main()
