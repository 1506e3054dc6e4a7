"""Worklist items for tests, as pydicom datasets and as trees."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.models.element_tree import Tree
from tests.support.dataset_values import with_values
from tests.support.element_trees import tree_of


def scheduled_step(**values: Any) -> Dataset:
    """A step of an item: CT on station CT01 on 1 December 2026 at ten, unless told otherwise."""
    step = Dataset()
    step.ScheduledStationAETitle = "CT01"
    step.ScheduledProcedureStepStartDate = "20261201"
    step.ScheduledProcedureStepStartTime = "1000"
    step.Modality = "CT"
    step.ScheduledPerformingPhysicianName = "House^Gregory"
    step.ScheduledProcedureStepDescription = "CT of the head"
    step.ScheduledProcedureStepID = "S1"
    return with_values(step, values)


def worklist_dataset(number: int = 1, *steps: Dataset, **values: Any) -> Dataset:
    """An item with the steps, or with one: order A<number> of Jane Doe, patient P<number>."""
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.AccessionNumber = f"A{number}"
    item.ReferringPhysicianName = "Grey^Meredith"
    item.PatientName = "Doe^Jane"
    item.PatientID = f"P{number}"
    item.PatientBirthDate = "19700102"
    item.PatientSex = "F"
    item.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.{number}"
    item.RequestedProcedureDescription = "Head"
    item.RequestedProcedureID = f"R{number}"
    item.ScheduledProcedureStepSequence = list(steps) or [scheduled_step()]
    return with_values(item, values)


def worklist_tree(number: int = 1, *steps: Dataset, **values: Any) -> Tree:
    """The tree of the same."""
    return tree_of(worklist_dataset(number, *steps, **values))


def clear(worklist: Worklist) -> None:
    """Remove all items that are of no folder."""
    worklist.expire("99999999")
