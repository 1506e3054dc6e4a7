"""Rendered pictures of stored objects: decoded once, kept for a while, in memory and on disk.

Rules: decoded frames stay in memory up to a bound, so that changing the window costs milliseconds;
finished pictures with the object's own window go to disk up to a bound, the longest unused first
to leave. A name on disk holds the file's size and time of change, so a replaced object never shows
the old picture; and the version of the rendering, so a picture that was rendered wrong is not shown
after an update. Deleting an object through the page deletes its pictures too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image
from pydicom.dataset import Dataset

from lfscp.archive.object_store import StoredFile
from lfscp.observe.logging import get_logger
from lfscp.web.pictures import (
    Frame,
    NoPicture,
    Window,
    aspect_of,
    decode,
    fitting_window,
    read_header,
    to_display,
)

LOG: Final = get_logger("lfscp.web")
RENDERING_VERSION: Final = 2  # add one when the same object is rendered in another way than before

FRAMES_IN_MEMORY: Final = 256 << 20  # bytes
HEADERS_IN_MEMORY: Final = 256
JPEG_QUALITY: Final = 92
MAX_EDGE: Final = 4096  # pixels of a rendered picture
_KEEP: Final = 0.8  # of the bound, when it is passed
MEDIA_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which picture.

    Args:
        frame: counted from 0.
        window: None is the object's own.
        edge: longest edge in pixels; 0 is the object's size.
        encoding: "jpeg" or "png".
        overlays: whether they are drawn.
    """

    frame: int = 0
    window: Window | None = None
    edge: int = 0
    encoding: str = "jpeg"
    overlays: bool = True


class Renderer:
    """Renders pictures, a few at a time. Any thread may ask.

    Args:
        folder: where finished pictures are kept; made when needed.
        max_bytes: on disk; 0 keeps nothing there.
        at_once: most frames decoded at the same time, since each may take much memory.
    """

    def __init__(self, folder: Path, max_bytes: int, at_once: int = 0) -> None:
        self._disk = _Disk(folder, max_bytes)
        self._turn = threading.BoundedSemaphore(at_once or max(2, os.cpu_count() or 2))
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[str, int], Frame] = OrderedDict()
        self._headers: OrderedDict[str, Dataset] = OrderedDict()
        self._bytes = 0

    def header(self, path: StoredFile) -> Dataset:
        """The attributes of an object, remembered for a while.

        Raises:
            NoPicture: it cannot be read.
        """
        state = _state(path)
        with self._lock:
            known = self._headers.get(state)
            if known is not None:
                self._headers.move_to_end(state)
                return known
        header = read_header(path)
        with self._lock:
            self._headers[state] = header
            while len(self._headers) > HEADERS_IN_MEMORY:
                self._headers.popitem(last=False)
        return header

    def render(self, path: StoredFile, sop_instance_uid: str, wanted: Wanted) -> bytes:
        """One picture, encoded.

        Raises:
            NoPicture: there is none; the text says why.
        """
        name = ""
        if wanted.window is None:
            state = f"{RENDERING_VERSION}|{_state(path)}"
            digest = hashlib.sha256(state.encode()).hexdigest()[:16]
            plain = "" if wanted.overlays else "-plain"
            name = f"{digest}-{wanted.frame}-{wanted.edge}{plain}.{wanted.encoding}"
            kept = self._disk.read(sop_instance_uid, name)
            if kept is not None:
                return kept
        with self._turn:
            frame = self._frame(path, wanted.frame, sop_instance_uid)
            picture = _encode(frame, wanted)
        if name:
            self._disk.write(sop_instance_uid, name, picture)
        return picture

    def fitting_window(self, path: StoredFile, sop_instance_uid: str, number: int) -> Window | None:
        """A window around nearly all values of a frame; None when it is in colour.

        Raises:
            NoPicture: there is no such frame; the text says why.
        """
        with self._turn:
            frame = self._frame(path, number, sop_instance_uid)
            return None if frame.is_colour else fitting_window(frame.values, frame.padding)

    def forget(self, sop_instance_uids: Iterable[str]) -> None:
        """Remove the pictures of deleted objects."""
        for uid in sop_instance_uids:
            self._disk.forget(uid)

    def _frame(self, path: StoredFile, number: int, sop_instance_uid: str) -> Frame:
        key = (_state(path), number)
        with self._lock:
            known = self._frames.get(key)
            if known is not None:
                self._frames.move_to_end(key)
                return known
        frame = decode(path, self.header(path), number)
        for what, reason in frame.omissions:
            LOG.warning(
                f"picture shown without {what}",
                sop_instance_uid=sop_instance_uid,
                frame=number + 1,
                reason=reason,
            )
        with self._lock:
            if key not in self._frames:
                self._frames[key] = frame
                self._bytes += frame.size
            while self._bytes > FRAMES_IN_MEMORY and len(self._frames) > 1:
                _, old = self._frames.popitem(last=False)
                self._bytes -= old.size
        return frame


def _encode(frame: Frame, wanted: Wanted) -> bytes:
    picture = Image.fromarray(to_display(frame, wanted.window, overlays=wanted.overlays))
    size = _size(picture.size, aspect_of(frame.header, frame.number), wanted.edge)
    if size != picture.size:
        method = Image.Resampling.LANCZOS if wanted.edge else Image.Resampling.BILINEAR
        picture = picture.resize(size, method)
    out = io.BytesIO()
    options: dict[str, Any] = {"quality": JPEG_QUALITY} if wanted.encoding == "jpeg" else {}
    if wanted.encoding == "png":
        options["compress_level"] = 1
    picture.save(out, wanted.encoding.upper(), **options)
    return out.getvalue()


def _size(size: tuple[int, int], aspect: float, edge: int) -> tuple[int, int]:
    """The picture's size in square pixels, no edge longer than asked."""
    width, height = float(size[0]), float(size[1])
    if abs(aspect - 1) > 0.01:
        width, height = (width, height * aspect) if aspect > 1 else (width / aspect, height)
    longest = min(edge or MAX_EDGE, MAX_EDGE)
    factor = min(1.0, longest / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _state(path: StoredFile) -> str:
    """Names a file as it is now: path, identity, size and time of change."""
    try:
        found = path.stat()
    except OSError:
        raise NoPicture("the file of this object is missing; `lfscp check` tells more") from None
    return f"{path}|{found.st_ino}|{found.st_size}|{found.st_mtime_ns}"


class _Disk:
    """Pictures on disk: a folder per object, named by a digest of its UID."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bytes = -1  # not counted yet

    def _of(self, uid: str) -> Path:
        return self._folder / hashlib.sha256(uid.encode()).hexdigest()[:32]

    def read(self, uid: str, name: str) -> bytes | None:
        path = self._of(uid) / name
        try:
            content = path.read_bytes()
            os.utime(path)  # used now: the longest unused leave first
        except OSError:
            return None
        return content

    def write(self, uid: str, name: str, content: bytes) -> None:
        """Keep a picture; a full disk costs the cache, not the answer."""
        if not self._max_bytes:
            return
        folder = self._of(uid)
        piece = folder / f".{name}.{threading.get_ident()}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            piece.write_bytes(content)
            os.replace(piece, folder / name)  # noqa: PTH105 - seen whole, or not at all
        except OSError:
            with contextlib.suppress(OSError):
                piece.unlink()
            return
        with self._lock:
            if self._bytes >= 0:
                self._bytes += len(content)
            if self._bytes < 0 or self._bytes > self._max_bytes:
                self._shrink()

    def forget(self, uid: str) -> None:
        shutil.rmtree(self._of(uid), ignore_errors=True)

    def _shrink(self) -> None:
        """Count what is there, and remove the longest unused when it is too much."""
        found = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118 - many, and only strings needed
                with contextlib.suppress(OSError):
                    state = os.stat(path)  # noqa: PTH116
                    found.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in found)
        if total > self._max_bytes:
            for _, size, path in sorted(found):
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
                    total -= size
                if total <= self._max_bytes * _KEEP:
                    break
        self._bytes = total
