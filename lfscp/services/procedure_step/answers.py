"""Answers a request about a performed procedure step that is wrong: status and attribute; no I/O.

What is missing is named in the response's Attribute Identifier List, except that N-CREATE-RSP has
none; a wrong or empty value comes back in its Attribute List. The Error Comment names the first.
Sources: PS3.7 annex C; PS3.4 sections F.7.2 and F.8.2.
"""

from __future__ import annotations

from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from lfscp.archive.workflow.procedure_steps.errors import (
    AttributesError,
    DuplicateStepError,
    EmptyAttributeError,
    InvalidValueError,
    MissingAttributeError,
    Place,
    StepEndedError,
    UnknownStepError,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Element, Tree, encode_tree
from lfscp.errors import OperationError
from lfscp.services import status
from lfscp.services.refused import RefusedError
from lfscp.upperlayer.scp.encoded import EncodedDataset, StatusWithAttributes

MAX_NAMED: Final = 100  # attributes that an answer names


def code_of(error: OperationError) -> int:
    """The status of an error."""
    match error:
        case RefusedError(code=code):
            return code
        case DatasetError():
            return status.PROCESSING_FAILURE
        case MissingAttributeError():
            return status.MISSING_ATTRIBUTE
        case EmptyAttributeError():
            return status.MISSING_ATTRIBUTE_VALUE
        case InvalidValueError():
            return status.INVALID_ATTRIBUTE_VALUE
        case DuplicateStepError():
            return status.DUPLICATE_SOP_INSTANCE
        case UnknownStepError():
            return status.NO_SUCH_SOP_INSTANCE
        case StepEndedError():
            return status.PROCESSING_FAILURE
        case _:
            # The request is in order: the modality should try again later.
            return status.RESOURCE_LIMITATION


def refusal(
    error: OperationError, request: Tree, transfer_syntax_uid: str, *, names_attributes: bool
) -> StatusWithAttributes:
    """The answer to a request that failed.

    Args:
        request: its dataset, as far as it could be read.
        names_attributes: whether the response may have an Attribute Identifier List.
    """
    code = code_of(error)
    is_ours = code == status.RESOURCE_LIMITATION and not isinstance(error, RefusedError)
    comment = "index error, see the log" if is_ours else error.reason
    answer = with_comment(code, comment)
    if isinstance(error, StepEndedError):
        answer.ErrorID = status.STEP_MAY_NOT_BE_UPDATED
    if isinstance(error, AttributesError):
        places = error.places[:MAX_NAMED]
        if names_attributes:
            answer.AttributeIdentifierList = sorted({place.tag for place in places})
        if not isinstance(error, MissingAttributeError):
            named = encode_tree(_named(request, places), transfer_syntax_uid)
            answer.attribute_list = EncodedDataset(named)
    return answer


def with_comment(code: int, comment: str = "") -> StatusWithAttributes:
    """An answer with words for the peer."""
    answer = StatusWithAttributes()
    answer.Status = code
    if comment:
        answer.ErrorComment = status.error_comment(comment)
    return answer


def _named(request: Tree, places: tuple[Place, ...]) -> Tree:
    """Those attributes of a request; of sequences only the items that they are in."""
    found = Tree()
    items: dict[tuple[tuple[int, int], ...], Tree] = {(): found}
    for place in places:
        given: Tree | None = request
        for depth, (tag, number) in enumerate(place.path, start=1):
            inside = given.sequence(tag) if given is not None else []
            given = inside[number - 1] if number <= len(inside) else None
            path = place.path[:depth]
            if path not in items:
                items[path] = Tree()
                around = items[path[:-1]]
                around[tag] = Element(b"SQ", [*around.sequence(tag), items[path]])
        element = given.get(place.tag) if given is not None else None
        items[place.path][place.tag] = element or _empty(place.tag)
    return found


def _empty(tag: int) -> Element:
    vr = dictionary_VR(tag).encode("ascii")
    return Element(vr, [] if vr == b"SQ" else "")


def asked_for(step: Tree, tags: list[int], transfer_syntax_uid: str) -> StatusWithAttributes:
    """The answer to an N-GET.

    Attributes that the step does not have are left out with a warning: 0x0107 when one of them is
    none of the standard's, else 0x0001.

    Args:
        tags: those that were asked for; none means all.
    """
    found = Tree({tag: step[tag] for tag in tags if tag in step}) if tags else step
    absent = sorted(set(tags) - set(step) - {_CHARACTER_SET})
    answer = with_comment(status.SUCCESS)
    if absent:
        is_known = all(map(dictionary_has_tag, absent))
        code = status.OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if is_known else status.ATTRIBUTE_LIST_ERROR
        answer = with_comment(code, f"the step has no {Place(absent[0])}")
        answer.AttributeIdentifierList = absent[:MAX_NAMED]
    answer.attribute_list = EncodedDataset(encode_tree(found, transfer_syntax_uid))
    return answer


_CHARACTER_SET: Final = 0x00080005  # is in each answer
