"""Remembers what was written of the elements of one dataset, for the next ones of its series.

Most elements of an instance are byte for byte those of the one before. Elements that follow each
other and are the same are found by one comparison of their bytes.

Rules: what is written of an element depends on its bytes, on the encoding, and on the elements
before it that decide about others: these are never taken over, and once one differs, or is absent
or new, nothing behind it is. Pure: no input or output.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from lfscp.dicom.encoding.elements import Buffer, Encoding
from lfscp.dicom.encoding.value_representations import decides_vrs
from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET

MAX_BYTES: Final = 256 << 10  # of elements that are remembered
MAX_ELEMENTS: Final = 2000
MAX_ANEW: Final = 200  # elements of a dataset that are not those of another one
_AHEAD: Final = 4096  # bytes that a dataset may have more


class Known(NamedTuple):
    """An element, and what was written of it.

    Args:
        text: empty for an element that is left out.
        is_fixed: whether the same bytes are always written so.
    """

    tag: int
    begin: int
    end: int
    text: str
    is_fixed: bool


def decides(tag: int) -> bool:
    """Whether the value of an attribute may decide how later ones are written."""
    return tag == SPECIFIC_CHARACTER_SET or decides_vrs(tag)


def is_repeatable(known: Sequence[Known]) -> bool:
    """Whether each tag is higher than the one before, and there are not too many."""
    return len(known) <= MAX_ELEMENTS and all(one.tag < other.tag for one, other in pairwise(known))


class RepeatedElements:
    """The elements of one dataset, which follow each other.

    Args:
        content: the dataset; its tags ascend.
    """

    def __init__(self, content: Buffer, encoding: Encoding, known: Sequence[Known]) -> None:
        self.encoding = encoding
        self.content = bytes(content[: known[-1].end]) if known else b""
        self.known = known
        self._varying = {at for at, each in enumerate(known) if not each.is_fixed}
        self._runs: dict[int, int] = {}  # the element behind those that are the same
        self._texts: dict[tuple[int, int], str] = {}

    def run_from(self, first: int) -> int:
        """The element behind those from one on that may all be the same."""
        behind = self._runs.get(first)
        if behind is None:
            behind = first
            while behind < len(self.known) and behind not in self._varying:
                behind += 1
            self._runs[first] = behind
        return behind

    def text_of(self, first: int, behind: int) -> str:
        """What was written of some elements."""
        text = self._texts.get((first, behind))
        if text is None:
            text = ",".join([each.text for each in self.known[first:behind] if each.text])
            self._texts[first, behind] = text
        return text

    def note_varying(self, number: int) -> None:
        """An element is not the same in all datasets."""
        self._varying.add(number)
        self._runs.clear()
        self._texts.clear()


class Written:
    """What is written of the instances of one series, which have most elements alike.

    Attributes:
        values: what is written of short values.
        repeated: the elements of one of the instances.
    """

    def __init__(self) -> None:
        self.values: dict[tuple[int, bytes, bytes, Encoding, Sequence[str]], str] = {}
        self.repeated: RepeatedElements | None = None


class Repeating:
    """Goes through a dataset beside the elements of another; see `take` and `note`.

    Args:
        content: the dataset.
    """

    def __init__(self, content: Buffer, elements: RepeatedElements) -> None:
        self._elements = elements
        self._content = bytes(content[: len(elements.content) + _AHEAD])
        self._at = 0  # of the known elements

    def take(self, begin: int) -> tuple[int, int, str]:
        """The elements from a position on that are known.

        Returns:
            The position behind them, the last one's tag, and their text; the same position if there
            are none.
        """
        elements, first = self._elements, self._at
        behind = elements.run_from(first)
        if not self._is_same(begin, first, behind):
            behind = self._first_other(begin, first, behind)
            elements.note_varying(behind)
        if behind == first:
            return begin, 0, ""
        self._at = behind
        last, text = elements.known[behind - 1], elements.text_of(first, behind)
        return begin + last.end - elements.known[first].begin, last.tag, text

    def _is_same(self, begin: int, first: int, behind: int) -> bool:
        """Whether some of the known elements stand at a position."""
        if behind == first:
            return True
        elements = self._elements
        start, end = elements.known[first].begin, elements.known[behind - 1].end
        return self._content[begin : begin + end - start] == elements.content[start:end]

    def _first_other(self, begin: int, first: int, behind: int) -> int:
        """The first of some elements that is not the same."""
        same, other = first, behind - 1
        while same < other:
            middle = (same + other + 1) // 2
            if self._is_same(begin, first, middle):
                same = middle
            else:
                other = middle - 1
        return same

    def note(self, tag: int, begin: int, end: int) -> None:
        """Go on behind an element that was written anew."""
        known, at = self._elements.known, self._at
        while at < len(known) and known[at].tag < tag:
            if decides(known[at].tag):  # it is absent
                self._at = len(known)
                return
            at += 1
        is_known = at < len(known) and known[at].tag == tag
        if decides(tag) and not (is_known and self._is_same_element(begin, end, known[at])):
            self._at = len(known)
            return
        self._at = at + is_known

    def _is_same_element(self, begin: int, end: int, known: Known) -> bool:
        return self._content[begin:end] == self._elements.content[known.begin : known.end]
