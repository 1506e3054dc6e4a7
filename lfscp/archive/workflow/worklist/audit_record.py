"""Tells the audit trail what became of a worklist item, whoever changed it."""

from __future__ import annotations

from collections.abc import Mapping

from lfscp.archive.workflow.worklist.item import PATIENT_ID, PATIENT_NAME, STUDY_INSTANCE_UID
from lfscp.dicom.models.element_tree import Tree
from lfscp.observe import audit
from lfscp.observe.audit.message import Patient


def record_item(action: str, dataset: Tree, details: Mapping[str, object]) -> None:
    """Write the record of one item (Procedure Record).

    Args:
        action: CREATE, UPDATE or DELETE of `observe.audit.message`.
        dataset: of the item: after a change, or before it is removed.
        details: what names the item: its number, its accession number.
    """
    audit.worklist_item_recorded(
        action, dataset.text(STUDY_INSTANCE_UID), details, patient_of(dataset)
    )


def patient_of(dataset: Tree) -> Patient:
    """Whose item it is."""
    return Patient(dataset.text(PATIENT_ID), dataset.text(PATIENT_NAME))
