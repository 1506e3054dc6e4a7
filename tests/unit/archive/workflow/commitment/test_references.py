"""How requests and reports of storage commitment name instances."""

from __future__ import annotations

import pytest

from lfscp.archive.workflow.commitment.failure_reasons import PROCESSING_FAILURE
from lfscp.archive.workflow.commitment.references import (
    FAILURE_REASON,
    TRANSACTION_UID,
    Failure,
    Reference,
    failure_in,
    item_of_failure,
    references_in,
    tree_of_references,
)
from lfscp.dicom.models.element_tree import Element
from lfscp.scu.commit import Question, _action_information

FIRST, SECOND = Reference("1.2", "1.2.3"), Reference("1.2", "1.2.4")


def test_instances_are_named_in_their_order() -> None:
    tree = tree_of_references("1.9", [SECOND, FIRST])
    assert tree.text(TRANSACTION_UID) == "1.9"
    assert references_in(tree) == [SECOND, FIRST]


def test_a_failure_has_its_reason() -> None:
    failure = Failure(*FIRST, 0x0119)
    assert failure_in(item_of_failure(failure)) == failure


@pytest.mark.parametrize(
    "element", [None, Element(b"US", b"\x12"), Element(b"UL", b"\x12\x01\0\0")]
)
def test_a_reason_that_is_none_is_a_processing_failure(element: Element | None) -> None:
    item = item_of_failure(Failure(*FIRST, 0x0112))
    del item[FAILURE_REASON]
    if element is not None:
        item[FAILURE_REASON] = element
    assert failure_in(item) == Failure(*FIRST, PROCESSING_FAILURE)


def test_a_request_of_ours_has_nothing_but_the_names() -> None:
    named = _action_information(Question("1.9", [FIRST, SECOND]))
    assert [element.keyword for element in named] == ["TransactionUID", "ReferencedSOPSequence"]
    items = named.ReferencedSOPSequence
    assert [(each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID) for each in items] == [
        FIRST,
        SECOND,
    ]
