"""Lists the files that an import tries: all below a folder, in the order of a DICOMDIR if any.

Rules: files that a DICOMDIR lists come first, and missing ones are named. Other files are tried
too, so that nothing is lost; if one is no DICOM file, there is no message, because discs hold
viewers as well. A listed name never leads out of the DICOMDIR's folder, and its case does not
count, because the file systems of discs change it.
Source: PS3.10 section 8, PS3.3 annex F.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.dicom.encoding.elements import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    elements,
    items_of,
)
from lfscp.dicom.encoding.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import read_part10
from lfscp.dicom.part10.media import MEDIA_STORAGE_DIRECTORY

_NAME: Final = "dicomdir"
_MAX_BYTES: Final = 64 << 20  # of a DICOMDIR; some 100,000 objects
_DIRECTORY_RECORD_SEQUENCE: Final = 0x00041220
_REFERENCED_FILE_ID: Final = 0x00041500
_UNLISTED: Final = "the DICOMDIR does not list it"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to import.

    Args:
        remark: what is odd about its place.
        problem: why it cannot be imported.
        is_directory: whether it is a DICOMDIR; then `remark` says what it lists.
    """

    path: Path
    remark: str = ""
    problem: str = ""
    is_directory: bool = False


def files_to_import(path: Path) -> Iterator[FoundFile]:
    """The file itself, or all files below a folder; a DICOMDIR stands for those that it lists."""
    if path.is_file():
        listed = _listed(path)
        if listed is None:
            yield FoundFile(path)
        else:
            yield from _by(path, listed, _below(path.parent), others=False)
        return
    files = list(_below(path))
    done: set[Path] = set()
    for directory in (file for file in files if file.name.lower() == _NAME):
        listed = None if directory in done else _listed(directory)
        if listed is None:
            continue
        folder = directory.parent
        inside = [file for file in files if file not in done and folder in file.parents]
        yield from _by(directory, listed, inside, others=True)
        done.update(inside)
    yield from (FoundFile(file) for file in files if file not in done)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            # A broken link is named; reading a pipe would wait for ever.
            if path.is_file() or not path.exists():
                yield path


def _by(
    directory: Path, listed: list[tuple[str, ...]], files: Iterable[Path], *, others: bool
) -> Iterator[FoundFile]:
    """The files that a DICOMDIR lists, there or missing; then the others if they are wanted."""
    there: dict[tuple[str, ...], list[Path]] = {}  # a folder may hold `IM1` beside `im1`
    for file in files:
        if file != directory:
            there.setdefault(_key(file.relative_to(directory.parent).parts), []).append(file)
    count = sum(_key(parts) in there for parts in listed)
    remark = f"a DICOMDIR, which lists {len(listed)} files; {count} of them are here"
    yield FoundFile(directory, remark, is_directory=True)
    for parts in dict.fromkeys(map(_key, listed)):
        found = there.pop(parts, [])
        yield from map(FoundFile, found)
        if not found:
            path = directory.parent.joinpath("/".join(parts).upper())
            yield FoundFile(path, problem="the DICOMDIR lists it, and it is not there")
    if others:
        yield from (FoundFile(file, _UNLISTED) for found in there.values() for file in found)


def _key(parts: Iterable[str]) -> tuple[str, ...]:
    """A name for comparison: discs show `IM1` as `im1`, `IM1.` or `IM1;1`."""
    return tuple(part.partition(";")[0].rstrip(". ").lower() for part in parts)


def _listed(file: Path) -> list[tuple[str, ...]] | None:
    """The names that a DICOMDIR lists; None if the file is no DICOMDIR that can be read."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            return None
        content = file.read_bytes()
        meta = read_part10(content)
        if meta.sop_class_uid != MEDIA_STORAGE_DIRECTORY:
            return None
        is_implicit = meta.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
        encoding = IMPLICIT_LITTLE if is_implicit else EXPLICIT_LITTLE
        for tag, begin, end, inner in elements(
            content, meta.dataset_offset, len(content), encoding
        ):
            if tag == _DIRECTORY_RECORD_SEQUENCE and inner is not None:
                return list(_names(content[begin:end], inner))
    except (DatasetError, OSError):
        pass
    return None


def _names(records: bytes, encoding: Encoding) -> Iterator[tuple[str, ...]]:
    for first, last in items_of(records, encoding):
        for tag, begin, end, _ in elements(records, first, last, encoding):
            if tag == _REFERENCED_FILE_ID:
                text = records[begin:end].decode("latin_1")
                parts = tuple(part.strip(" \0") for part in text.split("\\"))
                if any(parts):
                    yield parts
