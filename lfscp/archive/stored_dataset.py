"""The dataset of a DICOM file as bytes to be read where they are: mapped, or inflated.

Rules: read by the transfer syntax of the file meta information, where the file meta information
ends by its own length, unless the caller knows both; nothing in the dataset changes either. A
deflated one is inflated to a bounded size.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from lfscp.archive.deflated import inflated
from lfscp.archive.elements import Encoding
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.header import DEFLATED, encoding_of
from lfscp.archive.part10 import read_part10

if TYPE_CHECKING:
    from lfscp.archive.object_store import StoredFile

_HEAD: Final = 65_536  # bytes in which the file meta information ends


class StoredDataset(NamedTuple):
    """An encoded dataset.

    Args:
        content: its bytes, without file meta information, inflated.
    """

    transfer_syntax_uid: str
    encoding: Encoding
    content: memoryview


def read_stored_dataset(
    path: StoredFile, transfer_syntax_uid: str = "", dataset_offset: int | None = None
) -> StoredDataset:
    """Open the dataset of a DICOM file.

    Args:
        transfer_syntax_uid: of the dataset; the file meta information's when it is empty.
        dataset_offset: where it begins, when that is known. With both the head is not read, which
            may be none.
    Raises:
        CannotUnderstand: it is none, or it cannot be inflated.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        syntax, offset = transfer_syntax_uid, dataset_offset
        if not syntax or offset is None:
            meta = read_part10(file.read(_HEAD))
            syntax, offset = syntax or meta.transfer_syntax_uid, meta.dataset_offset
        if os.fstat(file.fileno()).st_size <= offset:
            raise CannotUnderstand("the dataset is empty")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = memoryview(mapped)[offset:]  # the map ends with the last view of it
    if syntax in DEFLATED:
        content = memoryview(inflated(content))
    return StoredDataset(syntax, encoding_of(syntax), content)
