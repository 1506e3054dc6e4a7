"""De-identifies files, and decodes those first whose compressed pixels must be cleaned."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lfscp.archive.store.object_store import StoredFile
from lfscp.deidentification.deidentifier import Deidentified, Deidentifier
from lfscp.deidentification.errors import CompressedPixelsError, HeldBackError
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.services.transcoding.dataset_conversion import Converted
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoding import converted
from lfscp.upperlayer.scu.sending import FileSlice


@contextmanager
def deidentified(
    deidentifier: Deidentifier,
    path: StoredFile,
    transfer_syntax_uid: str,
    dataset_offset: int,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Deidentified]:
    """De-identify the dataset of a file, whose pieces are there until the context ends.

    Args:
        look: called while pixels are decoded; an error that it raises ends the work.
    Raises:
        HeldBackError: it cannot be done for sure.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        content = _mapped(stream.fileno())[dataset_offset:]
    try:
        found = deidentifier.deidentify_dataset(content, transfer_syntax_uid)
    except CompressedPixelsError:
        found = None
    if found is not None:
        yield found
        return
    try:
        with converted(
            path, transfer_syntax_uid, EXPLICIT_VR_LITTLE_ENDIAN, dataset_offset, look=look
        ) as made:
            yield deidentifier.deidentify_dataset(_content(made), EXPLICIT_VR_LITTLE_ENDIAN)
    except DecodingError as error:
        raise HeldBackError(f"its pixels must be cleaned, and {error}") from None


def _content(made: Converted) -> memoryview:
    if isinstance(made.body, bytes):
        return memoryview(made.body)
    if not isinstance(made.body, FileSlice):
        raise HeldBackError("its pixels must be cleaned, and cannot be decoded")
    file = made.body.open()
    try:
        return _mapped(file)[made.body.offset : made.body.offset + made.body.size]
    finally:
        os.close(file)


def _mapped(file: int) -> memoryview:
    """A view on a whole file; the mapping ends with the last view on it."""
    return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
