"""Worklist files as DCMTK's dump2dcm makes them and as others write them, for tests."""

from __future__ import annotations

import os
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from lfscp.dicom.models.element_tree import encode_tree
from tests.support.worklist_items import worklist_dataset, worklist_tree

LONG_AGO = 1_700_000_000


def bare(number: int = 1, **values: Any) -> bytes:
    """The item of `worklist_dataset` as a dataset without file meta information."""
    return encode_tree(worklist_tree(number, **values))


def part10(number: int = 1, **values: Any) -> bytes:
    """The same as a DICOM file."""
    dataset = worklist_dataset(number, **values)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=False)
    return out.getvalue()


def put(path: Path, content: bytes, *, at: int = LONG_AGO) -> Path:
    """Write a file under its final name by rename, changed long ago unless told otherwise."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.utime(part, (at, at))
    return part.rename(path)


def rewrite(path: Path, content: bytes, *, keeps_time: bool = False) -> None:
    """Write a file in place."""
    before = path.stat()
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut_in_an_element(content: bytes) -> bytes:
    """A dataset whose last element has a length that goes beyond its end."""
    return content + struct.pack("<HH2sH", 0x4001, 0x0010, b"LO", 100) + b"x" * 10
