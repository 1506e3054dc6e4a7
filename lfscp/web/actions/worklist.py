"""Finds, adds, changes and removes items of the worklist."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from lfscp.archive.workflow.worklist.audit_record import patient_of, record_item
from lfscp.archive.workflow.worklist.listing import Cursor, ItemFilter, page_of_items
from lfscp.archive.workflow.worklist.worklist import InvalidItemError, WorklistItem
from lfscp.dicom.models.element_tree import Tree
from lfscp.dicom.models.json_reader import JSONModelError, from_json
from lfscp.observe import audit
from lfscp.observe.audit.message import CREATE, DELETE, UPDATE
from lfscp.observe.logging import get_logger
from lfscp.web.actions import cursors
from lfscp.web.context import Web
from lfscp.web.problems import Problem, not_found, pointer_to

LOG: Final = get_logger("lfscp.web")
CURSOR: Final = (str, int)  # types of the values of a cursor
STATUSES: Final = (
    *("SCHEDULED", "ARRIVED", "READY", "STARTED", "DEPARTED", "COMPLETED", "DISCONTINUED"),
)


def page(
    web: Web, wanted: ItemFilter, *, after: str | None = None, limit: int
) -> tuple[list[WorklistItem], str | None]:
    """A page of items by their beginning, and the cursor of the next one.

    Args:
        after: the cursor of this page; None for the first one.
    Raises:
        Problem: it is no cursor.
    """
    given = cursors.from_text(after, CURSOR)
    cursor: Cursor | None = (given[0], given[1]) if given else None
    with web.index() as connection:
        found = page_of_items(connection, wanted, after=cursor, limit=limit)
    return found.items, cursors.to_text(found.next)


def item_of(web: Web, item_id: int) -> WorklistItem:
    """One item.

    Raises:
        Problem: it does not exist.
    """
    item = web.worklist.get(item_id)
    if item is None:
        raise not_found("worklist item", str(item_id))
    return item


def dataset_from(document: object) -> Tree:
    """Read a dataset in DICOM JSON; a list of one is that one.

    Raises:
        Problem: names the attribute that is wrong.
    """
    if isinstance(document, bytes):
        detail = "send the item as JSON, with the header Content-Type: application/dicom+json"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    if isinstance(document, list):
        if len(document) != 1:
            detail = f"send one item at a time; the list has {len(document)}"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        document = document[0]
    try:
        return from_json(document)
    except JSONModelError as error:
        found = {"pointer": pointer_to(error.path), "detail": error.reason}
        errors = [found] if error.path else None
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason, errors=errors) from None


def add(web: Web, dataset: Tree, source: str) -> int:
    """Add an item; its number.

    Args:
        source: "api" or "page".
    Raises:
        Problem: it lacks what an item needs.
    """
    try:
        item_id = web.worklist.add(dataset, source=source)
    except InvalidItemError as error:
        raise _invalid(error) from None
    LOG.info("worklist item added", item=item_id, source=source)
    if audit.is_on():
        _record(CREATE, item_of(web, item_id))
    return item_id


def replace(web: Web, item_id: int, dataset: Tree) -> WorklistItem:
    """Put another dataset in the place of an item's.

    Raises:
        Problem: it does not exist, is that of a file, or the dataset lacks what an item needs.
    """
    before = _changeable(web, item_id)
    try:
        is_there = web.worklist.replace(item_id, dataset)
    except InvalidItemError as error:
        raise _invalid(error) from None
    if not is_there:  # it was removed in between
        raise not_found("worklist item", str(item_id))
    LOG.info("worklist item changed", item=item_id, source=before.source)
    after = item_of(web, item_id)
    for each in {patient_of(item.dataset): item for item in (before, after)}.values():
        _record(UPDATE, each)
    return after


def remove(web: Web, item_id: int) -> None:
    """Remove an item.

    Raises:
        Problem: it does not exist, or is that of a file.
    """
    item = _changeable(web, item_id)
    if not web.worklist.remove(item_id):
        raise not_found("worklist item", str(item_id))
    LOG.info("worklist item removed", item=item_id, source=item.source)
    _record(DELETE, item)


def _changeable(web: Web, item_id: int) -> WorklistItem:
    item = item_of(web, item_id)
    if item.is_of_file:
        detail = f"the item is that of the file {item.source_key}; change or remove the file"
        raise Problem(HTTPStatus.CONFLICT, detail)
    return item


def _invalid(error: InvalidItemError) -> Problem:
    errors = [{"keyword": error.keyword, "detail": error.reason}]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.reason, errors=errors)


def _record(action: str, item: WorklistItem) -> None:
    record_item(action, item.dataset, {"worklist item": item.id})
