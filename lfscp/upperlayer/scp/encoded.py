"""A data set that is already encoded in the presentation context's transfer syntax."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """What a C-FIND, C-MOVE or C-GET handler may give in place of a pydicom Dataset.

    Args:
        data: the data set's bytes, of even length, sent as they are.
    """

    data: bytes
