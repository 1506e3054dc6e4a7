"""Says where an object is stored, and how its dataset is encoded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance's file is and how its dataset is encoded.

    Args:
        path: of the file, relative to the objects folder.
        dataset_offset: bytes in the file before the dataset.
        size: bytes of the dataset; `file_size` those of the whole file.
        digest: "algorithm:hex" over the dataset's bytes; empty when digests are off.
    """

    path: str
    transfer_syntax_uid: str
    dataset_offset: int
    size: int
    file_size: int
    digest: str
    calling_ae_title: str
