"""Writes the body of a STOW-RS request from files, piece by piece and without decoding.

Rules: a file that is a correct Part 10 file goes out as it is; of any other the dataset does, under
a new head. The length of the body is known before the first byte goes out, since some servers take
no other; a file that has another size by then breaks the request off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.part10.file_head import HEAD_BYTES, Expected, fault_of_head
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicomweb.media_types import DICOM
from lfscp.dicomweb.multipart_writer import MultipartWriter, Part

_PIECE: int = 256 << 10
_END_OF_PART = b"\r\n"


class UnreadableFileError(Exception):
    """A file cannot be read while it is sent; the text says why.

    Args:
        instance: which one.
    """

    def __init__(self, instance: StoredInstance, reason: str) -> None:
        super().__init__(reason)
        self.instance = instance


@dataclass(frozen=True, slots=True)
class _Piece:
    """One object: a head in place of the file's, then the file from `offset` on."""

    instance: StoredInstance
    head: bytes
    offset: int
    size: int

    def blocks(self) -> Iterator[bytes]:
        if self.head:
            yield self.head
        left = self.size
        try:
            with self.instance.path.open("rb") as file:
                file.seek(self.offset)
                while left and (block := file.read(min(_PIECE, left))):
                    left -= len(block)
                    yield block
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise UnreadableFileError(self.instance, reason) from None
        if left:
            raise UnreadableFileError(self.instance, "the file became shorter")


class StoreBody:
    """The body of one request.

    Attributes:
        content_type: of the request.
        length: bytes.
    Raises:
        UnreadableFileError: a file is not there.
    """

    def __init__(self, instances: Sequence[StoredInstance]) -> None:
        self._writer = MultipartWriter(DICOM)
        self._pieces = [_piece_of(each) for each in instances]
        self.content_type = self._writer.content_type
        around = len(self._writer.head(Part(DICOM, ()))) + len(_END_OF_PART)
        sizes = (around + len(piece.head) + piece.size for piece in self._pieces)
        self.length = sum(sizes) + len(self._writer.end)

    def blocks(self) -> Iterator[bytes]:
        """All of it.

        Raises:
            UnreadableFileError: a file cannot be read, or has become shorter.
        """
        parts = (Part(DICOM, piece.blocks()) for piece in self._pieces)
        for block in self._writer.pieces(parts):
            yield bytes(block)


def _piece_of(instance: StoredInstance) -> _Piece:
    try:
        with instance.path.open("rb") as file:
            head = file.read(min(HEAD_BYTES, instance.dataset_offset))
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise UnreadableFileError(instance, reason) from None
    uids = instance.sop_class_uid, instance.sop_instance_uid
    expected = Expected(*uids, instance.transfer_syntax_uid, instance.dataset_offset)
    if not fault_of_head(head, expected):
        return _Piece(instance, b"", 0, instance.dataset_offset + instance.size)
    made = part10_header(*uids, instance.transfer_syntax_uid, "")
    return _Piece(instance, made, instance.dataset_offset, instance.size)
