"""Renders pictures of stored objects in processes of their own, and keeps them on disk for a while.

Rules: the node itself decodes nothing and reads no header, so a hostile object costs no more than
a rendering process. A picture with the object's own window is kept on disk, in a file that the
process writes itself; if there are too many, the one unused longest goes first. Its name there
holds the file's size and time of change, so a replaced object never shows the old picture, and the
version of the rendering, so an update never shows a picture that was rendered wrong. Deleting an
object through the page deletes its pictures.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.space import AUTOMATIC
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.web.imaging.cine import FrameTimes
from lfscp.web.imaging.errors import MissingFileError, NoPictureError
from lfscp.web.imaging.geometry import Geometry, Spacing
from lfscp.web.imaging.windows import Window
from lfscp.web.rendering.cache import PictureCache
from lfscp.web.rendering.decoding import Description
from lfscp.web.rendering.pool import SMALL, Answer, PictureRefusedError, RenderPool, Task

LOG: Final = get_logger("lfscp.web")
RENDERING_VERSION: Final = 3  # add one when the same object is rendered in another way than before

MEDIA_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif"}
JPEG_QUALITY: Final = 92
RENDERING_BYTES: Final = 190 << 20
_PIECE: Final = 1 << 18
_SAY_AGAIN_S: Final = 60.0
_MAX_SAID: Final = 1000


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a frame.

    Args:
        width: 0 is to the right edge; a negative one mirrors the part, as a negative height does.
        in_pixels: whether these are pixels of the stored frame, or parts of its size.
    """

    left: float
    top: float
    width: float
    height: float
    in_pixels: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which picture is asked for.

    Args:
        frame: counted from 0; None is the middle one.
        window: None is the object's own.
        edge: longest edge in pixels; 0 is the object's size.
        encoding: "jpeg", "png" or "gif".
        overlays: whether they are drawn.
        quality: of JPEG, 1 to 100.
        viewport: width and height that the picture is fitted into, smaller or larger; None for
            `edge`.
        region: the part that is shown; None is all.
    """

    frame: int | None = 0
    window: Window | None = None
    edge: int = 0
    encoding: str = "jpeg"
    overlays: bool = True
    quality: int = JPEG_QUALITY
    viewport: tuple[int, int] | None = None
    region: Region | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the picture is kept on disk: many ask for the same."""
        usual = self.window is None and self.quality == JPEG_QUALITY
        return usual and self.viewport is None and self.region is None

    def task(self) -> dict[str, Any]:
        """What a rendering process is asked for."""
        found = {name: getattr(self, name) for name in self.__slots__}
        parts = {name: asdict(found[name]) for name in ("window", "region") if found[name]}
        return {"task": "draw", "is_kept": self.is_kept, **found, **parts}


class Rendered:
    """A rendered picture or list, in memory or in a file. What is small may be read at once.

    Args:
        content: a file is closed when it has been read.
    """

    def __init__(self, content: bytes | BinaryIO) -> None:
        self._content = content
        self.file = None if isinstance(content, bytes) else content
        self.size = len(content) if isinstance(content, bytes) else _size_of(content)
        self.is_small = self.size <= SMALL

    def read(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """All of it, a piece at a time; once."""
        if isinstance(self._content, bytes):
            yield self._content
            return
        with self._content as file:
            while piece := file.read(_PIECE):
                yield piece


class Renderer:
    """Renders pictures, a few at a time. Any thread may ask.

    Args:
        folder: where finished pictures are kept; made when needed.
        max_bytes: of finished pictures on disk; 0 keeps none.
        most_bytes: memory of the processes that render.
        at_once: most pictures rendered at the same time; 0 is one for each processor.
        reserve_mb: of the disk, which inflated objects leave free; as `Space` takes it.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        most_bytes: int = RENDERING_BYTES,
        at_once: int = 0,
        reserve_mb: int = AUTOMATIC,
    ) -> None:
        self._cache = PictureCache(folder, max_bytes)
        self._reserve_mb = reserve_mb
        self._saying = threading.Lock()
        self._said: OrderedDict[str, float] = OrderedDict()  # when the log said what
        self.pool = RenderPool(most_bytes, at_once)

    def close(self) -> None:
        """End the processes that render."""
        self.pool.close()

    def describe(
        self, path: StoredFile, sop_instance_uid: str, number: int = 0
    ) -> tuple[Description, Window | None]:
        """Describe an object, with a window around a frame's values if it has none of its own.

        Args:
            number: of the frame, counted from 0.
        Raises:
            NoPictureError: there is none; the text says why.
        """
        task = {"task": "describe", "frame": number}
        fields = self._run(path, sop_instance_uid, task, _state(path)).fields
        found, fitting = fields["description"], fields["fitting"]
        window, times, geometry = (found.pop(each) for each in ("window", "times", "geometry"))
        spacing, others = geometry.pop("spacing"), found.pop("other_windows")
        description = Description(
            **found,
            window=Window(**window) if window else None,
            times=FrameTimes(times["nominal_ms"], tuple(times["each_ms"])),
            other_windows=[(name, Window(**each)) for name, each in others],
            geometry=Geometry(**geometry, spacing=Spacing(**spacing) if spacing else None),
        )
        return description, Window(**fitting) if fitting else None

    def render(self, path: StoredFile, sop_instance_uid: str, wanted: Wanted) -> Rendered:
        """Render one picture.

        Raises:
            NoPictureError: there is none; the text says why.
        """
        state, name = _state(path), ""
        if wanted.is_kept:
            digest = hashlib.sha256(f"{RENDERING_VERSION}|{state}".encode()).hexdigest()[:16]
            plain = "" if wanted.overlays else "-plain"
            frame = "middle" if wanted.frame is None else wanted.frame
            name = f"{digest}-{frame}-{wanted.edge}{plain}.{wanted.encoding}"
            if kept := self._cache.open(sop_instance_uid, name):
                return Rendered(kept)
            return self._drawn_to_keep(path, sop_instance_uid, wanted, state, name)
        return Rendered(self._run(path, sop_instance_uid, wanted.task(), state).content)

    def _drawn_to_keep(
        self, path: StoredFile, sop_instance_uid: str, wanted: Wanted, state: str, name: str
    ) -> Rendered:
        """A picture that the process writes into the file that is kept, not through the node."""
        with self._cache.new_file() as new:
            output = new.descriptor if new is not None else -1
            answer = self._run(path, sop_instance_uid, wanted.task(), state, output)
            if new is not None and answer.is_written:
                return Rendered(new.keep(sop_instance_uid, name))
            return Rendered(answer.content)  # there was no room to write it

    def values(
        self, path: StoredFile, sop_instance_uid: str, number: int
    ) -> tuple[Rendered, dict[str, Any]]:
        """A frame as values of 16 bits, and what a viewer must know to show them.

        Args:
            number: of the frame, counted from 0.
        Raises:
            NoPictureError: it has no such form, or there is none.
        """
        task = {"task": "values", "frame": number}
        answer = self._run(path, sop_instance_uid, task, _state(path))
        return Rendered(answer.content), answer.fields["values"]

    def elements(
        self, path: StoredFile, sop_instance_uid: str, first: int, most: int
    ) -> tuple[Rendered, int | None]:
        """List some elements of an object as JSON, and say where the following ones begin.

        Raises:
            NoPictureError: it cannot be read.
        """
        answer = self._read(path, sop_instance_uid, "elements", first=first, most_elements=most)
        return Rendered(answer.content), answer.fields["next"]

    def report(self, path: StoredFile, sop_instance_uid: str) -> Rendered:
        """A structured report as JSON, see `documents.report.Report`.

        Raises:
            NoPictureError: it is none, or it cannot be read.
        """
        return Rendered(self._read(path, sop_instance_uid, "report").content)

    def waveforms(self, path: StoredFile, sop_instance_uid: str) -> Rendered:
        """The groups of an object's waveforms and its annotations as JSON.

        Raises:
            NoPictureError: it has none, or it cannot be read.
        """
        return Rendered(self._read(path, sop_instance_uid, "waveforms").content)

    def curves(self, path: StoredFile, sop_instance_uid: str, **wanted: float) -> Rendered:
        """Some seconds of a group of waveforms as JSON, see `documents.waveforms.curves`.

        Args:
            wanted: group (counted from 0), start_s, seconds, points.
        Raises:
            NoPictureError: there is no such group, or it cannot be read.
        """
        return Rendered(self._read(path, sop_instance_uid, "curves", **wanted).content)

    def forget(self, sop_instance_uids: Iterable[str]) -> None:
        """Remove the pictures of deleted objects."""
        for uid in sop_instance_uids:
            self._cache.forget(uid)

    def _read(self, path: StoredFile, sop_instance_uid: str, name: str, **asked: Any) -> Answer:
        """Do a task that reads a whole dataset, and may have to inflate it."""
        task = {
            "task": name,
            "folder": self._cache.make_folder(),
            "reserve_mb": self._reserve_mb,
            **asked,
        }
        return self._run(path, sop_instance_uid, task, _state(path))

    def _is_news(self, what: str) -> bool:
        """Whether the log has not said this for a minute; metrics count each refusal."""
        now = time.monotonic()
        with self._saying:
            if now - self._said.get(what, -_SAY_AGAIN_S) < _SAY_AGAIN_S:
                return False
            self._said[what] = now
            self._said.move_to_end(what)
            if len(self._said) > _MAX_SAID:
                self._said.popitem(last=False)
            return True

    def _run(
        self,
        path: StoredFile,
        sop_instance_uid: str,
        task: dict[str, Any],
        state: str,
        output: int = -1,
    ) -> Answer:
        try:
            with path.open("rb") as file:
                wanted = Task(task, file.fileno(), state, self._cache.spool, output)
                answer = self.pool.run(wanted)
        except PictureRefusedError as error:
            metrics.REFUSED_PICTURES.of(error.why).add()
            if self._is_news("busy" if error.why == "busy" else sop_instance_uid):
                LOG.warning("picture refused", sop_instance_uid=sop_instance_uid, reason=str(error))
            raise PictureRefusedError(error.why, f"this object is not shown: {error}") from None
        except FileNotFoundError:
            raise MissingFileError from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise NoPictureError(f"the file of this object cannot be read: {reason}") from None
        if "none" in answer.fields:
            raise NoPictureError(answer.fields["none"])
        for what, reason in answer.fields.get("omissions", ()):
            LOG.warning(
                f"picture shown without {what}",
                sop_instance_uid=sop_instance_uid,
                frame=answer.fields.get("frame", task["frame"]) + 1,
                reason=reason,
            )
        return answer


def _size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _state(path: StoredFile) -> str:
    """Name the file's content now: path, identity, size and time of change."""
    try:
        found = path.stat()
    except OSError:
        raise MissingFileError from None
    return f"{path}|{found.st_ino}|{found.st_size}|{found.st_mtime_ns}"
