"""Names one attribute of a dataset, which may stand in items of sequences.

`PatientID` and `(0010,0020)` are the same attribute. `RequestAttributesSequence.StudyInstanceUID`
means that of each item, `RequestAttributesSequence[0].StudyInstanceUID` that of the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from lfscp.dicom.errors import named
from lfscp.rules.coercion.values import dictionary_vr

_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_STEP: Final = re.compile(r"([^\[\]]+)\[(\d{1,4}|\*)\]")
_MAX_DEPTH: Final = 16
_EXPECTED: Final = (
    'the keyword of an attribute, as "PatientID" or '
    '"RequestAttributesSequence[0].StudyInstanceUID", or its tag, as "(0010,0020)"'
)


@dataclass(frozen=True, slots=True)
class Step:
    """A sequence on the way to an attribute.

    Args:
        item: which item, from 0; None for each.
    """

    tag: int
    item: int | None


@dataclass(frozen=True, slots=True)
class AttributePath:
    """The place of an attribute.

    Args:
        steps: the sequences that it is in, from the outside in.
    """

    tag: int
    steps: tuple[Step, ...] = ()

    @property
    def top(self) -> int:
        """The tag of the element of the dataset itself that it is, or is in."""
        return self.steps[0].tag if self.steps else self.tag

    @property
    def vr(self) -> str:
        """The VR of the dictionary; "UN" if it is in none."""
        return dictionary_vr(self.tag)

    def __str__(self) -> str:
        names = [
            f"{_name(step.tag)}[{'*' if step.item is None else step.item}]" for step in self.steps
        ]
        return ".".join([*names, _name(self.tag)])


def read_path(text: str) -> AttributePath:
    """Read the place of an attribute.

    Raises:
        ValueError: it is none; its text is what was expected.
    """
    *outer, last = re.split(r"\.", text)
    if len(outer) > _MAX_DEPTH:
        raise ValueError(f"at most {_MAX_DEPTH} sequences")
    return AttributePath(_tag(last), tuple(_step(each) for each in outer))


def _step(text: str) -> Step:
    match = _STEP.fullmatch(text)
    name, item = (match[1], match[2]) if match else (text, "*")
    tag = _tag(name)
    if dictionary_vr(tag) not in ("SQ", "UN"):
        raise ValueError(f"a sequence before the dot; {name} is none")
    return Step(tag, None if item == "*" else int(item))


def _tag(text: str) -> int:
    match = _TAG.fullmatch(text)
    if match:
        return int(match[1] + match[2], 16)
    tag = tag_for_keyword(text)
    if tag is None:
        raise ValueError(_EXPECTED)
    return tag


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or named(tag)
