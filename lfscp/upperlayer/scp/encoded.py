"""Data sets that are already encoded in the presentation context's transfer syntax."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """What a C-FIND, C-MOVE or C-GET handler may give in place of a pydicom Dataset.

    Args:
        data: the data set's bytes, of even length, sent as they are.
    """

    data: bytes


class StatusWithAttributes(Dataset):
    """The status that a handler of N-CREATE, N-SET or N-GET may give, with an Attribute List.

    A response of any status carries it: a failure may name the attributes that are wrong.

    Attributes:
        attribute_list: sent as it is; None for none.
    """

    attribute_list: EncodedDataset | None = None
