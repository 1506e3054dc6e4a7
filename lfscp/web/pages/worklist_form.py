"""Turns a worklist item into the fields of a form, and the fields into an item again.

Rules: what the form does not have stays in the item as it is, and so does a value that nobody has
changed: a time with seconds is shown without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import tag_for_keyword

from lfscp.archive.workflow.worklist.item import STATUS, STEPS
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.web.actions.worklist import dataset_from
from lfscp.web.pages.templating import date, in_field, time

Form = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form.

    Args:
        kind: "text", "name", "date", "time", "code" (in capitals), "sex" or "titles" (several).
        most: characters; a name has more, since it has several groups.
        hint: an example.
    """

    keyword: str
    label: str
    kind: str = "text"
    is_required: bool = False
    most: int = 64
    hint: str = ""

    @property
    def tag(self) -> int:
        """The tag of the attribute."""
        tag = tag_for_keyword(self.keyword)
        if tag is None:
            raise KeyError(self.keyword)
        return tag


PATIENT: Final = (
    Field("PatientID", "Patient ID", is_required=True),
    Field("PatientName", "Patient name", "name", is_required=True, most=200, hint="Doe, Jane"),
    Field("PatientBirthDate", "Born", "date"),
    Field("PatientSex", "Sex", "sex"),
)
ORDER: Final = (
    Field("AccessionNumber", "Accession number", most=16),
    Field("RequestedProcedureID", "Requested procedure ID", most=16),
    Field("RequestedProcedureDescription", "Requested procedure", hint="CT chest"),
    Field("ReferringPhysicianName", "Referring physician", "name", most=200),
)
STEP: Final = (
    Field("Modality", "Modality", "code", is_required=True, most=16, hint="CT"),
    Field("ScheduledStationAETitle", "Station AE title", "titles", is_required=True, most=200),
    Field("ScheduledProcedureStepStartDate", "Date", "date", is_required=True),
    Field("ScheduledProcedureStepStartTime", "Time", "time", is_required=True),
    Field("ScheduledProcedureStepDescription", "Step description"),
)


def shown(tree: Tree, field: Field) -> str:
    """The value of a field as the form shows it."""
    text = tree.text(field.tag)
    if field.kind == "date":
        return date(text)
    if field.kind == "time":
        return time(text)
    return ", ".join(tree.texts(field.tag)) if field.kind == "titles" else text


def step_name(position: int, field: Field) -> str:
    """The name of a step's field in the form."""
    return f"step{position}.{field.keyword}"


def changed(item: Tree, form: Form) -> Tree:
    """The item with what the form says; an item of no step gets one.

    Raises:
        Problem: names the attribute that is wrong.
    """
    steps = []
    for position, before in enumerate(item.sequence(STEPS) or [Tree()]):
        step = Tree(before)
        for field in STEP:
            _set(step, field, form.get(step_name(position, field)))
        step.pop(STATUS, None)  # stays, though a device changes it at this moment
        steps.append(step)
    made = Tree(item)
    for field in (*PATIENT, *ORDER):
        _set(made, field, form.get(field.keyword))
    made[STEPS] = Element(b"SQ", steps)
    return made


def _set(tree: Tree, field: Field, given: list[str] | None) -> None:
    if not given or in_field(given[0]) == in_field(shown(tree, field)):
        return
    tree.update(dataset_from({field.keyword: _value(field, given[0]) or None}))


def _value(field: Field, text: str) -> str | list[str]:
    """What a person wrote, as DICOM writes it."""
    if field.kind == "date":
        return text.replace("-", "")
    if field.kind == "time":
        return text.replace(":", "")
    if field.kind == "code":
        return text.upper()
    if field.kind == "titles":
        titles = (title.strip() for title in text.replace("\\", ",").split(","))
        return [title for title in titles if title]
    if field.kind == "name" and "," in text and not {"^", "="} & set(text):
        return "^".join(part.strip() for part in text.split(",", 1))
    return text
