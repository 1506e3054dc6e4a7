"""Says what a worklist item must hold, and completes one that is new.

Rules: what a device needs to begin with is checked when the item comes, so that every answer has
it (type 1 in PS3.4 table K.6-1). Identifiers that may be missing are given here. Values that no
query compares are left as they are.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import keyword_for_tag
from pydicom.uid import generate_uid

from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.dicom.reading.header import is_uid
from lfscp.dicom.values.temporal import date_span, time_span, without_delimiters
from lfscp.errors import OperationError

ACCESSION_NUMBER: Final = 0x00080050
MODALITY: Final = 0x00080060
PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
STUDY_INSTANCE_UID: Final = 0x0020000D
STATION_AE_TITLE: Final = 0x00400001
START_DATE: Final = 0x00400002
START_TIME: Final = 0x00400003
STEP_ID: Final = 0x00400009
STATUS: Final = 0x00400020
STEPS: Final = 0x00400100
REQUESTED_PROCEDURE_ID: Final = 0x00401001

SCHEDULED: Final = "SCHEDULED"
STARTED: Final = "STARTED"
COMPLETED: Final = "COMPLETED"
DISCONTINUED: Final = "DISCONTINUED"
ENDED: Final = (COMPLETED, DISCONTINUED)  # steps that a device need not see any more

# Source of the items of a folder's files, before the ID of the node that reads it.
OF_FOLDER: Final = "folder:"

_NEEDED: Final = (PATIENT_NAME, PATIENT_ID)
_NEEDED_OF_STEP: Final = (STATION_AE_TITLE, START_DATE, START_TIME, MODALITY)
_SEARCHED: Final = (ACCESSION_NUMBER, PATIENT_NAME, PATIENT_ID, REQUESTED_PROCEDURE_ID)
_MAX_SEARCHED: Final = 256  # characters; the standard allows less, an index not much more
_MAX_SHORT: Final = 16  # characters of an AE title and of a code string
_MAX_STEPS: Final = 100
_MAX_STATIONS: Final = 100


class InvalidItemError(OperationError):
    """The item lacks something, or has a value that cannot be.

    Args:
        tag: the offending attribute.
        reason: what is wrong with it; no patient data.

    Attributes:
        keyword: of the attribute.
    """

    def __init__(self, tag: int, reason: str) -> None:
        self.keyword = keyword_for_tag(tag) or f"{tag:08X}"
        super().__init__("take the worklist item", f"{self.keyword} {reason}")
        self.tag = tag


@dataclass(frozen=True, slots=True)
class WorklistItem:
    """One item as it is kept.

    Args:
        source: where it came from: "api", "page", "command", "hl7", "folder:NODE_ID".
        source_key: what it is called there.
        dataset: with the steps, each with its status.
        created_at: in milliseconds since 1970 UTC, as `updated_at`.
    """

    id: int
    source: str
    source_key: str
    dataset: Tree
    created_at: int
    updated_at: int

    @property
    def is_of_file(self) -> bool:
        """Whether it is that of a file in a folder, and changes with it only."""
        return self.source.startswith(OF_FOLDER)


def complete_item(dataset: Tree, before: Tree | None = None) -> Tree:
    """Check an item, and give it the identifiers and the status that it lacks.

    Args:
        before: the item that it replaces, whose identifiers it keeps where it names none.
    Returns:
        A new tree, its dates and times without ACR-NEMA's delimiters.
    Raises:
        InvalidItemError: an attribute is missing, empty, or has a value that cannot be.
    Source: PS3.4 table K.6-1.
    """
    before = before or Tree()
    item = Tree(dataset)
    _give(item, STUDY_INSTANCE_UID, b"UI", before, lambda: generate_uid(prefix=None))
    _give(item, REQUESTED_PROCEDURE_ID, b"SH", before, lambda: _new_id("RP"))
    for tag in _NEEDED:
        _require(item, tag)
    for tag in _SEARCHED:
        _require_short(tag, item.text(tag), _MAX_SEARCHED)
    if not is_uid(item.text(STUDY_INSTANCE_UID)):
        raise InvalidItemError(STUDY_INSTANCE_UID, "is not a UID")
    item[STEPS] = Element(b"SQ", list(_completed_steps(item, before)))
    return item


def _completed_steps(item: Tree, before: Tree) -> Iterator[Tree]:
    steps = item.sequence(STEPS)
    if not steps:
        raise InvalidItemError(STEPS, "is missing or empty")
    if len(steps) > _MAX_STEPS:
        raise InvalidItemError(STEPS, f"has more than {_MAX_STEPS} items")
    earlier = before.sequence(STEPS)
    named: set[str] = set()
    for position, step in enumerate(steps):
        of_before = earlier[position] if len(earlier) == len(steps) else Tree()
        completed = _completed_step(step, of_before)
        step_id = completed.text(STEP_ID).strip()
        if step_id in named:
            raise InvalidItemError(STEP_ID, "is the same in two steps")
        named.add(step_id)
        yield completed


def _completed_step(given: Tree, before: Tree) -> Tree:
    step = Tree(given)
    for tag in _NEEDED_OF_STEP:
        _require(step, tag)
    _give(step, STEP_ID, b"SH", before, lambda: _new_id("SP"))
    _give(step, STATUS, b"CS", Tree(), lambda: SCHEDULED)
    _require_short(STEP_ID, step.text(STEP_ID), _MAX_SEARCHED)
    for tag in (MODALITY, STATUS):
        _require_short(tag, step.text(tag), _MAX_SHORT)
    titles = step.texts(STATION_AE_TITLE)
    if len(titles) > _MAX_STATIONS:
        raise InvalidItemError(STATION_AE_TITLE, f"has more than {_MAX_STATIONS} values")
    for title in titles:
        _require_short(STATION_AE_TITLE, title.strip(), _MAX_SHORT)
    _make_plain(step, START_DATE, "DA")
    _make_plain(step, START_TIME, "TM")
    return step


def _make_plain(step: Tree, tag: int, vr: str) -> None:
    """Check a date or time, and leave out its delimiters."""
    plain = without_delimiters(step.text(tag).strip(), vr)
    read = date_span if vr == "DA" else time_span
    try:
        is_one = read(plain) is not None and "-" not in plain  # what they read may be a range
    except ValueError:
        is_one = False
    if not is_one:
        expected = "a date YYYYMMDD" if vr == "DA" else "a time HHMMSS"
        raise InvalidItemError(tag, f"is not {expected}")
    step[tag] = Element(vr.encode(), plain)


def _give(tree: Tree, tag: int, vr: bytes, before: Tree, make: Callable[[], str]) -> None:
    """Give an attribute that is missing or empty the value from before, or a new one."""
    tree[tag] = Element(vr, tree.text(tag).strip() or before.text(tag).strip() or make())


def _require(tree: Tree, tag: int) -> None:
    if tag not in tree:
        raise InvalidItemError(tag, "is missing")
    if not tree.text(tag).strip(" \\^="):
        raise InvalidItemError(tag, "is empty")


def _require_short(tag: int, text: str, longest: int) -> None:
    if len(text) > longest:
        raise InvalidItemError(tag, f"is longer than {longest} characters")


def _new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(6).upper()
