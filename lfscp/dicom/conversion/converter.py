"""Converts datasets between encodings: implicit and explicit VR, little and big endian.

Rules: structure is converted, values are not: headers are rewritten, numbers change their byte
order, all other bytes are copied as they are, right or wrong. A value that does not fit the VR it
would get goes as UN; UN is never turned round, and what stands in a UN of undefined length is
implicit VR little endian in every encoding. What leaves out its VR gets that of the dictionary.
Lengths stay defined or undefined as they were. Group lengths are computed anew, since the lengths
of headers differ. Zeros behind the last element are no element and are left out. Nothing recurses.
What cannot be converted is an error.
Source: PS3.5 sections 6.2.2, 7.1 to 7.5, annex A.1 to A.3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from lfscp.dicom.conversion.encoder import Encoder, Piece
from lfscp.dicom.conversion.nesting import OpenLevel
from lfscp.dicom.encoding.elements import (
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_DELIMITER,
    NO_VRS,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Encoding,
    each_item,
    element_head,
    elements,
    skip_undefined,
)
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA, padded_fragments
from lfscp.dicom.encoding.image_pixel import PIXEL_REPRESENTATION
from lfscp.dicom.encoding.value_representations import (
    KNOWN,
    MAX_SHORT_LENGTH,
    SHORT_FORM,
    SQ,
    UN,
    WIDTH,
    left_out,
    padding_of,
)
from lfscp.dicom.errors import DatasetError, named

_ICON_IMAGE_SEQUENCE: Final = 0x00880200
_MAX_DEPTH: Final = 100_000
_LEVEL_BYTES: Final = 512  # of memory


class Edit(NamedTuple):
    """An element of the dataset itself as it shall be.

    Args:
        pieces: of its value, in the byte order of the source, together of even length; they may
            be made when the result is read.
    """

    vr: bytes
    pieces: Sequence[Piece]


def convert(
    dataset: memoryview,
    source: Encoding,
    target: Encoding,
    edits: Mapping[int, Edit | None] | None = None,
    *,
    pads: bool = False,
    most_bytes: float = float("inf"),
) -> list[Piece]:
    """Encode a dataset otherwise.

    Args:
        source: how it is encoded.
        target: how it shall be.
        edits: elements to replace or to add, by tag; None leaves one out. Given at all, icons
            whose pixels are compressed are left out as well.
        pads: give each value of odd length its padding; without it lengths stay as they are.
        most_bytes: of memory for small values and headers, which are gathered.
    Returns:
        the pieces of the result, in order.
    Raises:
        DatasetError: the dataset is broken, a value cannot be turned round, or it needs more
            memory.
    """
    out = Encoder(target, source.byteorder, most_bytes)
    try:
        return _Conversion(dataset, source, target, edits, out, pads=pads).run()
    except (struct.error, OverflowError):
        raise DatasetError("a length does not fit its field any more") from None


class _Conversion:
    def __init__(
        self,
        dataset: memoryview,
        source: Encoding,
        target: Encoding,
        edits: Mapping[int, Edit | None] | None,
        out: Encoder,
        *,
        pads: bool,
    ) -> None:
        self._buffer = dataset
        self._source = source
        self._target = target
        self._names_vrs = target.explicit and not source.explicit
        self._only_copies = source is target and not pads
        self._pads = pads
        self._drops_icons = edits is not None
        self._edits = edits or {}
        self._edits_left = sorted(self._edits, reverse=True)
        self._edited_groups = {tag >> 16 for tag in self._edits} | {_ICON_IMAGE_SEQUENCE >> 16}
        self._out = out
        self._at = 0
        self._root = OpenLevel(len(dataset), 0, None, is_item=True, is_delimited=False)
        self._stack = [self._root]
        self._deepest = 1

    def run(self) -> list[Piece]:
        while self._stack:
            top = self._stack[-1]
            if self._at >= top.end and not top.is_delimited:
                self._close()
            elif self._at + 8 > top.end:
                self._end_of_bytes(top)
            elif top.is_item:
                self._element(top)
            else:
                self._item(top)
        return self._out.pieces()

    def _end_of_bytes(self, top: OpenLevel) -> None:
        if top is self._root and not any(self._buffer[self._at :]):
            self._at = top.end
            return
        raise DatasetError(f"the dataset ends inside an element, at byte {self._at}")

    # Items and sequences

    def _item(self, sequence: OpenLevel) -> None:
        raw, length = self._source.unpack_tag_length(self._buffer, self._at)
        tag = self._source.raw_tag(raw)
        self._at += 8
        if tag == SEQUENCE_DELIMITER and sequence.is_delimited:
            self._close()
            return
        if tag != ITEM:
            raise DatasetError(f"no item in a sequence at byte {self._at - 8}", tag)
        self._out.item_head(ITEM, UNDEFINED_LENGTH if length == UNDEFINED_LENGTH else 0)
        self._open(length, sequence.end, is_item=True)

    def _open(self, length: int, limit: int, *, is_item: bool) -> None:
        """Begin a sequence or an item at the present position; its header is written."""
        if len(self._stack) > _MAX_DEPTH:
            raise DatasetError(f"sequences nested more than {_MAX_DEPTH} deep")
        is_delimited = length == UNDEFINED_LENGTH
        end = limit if is_delimited else self._at + length
        if end > limit:
            raise DatasetError(f"{length} bytes of value, {limit - self._at} are there")
        mark = None if is_delimited else self._out.mark(4)
        if len(self._stack) > self._deepest:
            self._deepest = len(self._stack)
            self._out.spend(_LEVEL_BYTES)
        self._stack.append(
            OpenLevel(end, self._out.size, mark, is_item=is_item, is_delimited=is_delimited)
        )

    def _close(self) -> None:
        """End what is open innermost: its length is known now."""
        top = self._stack.pop()
        if top is self._root:
            self._write_edits(before=1 << 32)
        top.end_group(self._out)
        top.decide(self._stack[-1] if self._stack else None)
        if top.is_delimited:
            self._out.item_head(ITEM_DELIMITER if top.is_item else SEQUENCE_DELIMITER, 0)
        elif top.length is not None:
            self._out.put_length(top.length, self._out.size - top.begin)

    # Elements

    def _element(self, top: OpenLevel) -> None:
        buffer, source, at = self._buffer, self._source, self._at
        tag = source.raw_tag(source.unpack_length(buffer, at)[0])
        if tag >> 16 == 0xFFFE:
            if tag != ITEM_DELIMITER or not top.is_delimited:
                raise DatasetError(f"an item or delimiter out of place at byte {at}", tag)
            self._at += 8
            self._close()
            return
        if tag == 0 and top is self._root and not bytes(buffer[at:]).strip(b"\0"):
            self._at = top.end
            return
        _, value, length, inner = element_head(buffer, at, top.end, source)
        if length != UNDEFINED_LENGTH and value + length > top.end:
            raise DatasetError(f"{length} bytes of value, {top.end - value} are there", tag)
        if top is self._root:
            self._write_edits(before=tag)
        if tag >> 16 != top.group:
            top.end_group(self._out)
        if self._is_edited(top, tag, value, length, inner or source):
            self._at = self._end_of(top, value, length, inner or source)
        elif tag & 0xFFFF == 0 and length == 4 and self._computes(tag >> 16):
            self._begin_group(top, tag, value)
        elif self._only_copies and not self._must_look_inside(value, length):
            self._at = self._end_of(top, value, length, inner or source)
            self._out.copy(buffer[at : self._at])
        elif length == UNDEFINED_LENGTH:
            self._undefined(top, tag, value)
        else:
            self._defined(top, tag, value, length)

    def _must_look_inside(self, value: int, length: int) -> bool:
        """Whether compressed pixels may be in an element of a dataset that is decoded."""
        if not self._drops_icons:
            return False
        if length == UNDEFINED_LENGTH:
            return True
        is_sequence = bytes(self._buffer[self._at + 4 : self._at + 6]) == SQ
        return is_sequence and self._has_items(self._buffer[value : value + length])

    def _end_of(self, top: OpenLevel, value: int, length: int, inner: Encoding) -> int:
        if length == UNDEFINED_LENGTH:
            return skip_undefined(self._buffer, value, top.end, inner)
        return value + length

    def _vr(self, top: OpenLevel, tag: int, length: int) -> tuple[bytes, bool]:
        """The VR of the element at the present position, and whether it may be SS instead."""
        if not self._source.explicit:
            return top.deciding.vr_of(tag, length)
        vr = bytes(self._buffer[self._at + 4 : self._at + 6])
        if vr in KNOWN:
            return vr, False
        return left_out(tag, length) if vr in NO_VRS else (UN, False)

    def _undefined(self, top: OpenLevel, tag: int, value: int) -> None:
        vr, _ = self._vr(top, tag, 0)
        is_unknown = not self._source.explicit and tag != PIXEL_DATA
        if vr == SQ or (self._pads and is_unknown):  # what is inside must be padded as well
            self._at = value
            self._out.head(tag, SQ, UNDEFINED_LENGTH)
            self._open(UNDEFINED_LENGTH, top.end, is_item=False)
            return
        if tag == PIXEL_DATA and self._source is self._target and not self._drops_icons:
            pieces, self._at = padded_fragments(self._buffer, value)
            self._out.head(tag, vr, UNDEFINED_LENGTH)
            for piece in pieces:
                self._out.copy(piece)
            return
        if tag == PIXEL_DATA or (self._source.explicit and vr != UN):
            name = f"{named(tag)} {vr.decode()}"
            raise DatasetError(f"{name} of undefined length cannot be converted", tag)
        self._at = skip_undefined(self._buffer, value, top.end, IMPLICIT_LITTLE)
        self._out.head(tag, UN, UNDEFINED_LENGTH)
        self._out.copy(self._buffer[value : self._at])

    def _defined(self, top: OpenLevel, tag: int, value: int, length: int) -> None:
        vr, may_be_signed = self._vr(top, tag, length)
        content = self._buffer[value : value + length]
        if vr == SQ and self._has_items(content):
            self._at = value
            self._out.head(tag, SQ, 0)
            self._open(length, top.end, is_item=False)
            return
        if not self._source.explicit:
            top.deciding.learn(tag, content)
        elif tag == PIXEL_REPRESENTATION and length >= 2:
            top.deciding.learn_sign(content, self._source.byteorder)
        padding = padding_of(vr) if self._pads and length % 2 else b""
        fitting = self._fitting(tag, vr, length)
        self._out.head(tag, fitting, length + len(padding))
        if may_be_signed and fitting == vr and self._target.explicit:
            top.undecided.append(self._out.mark(4))
        self._out.value(content, fitting)
        if padding:
            self._out.copy(padding)
        self._at = value + length

    def _has_items(self, content: memoryview) -> bool:
        """Whether a value that should be a sequence is one; some have text there."""
        if not content:
            return True
        source = self._source
        return len(content) >= 8 and source.raw_tag(source.unpack_length(content, 0)[0]) == ITEM

    def _fitting(self, tag: int, vr: bytes, length: int) -> bytes:
        """The VR to write: UN when the value does not fit its own."""
        if vr == SQ:
            return UN
        fits = length % WIDTH.get(vr, 1) == 0
        if not fits and (tag == PIXEL_DATA or (self._source.explicit and self._out.turns_round)):
            reason = f"{named(tag)} {vr.decode()} has {length} bytes, no whole numbers"
            raise DatasetError(reason, tag)
        if self._names_vrs and (not fits or (vr in SHORT_FORM and length > MAX_SHORT_LENGTH)):
            return UN
        return vr

    # Group lengths

    def _begin_group(self, top: OpenLevel, tag: int, value: int) -> None:
        self._out.head(tag, b"UL", 4)
        self._out.value(self._buffer[value : value + 4], b"UL")
        self._at = value + 4
        top.begin_group(tag >> 16, self._out)

    def _computes(self, group: int) -> bool:
        """Whether the length of a group is another than it was."""
        return not self._only_copies or group in self._edited_groups

    # Edits

    def _is_edited(
        self, top: OpenLevel, tag: int, value: int, length: int, inner: Encoding
    ) -> bool:
        """Whether an element is replaced, which is done, or left out."""
        if tag == _ICON_IMAGE_SEQUENCE and self._drops_icons and inner.explicit:
            end = self._end_of(top, value, length, inner)
            return _is_compressed(self._buffer[value:end], inner)
        if top is not self._root:
            return False
        self._write_edits(before=tag + 1)
        return tag in self._edits

    def _write_edits(self, before: int) -> None:
        while self._edits_left and self._edits_left[-1] < before:
            tag = self._edits_left.pop()
            edit = self._edits[tag]
            if edit is None:
                continue
            self._out.head(tag, edit.vr, sum(len(piece) for piece in edit.pieces))
            for piece in edit.pieces:
                self._out.value(piece, edit.vr)


def _is_compressed(icons: memoryview, encoding: Encoding) -> bool:
    """Whether an Icon Image Sequence holds pixels in fragments."""
    return any(
        tag == PIXEL_DATA and inner is not None
        for begin, end in each_item(icons, encoding)
        for tag, _, _, inner in elements(icons, begin, end, encoding)
    )
