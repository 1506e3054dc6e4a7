"""Converts stored objects for receivers that do not take the stored transfer syntax.

Rules: the target is an uncompressed syntax. The SOP Instance UID stays, because the image stays the
same; only the elements of the pixels change. The result is whole before any of it is sent, but for
`growing_result`, and an object that cannot be converted is an error with a reason. A conversion
takes the memory of one frame from a shared budget, and gives it back before a slow receiver takes
the first byte. Codecs run in another process, see `decoding_process`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from pydicom.uid import UID

from lfscp.archive.store.budget import BudgetExceededError
from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.stored_dataset import dataset_of
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_head import HEAD_BYTES
from lfscp.dicom.part10.file_meta import read_part10
from lfscp.dicom.reading.header import DEFLATED as DEFLATED_SYNTAXES
from lfscp.server.cpu_affinity import anywhere
from lfscp.services.transcoding.dataset_conversion import (
    TARGETS,
    Conversion,
    Converted,
    Note,
    anew,
    needs_codec,
)
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoding_memory import MEMORY
from lfscp.services.transcoding.frames import PIXELS_ELSEWHERE
from lfscp.services.transcoding.native_conversion import convert_native
from lfscp.upperlayer.scu.sending import FileSlice, Parts

__all__ = ["TARGETS", "Converted", "DecodingError", "converted", "needs_codec"]

_MAX_AT_ONCE: Final = 2  # large datasets that are read at once
_LEAST_SHARE: Final = 1 << 20  # bytes
_QUICK: Final = frozenset(TARGETS) - frozenset(DEFLATED_SYNTAXES)


@contextmanager
def converted(
    path: StoredFile,
    stored_syntax: str,
    wanted_syntax: str,
    dataset_offset: int | None = None,
    *,
    look: Callable[[], None] = lambda: None,
    owner: object = None,
    in_memory: bool = False,
    note: Note | None = None,
) -> Iterator[Converted]:
    """Read a stored object and encode its dataset for a receiver.

    In the stored transfer syntax, values of odd length are padded; a deflated dataset of odd length
    gets a zero at its end. The archive keeps odd lengths, but the fragments of a message are even,
    and some receivers abort at an odd one.

    Args:
        path: a DICOM file.
        stored_syntax: its transfer syntax UID.
        wanted_syntax: the same, or one of TARGETS.
        dataset_offset: where its dataset begins; None reads the head of the file.
        look: called several times a second; an error that it raises ends the work.
        owner: the retrieve that the object is for; each has codec processes of its own.
        in_memory: a result that must be decoded is refused if it does not stay in memory.
        note: called with a descriptor of the result, and how many of its bytes are written, while
            it is written to disk. It may begin again, with the same bytes.
    Returns:
        The encoded dataset, of even length, without file meta information.
    Raises:
        DecodingError: there is no decoder, the object is broken or cannot be padded to an even
            length, or it needs more than the budgets allow.
        OSError, ArchiveError: the file cannot be read, or the result cannot be written.
    Source: PS3.5 sections 6.2, 7.1.1 and A.5; PS3.8 annex E.
    """
    name = UID(stored_syntax).name
    what = f"{name} cannot be {'decoded' if needs_codec(stored_syntax) else 'converted'}"
    if wanted_syntax == stored_syntax:
        what = "its length is odd"
    elif wanted_syntax not in TARGETS:
        raise DecodingError(f"objects are not converted to {UID(wanted_syntax).name}")
    elif stored_syntax in PIXELS_ELSEWHERE:
        raise DecodingError(f"{name} only refers to its pixel data")
    try:
        with ExitStack() as kept:
            if wanted_syntax != stored_syntax or stored_syntax not in DEFLATED_SYNTAXES:
                made = _quickly(path, stored_syntax, wanted_syntax, dataset_offset, kept)
            else:
                made = _with_a_zero(path, dataset_offset, kept)
            if made is None:
                conversion = _conversion(
                    path, stored_syntax, wanted_syntax, dataset_offset, look, owner
                )
                made = kept.enter_context(conversion.run(in_memory=in_memory, note=note))
            yield made
    except (DatasetError, BudgetExceededError) as error:
        why = error.reason if isinstance(error, DatasetError) else str(error)
        raise DecodingError(f"{what}: {why}") from None


def _quickly(
    path: StoredFile,
    stored_syntax: str,
    wanted_syntax: str,
    dataset_offset: int | None,
    kept: ExitStack,
) -> Converted | None:
    """Convert without a codec and without deflating; None if that is not possible."""
    if wanted_syntax != stored_syntax and not _QUICK.issuperset((stored_syntax, wanted_syntax)):
        return None
    with ExitStack() as tried:
        body = convert_native(path, stored_syntax, wanted_syntax, dataset_offset, tried)
        if body is None:
            return None
        kept.enter_context(tried.pop_all())
        return Converted(body, len(body) if isinstance(body, bytes) else body.size)


def _with_a_zero(path: StoredFile, dataset_offset: int | None, kept: ExitStack) -> Converted:
    file = kept.enter_context(path.open("rb"))
    if dataset_offset is None:
        dataset_offset = read_part10(file.read(HEAD_BYTES)).dataset_offset
    size = file.seek(0, 2) - dataset_offset
    dataset = FileSlice(path, dataset_offset, size, descriptor=file.fileno())
    return Converted(Parts([dataset, b"\0"[: size % 2]]), size + size % 2)


def _conversion(
    path: StoredFile,
    stored_syntax: str,
    wanted_syntax: str,
    dataset_offset: int | None,
    look: Callable[[], None],
    owner: object,
) -> Conversion:
    """Read a dataset; few large ones at once, because that keeps the interpreter busy."""
    share = MEMORY.limit_bytes // _MAX_AT_ONCE
    with path.open("rb") as file:  # of a bucket it is fetched first, which takes no memory
        if stored_syntax not in DEFLATED_SYNTAXES:
            share = min(share, max(os.fstat(file.fileno()).st_size, _LEAST_SHARE))
        with MEMORY.reserve(share, look), anywhere():
            try:
                dataset = dataset_of(file, stored_syntax, dataset_offset)
                conversion = Conversion(path, dataset, wanted_syntax, look, owner)
                dataset.forget()
            except (DecodingError, DatasetError, MemoryError) as error:
                refusal = anew(error)
            else:
                return conversion
    try:
        raise refusal
    finally:
        del refusal  # else it holds this frame, which holds it
