"""The dataset of a small DICOM file: with preamble and file meta information, or without any.

Worklist files are written in both ways. A file without meta information is read in the
uncompressed transfer syntax that its first element is written in, and must be sound in it.
"""

from __future__ import annotations

from typing import Final

from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.encoding.value_representations import KNOWN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Tree, read_tree
from lfscp.dicom.part10.file_meta import PREAMBLE_BYTES
from lfscp.dicom.part10.media import read_media

_PREFIX: Final = b"DICM"
_META_GROUP: Final = b"\x02\x00"


def read_tree_of_file(content: bytes) -> Tree:
    """Read the dataset of a whole file.

    Raises:
        DatasetError: it is no DICOM file, or a broken one.
    Source: PS3.10 section 7.1; for a file without meta information PS3.5 section 7.1.
    """
    if not content:
        raise DatasetError("the file is empty")
    tree = _read(content)
    if not tree:  # zeros only, as a crash may leave
        raise DatasetError("the dataset is empty")
    return tree


def _read(content: bytes) -> Tree:
    if _has_head(content):
        media = read_media(memoryview(content))
        return read_tree(content[media.dataset_offset :], media.transfer_syntax_uid)
    try:
        return read_tree(content, _syntax_of(content))
    except DatasetError as error:
        reason = f"no DICOM file, nor a dataset without its head: {error.reason}"
        raise DatasetError(reason, error.tag) from None


def _has_head(content: bytes) -> bool:
    begins = (content[PREAMBLE_BYTES : PREAMBLE_BYTES + 4], content[:4])
    return _PREFIX in begins or content[:2] == _META_GROUP


def _syntax_of(dataset: bytes) -> str:
    """The transfer syntax that the first element is written in."""
    if dataset[4:6] not in KNOWN:
        return IMPLICIT_VR_LITTLE_ENDIAN
    is_big = dataset[0] == 0 and dataset[1] != 0  # the group, 0008 or 0010 mostly
    return EXPLICIT_VR_BIG_ENDIAN if is_big else EXPLICIT_VR_LITTLE_ENDIAN
