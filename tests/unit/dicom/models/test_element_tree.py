"""A small dataset as a tree: nothing that was read is lost, nothing cut short is taken."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import (
    MAX_BYTES,
    MAX_DEPTH,
    Element,
    Tree,
    dataset_of,
    encode_tree,
    read_tree,
)
from tests.support.element_trees import tree_of

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
PATIENT_NAME, PATIENT_ID, STEPS, STEP_ID = 0x00100010, 0x00100020, 0x00400100, 0x00400009


def item() -> Dataset:
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 192"
    step.Modality = "CT"
    step.ScheduledStationAETitle = ["CT1", "CT2"]
    step.ScheduledProcedureStepDescription = "Schädel"
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 100"
    item.PatientName = "Müller^Jörg"
    item.PatientID = "7"
    item.PatientWeight = "71.5"
    item.PregnancyStatus = 4
    item.ScheduledProcedureStepSequence = [step]
    return item


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("character_set", ["ISO_IR 192", "ISO_IR 100", "", "ISO_IR 144", "odd"])
def test_a_tree_is_the_same_after_any_encoding(syntax, character_set):
    tree = tree_of(item())
    assert read_tree(encode_tree(tree, syntax, character_set), syntax) == tree


def test_text_is_read_by_the_character_set_of_its_own_item():
    tree = tree_of(item())
    assert tree.text(PATIENT_NAME) == "Müller^Jörg"
    step = tree.sequence(STEPS)[0]
    assert step.text(0x00400007) == "Schädel"
    assert step.texts(0x00400001) == ["CT1", "CT2"]


def test_a_dataset_is_the_same_after_a_tree():
    there_and_back = dataset_of(tree_of(item()))
    assert there_and_back.PatientName == "Müller^Jörg"
    assert there_and_back.PregnancyStatus == 4
    assert there_and_back.ScheduledProcedureStepSequence[0].Modality == "CT"
    assert there_and_back.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_a_dataset_cut_anywhere_in_an_element_is_refused(syntax):
    data = encode_tree(tree_of(item()), syntax)
    whole = [read_tree(data, syntax)]
    for length in range(1, len(data)):
        try:
            whole.append(read_tree(data[:length], syntax))
        except DatasetError:
            continue
    # Only between two elements can a cut not be seen; each such part has whole elements alone.
    assert len(whole) == 6
    assert all(whole[0].get(tag) == part[tag] for part in whole for tag in part)


def test_a_sequence_that_is_longer_or_shorter_than_its_items_is_refused():
    data = bytearray(encode_tree(Tree({STEPS: Element(b"SQ", [Tree()])})))
    at = data.index(b"SQ") + 4
    for wrong in (4, 12):
        data[at : at + 4] = wrong.to_bytes(4, "little")
        with pytest.raises(DatasetError):
            read_tree(bytes(data), EXPLICIT)


def test_a_value_that_breaks_its_vr_comes_out_as_it_went_in():
    tree = Tree({0x00100030: Element(b"DA", "not a date"), PATIENT_ID: Element(b"LO", "7" * 99)})
    assert read_tree(encode_tree(tree), EXPLICIT) == tree


def test_elements_out_of_order_are_refused():
    first, second = (encode_tree(Tree({tag: Element(b"LO", "7")})) for tag in (PATIENT_ID, STEP_ID))
    with pytest.raises(DatasetError, match="out of order"):
        read_tree(second + first, EXPLICIT)


def test_a_deflated_dataset_inflates_to_so_much_and_no_more():
    import zlib

    def deflated(data: bytes) -> bytes:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(data) + deflater.flush()

    tree = tree_of(item())
    assert read_tree(deflated(encode_tree(tree)), DEFLATED) == tree
    with pytest.raises(DatasetError, match="inflates to more"):
        read_tree(deflated(bytes(MAX_BYTES + 2)), DEFLATED)


def test_sequences_are_nested_so_deep_and_no_deeper():
    tree = Tree()
    for _ in range(MAX_DEPTH):
        tree = Tree({STEPS: Element(b"SQ", [tree])})
    assert read_tree(encode_tree(tree), EXPLICIT) == tree
    deeper = Tree({STEPS: Element(b"SQ", [tree])})
    with pytest.raises(DatasetError, match="nested"):  # what is kept can be read again
        encode_tree(deeper)
    item = struct.pack("<LL", 0xE000FFFE, len(encode_tree(tree))) + encode_tree(tree)
    with pytest.raises(DatasetError, match="nested"):
        read_tree(struct.pack("<HH2sHL", 0x0040, 0x0100, b"SQ", 0, len(item)) + item, EXPLICIT)


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT, EXPLICIT, BIG]))
def test_any_bytes_are_read_or_refused(data, syntax):
    try:
        tree = read_tree(data, syntax)
    except DatasetError:
        return
    assert read_tree(encode_tree(tree), EXPLICIT) == tree
