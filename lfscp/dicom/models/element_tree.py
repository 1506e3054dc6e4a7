"""A small dataset as a tree of elements: read whole and strictly, kept in one form, written again.

It is for what the node keeps and answers besides objects, such as worklist items. Rules:
- what is cut short or does not follow its transfer syntax is an error, at every depth;
- text is decoded once, by its own item's Specific Character Set, and is plain text from then on;
- values are not checked: one that breaks its VR comes out as it went in;
- padding goes, and so do group lengths and Specific Character Set, which is written anew.
Source: PS3.5 sections 6.1, 6.2, 7.1 and 7.5.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Final, NamedTuple

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from lfscp.dicom.conversion.converter import convert
from lfscp.dicom.conversion.encoder import read_pieces
from lfscp.dicom.encoding.deflate import deflate, inflate, pieces_of
from lfscp.dicom.encoding.elements import (
    EXPLICIT_LITTLE,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    elements,
)
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.encoding.value_representations import (
    LONG_FORM,
    MAX_SHORT_LENGTH,
    SQ,
    UN,
    padding_of,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED, encoding_of
from lfscp.dicom.values.attributes import CHARACTER_VRS, SPECIFIC_CHARACTER_SET, TEXT_VRS
from lfscp.dicom.values.charset import UTF_8, Encoder, codecs_of, decode, encoder

MAX_BYTES: Final = 16 << 20  # of a deflated dataset when it is inflated
MAX_DEPTH: Final = 50  # of sequences in sequences

# Text by Specific Character Set; of the rest, in the default repertoire, Latin-1 keeps every byte.
_ENCODED_TEXT: Final = frozenset(vr.encode() for vr in CHARACTER_VRS)
_TEXT: Final = frozenset(vr.encode() for vr in TEXT_VRS)
_PADDING: Final = " \0"
_SHORT_HEAD: Final = struct.Struct("<HH2sH")
_LONG_HEAD: Final = struct.Struct("<HH2sHL")
_IMPLICIT_HEAD: Final = struct.Struct("<HHL")
_ITEM_HEAD: Final = struct.Struct("<LL")
_RAW_ITEM: Final = 0xE000FFFE  # as a number in little endian
_RAW_SEQUENCE_DELIMITER: Final = 0xE0DDFFFE
_GROUP_OF_DELIMITERS: Final = SEQUENCE_DELIMITER >> 16


class Element(NamedTuple):
    """One element.

    Args:
        vr: its value representation, two letters.
        value: text (several values with a backslash), the items of a sequence, or bytes in little
            endian.
    """

    vr: bytes
    value: str | list[Tree] | bytes


class Tree(dict[int, Element]):
    """The elements of a dataset or of an item by tag (0x00100010)."""

    def text(self, tag: int) -> str:
        """The text of an element; empty when it is absent, or no text."""
        element = self.get(tag)
        return element.value if element is not None and isinstance(element.value, str) else ""

    def texts(self, tag: int) -> list[str]:
        """The values of an element of text; none when it is absent or empty."""
        text = self.text(tag)
        return text.split("\\") if text else []

    def sequence(self, tag: int) -> list[Tree]:
        """The items of a sequence; none when it is absent, or no sequence."""
        element = self.get(tag)
        return element.value if element is not None and isinstance(element.value, list) else []


def read_tree(data: bytes, transfer_syntax_uid: str) -> Tree:
    """Read a dataset.

    Args:
        data: the dataset alone, without File Meta Information.
    Raises:
        DatasetError: it does not follow its transfer syntax, is nested more than MAX_DEPTH deep,
            or inflates to more than MAX_BYTES.
    """
    if transfer_syntax_uid in DEFLATED:
        data = _inflated(data)
    source = encoding_of(transfer_syntax_uid)
    for _ in elements(data, 0, len(data), source):
        pass  # a conversion leaves out zeros at the end, which may be what is left of an element
    # Also what is explicit little endian already: a conversion looks at every length.
    pieces = convert(memoryview(data), source, EXPLICIT_LITTLE, pads=True)
    return _Reading(b"".join(read_pieces(pieces))).tree()


def read_own(data: bytes) -> Tree:
    """Read what `encode_tree` has written in explicit VR little endian: its lengths are right."""
    return _Reading(data).tree()


def _inflated(data: bytes) -> bytes:
    parts, size = [], 0
    for part in inflate(pieces_of(data)):
        size += len(part)
        if size > MAX_BYTES:
            raise DatasetError(f"it inflates to more than {MAX_BYTES >> 20} megabytes")
        parts.append(part)
    return b"".join(parts)


class _Reading:
    """Reads what `convert` has made, whose lengths are right."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._depth = 0

    def tree(self) -> Tree:
        return self._elements(len(self._data), codecs_of(""))

    def _elements(self, end: int, codecs: Sequence[str]) -> Tree:
        tree = Tree()
        last = -1
        while self._at < end:
            group, element, vr, length = _SHORT_HEAD.unpack_from(self._data, self._at)
            if group == _GROUP_OF_DELIMITERS:  # the end of an item of undefined length
                self._at += 8
                break
            self._at += 8
            if vr in LONG_FORM:
                length = int.from_bytes(self._data[self._at : self._at + 4], "little")
                self._at += 4
            tag = group << 16 | element
            if tag <= last:
                raise DatasetError("elements out of order", tag)
            last = tag
            value = self._value(vr, length, codecs)
            if tag == SPECIFIC_CHARACTER_SET:
                codecs = codecs_of(str(value))
            elif element:
                tree[tag] = Element(vr, value)
        return tree

    def _value(self, vr: bytes, length: int, codecs: Sequence[str]) -> str | list[Tree] | bytes:
        begin = self._at
        if vr == SQ:
            return self._items(length, codecs)
        if length == UNDEFINED_LENGTH:
            raise DatasetError("a value of undefined length that is no sequence")
        self._at = begin + length
        value = self._data[begin : self._at]
        if vr not in _TEXT:
            return value
        text = decode(value, codecs if vr in _ENCODED_TEXT else ("latin_1",), vr.decode())
        return text.rstrip(_PADDING)

    def _items(self, length: int, codecs: Sequence[str]) -> list[Tree]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _too_deep()
        items = []
        end = len(self._data) if length == UNDEFINED_LENGTH else self._at + length
        while self._at < end:
            raw, size = _ITEM_HEAD.unpack_from(self._data, self._at)
            self._at += 8
            if raw == _RAW_SEQUENCE_DELIMITER:
                break
            until = end if size == UNDEFINED_LENGTH else self._at + size
            items.append(self._elements(until, codecs))
        self._depth -= 1
        return items


def encode_tree(
    tree: Tree, transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN, character_set: str = UTF_8
) -> bytes:
    """Write a dataset: each element once, in order, sequences and items with their lengths.

    Args:
        character_set: a value of Specific Character Set; where it cannot hold a character, all of
            the dataset is written in UTF-8.
    Raises:
        DatasetError: a value is too long for its VR, or it is nested more than MAX_DEPTH deep, so
            that it could not be read again.
    """
    named, encode = encoder(character_set)
    is_implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    try:
        written = _Writing(named, encode, is_implicit=is_implicit).tree(tree)
    except UnicodeEncodeError:
        written = _Writing(UTF_8, str.encode, is_implicit=is_implicit).tree(tree)
    if is_implicit or transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN:
        return written
    if transfer_syntax_uid in DEFLATED:
        return deflate(written)
    target = encoding_of(transfer_syntax_uid)
    return b"".join(read_pieces(convert(memoryview(written), EXPLICIT_LITTLE, target)))


def encode_element(tag: int, element: Element) -> bytes:
    """Write one element in explicit VR little endian and UTF-8.

    Raises:
        DatasetError: its value is too long for its VR.
    """
    return _Writing(UTF_8, str.encode, is_implicit=False).element(tag, *element)


class _Writing:
    def __init__(self, character_set: str, encode: Encoder, *, is_implicit: bool) -> None:
        self._character_set = character_set
        self._encode = encode
        self._is_implicit = is_implicit
        self._depth = 0

    def tree(self, tree: Tree) -> bytes:
        named = Element(b"CS", self._character_set)
        return self._elements(Tree({**tree, SPECIFIC_CHARACTER_SET: named}))

    def _elements(self, tree: Tree) -> bytes:
        return b"".join(self.element(tag, *tree[tag]) for tag in sorted(tree))

    def element(self, tag: int, vr: bytes, value: str | list[Tree] | bytes) -> bytes:
        content = self._content(vr, value)
        if self._is_implicit:
            return _IMPLICIT_HEAD.pack(tag >> 16, tag & 0xFFFF, len(content)) + content
        if vr in LONG_FORM:
            return _LONG_HEAD.pack(tag >> 16, tag & 0xFFFF, vr, 0, len(content)) + content
        if len(content) > MAX_SHORT_LENGTH:
            if isinstance(value, str):
                raise DatasetError(f"{len(content)} bytes are too many for {vr.decode()}", tag)
            return self.element(tag, UN, content)
        return _SHORT_HEAD.pack(tag >> 16, tag & 0xFFFF, vr, len(content)) + content

    def _content(self, vr: bytes, value: str | list[Tree] | bytes) -> bytes:
        if isinstance(value, list):
            return self._items(value)
        if isinstance(value, str):
            is_encoded = vr in _ENCODED_TEXT
            value = self._encode(value) if is_encoded else value.encode("latin_1", "replace")
        return value + padding_of(vr) if len(value) % 2 else value

    def _items(self, items: list[Tree]) -> bytes:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _too_deep()
        content = b"".join(map(self._item, items))
        self._depth -= 1
        return content

    def _item(self, tree: Tree) -> bytes:
        content = self._elements(tree)
        return _ITEM_HEAD.pack(_RAW_ITEM, len(content)) + content


def _too_deep() -> DatasetError:
    return DatasetError(f"sequences nested more than {MAX_DEPTH} deep")


def dataset_of(tree: Tree) -> Dataset:
    """The pydicom dataset of a tree, in UTF-8."""
    return read_dataset(BytesIO(encode_tree(tree)), is_implicit_VR=False, is_little_endian=True)
