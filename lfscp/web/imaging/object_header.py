"""Reads the header of a stored object: its attributes up to the pixel data, and where that is.

Rules: the file meta information gives the transfer syntax and, by its length, where the dataset
begins; nothing in the dataset changes either. A deflated dataset is inflated as far as it is read,
to a bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from lfscp.archive.store.deflated import require_bounded_file
from lfscp.archive.store.missing_vrs import open_with_vrs
from lfscp.archive.store.received_objects import mapped
from lfscp.dicom.encoding.elements import UNDEFINED_LENGTH
from lfscp.dicom.encoding.image_pixel import PIXELS, PixelElement
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_head import HEAD_BYTES
from lfscp.dicom.part10.file_meta import FileMeta, read_part10
from lfscp.dicom.reading.header import DEFLATED, encoding_of
from lfscp.web.imaging.errors import MissingFileError, NoPictureError, is_lack_of_memory
from lfscp.web.imaging.inflated_file import open_inflated
from lfscp.web.imaging.plain_elements import plain_header

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

NO_PIXEL_DATA: Final = "this object holds no pixel data"


def read_header(path: StoredFile) -> Dataset:
    """Read an object's attributes up to the pixel data.

    A Python attribute of the result remembers where that is, for `place_of`.

    Raises:
        NoPictureError: the file is gone or broken.
    """
    try:
        return _read_plainly(path) or _read_by_pydicom(path)
    except FileNotFoundError:
        raise MissingFileError from None
    except DatasetError as error:
        raise NoPictureError(f"this object cannot be read: {error.reason}") from None
    except Exception as error:  # pydicom raises what it likes on broken objects
        if is_lack_of_memory(error):
            raise MemoryError from error
        raise NoPictureError("this object cannot be read: its dataset is broken") from error


def place_of(header: Dataset) -> PixelElement:
    """Where the pixel data of a header's object is: in the file, or in the inflated dataset.

    Raises:
        NoPictureError: there is none.
    """
    place = getattr(header, "pixel_data_place", None)
    if not isinstance(place, PixelElement):
        raise NoPictureError(NO_PIXEL_DATA)
    return place


def syntax_of(header: Dataset) -> str:
    """The transfer syntax UID of a header's object; empty when it is not known."""
    meta = getattr(header, "file_meta", None)
    return "" if meta is None else str(meta.get("TransferSyntaxUID", ""))


def is_big_endian(header: Dataset) -> bool:
    """Whether a header's object is in big endian."""
    return syntax_of(header) == ExplicitVRBigEndian


@contextmanager
def opened(path: StoredFile) -> Iterator[tuple[FileMeta, BinaryIO]]:
    """Open an object's file.

    Yields:
        What its head says, and the file at the dataset: inflated as it is read, if it is deflated.
    Raises:
        DatasetError: it is no DICOM file.
        OSError: it cannot be read.
    """
    meta, file = open_with_vrs(path)
    with file:
        if meta.transfer_syntax_uid in DEFLATED:
            yield meta, open_inflated(file, meta.dataset_offset)
        else:
            yield meta, file


def _read_plainly(path: StoredFile) -> Dataset | None:
    """Read a header whose elements have nothing odd; None for others."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        meta = read_part10(head)
        syntax, begin = meta.transfer_syntax_uid, meta.dataset_offset
        if syntax in DEFLATED or syntax == ExplicitVRBigEndian:
            return None
        encoding = encoding_of(syntax)
        header = plain_header(head, begin, encoding)
        if header is None and len(head) == HEAD_BYTES:
            with mapped(file.fileno()) as content:
                header = plain_header(content, begin, encoding)
    return None if header is None else _with_syntax(header, syntax)


def _read_by_pydicom(path: StoredFile) -> Dataset:
    with opened(path) as (meta, file):
        if meta.transfer_syntax_uid in DEFLATED:
            require_bounded_file(path)
        return _read(meta, file)


def _with_syntax(header: Dataset, syntax: str) -> Dataset:
    header.file_meta = _meta_of(syntax)
    return header


@lru_cache(maxsize=64)
def _meta_of(syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    return meta


def _read(meta: FileMeta, file: BinaryIO) -> Dataset:
    syntax = meta.transfer_syntax_uid
    header = read_dataset(
        file,
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
        stop_when=_is_pixel_data,
    )
    implicit, little = (bool(each) for each in header.original_encoding)
    header.pixel_data_place = _place(file, is_implicit=implicit, is_little=little)  # type: ignore[attr-defined, unused-ignore]
    return _with_syntax(header, syntax)


def _is_pixel_data(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in PIXELS


def _place(file: BinaryIO, *, is_implicit: bool, is_little: bool) -> PixelElement | None:
    """The element that reading stopped at; None at the end of the file."""
    order: Literal["little", "big"] = "little" if is_little else "big"
    head = file.read(8)
    group, element = (int.from_bytes(head[at : at + 2], order) for at in (0, 2))
    tag = group << 16 | element
    if tag not in PIXELS:
        return None
    vr, length = b"OW", head[4:8]
    if not is_implicit:
        vr, length = head[4:6], file.read(4)
    size = int.from_bytes(length, order)
    if not size:
        return None
    return PixelElement(tag, vr, file.tell(), file.tell() + size, size == UNDEFINED_LENGTH)
