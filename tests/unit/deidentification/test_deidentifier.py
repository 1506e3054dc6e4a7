"""What comes out: UIDs, dates, names and the method; the same again with the same key."""

from __future__ import annotations

import io
import itertools
import re
import warnings
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

from lfscp.deidentification.deidentifier import Deidentified, Deidentifier
from lfscp.deidentification.errors import DeidentificationRequestError, HeldBackError
from lfscp.deidentification.options import CODES, Option, options_named
from lfscp.deidentification.words.descriptors import vocabulary
from tests.support.marked_objects import dataset, element, file_of, marked, sequence, vr

KEY = b"the key of a project"
EXPLICIT = "1.2.840.10008.1.2.1"
FILES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_RLE.dcm",
    "rtplan.dcm",
    "rtdose.dcm",
    "waveform_ecg.dcm",
    "liver_1frame.dcm",
    "test-SR.dcm",
    "reportsi.dcm",
]


def read(found: Deidentified) -> FileDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(io.BytesIO(found.to_bytes()))


def bytes_of(name: str, **values: object) -> bytes:
    """A file of pydicom's with some values set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dcmread(str(get_testdata_file(name)))
        if not values:
            with open(str(get_testdata_file(name)), "rb") as file:
                return file.read()
        for keyword, value in values.items():
            setattr(found, keyword, value)
        target = io.BytesIO()
        dcmwrite(target, found)
    return target.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_an_object_comes_out_readable_with_its_pixels_untouched(name: str) -> None:
    content = bytes_of(name)
    found = Deidentifier(key=KEY).deidentify(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = dcmread(io.BytesIO(content)), read(found)
        str(after)  # decodes every value
    for keyword in ("FloatPixelData", "Rows", "Columns", "BitsStored", "Modality"):
        assert before.get(keyword) == after.get(keyword), keyword
    if "jp2k" in name:  # it has a comment, which goes
        assert (before.pixel_array == after.pixel_array).all()
    else:
        assert before.get("PixelData") == after.get("PixelData")
    assert after.SOPClassUID == before.SOPClassUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert UID(after.SOPInstanceUID).is_valid
    assert after.SOPInstanceUID.startswith("2.25.")


@pytest.mark.parametrize("options", [(), tuple(set(Option) - {Option.RETAIN_FULL_DATES})])
@pytest.mark.parametrize("name", ["CT_small.dcm", "rtplan.dcm", "test-SR.dcm"])
def test_the_same_key_gives_the_same_bytes_and_another_key_others(
    name: str, options: tuple[Option, ...]
) -> None:
    content = bytes_of(name)
    first = Deidentifier(options, KEY).deidentify(content).to_bytes()
    assert Deidentifier(options, KEY).deidentify(content).to_bytes() == first
    assert Deidentifier(options, KEY + b"2").deidentify(content).to_bytes() != first


def test_references_stay_consistent_across_objects() -> None:
    deidentifier = Deidentifier(key=KEY)
    image = read(deidentifier.deidentify(dicom({0x00080018: element(0x00080018, b"1.2.3.40")})))
    reference = element(0x00081150, b"1.2.840.10008.5.1.4.1.1.2") + element(0x00081155, b"1.2.3.40")
    other = read(deidentifier.deidentify(dicom({0x00081140: sequence(0x00081140, reference)})))
    assert other.ReferencedImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert other.ReferencedImageSequence[0].ReferencedSOPClassUID == image.SOPClassUID
    assert other.StudyInstanceUID == image.StudyInstanceUID


def dicom(elements: dict[int, bytes]) -> bytes:
    return file_of(dataset(elements))


def test_patients_stay_apart_and_are_the_same_across_studies() -> None:
    deidentifier = Deidentifier(key=KEY)

    def patient(patient_id: bytes, study: bytes) -> str:
        elements = {
            0x00100020: element(0x00100020, patient_id),
            0x0020000D: element(0x0020000D, study),
        }
        return str(read(deidentifier.deidentify(dicom(elements))).PatientID)

    assert patient(b"7", b"1.2.5") == patient(b"7", b"1.2.6")
    assert patient(b"7", b"1.2.5") != patient(b"8", b"1.2.5")
    assert re.fullmatch(r"ANON[A-Z2-7]{12}", patient(b"7", b"1.2.5"))


def test_modified_dates_keep_their_distance_and_the_time_of_the_day() -> None:
    content = bytes_of(
        "CT_small.dcm",
        StudyDate="20240229",
        SeriesDate="20240302",
        SeriesTime="101112",
        AcquisitionDateTime="20240301080910.5+0100",
    )
    found = read(Deidentifier([Option.RETAIN_MODIFIED_DATES], KEY).deidentify(content))
    study, series = (date.fromisoformat(value) for value in (found.StudyDate, found.SeriesDate))
    assert (series - study).days == 2
    assert 1 <= (date(2024, 2, 29) - study).days <= 3650
    assert found.SeriesTime == "101112"
    assert re.fullmatch(r"\d{8}080910\.5\+0100", str(found.AcquisitionDateTime))
    assert found.LongitudinalTemporalInformationModified == "MODIFIED"


def test_dates_that_are_none_are_replaced() -> None:
    elements = {
        0x00080020: element(0x00080020, b"John Smith"),
        0x00080022: element(0x00080022, b"99999999"),
    }
    for option in (Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES):
        found = Deidentifier([option], KEY).deidentify(dicom(elements)).to_bytes()
        assert b"John" not in found
        assert b"19000101" in found


def test_the_method_is_named_with_the_codes_of_the_options() -> None:
    options = options_named(["retain-device", "clean-descriptors"])
    found = read(Deidentifier(options, KEY).deidentify(bytes_of("CT_small.dcm")))
    assert found.PatientIdentityRemoved == "YES"
    assert "2026c" in found.DeidentificationMethod
    assert [item.CodeValue for item in found.DeidentificationMethodCodeSequence] == [
        "113100",
        CODES[Option.CLEAN_DESCRIPTORS][0],
        CODES[Option.RETAIN_DEVICE][0],
    ]
    assert found.LongitudinalTemporalInformationModified == "REMOVED"


def test_a_method_that_was_there_before_is_replaced() -> None:
    elements = {0x00120063: element(0x00120063, b"by John Smith")}
    found = read(Deidentifier(key=KEY).deidentify(dicom(elements)))
    assert found.DeidentificationMethod.startswith("lfscp")


def test_registered_uids_stay_and_a_registered_root_does_not_hide_an_instance() -> None:
    elements = {
        0x00080014: element(0x00080014, b"1.2.840.10008.1.2.3.4.5.6"),
        0x00200052: element(0x00200052, b"1.2.840.10008.1.4.1.1"),  # Talairach Brain Atlas
    }
    found = read(Deidentifier(key=KEY).deidentify(dicom(elements)))
    assert found.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert found.InstanceCreatorUID.startswith("2.25.")


def test_a_key_that_is_too_short_is_refused() -> None:
    with pytest.raises(DeidentificationRequestError, match="15 bytes"):
        Deidentifier(key=bytes(15))


def test_options_that_do_not_exist_or_contradict_each_other_are_refused() -> None:
    with pytest.raises(DeidentificationRequestError, match="retain-uids"):
        options_named(["retain-everything"])
    with pytest.raises(DeidentificationRequestError, match="contradict"):
        options_named(["retain-full-dates", "retain-modified-dates"])


def test_without_a_key_each_deidentifier_has_its_own() -> None:
    content = bytes_of("CT_small.dcm")
    one, two = Deidentifier(), Deidentifier()
    assert one.deidentify(content).to_bytes() == one.deidentify(content).to_bytes()
    assert one.deidentify(content).sop_instance_uid != two.deidentify(content).sop_instance_uid


def test_safe_private_attributes_stay_and_others_of_their_block_go() -> None:
    elements = {
        0x70530010: element(0x70530010, b"Philips PET Private Group", as_vr=b"LO"),
        0x70531000: element(0x70531000, b"0.00123", as_vr=b"DS"),
        0x70531001: element(0x70531001, b"John", as_vr=b"LO"),
        0x70531009: element(0x70531009, b"John", as_vr=b"DS"),
    }
    options = [Option.RETAIN_SAFE_PRIVATE]
    found = read(Deidentifier(options, KEY).deidentify(dicom(elements)))
    assert found[0x7053, 0x1000].value == pytest.approx(0.00123)
    assert {each.tag for each in found if each.tag.is_private} == {0x70530010, 0x70531000}
    basic = read(Deidentifier(key=KEY).deidentify(dicom(elements)))
    assert not [each for each in basic if each.tag.is_private]


TAGS = [
    0x00080008, 0x00080020, 0x00080030, 0x00080060, 0x00080080, 0x00081030, 0x0008103E,
    0x00081140, 0x00089215, 0x00100010, 0x00100020, 0x00101010, 0x00180050, 0x00181030,
    0x0020000E, 0x00200013, 0x00204000, 0x00280010, 0x00281050, 0x00400275, 0x00404023,
]  # fmt: skip
LONG = re.compile(rb"[A-Za-z]{4,}")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    values=st.dictionaries(
        st.sampled_from([tag for tag in TAGS if vr(tag) != b"SQ"]),
        st.text("abcdefghijklmnop\xe4\x1b\\^= 0123", min_size=1, max_size=40).map(
            lambda text: text.encode("latin_1")
        ),
    ),
    nested=st.booleans(),
    options=st.sets(st.sampled_from([Option.RETAIN_MODIFIED_DATES, Option.CLEAN_DESCRIPTORS])),
)
def test_no_text_comes_out_but_what_the_profile_keeps(
    values: dict[int, bytes], nested: bool, options: set[Option]
) -> None:
    """None of these attributes keeps text: the table has them, or their VR has no small letters.

    No number of 8 bytes is among them: any 8 letters are one.
    """
    elements = {tag: element(tag, value) for tag, value in values.items() if tag != 0x0020000E}
    if nested:
        inner = b"".join(value for _, value in sorted(elements.items()))
        elements = {0x00081115: sequence(0x00081115, inner)}
    found = Deidentifier(options, KEY).deidentify_dataset(dataset(elements), EXPLICIT).to_bytes()
    words = set(itertools.chain.from_iterable(LONG.findall(value) for value in values.values()))
    assert not [word for word in words - vocabulary() if word in found]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cut=st.integers(0, 3000), flip=st.integers(0, 3000), to=st.integers(0, 255))
def test_a_damaged_object_is_held_back_or_comes_out_without_the_name(
    cut: int, flip: int, to: int
) -> None:
    """Whatever is damaged, nothing else is raised, and what comes out has no name."""
    content = bytearray(DAMAGED[: len(DAMAGED) - cut] if cut < 40 else DAMAGED)
    content[132 + flip % (len(content) - 132)] = to
    try:
        found = Deidentifier(key=KEY).deidentify(bytes(content)).to_bytes()
    except HeldBackError:
        found = b""
    assert b"Secretname" not in found


def _damaged() -> bytes:
    name = element(0x00100010, b"Secretname^Jane")
    nested = sequence(0x0008114A, name + element(0x00104000, b"Secretname"))
    elements = {
        **marked([0x00080080, 0x00081030, 0x00181000, 0x00400275]),
        0x00100010: name,
        0x00081115: sequence(0x00081115, nested, nested),
        0x00280010: element(0x00280010, b"\x02\0"),
    }
    return file_of(dataset(elements))


DAMAGED = _damaged()


def test_an_empty_value_stays_empty() -> None:
    """So an attribute of type 2 stays valid, and nothing is said that was not."""
    found = read(Deidentifier(key=KEY).deidentify(dicom({0x00080090: element(0x00080090, b"")})))
    assert found.ReferringPhysicianName == ""
