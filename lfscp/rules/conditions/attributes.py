"""Reads the attributes that conditions ask for: of a header, of encoded bytes, of a Dataset.

Rules: the header of the index is read already and costs nothing more; the bytes are read once for
each object, and only if a condition asks for what the header lacks. Pixel Data is not read.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Sequence
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as ItemSequence

from lfscp.dicom.encoding.deflate import inflate, pieces_of
from lfscp.dicom.encoding.elements import (
    EXPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    element_head,
    items_of,
    skip_undefined,
)
from lfscp.dicom.encoding.image_pixel import PIXEL_REPRESENTATION
from lfscp.dicom.encoding.value_representations import NUMBER_FORMATS
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED, Header, encoding_of
from lfscp.dicom.values.attributes import BY_TAG, SINGLE_VALUE_VRS, SPECIFIC_CHARACTER_SET, TEXT_VRS
from lfscp.dicom.values.charset import codecs_of, decode
from lfscp.dicom.values.temporal import without_delimiters
from lfscp.rules.conditions.subject import Attributes, Subject

NUMBER_VRS: Final = frozenset({*NUMBER_FORMATS, "DS", "IS"})
_NEITHER: Final = ("",)  # there, but neither text nor number
_FIRST_BULK: Final = 0x7FE00000
_MAX_VALUE: Final = 1 << 16  # bytes of a value that are compared
_MAX_INFLATED: Final = 16 << 20
_PADDING: Final = " \0"


def split_text(text: str, vr: str) -> tuple[str, ...]:
    """The values of a text: apart at each backslash, without padding, none of them empty."""
    if vr in SINGLE_VALUE_VRS:
        stripped = text.strip(_PADDING)
        return (stripped,) if stripped else ()
    if "\\" not in text:
        text = text.strip(_PADDING)
        return (text,) if text else ()
    return tuple(value for part in text.split("\\") if (value := part.strip(_PADDING)))


class HeaderAttributes:
    """The attributes of an object whose header is read already. For one thread.

    Args:
        further: reads the rest; called once at most, when an attribute beyond the header is asked
            for.
    """

    __slots__ = ("_further", "_header", "_read", "_values")

    def __init__(self, header: Header, further: Callable[[], Attributes]) -> None:
        self._header = header
        self._further = further
        self._read: Attributes | None = None
        self._values: dict[int, Sequence[str]] = {}

    def values(self, tag: int, vr: str) -> Sequence[str]:
        """See `Attributes.values`."""
        found = self._values.get(tag)
        if found is None:
            if is_in_header(tag):
                found = split_text(self._header.text(tag), vr)
            else:
                found = self._rest().values(tag, vr)
            self._values[tag] = found
        return found

    def items(self, tag: int) -> Sequence[Attributes]:
        """See `Attributes.items`."""
        return self._rest().items(tag)

    def _rest(self) -> Attributes:
        if self._read is None:
            self._read = self._further()
        return self._read


def subject_of(
    header: Header,
    transfer_syntax_uid: str,
    dataset: Callable[[], Buffer],
    calling_ae_title: str,
    called_ae_title: str = "",
    address: str = "",
) -> Subject:
    """An object whose header is read already, with its sender; see `Subject`.

    Args:
        dataset: gives the encoded dataset; called once at most, and only if a condition asks for
            what the header lacks.
    """

    def further() -> Attributes:
        return attributes_of(dataset(), transfer_syntax_uid)

    attributes = HeaderAttributes(header, further)
    return Subject(attributes, calling_ae_title, called_ae_title, address, transfer_syntax_uid)


def is_in_header(tag: int) -> bool:
    """Whether the header of the index has all of an attribute."""
    attribute = BY_TAG.get(tag)
    return tag == SPECIFIC_CHARACTER_SET or (attribute is not None and attribute.vr != "SQ")


def attributes_of(dataset: Buffer, transfer_syntax_uid: str) -> EncodedAttributes:
    """The attributes of an encoded dataset; of a deflated one, of its first 16 MB."""
    if transfer_syntax_uid not in DEFLATED:
        return EncodedAttributes(dataset, encoding_of(transfer_syntax_uid))
    inflated = bytearray()
    with contextlib.suppress(DatasetError):
        for piece in inflate(pieces_of(dataset)):
            inflated += piece
            if len(inflated) > _MAX_INFLATED:
                break
    return EncodedAttributes(bytes(inflated), EXPLICIT_LITTLE)


class EncodedAttributes:
    """The attributes of an encoded dataset, or of one item in it.

    What of it is broken is absent: the archive has decided already whether to take the object.

    Args:
        buffer: the bytes; the dataset or item is what is between `begin` and `end`.
        outer_codecs: the character set around an item; nothing for a dataset.
    """

    __slots__ = ("_buffer", "_codecs", "_encoding", "_is_signed", "_spans")

    def __init__(
        self,
        buffer: Buffer,
        encoding: Encoding,
        begin: int = 0,
        end: int | None = None,
        outer_codecs: Sequence[str] = (),
    ) -> None:
        self._buffer = buffer
        self._encoding = encoding
        self._spans: dict[int, tuple[str, int, int, Encoding | None]] = {}
        with contextlib.suppress(DatasetError, struct.error):  # what stands before damage counts
            self._walk(begin, len(buffer) if end is None else end)
        own = self._raw(SPECIFIC_CHARACTER_SET).decode("latin_1").strip(_PADDING)
        self._codecs = codecs_of(own) if own or not outer_codecs else outer_codecs
        signed = self._raw(PIXEL_REPRESENTATION)
        self._is_signed = int.from_bytes(signed, encoding.byteorder) == 1

    def values(self, tag: int, vr: str) -> Sequence[str]:
        """See `Attributes.values`."""
        written, begin, end, _ = self._spans.get(tag, ("", 0, 0, None))
        if begin >= end:
            return ()
        vr = written if written in TEXT_VRS or written in NUMBER_FORMATS else vr
        if vr.startswith("US or SS"):
            vr = "SS" if self._is_signed else "US"
        if vr in NUMBER_FORMATS:
            return _numbers(self._raw(tag), NUMBER_FORMATS[vr], self._encoding)
        if vr not in TEXT_VRS:
            return _NEITHER
        text = decode(self._raw(tag), self._codecs, vr)
        if vr in {"DA", "TM"}:
            text = without_delimiters(text.strip(_PADDING), vr)
        return split_text(text, vr)

    def items(self, tag: int) -> Sequence[Attributes]:
        """See `Attributes.items`."""
        _, begin, end, inner = self._spans.get(tag, ("", 0, 0, None))
        if inner is None:
            return ()
        value = memoryview(self._buffer)[begin:end]
        try:
            spans = items_of(value, inner)
        except (DatasetError, struct.error):
            return ()
        content = bytes(value)
        return [EncodedAttributes(content, inner, at, to, self._codecs) for at, to in spans]

    def _raw(self, tag: int) -> bytes:
        _, begin, end, _ = self._spans.get(tag, ("", 0, 0, None))
        return bytes(self._buffer[begin : min(end, begin + _MAX_VALUE)])

    def _walk(self, at: int, end: int) -> None:
        """Note where each element before Pixel Data is."""
        buffer, encoding = self._buffer, self._encoding
        while at + 8 <= end:
            raw, value, length, inner = element_head(buffer, at, end, encoding)
            tag = encoding.raw_tag(raw)
            if tag >= _FIRST_BULK:
                return
            if length == UNDEFINED_LENGTH:
                after = skip_undefined(buffer, value, end, inner or encoding)
                until = after - 8
            else:
                after = until = value + length
            if after > end:
                return
            written = bytes(buffer[at + 4 : at + 6]).decode("latin_1") if encoding.explicit else ""
            self._spans[tag] = (written, value, until, inner)
            at = after


def _numbers(raw: bytes, code: str, encoding: Encoding) -> Sequence[str]:
    order = "<" if encoding.byteorder == "little" else ">"
    width = struct.calcsize(order + code)
    whole = raw[: len(raw) // width * width]
    numbers = [number for (number,) in struct.iter_unpack(order + code, whole)]
    return [f"{number:.7g}" if code == "f" else repr(number) for number in numbers]


class DatasetAttributes:
    """The attributes of a pydicom Dataset, such as one on its way out."""

    __slots__ = ("_dataset",)

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def values(self, tag: int, vr: str) -> Sequence[str]:
        """See `Attributes.values`."""
        value = _value_of(self._dataset, tag)
        if value is None or (isinstance(value, str | bytes | MultiValue | list) and not value):
            return ()
        several = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
        if any(isinstance(one, bytes | Dataset) for one in several):
            return _NEITHER
        texts = [split_text(_text_of(one), vr) for one in several]
        return [text for part in texts for text in part]

    def items(self, tag: int) -> Sequence[Attributes]:
        """See `Attributes.items`."""
        value = _value_of(self._dataset, tag)
        if not isinstance(value, ItemSequence):
            return ()
        return [DatasetAttributes(item) for item in value]


def _value_of(dataset: Dataset, tag: int) -> object:
    if tag not in dataset:
        return None
    try:
        element = dataset[tag]
    except Exception:  # noqa: BLE001 - pydicom raises whatever a broken value makes it raise
        return b"\0"  # there, but nothing that can be compared
    return element.value if isinstance(element, DataElement) else None


def _text_of(value: object) -> str:
    original = getattr(value, "original_string", None)  # of a DS, IS, DA, TM or DT
    return str(value) if original is None else str(original)
