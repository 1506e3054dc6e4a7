"""What N-CREATE and N-SET must have, by the columns of PS3.4 table F.7.2-1."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from lfscp.archive.workflow.procedure_steps.errors import (
    AttributesError,
    EmptyAttributeError,
    InvalidValueError,
    MissingAttributeError,
    NotChangeableError,
)
from lfscp.archive.workflow.procedure_steps.rules import changed, check_creation, fault_of
from lfscp.dicom.models.element_tree import Element, Tree
from tests.support.element_trees import tree_of
from tests.support.procedure_steps import (
    changes,
    code,
    ended,
    performed_series,
    scheduled,
    started,
)


def keywords_of(text: str) -> list[str]:
    return text.split()


# Attributes of table F.7.2-1 by their type at the creation, written out here once more.
TYPE_1 = keywords_of("""
    ScheduledStepAttributesSequence PerformedProcedureStepID PerformedStationAETitle
    PerformedProcedureStepStartDate PerformedProcedureStepStartTime
    PerformedProcedureStepStatus Modality
""")
TYPE_2 = keywords_of("""
    PatientName PatientID PatientBirthDate PatientSex ReferencedPatientSequence
    PerformedStationName PerformedLocation PerformedProcedureStepDescription
    PerformedProcedureTypeDescription ProcedureCodeSequence PerformedProcedureStepEndDate
    PerformedProcedureStepEndTime StudyID PerformedProtocolCodeSequence
    PerformedSeriesSequence
""")
SCHEDULED_TYPE_2 = keywords_of("""
    ReferencedStudySequence AccessionNumber RequestedProcedureID RequestedProcedureDescription
    ScheduledProcedureStepID ScheduledProcedureStepDescription ScheduledProtocolCodeSequence
""")
SERIES_TYPE_2 = keywords_of("""
    PerformingPhysicianName OperatorsName SeriesDescription RetrieveAETitle
    ReferencedImageSequence ReferencedNonImageCompositeSOPInstanceSequence
""")
SETTABLE = keywords_of("""
    PerformedProcedureStepStatus PerformedProcedureStepDescription
    PerformedProcedureTypeDescription ProcedureCodeSequence PerformedProcedureStepEndDate
    PerformedProcedureStepEndTime PerformedProtocolCodeSequence PerformedSeriesSequence
""")
FIXED = [keyword for keyword in TYPE_1 + TYPE_2 if keyword not in SETTABLE]


def tag(keyword: str) -> int:
    found = tag_for_keyword(keyword)
    assert found is not None
    return found


def emptied(dataset: Dataset, keyword: str) -> Dataset:
    setattr(dataset, keyword, [] if keyword.endswith("Sequence") else "")
    return dataset


def refused(kind: type[AttributesError], dataset: Dataset, *keywords: str) -> AttributesError:
    """Check a creation that is refused for these attributes, and no others."""
    with pytest.raises(kind) as caught:
        check_creation(tree_of(dataset))
    assert type(caught.value) is kind
    assert [place.tag for place in caught.value.places] == [tag(each) for each in keywords]
    return caught.value


def change(dataset: Tree, modification: Dataset) -> Tree:
    fault = fault_of(tree_of(modification))
    if fault is not None:
        raise fault
    return changed(dataset, tree_of(modification))


def refused_change(
    kind: type[AttributesError], modification: Dataset, *keywords: str
) -> AttributesError:
    with pytest.raises(kind) as caught:
        change(tree_of(started()), modification)
    assert type(caught.value) is kind
    assert [place.tag for place in caught.value.places] == [tag(each) for each in keywords]
    return caught.value


def test_a_creation_in_order_is_taken() -> None:
    check_creation(tree_of(started()))


@pytest.mark.parametrize("keyword", TYPE_1 + TYPE_2)
def test_what_is_required_at_the_creation_must_be_there(keyword: str) -> None:
    refused(MissingAttributeError, started(**{keyword: None}), keyword)


@pytest.mark.parametrize("keyword", TYPE_1)
def test_type_1_must_have_a_value(keyword: str) -> None:
    refused(EmptyAttributeError, emptied(started(), keyword), keyword)


def test_type_2_may_be_empty() -> None:
    dataset = started()
    for keyword in TYPE_2:
        emptied(dataset, keyword)
    check_creation(tree_of(dataset))


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", *SCHEDULED_TYPE_2])
def test_a_scheduled_step_must_have_its_attributes(keyword: str) -> None:
    dataset = started(scheduled(), scheduled(**{keyword: None}))
    error = refused(MissingAttributeError, dataset, keyword)
    assert "of item 2 of (0040,0270)" in str(error)


def test_type_2_of_a_scheduled_step_may_be_empty() -> None:
    item = scheduled()
    for keyword in SCHEDULED_TYPE_2:
        emptied(item, keyword)
    check_creation(tree_of(started(item)))


def test_the_study_of_a_scheduled_step_must_have_a_value() -> None:
    refused(EmptyAttributeError, started(scheduled(StudyInstanceUID="")), "StudyInstanceUID")


def test_all_that_is_missing_is_named_at_once() -> None:
    error = refused(
        MissingAttributeError, started(Modality=None, PatientID=None), "PatientID", "Modality"
    )
    assert "(0010,0020) and 1 more missing: PatientID" in str(error)


def test_what_is_missing_comes_before_what_is_empty() -> None:
    refused(MissingAttributeError, started(Modality=None, PerformedProcedureStepID=""), "Modality")


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED", "SCHEDULED", "IN_PROGRESS"])
def test_a_step_begins_in_progress(status: str) -> None:
    dataset = started(PerformedProcedureStepStatus=status)
    refused(InvalidValueError, dataset, "PerformedProcedureStepStatus")


@pytest.mark.parametrize("keyword", ["ProcedureCodeSequence", "ScheduledStepAttributesSequence"])
def test_a_sequence_that_is_text_is_a_wrong_value(keyword: str) -> None:
    tree = tree_of(started())
    tree[tag(keyword)] = Element(b"LO", "text")
    with pytest.raises(InvalidValueError):
        check_creation(tree)


def test_text_that_is_a_sequence_is_a_wrong_value() -> None:
    tree = tree_of(started())
    tree[tag("Modality")] = Element(b"SQ", [Tree()])
    with pytest.raises(InvalidValueError):
        check_creation(tree)


@pytest.mark.parametrize(
    ("item", "keyword"),
    [
        (code(value=""), "CodeValue"),
        (code(scheme=""), "CodingSchemeDesignator"),
        (code(meaning=""), "CodeMeaning"),
    ],
)
def test_a_code_that_is_fixed_must_be_whole(item: Dataset, keyword: str) -> None:
    dataset = started(scheduled(ScheduledProtocolCodeSequence=[item]))
    refused(MissingAttributeError, dataset, keyword)


def test_a_performed_code_needs_no_meaning() -> None:
    check_creation(tree_of(started(ProcedureCodeSequence=[code(meaning="")])))


def test_a_long_code_or_a_urn_stands_for_the_code_value() -> None:
    long_code, urn = code(value=""), code(value="", scheme="")
    long_code.LongCodeValue = "a code of more than sixteen characters"
    urn.URNCodeValue = "urn:lex:us:federal:codified.regulation:2013-04-25;45CFR164"
    check_creation(tree_of(started(scheduled(ScheduledProtocolCodeSequence=[long_code, urn]))))


def test_a_reference_must_name_its_object() -> None:
    dataset = started(ReferencedPatientSequence=[changes(ReferencedSOPClassUID="1.2")])
    refused(MissingAttributeError, dataset, "ReferencedSOPInstanceUID")


def test_an_issuer_must_say_who_it_is() -> None:
    issuer = changes(UniversalEntityID="1.2")
    refused(
        MissingAttributeError,
        started(scheduled(IssuerOfAccessionNumberSequence=[issuer])),
        "UniversalEntityIDType",
    )
    refused(
        MissingAttributeError,
        started(scheduled(IssuerOfAccessionNumberSequence=[changes(UniversalEntityIDType="ISO")])),
        "LocalNamespaceEntityID",
    )


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_step_ends_with_what_its_final_state_needs(status: str) -> None:
    merged = change(tree_of(started()), ended(status=status))
    assert merged.text(tag("PerformedProcedureStepStatus")) == status
    assert merged.text(tag("PatientID")) == "P1"


@pytest.mark.parametrize(
    "keyword",
    ["PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", "PerformedSeriesSequence"],
)
def test_the_final_state_must_have_a_value(keyword: str) -> None:
    refused_change(EmptyAttributeError, ended(**{keyword: None}), keyword)
    refused_change(EmptyAttributeError, emptied(ended(), keyword), keyword)


def test_what_the_final_state_needs_may_have_been_set_before() -> None:
    before = change(tree_of(started()), ended(PerformedProcedureStepStatus=None))
    after = change(before, changes(PerformedProcedureStepStatus="COMPLETED"))
    assert after.text(tag("PerformedProcedureStepEndDate")) == "20261201"


def test_a_series_may_name_no_object() -> None:
    change(tree_of(started()), ended(performed_series()))


@pytest.mark.parametrize("keyword", ["ProtocolName", "SeriesInstanceUID", *SERIES_TYPE_2])
@pytest.mark.parametrize("status", ["IN PROGRESS", "COMPLETED"])
def test_a_performed_series_must_have_its_attributes(keyword: str, status: str) -> None:
    series = performed_series(**{keyword: None})
    refused_change(MissingAttributeError, ended(series, status=status), keyword)


@pytest.mark.parametrize("keyword", ["ProtocolName", "SeriesInstanceUID"])
def test_type_1_of_a_performed_series_must_have_a_value(keyword: str) -> None:
    refused_change(EmptyAttributeError, ended(performed_series(**{keyword: ""})), keyword)


def test_a_reference_of_a_series_must_name_its_object() -> None:
    series = performed_series(["1.2"])
    del series.ReferencedImageSequence[0].ReferencedSOPClassUID
    error = refused_change(MissingAttributeError, ended(series), "ReferencedSOPClassUID")
    assert "of item 1 of (0008,1140) of item 1 of (0040,0340)" in str(error)


@pytest.mark.parametrize("keyword", FIXED)
def test_what_must_not_be_set_is_not(keyword: str) -> None:
    value: Any = "20200101" if keyword.endswith("Date") else "9"
    value = "09" if keyword.endswith("Time") else value
    value = [scheduled(AccessionNumber="other")] if keyword.endswith("Sequence") else value
    refused_change(NotChangeableError, changes(**{keyword: value}), keyword)


def test_what_must_not_be_set_may_come_again_unchanged() -> None:
    again = started(PerformedProcedureStepDescription="done")
    merged = change(tree_of(started()), again)
    assert merged.text(tag("PerformedProcedureStepDescription")) == "done"


@pytest.mark.parametrize("status", ["SCHEDULED", "CANCELED"])
def test_a_status_must_be_one_of_three(status: str) -> None:
    refused_change(
        InvalidValueError,
        changes(PerformedProcedureStepStatus=status),
        "PerformedProcedureStepStatus",
    )


def test_a_status_must_have_a_value() -> None:
    refused_change(
        EmptyAttributeError,
        changes(PerformedProcedureStepStatus=""),
        "PerformedProcedureStepStatus",
    )


def test_a_sequence_is_replaced_as_a_whole() -> None:
    first = changed(
        tree_of(started()),
        tree_of(changes(PerformedSeriesSequence=[performed_series(["1.1"]), performed_series()])),
    )
    second = change(first, changes(PerformedSeriesSequence=[performed_series(["1.2"])]))
    assert (
        second[tag("PerformedSeriesSequence")]
        == tree_of(changes(PerformedSeriesSequence=[performed_series(["1.2"])]))[
            tag("PerformedSeriesSequence")
        ]
    )


def test_an_attribute_that_was_not_created_is_added() -> None:
    merged = change(tree_of(started()), changes(CommentsOnThePerformedProcedureStep="x"))
    assert merged.text(tag("CommentsOnThePerformedProcedureStep")) == "x"
