"""The instances that a storage commitment names, and why some are not committed to.

A request (Action Information) and a report (Event Information) name them in the same items, the one
as peers ask this node and the other as they answer it. No I/O.
Source: PS3.4 tables J.3-1 and J.3-3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from lfscp.archive.workflow.commitment.failure_reasons import PROCESSING_FAILURE
from lfscp.dicom.models.element_tree import Element, Tree

TRANSACTION_UID: Final = 0x00081195
REFERENCED_SOP_SEQUENCE: Final = 0x00081199
REFERENCED_SOP_CLASS_UID: Final = 0x00081150
REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
FAILURE_REASON: Final = 0x00081197
FAILED_SOP_SEQUENCE: Final = 0x00081198


class Reference(NamedTuple):
    """An instance that is named."""

    sop_class_uid: str
    sop_instance_uid: str


class Failure(NamedTuple):
    """An instance that is not committed to, with its Failure Reason."""

    sop_class_uid: str
    sop_instance_uid: str
    reason: int


def tree_of_references(transaction_uid: str, references: Iterable[Reference]) -> Tree:
    """A transaction and its instances, as a request and a report name them."""
    return Tree(
        {
            TRANSACTION_UID: Element(b"UI", transaction_uid),
            REFERENCED_SOP_SEQUENCE: Element(b"SQ", [item_of(each) for each in references]),
        }
    )


def item_of(reference: Reference) -> Tree:
    """An item of the Referenced SOP Sequence."""
    return Tree(
        {
            REFERENCED_SOP_CLASS_UID: Element(b"UI", reference.sop_class_uid),
            REFERENCED_SOP_INSTANCE_UID: Element(b"UI", reference.sop_instance_uid),
        }
    )


def item_of_failure(failure: Failure) -> Tree:
    """An item of the Failed SOP Sequence."""
    item = item_of(Reference(*failure[:2]))
    item[FAILURE_REASON] = Element(b"US", struct.pack("<H", failure.reason))
    return item


def failure_in(item: Tree) -> Failure:
    """The failure of an item; PROCESSING_FAILURE where it has no reason that is one."""
    element = item.get(FAILURE_REASON)
    value = element.value if element is not None else b""
    reason = PROCESSING_FAILURE
    if isinstance(value, bytes) and len(value) == 2:
        reason = int.from_bytes(value, "little")
    return Failure(*_reference_in(item), reason)


def references_in(tree: Tree) -> list[Reference]:
    """The instances in the Referenced SOP Sequence, in its order."""
    return list(map(_reference_in, tree.sequence(REFERENCED_SOP_SEQUENCE)))


def _reference_in(item: Tree) -> Reference:
    return Reference(item.text(REFERENCED_SOP_CLASS_UID), item.text(REFERENCED_SOP_INSTANCE_UID))
