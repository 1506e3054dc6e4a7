"""Reads the Action Information of an N-ACTION that asks for commitment; strictly, and no I/O."""

from __future__ import annotations

from typing import Final

from lfscp.archive.workflow.commitment.references import (
    REFERENCED_SOP_CLASS_UID,
    REFERENCED_SOP_INSTANCE_UID,
    REFERENCED_SOP_SEQUENCE,
    TRANSACTION_UID,
    Reference,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Tree, read_tree
from lfscp.dicom.reading.header import is_uid
from lfscp.services import status
from lfscp.services.refused import RefusedError

# More than a study has; a peer with more can ask several times.
MAX_REFERENCES: Final = 50_000
_ITEMS: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # how one begins, in either byte order
_REFERENCES: Final = "Referenced SOP Sequence"


def read_request(information: bytes, transfer_syntax_uid: str) -> tuple[str, list[Reference]]:
    """The Transaction UID, and the instances: each once, in their order.

    Raises:
        RefusedError: it is not what table J.3-1 asks for.
    Source: PS3.4 section J.3.2.1.
    """
    if max(map(information.count, _ITEMS)) > 2 * MAX_REFERENCES:  # without making a tree of them
        raise _too_many()
    try:
        tree = read_tree(information, transfer_syntax_uid)
    except DatasetError as error:
        reason = f"the Action Information cannot be read: {error.reason}"
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, reason) from None
    transaction_uid = _uid(tree, TRANSACTION_UID, "Transaction UID")
    if REFERENCED_SOP_SEQUENCE not in tree:
        reason = f"{_REFERENCES} is missing"
        raise RefusedError(status.MISSING_ATTRIBUTE, reason)
    items = tree[REFERENCED_SOP_SEQUENCE].value
    if not isinstance(items, list):
        raise RefusedError(status.MISTYPED_ARGUMENT, f"{_REFERENCES} is no sequence")
    if not items:
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, f"{_REFERENCES} is empty")
    if len(items) > MAX_REFERENCES:
        raise _too_many()
    return transaction_uid, list(dict.fromkeys(map(_reference, items)))


def _reference(item: Tree) -> Reference:
    return Reference(
        _uid(item, REFERENCED_SOP_CLASS_UID, "Referenced SOP Class UID"),
        _uid(item, REFERENCED_SOP_INSTANCE_UID, "Referenced SOP Instance UID"),
    )


def _uid(tree: Tree, tag: int, name: str) -> str:
    if tag not in tree:
        raise RefusedError(status.MISSING_ATTRIBUTE, f"{name} is missing")
    uid = tree.text(tag)
    if not uid and tree[tag].value not in ("", b""):
        raise RefusedError(status.MISTYPED_ARGUMENT, f"{name} is no UID")
    if not is_uid(uid):
        problem = "no UID" if uid else "empty"
        raise RefusedError(status.INVALID_ARGUMENT_VALUE, f"{name} is {problem}")
    return uid


def _too_many() -> RefusedError:
    reason = f"more than {MAX_REFERENCES} instances, ask several times"
    return RefusedError(status.RESOURCE_LIMITATION, reason)
