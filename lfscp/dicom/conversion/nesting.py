"""Holds what is open during a conversion: the dataset itself, its sequences and their items.

Each keeps places that can be written only when it ends: its length, the length of its group, and
VRs that depend on values which come later.
"""

from __future__ import annotations

from lfscp.dicom.conversion.encoder import Encoder, Mark
from lfscp.dicom.encoding.value_representations import Deciding


class OpenLevel:
    """A sequence or an item that is being converted; the dataset itself counts as an item.

    Args:
        end: of its bytes; when it is delimited, of what is around it.
        begin: size of the output before its content.
        length: where its length is written, when it is not delimited.
        is_item: it holds elements, else items.
        is_delimited: its end is marked by a delimiter.
    """

    __slots__ = (
        "_group_begin",
        "_group_length",
        "begin",
        "deciding",
        "end",
        "group",
        "is_delimited",
        "is_item",
        "length",
        "undecided",
    )

    def __init__(
        self, end: int, begin: int, length: Mark | None, *, is_item: bool, is_delimited: bool
    ) -> None:
        self.is_item = is_item
        self.is_delimited = is_delimited
        self.end = end
        self.begin = begin
        self.length = length
        self.deciding = Deciding()
        self.undecided: list[Mark] = []  # VRs that are US or SS
        self.group = -1  # whose length is to be computed
        self._group_begin = 0
        self._group_length: Mark | None = None

    def begin_group(self, group: int, out: Encoder) -> None:
        """Compute the length of a group, which was written last, from what comes now."""
        self.group = group
        self._group_length = out.mark(4)
        self._group_begin = out.size

    def end_group(self, out: Encoder) -> None:
        """Write the length of the group that ends here, if there is one."""
        if self._group_length is not None:
            out.put_length(self._group_length, out.size - self._group_begin)
            self._group_length = None
            self.group = -1

    def decide(self, around: OpenLevel | None) -> None:
        """Settle what is US or SS, or leave it to the level around.

        Source: PS3.5 annex A.1.
        """
        if self.deciding.is_signed is None and around is not None:
            around.undecided += self.undecided
        elif self.deciding.is_signed:
            for mark in self.undecided:
                mark.put(b"SS")
