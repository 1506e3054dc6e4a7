"""What an answer says of the attributes that are wrong."""

from __future__ import annotations

import pytest

from lfscp.archive.errors import ArchiveError
from lfscp.archive.workflow.procedure_steps.errors import (
    AttributesError,
    DuplicateStepError,
    EmptyAttributeError,
    InvalidValueError,
    MissingAttributeError,
    NotChangeableError,
    Place,
    StepEndedError,
    UnknownStepError,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Tree, read_tree
from lfscp.errors import OperationError
from lfscp.services.procedure_step.answers import MAX_NAMED, asked_for, refusal
from lfscp.services.refused import RefusedError
from lfscp.upperlayer.scp.encoded import StatusWithAttributes
from tests.support.element_trees import tree_of
from tests.support.procedure_steps import ended, performed_series, started

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
SERIES, IMAGES, CLASS_UID, INSTANCE_UID = 0x00400340, 0x00081140, 0x00081150, 0x00081155
MODALITY, STATUS, END_DATE = 0x00080060, 0x00400252, 0x00400250


def answered(error: OperationError, request: Tree, syntax: str = EXPLICIT) -> StatusWithAttributes:
    return refusal(error, request, syntax, names_attributes=True)


def attributes(answer: StatusWithAttributes, syntax: str = EXPLICIT) -> Tree:
    assert answer.attribute_list is not None
    return read_tree(answer.attribute_list.data, syntax)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingAttributeError([Place(MODALITY)]), 0x0120),
        (EmptyAttributeError([Place(MODALITY)]), 0x0121),
        (InvalidValueError([Place(MODALITY)]), 0x0106),
        (NotChangeableError([Place(MODALITY)]), 0x0106),
        (DuplicateStepError(), 0x0111),
        (UnknownStepError(), 0x0112),
        (StepEndedError(), 0x0110),
        (DatasetError("cut"), 0x0110),
        (RefusedError(0x0124, "no"), 0x0124),
        (ArchiveError("write", "the disk is full"), 0x0213),
    ],
)
def test_each_error_has_its_status_and_a_comment(error: OperationError, code: int) -> None:
    answer = answered(error, tree_of(started()))
    assert answer.Status == code
    assert 0 < len(answer.ErrorComment) <= 64
    assert ("ErrorID" in answer) == isinstance(error, StepEndedError)


def test_a_failure_of_the_index_tells_the_peer_nothing_of_it() -> None:
    answer = answered(ArchiveError("write", "database at 10.0.0.1 is gone"), Tree())
    assert answer.ErrorComment == "index error, see the log"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_wrong_value_comes_back_alone(syntax: str) -> None:
    request = tree_of(ended())
    answer = answered(InvalidValueError([Place(STATUS)]), request, syntax)
    assert answer.AttributeIdentifierList == STATUS
    assert attributes(answer, syntax) == {STATUS: request[STATUS]}


def test_a_value_in_an_item_comes_back_in_an_item_of_its_own() -> None:
    request = tree_of(ended(performed_series(["1.1", "1.2"]), performed_series(["1.3"])))
    places = [
        Place(CLASS_UID, ((SERIES, 1), (IMAGES, 2))),
        Place(INSTANCE_UID, ((SERIES, 1), (IMAGES, 2))),
        Place(CLASS_UID, ((SERIES, 2), (IMAGES, 1))),
    ]
    first, second = attributes(answered(InvalidValueError(places), request)).sequence(SERIES)
    (image,) = first.sequence(IMAGES)
    assert (set(first), set(image)) == ({IMAGES}, {CLASS_UID, INSTANCE_UID})
    assert image.text(INSTANCE_UID) == "1.2"
    assert set(second.sequence(IMAGES)[0]) == {CLASS_UID}


def test_what_the_request_does_not_have_comes_back_empty() -> None:
    places = [Place(END_DATE), Place(CLASS_UID, ((SERIES, 3), (IMAGES, 1)))]
    found = attributes(answered(EmptyAttributeError(places), Tree()))
    assert found.text(END_DATE) == ""
    assert END_DATE in found
    assert found.sequence(SERIES)[0].sequence(IMAGES)[0][CLASS_UID].value == ""


@pytest.mark.parametrize("kind", [MissingAttributeError, EmptyAttributeError, InvalidValueError])
def test_an_answer_names_so_many_at_most(kind: type[AttributesError]) -> None:
    request = tree_of(ended(performed_series([f"1.{n}" for n in range(MAX_NAMED * 2)])))
    places = [
        Place(CLASS_UID, ((SERIES, 1), (IMAGES, number))) for number in range(1, MAX_NAMED * 2)
    ]
    answer = answered(kind(places), request)
    assert answer.AttributeIdentifierList == CLASS_UID
    if kind is MissingAttributeError:
        assert answer.attribute_list is None
    else:
        (series,) = attributes(answer).sequence(SERIES)
        assert len(series.sequence(IMAGES)) == MAX_NAMED


def test_a_whole_step_is_given_without_a_list() -> None:
    step = tree_of(started())
    answer = asked_for(step, [], IMPLICIT)
    assert (answer.Status, attributes(answer, IMPLICIT)) == (0x0000, step)
