"""Makes the rows of a worklist item, and reads and changes them in a caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.tables.workflow_tables import worklist_item, worklist_step
from lfscp.archive.workflow.worklist.item import (
    ACCESSION_NUMBER,
    MODALITY,
    OF_FOLDER,
    PATIENT_ID,
    PATIENT_NAME,
    REQUESTED_PROCEDURE_ID,
    START_DATE,
    START_TIME,
    STATION_AE_TITLE,
    STATUS,
    STEP_ID,
    STEPS,
    STUDY_INSTANCE_UID,
    InvalidItemError,
    WorklistItem,
    complete_item,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Element, Tree, encode_tree, read_own
from lfscp.dicom.values.person_names import search_form

_ITEM: Final = worklist_item.c
_STEP: Final = worklist_step.c
COLUMNS: Final = (
    _ITEM.id,
    _ITEM.source,
    _ITEM.source_key,
    _ITEM.dataset,
    _ITEM.created_at,
    _ITEM.updated_at,
)
_ITEM_TEXTS: Final = {
    _ITEM.patient_id.name: PATIENT_ID,
    _ITEM.accession_number.name: ACCESSION_NUMBER,
    _ITEM.requested_procedure_id.name: REQUESTED_PROCEDURE_ID,
    _ITEM.study_instance_uid.name: STUDY_INSTANCE_UID,
}
_STEP_TEXTS: Final = {
    _STEP.step_id.name: STEP_ID,
    _STEP.modality.name: MODALITY,
    _STEP.start_date.name: START_DATE,
    _STEP.start_time.name: START_TIME,
    _STEP.status.name: STATUS,
}
# Made once: many items may come together.
_INSERT_ITEM: Final = insert(worklist_item).returning(_ITEM.id)
_INSERT_STEP: Final = insert(worklist_step)

Condition = ColumnElement[bool]


def kept(text: str) -> str:
    """Text as a column keeps it: no padding, and none of what PostgreSQL cannot hold."""
    return text.strip(" \0").replace("\0", "\ufffd")


def read_item(row: Sequence[Any]) -> WorklistItem:
    """The item of a row of `COLUMNS`."""
    key, source, source_key, dataset, created_at, updated_at = row
    tree = read_own(bytes(dataset))
    return WorklistItem(key, source, source_key, tree, created_at, updated_at)


def find_item(
    connection: Connection, condition: ColumnElement[bool], *, locks: bool = False
) -> WorklistItem | None:
    """The item of a condition that names one.

    Args:
        locks: hold it against other transactions until the end of this one.
    """
    wanted = select(*COLUMNS).where(condition)
    row = connection.execute(wanted.with_for_update() if locks else wanted).first()
    return None if row is None else read_item(row)


def insert_item(
    connection: Connection, source: str, source_key: str, dataset: Tree, fingerprint: str
) -> int:
    """Add an item; gives its ID."""
    item, at = complete_item(dataset), wall_ms()
    named = {"source": source, "source_key": source_key, "fingerprint": fingerprint}
    values = {**named, **_item_values(item), "created_at": at, "updated_at": at}
    key = int(connection.execute(_INSERT_ITEM, values).scalar_one())
    _insert_steps(connection, key, item, {})
    return key


def update_item(
    connection: Connection,
    before: WorklistItem,
    dataset: Tree,
    fingerprint: str | None = None,
    *,
    keeps_performed: bool,
) -> None:
    """Put a dataset in the place of an item's.

    Args:
        fingerprint: the new one; None leaves it.
        keeps_performed: what a device has begun keeps its status, whatever the dataset says of it;
            else only where the dataset says nothing.
    """
    performed = _performed(connection, before.id)
    item = complete_item(dataset, before.dataset)
    given = {step.text(STEP_ID): step.text(STATUS) for step in dataset.sequence(STEPS)}
    for step in item.sequence(STEPS):
        step_id = step.text(STEP_ID).strip()
        status, by_device = performed.get(step_id, ("", ""))
        if status and (not given.get(step.text(STEP_ID)) or (keeps_performed and by_device)):
            step[STATUS] = Element(b"CS", status)
    values: dict[str, Any] = {**_item_values(item), "updated_at": wall_ms()}
    if fingerprint is not None:
        values["fingerprint"] = fingerprint
    connection.execute(update(worklist_item).where(_ITEM.id == before.id).values(values))
    connection.execute(delete(worklist_step).where(_STEP.item_id == before.id))
    _insert_steps(connection, before.id, item, {key: uid for key, (_, uid) in performed.items()})


def _performed(connection: Connection, item_id: int) -> dict[str, tuple[str, str]]:
    """By step ID: the status, and the UID of the performed step that says so."""
    wanted = select(_STEP.step_id, _STEP.status, _STEP.procedure_step_uid)
    rows = connection.execute(wanted.where(_STEP.item_id == item_id))
    return {step_id: (status, uid) for step_id, status, uid in rows}


def _item_values(item: Tree) -> dict[str, Any]:
    try:
        dataset = encode_tree(item)
    except DatasetError as error:
        raise InvalidItemError(error.tag or 0, error.reason) from error
    except UnicodeEncodeError as error:
        raise InvalidItemError(PATIENT_NAME, "or another text is no Unicode") from error
    texts = {column: kept(item.text(tag)) for column, tag in _ITEM_TEXTS.items()}
    name = search_form(kept(item.text(PATIENT_NAME)))
    return {"dataset": dataset, "patient_name_search": name, **texts}


def _insert_steps(
    connection: Connection, item_id: int, item: Tree, performed: dict[str, str]
) -> None:
    rows: list[dict[str, Any]] = []
    for position, step in enumerate(item.sequence(STEPS)):
        texts = {column: kept(step.text(tag)) for column, tag in _STEP_TEXTS.items()}
        texts["procedure_step_uid"] = performed.get(texts["step_id"], "")
        rows += [
            {"item_id": item_id, "position": position, "station_ae_title": title, **texts}
            for title in dict.fromkeys(map(kept, step.texts(STATION_AE_TITLE)))
            if title
        ]
    connection.execute(_INSERT_STEP, rows)


def remove_items(connection: Connection, condition: ColumnElement[bool]) -> int:
    """Remove items with their steps; gives how many."""
    named = select(_ITEM.id).where(condition)
    connection.execute(delete(worklist_step).where(_STEP.item_id.in_(named)))
    return connection.execute(delete(worklist_item).where(condition)).rowcount


def named_by_source(source: str, source_key: str) -> ColumnElement[bool]:
    """The condition of the item that a source calls so."""
    return and_(_ITEM.source == source, _ITEM.source_key == source_key)


def keys_among(connection: Connection, source: str, source_keys: Sequence[str]) -> set[str]:
    """Those of a source's keys that have an item."""
    wanted = select(_ITEM.source_key).where(
        _ITEM.source == source, _ITEM.source_key.in_(source_keys)
    )
    return set(connection.execute(wanted).scalars())


def is_over(before_date: str) -> ColumnElement[bool]:
    """The condition of items that are of no folder and have no step on a day or after it."""
    has_later = exists().where(_STEP.item_id == _ITEM.id, _STEP.start_date >= before_date)
    return and_(_ITEM.source.not_like(OF_FOLDER + "%"), ~has_later)


def steps_named(study_uid: str, step_id: str, accession_number: str) -> list[Select[Any]]:
    """What finds the steps that a performed one refers to: the first of these that finds any.

    Each gives item and position.
    """
    of_study = _ITEM.study_instance_uid == study_uid
    joined = (
        select(_STEP.item_id, _STEP.position).distinct().join_from(worklist_step, worklist_item)
    )
    if not step_id:  # a device that fills in the study only means its only step
        only = select(_ITEM.id).where(of_study).join_from(worklist_item, worklist_step)
        only = only.group_by(_ITEM.id).having(func.max(_STEP.position) == 0)
        return [joined.where(of_study, _ITEM.id.in_(only))]
    found = [joined.where(of_study, _STEP.step_id == step_id)]
    if accession_number:
        of_order = _ITEM.accession_number == accession_number
        found.append(joined.where(of_order, _STEP.step_id == step_id))
    return found


def set_status(
    connection: Connection, item_id: int, position: int, status: str, procedure_step_uid: str
) -> None:
    """Change the status of one step, in its dataset and beside it."""
    item = find_item(connection, _ITEM.id == item_id, locks=True)
    if item is None or position >= len(item.dataset.sequence(STEPS)):
        return
    item.dataset.sequence(STEPS)[position][STATUS] = Element(b"CS", status)
    values = {"dataset": encode_tree(item.dataset), "updated_at": wall_ms()}
    connection.execute(update(worklist_item).where(_ITEM.id == item_id).values(values))
    connection.execute(
        update(worklist_step)
        .where(_STEP.item_id == item_id, _STEP.position == position)
        .values(status=status, procedure_step_uid=procedure_step_uid)
    )
