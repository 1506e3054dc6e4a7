"""Takes the parts of a STOW-RS request to disk, and stores each object once it is whole.

Rules: a part is what its Content-Type says; one without is what the request says of its root. An
object goes into a file of its own, which the archive takes over while the next object comes.
Metadata and bulk data wait until all parts are there. Another part is a failure, and so is one that
has fewer or more bytes than its head says. For the thread that reads the request; it may change
between two calls.
Source: PS3.18 sections 8.6.1 and 10.5.1.4; RFC 2387.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store.received_objects import mapped
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.media import identity_of, read_media
from lfscp.dicomweb.content_type import ContentType
from lfscp.dicomweb.media_types import DICOM, OCTETS
from lfscp.errors import OperationError
from lfscp.web.actions.storing import STOW, store_spooled
from lfscp.web.context import Web
from lfscp.web.dicomweb.storing import metadata
from lfscp.web.dicomweb.storing.assembly import store_all
from lfscp.web.dicomweb.storing.bulk_parts import BulkParts
from lfscp.web.dicomweb.storing.metadata import Metadata
from lfscp.web.dicomweb.storing.outcome import Outcome
from lfscp.web.dicomweb.storing.spool import Spool
from lfscp.web.dicomweb.storing.work_behind import WorkBehind

MAX_BULK_PARTS: Final = 50_000
_MAX_SHOWN: Final = 64  # characters of what a client sent


@dataclass(frozen=True, slots=True)
class Root:
    """What a request says of its root.

    Args:
        media_type: `type`, the type of an object or of the metadata.
        start: Content-ID of the root; empty for the first part.
    """

    media_type: str
    start: str = ""


class _Part(Protocol):
    """What becomes of the part that is read."""

    def write(self, piece: memoryview) -> None: ...

    def finish(self) -> None: ...

    def fail(self, error: OperationError) -> None: ...


class ReceivedParts:
    """The parts of one request, see `multipart_reader.Parts`.

    Args:
        visitor: who sends it.
        study_uid: the study that all objects must belong to; empty for any.
    """

    def __init__(
        self, web: Web, outcome: Outcome, root: Root, visitor: str, study_uid: str = ""
    ) -> None:
        self._web = web
        self._outcome = outcome
        self._root = root
        self._study_uid = study_uid
        self._metadata = Metadata(web.sent_metadata, visitor)
        self._bulk = BulkParts(web.archive)
        self._behind = WorkBehind()  # stores objects
        self._part: _Part | None = None
        self._stated: int | None = None
        self._size = 0
        self._count = 0
        self._is_full = False

    def begin(self, head: Mapping[str, str]) -> None:
        """Decide what the part is."""
        stated = head.get("content-length", "")
        self._stated = int(stated) if stated.isdecimal() and len(stated) < 20 else None
        self._size = 0
        self._count += 1
        if self._outcome.is_nearly_full:
            self._behind.wait()
        if self._outcome.is_full:
            if not self._is_full:
                self._outcome.fail_rest()
            self._is_full = True
        else:
            self._part = self._part_of(head)

    def data(self, piece: memoryview) -> None:
        """Take bytes of the part.

        Raises:
            BodyError: there are more metadata than one request may have.
        """
        self._size += len(piece)
        if self._part is not None:
            self._part.write(piece)

    def end(self) -> None:
        """The part is whole: an object is stored now, or while the next one comes."""
        part, self._part = self._part, None
        if part is None:
            return
        if self._stated not in (None, self._size):
            reason = f"a part has {self._size} bytes, and its head says {self._stated}"
            part.fail(DatasetError(reason))
        else:
            part.finish()

    def finish(self) -> None:
        """All parts are there: make objects of metadata and bulk data, and store them.

        Raises:
            BodyError: metadata are no JSON or XML.
        """
        self._behind.wait()
        store_all(self._web, self._metadata, self._bulk, self._outcome, self._study_uid)

    def settle(self) -> None:
        """Wait until what is whole is stored, or has failed."""
        self._behind.wait()

    def break_off(self, error: OperationError) -> None:
        """The body ends too early: what is not whole is not stored."""
        part, self._part = self._part, None
        if part is not None:
            part.fail(error)
        else:
            self._outcome.fail(error)

    def close(self) -> None:
        """Remove what is not stored."""
        try:
            self._behind.close()
        finally:
            self._remove()

    def _remove(self) -> None:
        if isinstance(self._part, _ObjectPart):
            self._part.spool.remove()
        self._part = None
        self._bulk.spool.remove()
        self._metadata.close()

    def _part_of(self, head: Mapping[str, str]) -> _Part:
        content_type = ContentType.read(head.get("content-type", ""))
        media_type = content_type.media_type or self._default(head)
        if media_type == DICOM:
            self._behind.start()
            return _ObjectPart(self._web, self._outcome, self._study_uid, self._behind)
        self._behind.wait()  # the outcome takes one note at a time
        if media_type in metadata.MEDIA_TYPES:
            return _MetadataPart(self._metadata, self._outcome, media_type)
        location = head.get("content-location", "")
        if self._root.media_type in metadata.MEDIA_TYPES and location:
            if self._count <= MAX_BULK_PARTS:
                return _BulkPart(self._bulk, self._outcome, location, content_type)
            return _NoPart(self._outcome, f"more than {MAX_BULK_PARTS} parts")
        return _NoPart(self._outcome, f"a part of type {_shown(media_type)} is no instance")

    def _default(self, head: Mapping[str, str]) -> str:
        """The type of a part that names none."""
        if self._root.media_type == DICOM:
            return DICOM
        start = self._root.start
        is_root = head.get("content-id") == start if start else self._count == 1
        return self._root.media_type if is_root else OCTETS


class _ObjectPart:
    """An instance, which goes into a file of its own."""

    def __init__(self, web: Web, outcome: Outcome, study_uid: str, behind: WorkBehind) -> None:
        self.spool = Spool(web.archive, web.settings.storage.max_object_mb)
        self._web = web
        self._outcome = outcome
        self._study_uid = study_uid
        self._behind = behind
        self._is_lost = False
        self._try(self.spool.open)

    def write(self, piece: memoryview) -> None:
        if not self._is_lost:
            self._try(lambda: self.spool.write(piece))

    def finish(self) -> None:
        if not self._is_lost:
            self.spool.close()
            try:
                self._behind.add(self._store)
            except BaseException:  # of the object before: nobody stores this one
                self.spool.remove()
                raise

    def fail(self, error: OperationError) -> None:
        if not self._is_lost:
            self._behind.wait()  # the outcome takes one note at a time
            self._lose(error)

    def _lose(self, error: OperationError) -> None:
        self._is_lost = True
        self._outcome.fail(error, *_identity_in(self.spool.path))
        self.spool.remove()

    def _store(self) -> None:
        """Store it, in the thread behind."""
        try:
            found = store_spooled(self._web, self.spool.path, STOW, self._study_uid)
            self._outcome.store(found)
        except OperationError as error:
            self._lose(error)
        except OSError as error:
            self._lose(_unreadable(error))
        finally:
            self.spool.remove()

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OperationError as error:
            self.fail(error)
        except OSError as error:
            self.fail(_unreadable(error))


class _MetadataPart:
    """Metadata, which stay in memory."""

    def __init__(self, kept: Metadata, outcome: Outcome, media_type: str) -> None:
        self._kept = kept
        self._outcome = outcome
        self._media_type = media_type
        self._pieces: list[bytes] = []

    def write(self, piece: memoryview) -> None:
        text = bytes(piece)
        self._kept.require_room(text)
        self._pieces.append(text)

    def finish(self) -> None:
        self._kept.add(self._media_type, b"".join(self._pieces))

    def fail(self, error: OperationError) -> None:
        self._outcome.fail(error)


class _BulkPart:
    """Bulk data, which go into the file of all."""

    def __init__(
        self, bulk: BulkParts, outcome: Outcome, location: str, content_type: ContentType
    ) -> None:
        self._bulk = bulk
        self._outcome = outcome
        self._location = location
        self._content_type = content_type
        self._begin = bulk.spool.size
        self._is_lost = False
        self._try(bulk.spool.open)

    def write(self, piece: memoryview) -> None:
        if not self._is_lost:
            self._try(lambda: self._bulk.spool.write(piece))

    def finish(self) -> None:
        self._bulk.spool.close()
        if not self._is_lost:
            self._bulk.add(self._location, self._content_type, self._begin)

    def fail(self, error: OperationError) -> None:
        self._bulk.spool.close()
        self._is_lost = True
        self._outcome.fail(error)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OperationError as error:
            self.fail(error)


class _NoPart:
    """A part that is neither."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        self._outcome = outcome
        self._reason = reason

    def write(self, piece: memoryview) -> None: ...

    def finish(self) -> None:
        self._outcome.fail(DatasetError(self._reason))

    def fail(self, error: OperationError) -> None:
        self._outcome.fail(error)


def _unreadable(error: OSError) -> OutOfResourcesError:
    return OutOfResourcesError("store the instance", error.strerror or "it cannot be read")


def _identity_in(path: Path) -> tuple[str, str]:
    """SOP Class and SOP Instance UID of a file that is not stored; empty if it has none."""
    try:
        with path.open("rb") as file, mapped(file.fileno()) as content:
            media = read_media(content)
            return identity_of(content[media.dataset_offset :], media.transfer_syntax_uid)
    except (OperationError, OSError, ValueError):
        return "", ""


def _shown(text: str) -> str:
    return text[:_MAX_SHOWN] if text.isprintable() and text else "unknown"
