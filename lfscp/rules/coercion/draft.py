"""A dataset to be changed: its elements where they stand, and what shall stand there instead.

Rules: what is not changed is copied byte by byte, in the form that it has; bulk data behind the
last element that may change is not looked at. A group length of a group that changes changes with
it. A text that the character set cannot hold makes the whole dataset UTF-8.
Source: PS3.5 sections 6.1.2, 7.1, 7.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lfscp.dicom.encoding.elements import (
    ITEM,
    ITEM_DELIMITER,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Encoding,
    each_item,
)
from lfscp.dicom.errors import DatasetError, named
from lfscp.dicom.values.attributes import CHARACTER_VRS, SPECIFIC_CHARACTER_SET
from lfscp.dicom.values.charset import UTF_8, codecs_of, encoder
from lfscp.rules.coercion.element_bytes import (
    Piece,
    item_head,
    read_elements,
    size_of,
    written_head,
)
from lfscp.rules.coercion.values import Encode, dictionary_vr, text_of, value_of

EVERY_TAG: Final = 0xFFFFFFFF
_ASCII: Final = ("", "ISO_IR 6", "ISO 2022 IR 6")
_MAX_DEPTH: Final = 100
_LAST_TEXT: Final = 0x7FE00000  # behind it come pixels


@dataclass(slots=True)
class _Text:
    """A value that is encoded when the character set is known."""

    vr: str
    text: str


@dataclass(slots=True)
class _Bytes:
    """A value as it shall be."""

    vr: str
    value: bytes


@dataclass(slots=True)
class _Whole:
    """A whole element as it shall be."""

    element: bytes


@dataclass(slots=True)
class _Item:
    """An item of a sequence; its head and end in the sequence's bytes, both 0 for a new one."""

    draft: Draft
    at: int = 0
    end: int = 0
    is_undefined: bool = False


@dataclass(slots=True)
class _Sequence:
    """A sequence that may change."""

    vr: str
    source: memoryview
    inner: Encoding
    items: list[_Item] = field(default_factory=list)
    is_undefined: bool = False

    @property
    def is_changed(self) -> bool:
        return any(not item.end or item.draft.is_changed for item in self.items)


_Change = _Text | _Bytes | _Whole | _Sequence | None


class Draft:
    """A dataset or an item.

    Args:
        source: its bytes.
        encoding: how they are encoded.
        last: the last tag that may be asked for or changed; what follows is not read.
        outer: the dataset or item that this item is in.
    Raises:
        DatasetError: the dataset is broken before its last tag.
    """

    def __init__(
        self,
        source: memoryview,
        encoding: Encoding,
        *,
        last: int = EVERY_TAG,
        outer: Draft | None = None,
    ) -> None:
        self._source = source
        self._encoding = encoding
        self._outer = outer
        self._changes: dict[int, _Change] = {}
        self._elements, self._rest = read_elements(source, encoding, last)

    # Asking

    def __contains__(self, tag: int) -> bool:
        if tag in self._changes:
            return self._changes[tag] is not None
        return tag in self._elements

    @property
    def is_changed(self) -> bool:
        """Whether anything is to be changed."""
        return any(
            not isinstance(change, _Sequence) or change.is_changed
            for change in self._changes.values()
        )

    @property
    def changed(self) -> list[int]:
        """The tags of the elements that will be others than they were, in order."""
        return sorted(tag for tag, change in self._changes.items() if self._is_other(tag, change))

    def _is_other(self, tag: int, change: _Change) -> bool:
        if isinstance(change, _Sequence):
            return change.is_changed
        old = self._elements.get(tag)
        if old is None or change is None:
            return (old is None) != (change is None)
        if isinstance(change, _Bytes):
            return change.value != bytes(self._source[old.value : old.value_end])
        return True

    @property
    def character_set(self) -> str:
        """Its Specific Character Set as it was, several values with backslashes."""
        own = self._elements.get(SPECIFIC_CHARACTER_SET)
        if own is not None and own.value < own.value_end:
            value = bytes(self._source[own.value : own.value_end])
            return value.decode("latin_1").strip(" \0")
        return "" if self._outer is None else self._outer.character_set

    def vr_of(self, tag: int) -> str:
        """The VR of an element, or the dictionary's if the dataset does not say it."""
        change = self._changes.get(tag)
        if isinstance(change, _Text | _Bytes | _Sequence):
            return change.vr
        element = self._elements.get(tag)
        found = "UN" if element is None else element.vr
        return dictionary_vr(tag) if found == "UN" else found

    def text(self, tag: int) -> str:
        """A value as text, see `values.text_of`; empty if it is absent or no text."""
        if tag in self._changes:
            change = self._changes[tag]
            if isinstance(change, _Text):
                return change.text
            if not isinstance(change, _Bytes):
                return ""
            return self._text_of(change.value, change.vr)
        element = self._elements.get(tag)
        if element is None or element.is_undefined:
            return ""
        return self._text_of(
            bytes(self._source[element.value : element.value_end]), self.vr_of(tag)
        )

    def _text_of(self, value: bytes, vr: str) -> str:
        return text_of(value, vr, codecs_of(self.character_set), self._encoding.byteorder)

    def element(self, tag: int) -> bytes | None:
        """A whole element as it was, with its head; None if it was absent."""
        element = self._elements.get(tag)
        return None if element is None else bytes(self._source[element.at : element.end])

    def items(self, tag: int) -> list[Draft]:
        """The items of a sequence, to be changed; none if it is absent or no sequence."""
        sequence = self._sequence(tag)
        return [] if sequence is None else [item.draft for item in sequence.items]

    # Changing

    def set_text(self, tag: int, text: str, vr: str = "") -> None:
        """Give an element a value, which `values.fault_of` finds nothing wrong with.

        Args:
            vr: for an element that is absent and in no dictionary.
        """
        if tag in self and self.text(tag) == text and not self._is_sequence(tag):
            return
        known = self.vr_of(tag)
        self._changes[tag] = _Text(vr if known == "UN" and vr else known, text)

    def remove(self, tag: int) -> None:
        """Leave an element out."""
        if tag in self._elements:
            self._changes[tag] = None
        else:
            self._changes.pop(tag, None)

    def put_element(self, tag: int, element: bytes) -> None:
        """Put in a whole element, which is encoded as the others are."""
        self._changes[tag] = _Whole(element)

    def put_empty(self, tag: int, vr: str) -> None:
        """Put in an element without a value."""
        self._changes[tag] = _Bytes(vr, b"")

    def add_item(self, tag: int) -> Draft:
        """Add an empty item to a sequence, which is made if it is absent."""
        sequence = self._sequence(tag)
        if sequence is None:
            sequence = _Sequence("SQ", memoryview(b""), self._encoding)
            self._changes[tag] = sequence
        draft = Draft(memoryview(b""), sequence.inner, outer=self)
        sequence.items.append(_Item(draft))
        return draft

    def _is_sequence(self, tag: int) -> bool:
        return self.vr_of(tag) == "SQ"

    def _sequence(self, tag: int) -> _Sequence | None:
        if tag in self._changes:
            change = self._changes[tag]
            return change if isinstance(change, _Sequence) else None
        element = self._elements.get(tag)
        if element is None or element.inner is None or not self._is_sequence(tag):
            return None
        source = self._source[element.value : element.value_end]
        sequence = _Sequence(element.vr, source, element.inner, is_undefined=element.is_undefined)
        at = 0
        for begin, end in each_item(source, element.inner):
            is_undefined = element.inner.unpack_length(source, begin - 4)[0] == UNDEFINED_LENGTH
            draft = Draft(source[begin:end], element.inner, outer=self)
            at = end + 8 if is_undefined else end
            sequence.items.append(_Item(draft, begin - 8, at, is_undefined))
        if at != len(source):
            raise DatasetError(f"no item in {named(tag)}", tag)
        self._changes[tag] = sequence
        return sequence

    # Character sets

    def settle(self) -> None:
        """Encode all texts that were set, in UTF-8 if the character set cannot hold them.

        Raises:
            ValueError: a text is too long.
        """
        if self._fits():
            self._encode_texts(utf_8=False)
            return
        self._to_utf_8()
        self._encode_texts(utf_8=True)

    def _fits(self) -> bool:
        encode = _encoder_of(self.character_set)
        for change in self._changes.values():
            if isinstance(change, _Text) and change.vr in CHARACTER_VRS:
                try:
                    encode(change.text)
                except UnicodeEncodeError:
                    return False
        return all(draft._fits() for draft in self._opened())  # noqa: SLF001 - its own kind

    def _opened(self) -> Iterator[Draft]:
        for change in self._changes.values():
            if isinstance(change, _Sequence):
                yield from (item.draft for item in change.items)

    def _encode_texts(self, *, utf_8: bool) -> None:
        encode = str.encode if utf_8 else _encoder_of(self.character_set)
        for tag, change in self._changes.items():
            if isinstance(change, _Text):
                value = value_of(change.text, change.vr, encode, self._encoding.byteorder)
                self._changes[tag] = _Bytes(change.vr, value)
        for draft in self._opened():
            draft._encode_texts(utf_8=utf_8)  # noqa: SLF001 - its own kind

    def _to_utf_8(self, depth: int = 0) -> None:
        """Write all texts of the dataset in UTF-8, also those behind the last tag."""
        if depth > _MAX_DEPTH:
            raise DatasetError(f"sequences nested more than {_MAX_DEPTH} deep")
        if self._outer is None:
            self._elements, self._rest = read_elements(self._source, self._encoding, _LAST_TEXT)
            self._changes[SPECIFIC_CHARACTER_SET] = _Bytes("CS", UTF_8.encode())
        elif SPECIFIC_CHARACTER_SET in self._elements:
            self._changes[SPECIFIC_CHARACTER_SET] = None
        codecs = codecs_of(self.character_set)
        for tag, element in self._elements.items():
            if self._is_sequence(tag):
                for draft in self.items(tag):
                    draft._to_utf_8(depth + 1)  # noqa: SLF001 - its own kind
            elif element.vr in CHARACTER_VRS and tag not in self._changes:
                value = bytes(self._source[element.value : element.value_end])
                if not value.isascii() or b"\x1b" in value:
                    text = text_of(value, element.vr, codecs, self._encoding.byteorder)
                    self._changes[tag] = _Text(element.vr, text)

    # Writing

    def pieces(self) -> list[Piece]:
        """The dataset as it shall be, after `settle`; slices of the source where nothing changed.

        Raises:
            DatasetError: a length does not fit its field.
        """
        made = {tag: self._made(tag, change) for tag, change in self._changes.items()}
        self._adjust_group_lengths(made)
        out: list[Piece] = []
        added = sorted((tag for tag in made if tag not in self._elements), reverse=True)
        copied = 0
        for tag, element in self._elements.items():
            is_first = bool(added) and added[-1] < tag
            if is_first or tag in made:
                out.append(self._source[copied : element.at])
                copied = element.at
            while added and added[-1] < tag:
                out += made[added.pop()]
            if tag in made:
                out += made[tag]
                copied = element.end
        out.append(self._source[copied : self._rest])
        while added:
            out += made[added.pop()]
        out.append(self._source[self._rest :])
        return [piece for piece in out if len(piece)]

    def _adjust_group_lengths(self, made: dict[int, list[Piece]]) -> None:
        more: dict[int, int] = {}
        for tag, pieces in made.items():
            old = self._elements.get(tag)
            before = 0 if old is None else old.end - old.at
            more[tag >> 16] = more.get(tag >> 16, 0) + size_of(pieces) - before
        for group, change in more.items():
            element = self._elements.get(group << 16)
            if element is not None and change and element.value_end - element.value == 4:
                length = self._encoding.unpack_length(self._source, element.value)[0] + change
                value = (length & 0xFFFFFFFF).to_bytes(4, self._encoding.byteorder)
                head = bytes(self._source[element.at : element.value])
                made[group << 16] = [head + value]

    def _made(self, tag: int, change: _Change) -> list[Piece]:
        old = self._elements.get(tag)
        match change:
            case None:
                return []
            case _Whole(element):
                return [element]
            case _Bytes(vr, value):
                return [written_head(self._encoding, tag, vr, len(value)) + value]
            case _Sequence() if not change.is_changed and old is not None:
                return [self._source[old.at : old.end]]
            case _Sequence():
                return self._made_sequence(tag, change)
        raise AssertionError  # a text is settled before

    def _made_sequence(self, tag: int, sequence: _Sequence) -> list[Piece]:
        content: list[Piece] = []
        for item in sequence.items:
            if item.end and not item.draft.is_changed:
                content.append(sequence.source[item.at : item.end])
                continue
            inside = item.draft.pieces()
            length = UNDEFINED_LENGTH if item.is_undefined else size_of(inside)
            content += [item_head(sequence.inner, ITEM, length), *inside]
            if item.is_undefined:
                content.append(item_head(sequence.inner, ITEM_DELIMITER, 0))
        if sequence.is_undefined:
            head = written_head(self._encoding, tag, sequence.vr, UNDEFINED_LENGTH)
            # Its delimiter is in the encoding of what it ends.
            return [head, *content, item_head(sequence.inner, SEQUENCE_DELIMITER, 0)]
        return [written_head(self._encoding, tag, sequence.vr, size_of(content)), *content]


def _encoder_of(character_set: str) -> Encode:
    """Encodes a text, or raises UnicodeEncodeError."""
    if character_set in _ASCII:
        return lambda text: text.encode("ascii")
    known, encode = encoder(character_set)
    if known == UTF_8 and character_set != UTF_8:  # it is unknown: what is read is Latin-1
        return lambda text: text.encode("ascii")
    return encode
