"""What a condition is asked about: one object, and the association or request that brought it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Attributes(Protocol):
    """The attributes of a dataset or of an item of a sequence."""

    def values(self, tag: int, vr: str) -> Sequence[str]:
        """The values of an attribute as text, without padding; numbers in decimal.

        Args:
            vr: the VR to read it with if the dataset does not say one.
        Returns:
            None of them empty; nothing if the attribute is absent or empty. Of a value that is
            no text and no number, one empty text, which no comparison takes.
        """
        ...

    def items(self, tag: int) -> Sequence[Attributes]:
        """The items of a sequence; nothing if it is absent or empty."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """One object, and who sent it.

    Args:
        calling_ae_title: of the sender; of a file, the source that its file meta information names.
        called_ae_title: by which the sender called this node.
        address: IP address of the sender; empty if there is none, as of an import.
        transfer_syntax_uid: of the object.
    """

    attributes: Attributes
    calling_ae_title: str = ""
    called_ae_title: str = ""
    address: str = ""
    transfer_syntax_uid: str = ""

    def of_item(self, item: Attributes) -> Subject:
        """The same sender with an item of a sequence in place of the dataset."""
        return Subject(
            item,
            self.calling_ae_title,
            self.called_ae_title,
            self.address,
            self.transfer_syntax_uid,
        )
