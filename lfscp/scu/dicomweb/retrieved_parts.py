"""Takes the objects of a WADO-RS answer as they come; each is judged and stored when it is whole.

Rules: a small object stays in memory, a larger one goes to a file. If the disk is full, or an
object larger than it may be, the rest of it is thrown away, and the next one is taken. A file is
handed over as it came only if its head is that of a correct Part 10 file.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lfscp.archive.durability import PART
from lfscp.archive.store.received_objects import Received, mapped
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_head import HEAD_BYTES, Expected, fault_of_head
from lfscp.dicom.part10.media import identity_of, read_media
from lfscp.dicomweb.content_type import ContentType
from lfscp.dicomweb.media_types import DICOM
from lfscp.scu.taking import Taking

SPOOL_ABOVE_BYTES: Final = 4 << 20


class RetrievedParts:
    """The parts of an answer, see `multipart_reader.Parts`.

    Args:
        taking: judges and stores each object.
        spool_dir: of the files; None is the system's folder for such files.
        max_object_bytes: of one object; 0 is no limit.
        shortage: why a large object may not grow on the disk now; empty while it may.
    """

    def __init__(
        self,
        taking: Taking,
        spool_dir: Path | None,
        max_object_bytes: int,
        shortage: Callable[[], str],
    ) -> None:
        self._taking = taking
        self._folder = spool_dir or Path(tempfile.gettempdir())
        self._max = max_object_bytes
        self._shortage = shortage
        self._count = 0
        self._object: _Object | None = None

    def begin(self, head: Mapping[str, str]) -> None:
        """A part begins; one that is no object is refused."""
        self._count += 1
        media_type = ContentType.read(head.get("content-type", DICOM)).media_type
        if media_type == DICOM:
            self._object = _Object(self._folder, self._max, self._shortage)
        else:
            self._refuse("it is no application/dicom")

    def data(self, piece: memoryview) -> None:
        """Take bytes of the part."""
        if self._object is not None:
            self._object.write(piece)

    def end(self) -> None:
        """The part is whole."""
        whole, self._object = self._object, None
        if whole is None:
            return
        try:
            with whole.received() as received:
                self._taking.take(received)
        except DatasetError as error:
            self._refuse(error.reason)
        except OSError as error:
            self._refuse(error.strerror or "it cannot be read")
        finally:
            whole.remove()

    def close(self) -> None:
        """Remove what is not whole."""
        if self._object is not None:
            self._object.remove()
            self._object = None

    def _refuse(self, reason: str) -> None:
        self._taking.refuse(f"object {self._count}", reason)


class _Object:
    """One object while it arrives."""

    def __init__(self, folder: Path, max_bytes: int, shortage: Callable[[], str]) -> None:
        self._path = folder / f"wado-{uuid.uuid4().hex}{PART}"
        self._max = max_bytes
        self._shortage = shortage
        self._size = 0
        self._content = bytearray()
        self._descriptor = -1
        self._fault: DatasetError | OSError | None = None

    def write(self, piece: memoryview) -> None:
        """Add bytes; what goes wrong is said by `received`."""
        self._size += len(piece)
        if self._fault is not None:
            return
        if self._max and self._size > self._max:
            self._give_up(DatasetError(f"it is larger than {self._max / 1e6:g} MB"))
            return
        self._content += piece
        if self._descriptor >= 0 or len(self._content) > SPOOL_ABOVE_BYTES:
            if shortage := self._shortage():
                self._give_up(DatasetError(shortage))
                return
            self._spool()

    def _give_up(self, fault: DatasetError | OSError) -> None:
        self._fault = fault
        self.remove()

    def _spool(self) -> None:
        try:
            if self._descriptor < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o640)
            rest = memoryview(self._content)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._content = bytearray()
        except OSError as error:
            self._give_up(error)

    @contextmanager
    def received(self) -> Iterator[Received]:
        """The object, valid inside.

        Raises:
            DatasetError: it is none, or too large.
            OSError: it could not be written.
        """
        if self._fault is not None:
            raise self._fault
        if not self._size:
            raise DatasetError("it is empty")
        if self._descriptor < 0:
            yield _received(memoryview(bytes(self._content)), None)
            return
        with mapped(self._descriptor) as content:
            yield _received(content, self._path)

    def remove(self) -> None:
        """Close the file, and remove it if nobody has taken it over."""
        self._content = bytearray()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._path.unlink(missing_ok=True)


def _received(content: memoryview, path: Path | None) -> Received:
    """The object of a DICOM file; the dataset's own UIDs count."""
    media = read_media(content)
    dataset = content[media.dataset_offset :]
    uids = identity_of(dataset, media.transfer_syntax_uid)
    expected = Expected(*uids, media.transfer_syntax_uid, media.dataset_offset)
    is_right = path is not None and not fault_of_head(bytes(content[:HEAD_BYTES]), expected)
    return Received(
        *uids,
        media.transfer_syntax_uid,
        media.source_ae_title,
        dataset=None if is_right else dataset,
        spooled_path=path if is_right else None,
        dataset_offset=media.dataset_offset if is_right else 0,
    )
