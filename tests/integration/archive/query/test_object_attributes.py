"""Attributes that the index lacks, asked for at IMAGE level: what the object has comes back."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from lfscp.archive.archive import Archive, Received
from lfscp.archive.query.find import Incomplete
from lfscp.archive.query.object_keys import is_in_objects
from lfscp.archive.query.query import Model, Query, parse_query
from lfscp.dicom.reading.identifiers import read_identifier
from tests.support.archive_datasets import CT_IMAGE

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]
UIDS = {
    "SOPClassUID": CT_IMAGE,
    "SOPInstanceUID": "1.2.3.4.5",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.4",
}


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    with open_archive(tmp_path / "data", durability="os") as opened:
        yield opened


def made(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == IMPLICIT
    buffer.is_little_endian = syntax != BIG_ENDIAN
    write_dataset(buffer, dataset)
    data = bytes(buffer.getvalue())
    if syntax == DEFLATED:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflater.compress(data) + deflater.flush()
    return data


def store(archive: Archive, dataset: Dataset, syntax: str = EXPLICIT) -> None:
    for keyword, value in UIDS.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = b"\1\2" * 32
    dataset["PixelData"].VR = "OW"
    store_bytes(archive, written(dataset, syntax), syntax)


def store_bytes(archive: Archive, data: bytes, syntax: str) -> None:
    archive.store(Received(CT_IMAGE, UIDS["SOPInstanceUID"], syntax, dataset=memoryview(data)))


def query_of(asked: Dataset) -> Query:
    asked.QueryRetrieveLevel = "IMAGE"
    if "SOPInstanceUID" not in asked:
        asked.SOPInstanceUID = ""
    asked.StudyInstanceUID, asked.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    return parse_query(read_identifier(written(asked, IMPLICIT), IMPLICIT), Model.STUDY_ROOT)


def raw_answers(archive: Archive, query: Query, syntax: str = EXPLICIT) -> list[bytes]:
    return list(archive.find(query, transfer_syntax_uid=syntax, retrieve_ae_title="LFSCP"))


def ask(archive: Archive, syntax: str = EXPLICIT, **keys: Any) -> Dataset:
    """The one answer; asserted to be whole, with elements in order."""
    query = query_of(made(**keys))
    assert query.unsupported_keys == ()
    (data,) = raw_answers(archive, query, syntax)
    assert not isinstance(data, Incomplete)
    return as_dataset(data, syntax)


def as_dataset(data: bytes, syntax: str) -> Dataset:
    assert len(data) % 2 == 0
    if syntax == DEFLATED:
        data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
    found = read_dataset(BytesIO(data), syntax == IMPLICIT, syntax != BIG_ENDIAN)
    tags = [int(tag) for tag in found.keys()]  # noqa: SIM118 - iterating gives elements
    assert tags == sorted(tags)
    return found


def picture() -> Dataset:
    """What a viewer asks an image for, and the index does not keep."""
    reference = made(ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID="1.9.8")
    return made(
        SpecificCharacterSet="ISO_IR 100",
        ImageComments="Größe\\Form",
        SliceLocation="-12.5",
        SliceThickness="1.25",
        ImagePositionPatient=["-1.5", "2", "3"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        PixelSpacing=["0.5", "0.25"],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsStored=12,
        WindowCenter=["40", "600"],
        WindowWidth=["400", "1600"],
        ContentCreatorName="Müller^Jörg",
        FrameOfReferenceUID="1.2.840.99",
        PixelRepresentation=1,
        SmallestImagePixelValue=-7,
        DiffusionBValue=1000.5,
        FrameIncrementPointer=0x00181063,
        ReferencedImageSequence=[reference, made(ReferencedSOPInstanceUID="1.9.9")],
        ContentDescription="",
    )


@pytest.mark.parametrize("stored_in", SYNTAXES)
@pytest.mark.parametrize("answered_in", SYNTAXES)
def test_what_the_object_has_comes_back_in_every_transfer_syntax(
    tmp_path: Path, stored_in: str, answered_in: str
) -> None:
    with Archive.open(tmp_path / "data", durability="os") as archive:
        has = picture()
        store(archive, has, stored_in)
        keywords = [keyword for keyword in has.dir() if keyword not in {*UIDS, "PixelData"}]
        found = ask(archive, answered_in, **dict.fromkeys(keywords))
        for keyword in keywords:
            if keyword != "SpecificCharacterSet":
                assert found[keyword] == has[keyword], keyword
        assert found.SpecificCharacterSet == "ISO_IR 192"


def test_what_the_object_lacks_has_zero_length(archive: Archive) -> None:
    store(archive, made())
    found = ask(
        archive, ImageComments="*", WindowCenter="", ReferencedImageSequence=[], SliceLocation=""
    )
    assert found["ImageComments"].value == ""
    assert found["WindowCenter"].value is None
    assert found["SliceLocation"].value is None
    assert len(found.ReferencedImageSequence) == 0


def test_text_comes_in_the_character_set_asked_for_or_in_utf_8(archive: Archive) -> None:
    store(archive, made(SpecificCharacterSet="ISO_IR 144", ImageComments="Череп"))
    for asked, answered in (("ISO_IR 144", "ISO_IR 144"), ("ISO_IR 100", "ISO_IR 192")):
        found = ask(archive, SpecificCharacterSet=asked, ImageComments="")
        assert (found.SpecificCharacterSet, found.ImageComments) == (answered, "Череп")


def test_a_value_that_is_given_is_not_matched_and_said_so(archive: Archive) -> None:
    store(archive, made(ImageComments="good", SliceLocation="7"))
    query = query_of(made(ImageComments="bad", SliceLocation=""))
    assert query.unsupported_keys == ("ImageComments",)
    (data,) = raw_answers(archive, query)
    found = as_dataset(data, EXPLICIT)
    assert (found.ImageComments, found.SliceLocation) == ("good", 7)


def test_private_attributes_and_pixels_are_not_answered_and_said_so(archive: Archive) -> None:
    dataset = made()
    dataset.add_new(0x00090010, "LO", "ACME")
    dataset.add_new(0x00091001, "LO", "secret")
    store(archive, dataset)
    asked = made()
    asked.add_new(0x00090010, "LO", "ACME")
    asked.add_new(0x00091001, "UN", b"")
    asked.add_new(0x7FE00010, "OW", b"")
    asked.RetrieveURL = ""
    query = query_of(asked)
    assert query.unsupported_keys == ("RetrieveURL", "(0009,0010)", "(0009,1001)", "PixelData")
    (data,) = raw_answers(archive, query)
    found = as_dataset(data, EXPLICIT)
    assert 0x00091001 not in found
    assert not {"PixelData", "RetrieveURL"} & set(found.dir())


@pytest.mark.parametrize("level", ["STUDY", "SERIES"])
def test_above_the_images_no_object_is_asked(level: str) -> None:
    asked = made(QueryRetrieveLevel=level, StudyInstanceUID="1.2.3", ImageComments="")
    query = parse_query(asked, Model.STUDY_ROOT)
    assert (query.object_keys, query.unsupported_keys) == ((), ("ImageComments",))


# ---- sequences


def code(value: str, **more: Any) -> Dataset:
    return made(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=f"Ä{value}", **more)


@pytest.mark.parametrize("stored_in", SYNTAXES)
@pytest.mark.parametrize("undefined_length", [False, True])
def test_a_sequence_comes_back_whole(
    archive: Archive, stored_in: str, undefined_length: bool
) -> None:
    inner = code("2", SpecificCharacterSet="ISO_IR 192", MappingResource="DCMR")
    inner.add_new(0x00090010, "LO", "ACME")
    inner.add_new(0x00091001, "FD", 2.5)
    outer = code("1", PurposeOfReferenceCodeSequence=[inner], ReferencedFrameNumber="7")
    has = made(SpecificCharacterSet="ISO_IR 100", SourceImageSequence=[outer, Dataset()])
    has["SourceImageSequence"].is_undefined_length = undefined_length
    outer.is_undefined_length_sequence_item = undefined_length
    store(archive, has, stored_in)
    for asked in ([], [Dataset()]):
        found = ask(archive, SourceImageSequence=asked)
        first, second = found.SourceImageSequence
        assert (first.CodeMeaning, first.ReferencedFrameNumber) == ("Ä1", 7)
        (purpose,) = first.PurposeOfReferenceCodeSequence
        assert (purpose.CodeMeaning, purpose.MappingResource) == ("Ä2", "DCMR")
        assert "SpecificCharacterSet" not in purpose  # it is the response's
        if stored_in == IMPLICIT:
            assert purpose[0x00091001].VR == "UN"  # nothing says what it is
            assert purpose[0x00091001].value == pack("<d", 2.5)
        else:
            assert purpose[0x00091001].value == 2.5
        assert len(second) == 0


def test_of_items_the_keys_asked_for_come_back(archive: Archive) -> None:
    inner = code("2", MappingResource="DCMR")
    store(archive, made(SourceImageSequence=[code("1", PurposeOfReferenceCodeSequence=[inner])]))
    purpose = made(MappingResource="", CodeMeaning="")
    asked = made(
        SpecificCharacterSet="ISO_IR 100",  # says how the keys are read, asks for nothing
        CodeValue="",
        SpatialLocationsPreserved="",
        PurposeOfReferenceCodeSequence=[purpose],
    )
    (item,) = ask(archive, SourceImageSequence=[asked]).SourceImageSequence
    assert item.CodeValue == "1"
    assert item.SpatialLocationsPreserved == ""
    assert "CodeMeaning" not in item
    (found,) = item.PurposeOfReferenceCodeSequence
    assert (found.MappingResource, found.CodeMeaning) == ("DCMR", "Ä2")
    assert "CodeValue" not in found


def test_of_a_sequence_that_the_index_keeps_the_rest_is_in_the_object(archive: Archive) -> None:
    title = [code("1", ContextIdentifier="7000"), code("2", ContextIdentifier="7001")]
    store(archive, made(ConceptNameCodeSequence=title, SpecificCharacterSet="ISO_IR 100"))
    found = ask(archive, ConceptNameCodeSequence=[])
    assert [item.ContextIdentifier for item in found.ConceptNameCodeSequence] == ["7000", "7001"]
    found = ask(
        archive, ConceptNameCodeSequence=[made(CodeValue="2", CodeMeaning="", ContextIdentifier="")]
    )
    (item,) = found.ConceptNameCodeSequence
    assert (item.CodeValue, item.CodeMeaning, item.ContextIdentifier) == ("2", "Ä2", "7001")
    query = query_of(made(ConceptNameCodeSequence=[made(CodeValue="3", ContextIdentifier="")]))
    assert raw_answers(archive, query) == []


def test_a_value_given_in_an_item_is_not_matched_and_said_so(archive: Archive) -> None:
    store(archive, made(SourceImageSequence=[code("1")], ConceptNameCodeSequence=[code("2")]))
    wanted = made(CodeValue="2", ContextIdentifier="7000")
    query = query_of(
        made(SourceImageSequence=[made(CodeValue="9")], ConceptNameCodeSequence=[wanted])
    )
    assert query.unsupported_keys == (
        "SourceImageSequence",
        "ConceptNameCodeSequence.ContextIdentifier",
    )
    (data,) = raw_answers(archive, query)
    found = as_dataset(data, EXPLICIT)
    assert [item.CodeValue for item in found.SourceImageSequence] == ["1"]
    assert found.ConceptNameCodeSequence[0].ContextIdentifier == ""


def test_a_private_attribute_in_an_item_is_not_answered_and_said_so(archive: Archive) -> None:
    """Its block may be another's in the object."""
    item = code("1")
    item.add_new(0x00090010, "LO", "ANOTHER")
    item.add_new(0x00091001, "LO", "of another")
    store(archive, made(SourceImageSequence=[item], ConceptNameCodeSequence=[item]))
    for keyword, named in (
        ("SourceImageSequence", "SourceImageSequence"),
        ("ConceptNameCodeSequence", "ConceptNameCodeSequence.(0009,1001)"),
    ):
        wanted = made(CodeMeaning="")
        wanted.add_new(0x00091001, "LO", "")
        query = query_of(made(**{keyword: [wanted]}))
        assert query.unsupported_keys == (named,)
        (data,) = raw_answers(archive, query)
        (found,) = as_dataset(data, EXPLICIT)[keyword].value
        assert found.CodeMeaning == "Ä1"
        assert 0x00091001 not in found
        del wanted.CodeMeaning
        (data,) = raw_answers(archive, query_of(made(**{keyword: [wanted]})))
        (found,) = as_dataset(data, EXPLICIT)[keyword].value
        assert len(found) == 0


# ---- what cannot be read


def test_an_object_that_is_gone_gives_no_values_and_the_index_its_own(
    archive: Archive,
) -> None:
    has = made(ImageComments="gone", InstanceNumber=7, ConceptNameCodeSequence=[code("1")])
    has.SpecificCharacterSet = "ISO_IR 100"
    store(archive, has)
    (file,) = (archive.data_dir / "objects").rglob("*.dcm")
    file.unlink()
    asked = made(ImageComments="", InstanceNumber="", ConceptNameCodeSequence=[])
    (data,) = raw_answers(archive, query_of(asked))
    assert isinstance(data, Incomplete)
    found = as_dataset(data, EXPLICIT)
    assert (found.ImageComments, found.InstanceNumber) == ("", 7)
    assert [item.CodeMeaning for item in found.ConceptNameCodeSequence] == ["Ä1"]
    (data,) = raw_answers(archive, query_of(made(InstanceNumber="")))
    assert not isinstance(data, Incomplete)  # nothing is asked of the object


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("lost", [None, 72, 76, 80, 150, 255])
def test_a_damaged_object_gives_no_values(archive: Archive, syntax: str, lost: int | None) -> None:
    """Cut at the end of an element, in a value, in a head; or empty."""
    comments = "".join(chr(0x4E00 + n) for n in range(60))  # hard to deflate
    store(archive, made(ImageComments=comments, SpecificCharacterSet="ISO_IR 192"), syntax)
    (file,) = (archive.data_dir / "objects").rglob("*.dcm")
    whole = file.read_bytes()
    file.write_bytes(whole[: 0 if lost is None else len(whole) - lost])
    (data,) = raw_answers(archive, query_of(made(ImageComments="")))
    assert isinstance(data, Incomplete)
    assert as_dataset(data, EXPLICIT).ImageComments == ""


def test_an_object_is_read_when_its_answer_is_drawn(archive: Archive) -> None:
    for number in range(2):
        uid = f"1.2.3.4.{number}"
        dataset = made(**UIDS | {"SOPInstanceUID": uid}, ImageComments="here")
        data = written(dataset, EXPLICIT)
        archive.store(Received(CT_IMAGE, uid, EXPLICIT, dataset=memoryview(data)))
    drawn = archive.find(
        query_of(made(ImageComments="")), transfer_syntax_uid=EXPLICIT, retrieve_ae_title="A"
    )
    assert not isinstance(next(drawn), Incomplete)
    for file in (archive.data_dir / "objects").rglob("*.dcm"):
        file.unlink()
    assert [isinstance(each, Incomplete) for each in drawn] == [True]


def implicit(tag: int, value: bytes) -> bytes:
    return pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def bare(*parts: bytes) -> bytes:
    """A dataset in implicit VR little endian with these elements behind its UIDs."""
    return written(made(**UIDS), IMPLICIT) + b"".join(parts)


def nested(depth: int) -> bytes:
    """Items in items, of a sequence that may hold itself."""
    value = b""
    for _ in range(depth):
        value = implicit(0x0040A730, implicit(0xFFFEE000, value))
    return value


@pytest.mark.parametrize(
    ("data", "keyword"),
    [
        (bare(nested(40)), "ContentSequence"),
        (bare(nested(5_000)), "ContentSequence"),
        (bare(implicit(0x00420011, b"x" * (2 << 20))), "EncapsulatedDocument"),
        (bare(implicit(0x0040A730, implicit(0xFFFEE000, b"broken item!"))), "ContentSequence"),
        (bare(implicit(0x0040A730, implicit(0xFFFEE000, b"") * 120_000)), "ContentSequence"),
    ],
    ids=["deep", "very deep", "long", "broken", "many items"],
)
def test_what_is_too_much_is_left_out_alone(archive: Archive, data: bytes, keyword: str) -> None:
    store_bytes(archive, data, IMPLICIT)
    (answer,) = raw_answers(archive, query_of(made(**{keyword: None, "FrameOfReferenceUID": ""})))
    assert isinstance(answer, Incomplete)
    assert not as_dataset(answer, EXPLICIT)[keyword].value


def test_items_asked_for_by_many_keys_take_little_memory(tmp_path: Path) -> None:
    """Each empty item would be answered with each key: a hundred million elements.

    They are the object's, whatever database the index is in.
    """
    items = bare(implicit(0x0040A730, implicit(0xFFFEE000, b"") * 120_000))
    item = made()
    for tag in itertools.islice(filter(is_in_objects, sorted(DicomDictionary)), 900):
        item.add_new(tag, "LO", None)
    query = query_of(made(ContentSequence=[item], FrameOfReferenceUID=""))
    with Archive.open(tmp_path, durability="os") as archive:
        store_bytes(archive, items, IMPLICIT)
        tracemalloc.start()
        try:
            (answer,) = raw_answers(archive, query)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(answer, Incomplete)
    assert peak < 60_000_000


def test_all_that_is_read_of_one_object_has_a_limit(archive: Archive) -> None:
    """Each is shorter than what a single attribute may be."""
    tags = (0x00204000, 0x00400280, 0x00401400)
    store_bytes(archive, bare(*(implicit(tag, b"x" * 1_000_000) for tag in tags)), IMPLICIT)
    asked = made()
    for tag in tags:
        asked.add_new(tag, "LT", "")
    (answer,) = raw_answers(archive, query_of(asked))
    found = as_dataset(answer, EXPLICIT)
    assert isinstance(answer, Incomplete)
    assert [len(found[tag].value or "") for tag in tags] == [1_000_000, 1_000_000, 0]


def test_a_character_set_without_end_is_none(archive: Archive) -> None:
    character_sets = implicit(0x00080005, b"ISO_IR 192\\" * 1_000)
    uids = written(made(**UIDS), IMPLICIT)
    store_bytes(archive, character_sets + uids + implicit(0x00204000, b"seen"), IMPLICIT)
    assert ask(archive, ImageComments="").ImageComments == "seen"


def test_a_compressed_icon_is_left_out_alone(archive: Archive) -> None:
    """Its fragments would come as the bytes of pixels that are not compressed."""
    icon = made(Rows=1, PixelData=encapsulate([b"\xff\xd8ab"]))
    icon["PixelData"].is_undefined_length = True
    icon["PixelData"].VR = "OB"
    store(archive, made(IconImageSequence=[icon], ImageComments="seen"))
    (answer,) = raw_answers(archive, query_of(made(IconImageSequence=[], ImageComments="")))
    assert isinstance(answer, Incomplete)
    found = as_dataset(answer, EXPLICIT)
    assert (list(found.IconImageSequence), found.ImageComments) == ([], "seen")


def test_a_sequence_as_deep_as_can_be_is_whole(archive: Archive) -> None:
    store_bytes(archive, bare(nested(15)), IMPLICIT)
    found = ask(archive, ContentSequence=[])
    depth = 0
    while found.get("ContentSequence"):
        found, depth = found.ContentSequence[0], depth + 1
    assert depth == 15


def test_a_request_nested_without_end_is_answered(archive: Archive) -> None:
    store_bytes(archive, bare(nested(3)), IMPLICIT)
    uids = b"".join(
        implicit(tag, uid) for tag, uid in ((0x0020000D, b"1.2.3\0"), (0x0020000E, b"1.2.3.4\0"))
    )
    raw = implicit(0x00080052, b"IMAGE ") + uids + nested(5_000)
    query = parse_query(read_identifier(raw, IMPLICIT), Model.STUDY_ROOT)
    (answer,) = raw_answers(archive, query)
    assert len(as_dataset(answer, EXPLICIT).ContentSequence) == 1


def test_an_attribute_of_unknown_vr_is_read_by_the_dictionary(archive: Archive) -> None:
    """A sender that does not know an attribute writes UN (PS3.5 section 6.2.2)."""
    un = pack("<HH2sxxL", 0x0020, 0x4000, b"UN", 6) + "Größe".encode("latin-1") + b" "
    data = written(made(SpecificCharacterSet="ISO_IR 100", **UIDS), EXPLICIT) + un
    store_bytes(archive, data, EXPLICIT)
    assert ask(archive, ImageComments="").ImageComments == "Größe"


def test_a_header_longer_than_any_window_is_read(tmp_path: Path) -> None:
    items = [code(str(number)) for number in range(9_000)]
    for syntax in SYNTAXES:
        with Archive.open(tmp_path / syntax, durability="os") as archive:
            has = made(OtherPatientIDsSequence=items, ImageComments="behind it")
            has.SpecificCharacterSet = "ISO_IR 192"
            store(archive, has, syntax)
            assert ask(archive, ImageComments="").ImageComments == "behind it"


def test_overlays_are_answered_up_to_a_size(archive: Archive) -> None:
    dataset = made()
    dataset.add_new(0x60020010, "US", 16)
    dataset.add_new(0x60023000, "OW", b"\3\5" * 16)
    store(archive, dataset)
    asked = made()
    asked.add_new(0x60020010, "US", None)
    asked.add_new(0x60023000, "OW", b"")
    query = query_of(asked)
    (data,) = raw_answers(archive, query, BIG_ENDIAN)
    found = as_dataset(data, BIG_ENDIAN)
    assert found[0x60020010].value == 16
    assert found[0x60023000].value == b"\5\3" * 16
