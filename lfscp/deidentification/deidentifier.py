"""De-identifies one object: looks at it, holds it back or rewrites it, and makes a new head.

Source: PS3.15 sections E.1 and E.2; PS3.10 section 7.1.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lfscp.deidentification.actions import Action, Profile
from lfscp.deidentification.content_items import CONCEPT_NAME, ROOT, VALUE_TYPE, value_type_of
from lfscp.deidentification.errors import CompressedPixelsError, HeldBackError
from lfscp.deidentification.layout import Found, Writer, elements_of
from lfscp.deidentification.method import method_elements
from lfscp.deidentification.options import Option, require_consistent
from lfscp.deidentification.pixels.burned_in import READ, DeviceRule, rule_for, suspicion
from lfscp.deidentification.pixels.passed_pixels import (
    encapsulated_pixels,
    native_pixels,
    without_table,
)
from lfscp.deidentification.pixels.pixel_cleaning import CleanedPixels
from lfscp.deidentification.pseudonyms import Pseudonyms, is_valid_uid
from lfscp.deidentification.rewriter import PIXEL_DATA, Facts, Rewriter, identity_of
from lfscp.deidentification.sop_classes import require_known_class
from lfscp.deidentification.words.identifying import identifying_words
from lfscp.deidentification.words.naming import names_in, values_with_names, words_in
from lfscp.dicom.conversion.encoder import Piece, read_pieces
from lfscp.dicom.encoding.deflate import inflate, pieces_of
from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, Encoding
from lfscp.dicom.encoding.image_pixel import image_pixel, read_pixel_element
from lfscp.dicom.encoding.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.part10.media import read_media
from lfscp.dicom.reading.header import encoding_of

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, PIXEL_DATA})
# Samples, planes, rows, columns and bits of pixels: a dummy of those would change the picture.
_LAYOUT: Final = frozenset(
    {0x00280002, 0x00280006, 0x00280010, 0x00280011}
    | {0x00280100, 0x00280101, 0x00280102, 0x00280103}
)
_FLOATING: Final = {0x7FE00008: b"OF", 0x7FE00009: b"OD"}
_DIRECTORY_RECORDS: Final = 0x00041220
_ENCAPSULATED_DOCUMENT: Final = 0x00420011
_BURNED_IN_ANNOTATION: Final = 0x00280301
_UIDS: Final = (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)
_OVERLAY_BIT_POSITION: Final = 0x0102
_OVERLAY_DATA: Final = 0x3000
_NUMBERS: Final = frozenset({0x00280010, 0x00280011})
_MAX_INFLATED: Final = 1 << 30
_MOST_AT_ONCE: Final = 1 << 20  # bytes; whoever copies what is read needs no more memory


@dataclass(frozen=True, slots=True)
class Deidentified:
    """An object that may be let out.

    Args:
        dataset: its pieces; they refer to what was read, which must stay open until they are read.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    dataset: Sequence[Piece]

    def file(self) -> Iterator[memoryview]:
        """The bytes of a DICOM file, at most 1 MiB at a time."""
        head = part10_header(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid)
        yield memoryview(head)
        for piece in read_pieces(self.dataset):
            for at in range(0, len(piece), _MOST_AT_ONCE):
                yield piece[at : at + _MOST_AT_ONCE]

    def to_bytes(self) -> bytes:
        """The whole DICOM file."""
        return b"".join(self.file())


class Deidentifier:
    """De-identifies objects by the Basic Profile and some options.

    One may be used for many objects, and by several threads.

    Args:
        key: the secret of the project, of 16 bytes or more. The same key gives the same UIDs, names
            and dates again. None makes a key that nobody knows and that ends with this object.
        devices: where devices burn text into images.
    Raises:
        DeidentificationRequestError: the key is too short, or options contradict each other.
    """

    def __init__(
        self,
        options: Iterable[Option] = (),
        key: bytes | None = None,
        devices: Sequence[DeviceRule] = (),
    ) -> None:
        self.options = frozenset(options)
        require_consistent(self.options)
        self._profile = Profile(self.options)
        self._pseudonyms = Pseudonyms(key)
        self._devices = tuple(devices)
        self._rewriters: dict[int, Rewriter] = {}

    def deidentify(self, file: bytes | memoryview) -> Deidentified:
        """De-identify a DICOM file.

        Args:
            file: its bytes, such as a view on a mapped file.
        Raises:
            HeldBackError: it cannot be done for sure.
        """
        content = memoryview(file)
        try:
            media = read_media(content)
        except DatasetError as error:
            raise HeldBackError(error.reason) from None
        dataset = content[media.dataset_offset :]
        return self.deidentify_dataset(dataset, media.transfer_syntax_uid)

    def deidentify_dataset(
        self, dataset: bytes | memoryview, transfer_syntax_uid: str
    ) -> Deidentified:
        """De-identify a dataset without a file's head.

        Raises:
            HeldBackError: it cannot be done for sure.
        """
        try:
            return self._deidentify(memoryview(dataset), transfer_syntax_uid)
        except DatasetError as error:
            raise HeldBackError(error.reason) from None
        except struct.error:
            raise HeldBackError("it ends inside an element") from None

    def _deidentify(self, dataset: memoryview, transfer_syntax_uid: str) -> Deidentified:
        if transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            dataset, transfer_syntax_uid = _inflated(dataset), EXPLICIT_VR_LITTLE_ENDIAN
        encoding = _encoding(transfer_syntax_uid)
        found = elements_of(dataset, 0, len(dataset), encoding)
        by_tag = {each.tag: each for each in found}
        uids = _uids(dataset, by_tag)
        require_known_class(uids[SOP_CLASS_UID])
        _require_no_container(by_tag)
        added: dict[int, Piece] = {}
        pixels = self._cleaned_pixels(dataset, by_tag, encoding)
        rewriter = self._rewriter(encoding)
        writer = Writer(encoding)
        added.update(method_elements(writer, self.options, cleans_pixels=pixels is not None))
        if pixels is None:
            added.update(_passed(dataset, by_tag, writer, transfer_syntax_uid))
        else:
            added.update(without_table(by_tag))
            added[PIXEL_DATA] = pixels
            burned_in = writer.element(_BURNED_IN_ANNOTATION, b"CS", b"NO")
            added[_BURNED_IN_ANNOTATION] = burned_in
        facts = self._facts(dataset, found, encoding, uids)
        treated = _root_treatment(dataset, found, by_tag, uids[SOP_CLASS_UID])
        pieces = rewriter.rewrite(dataset, found, encoding, facts, added, treated)
        values = values_with_names(dataset, found)
        if _tells(pieces, words_in(values), added) and _tells(pieces, names_in(values), added):
            facts.hidden = names_in(values)
            pieces = rewriter.rewrite(dataset, found, encoding, facts, added, treated)
        new = self._new_uids(uids)
        return Deidentified(
            new[SOP_CLASS_UID],
            new[SOP_INSTANCE_UID],
            new[STUDY_INSTANCE_UID],
            new[SERIES_INSTANCE_UID],
            transfer_syntax_uid,
            pieces,
        )

    def _rewriter(self, encoding: Encoding) -> Rewriter:
        rewriter = self._rewriters.get(id(encoding))
        if rewriter is None:
            rewriter = Rewriter(self._profile, self._pseudonyms, encoding)
            self._rewriters[id(encoding)] = rewriter
        return rewriter

    def _facts(
        self, dataset: memoryview, found: list[Found], encoding: Encoding, uids: dict[int, str]
    ) -> Facts:
        identity = identity_of(dataset, found)
        if not identity:  # each study has a patient of its own then
            identity = b"\0study\0" + uids[STUDY_INSTANCE_UID].encode()
        return Facts(
            identity,
            self._pseudonyms.days(identity),
            lambda: identifying_words(dataset, found, encoding),
        )

    def _new_uids(self, uids: dict[int, str]) -> dict[int, str]:
        keeps = Option.RETAIN_UIDS in self.options
        return {
            tag: uid if keeps else self._pseudonyms.uids(tag, uid.encode()).decode()
            for tag, uid in uids.items()
        }

    def _cleaned_pixels(
        self, dataset: memoryview, by_tag: dict[int, Found], encoding: Encoding
    ) -> CleanedPixels | None:
        """The pixels with rectangles blackened; None if they stay as they are."""
        if not _PIXELS & by_tag.keys():
            return None
        _require_no_overlay_in_pixels(dataset, by_tag)
        values = _texts(dataset, by_tag, encoding)
        why = suspicion(values)
        rule = rule_for(self._devices, values) if self._devices else None
        if rule is None:
            if why:
                raise HeldBackError(f"text may be burned into its pixels: {why}")
            return None
        if not rule.rectangles:
            return None
        return _cleaned(dataset, by_tag, encoding, rule)


def _tells(
    pieces: Iterable[Piece], names: re.Pattern[bytes] | None, added: Mapping[int, Piece]
) -> bool:
    """Whether a name of a person is in what stays, but for pixels and what is made anew."""
    if names is None:
        return False
    ours = {id(piece) for piece in added.values()}
    return any(
        id(piece) not in ours
        and isinstance(piece, bytes | memoryview)
        and names.search(piece) is not None
        for piece in pieces
    )


def _passed(
    dataset: memoryview, by_tag: dict[int, Found], writer: Writer, transfer_syntax_uid: str
) -> dict[int, Piece]:
    """Pixels that stay as they are, by tag."""
    tags = sorted(_PIXELS & by_tag.keys())
    if tags and any(
        by_tag[tag].end - by_tag[tag].value not in (0, 2, 4) for tag in _LAYOUT & by_tag.keys()
    ):
        raise HeldBackError("what it says of the layout of its pixels is not valid")
    if any(by_tag[tag].is_undefined for tag in tags):
        return encapsulated_pixels(dataset, by_tag, tags[-1], writer, transfer_syntax_uid)
    added = without_table(by_tag)
    if tags:
        _, values = read_pixel_element(dataset, writer.encoding)
        image = image_pixel(values, writer.encoding)
        for tag in tags:
            vr = _FLOATING.get(tag) or _vr_of_pixels(by_tag[tag])
            added[tag] = native_pixels(dataset, by_tag[tag], image, writer, vr)
    return added


def _vr_of_pixels(found: Found) -> bytes:
    return found.declared if found.declared in (b"OB", b"OW") else b"OW"


def _cleaned(
    dataset: memoryview, by_tag: dict[int, Found], encoding: Encoding, rule: DeviceRule
) -> CleanedPixels:
    pixels = by_tag.get(PIXEL_DATA)
    if pixels is None:
        raise HeldBackError("its pixels are floating point numbers, and are not cleaned")
    if pixels.is_undefined:
        raise CompressedPixelsError("its pixels are compressed; only decoded ones are cleaned")
    if encoding.byteorder == "big":
        raise HeldBackError("its pixels are big endian; only little endian ones are cleaned")
    _, values = read_pixel_element(dataset, encoding)
    image = image_pixel(values, encoding)
    head = bytes(dataset[pixels.begin : pixels.value])
    return CleanedPixels(head, dataset[pixels.value : pixels.end], image, rule.rectangles)


def _inflated(dataset: memoryview) -> memoryview:
    size, pieces = 0, []
    for piece in inflate(pieces_of(dataset)):
        size += len(piece)
        if size > _MAX_INFLATED:
            raise HeldBackError("its deflated dataset is too large")
        pieces.append(piece)
    return memoryview(b"".join(pieces))


def _encoding(transfer_syntax_uid: str) -> Encoding:
    encoding = encoding_of(transfer_syntax_uid)
    return encoding if encoding is not None else EXPLICIT_LITTLE


def _uids(dataset: memoryview, by_tag: dict[int, Found]) -> dict[int, str]:
    uids = {}
    for tag in _UIDS:
        each = by_tag.get(tag)
        value = bytes(dataset[each.value : each.end]).rstrip(b"\0 ") if each else b""
        if not is_valid_uid(value):
            raise HeldBackError("one of its UIDs of class, instance, study or series is missing")
        uids[tag] = value.decode("ascii")
    return uids


def _require_no_container(by_tag: dict[int, Found]) -> None:
    if _DIRECTORY_RECORDS in by_tag:
        raise HeldBackError("it is a DICOMDIR")
    if _ENCAPSULATED_DOCUMENT in by_tag:
        raise HeldBackError("it has an encapsulated document, which cannot be cleaned")


def _require_no_overlay_in_pixels(dataset: memoryview, by_tag: dict[int, Found]) -> None:
    """Refuse overlays that stand in bits of the pixels which are not used, as old devices wrote.

    Source: PS3.5 section 8.1.2 of 2004, where they are retired.
    """
    for tag, each in by_tag.items():
        if tag >> 24 != 0x60 or tag & 0xFFFF != _OVERLAY_BIT_POSITION:
            continue
        has_data = tag & 0xFFFF0000 | _OVERLAY_DATA in by_tag
        if not has_data and any(dataset[each.value : each.end]):
            raise HeldBackError("an overlay, which may be text, is in its pixels")


def _root_treatment(
    dataset: memoryview, found: list[Found], by_tag: dict[int, Found], sop_class_uid: str
) -> dict[int, Action] | None:
    is_report = sop_class_uid.startswith("1.2.840.10008.5.1.4.1.1.88.")
    if not is_report:
        return None
    if VALUE_TYPE not in by_tag or value_type_of(dataset, found) != b"CONTAINER":
        raise HeldBackError("it is a structured report whose content is not a container")
    return ROOT if CONCEPT_NAME in by_tag else None


def _texts(dataset: memoryview, by_tag: dict[int, Found], encoding: Encoding) -> dict[int, str]:
    texts = {}
    for tag in READ & by_tag.keys():
        each = by_tag[tag]
        value = bytes(dataset[each.value : each.end])
        if tag in _NUMBERS:
            texts[tag] = str(int.from_bytes(value[:2], encoding.byteorder))
        else:
            texts[tag] = value.decode("latin_1").strip(" \0")
    return texts
