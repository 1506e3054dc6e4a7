"""An object's elements as text for people: bounded in number, depth and length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

MAX_ELEMENTS: Final = 20_000
MAX_LENGTH: Final = 500
MAX_DEPTH: Final = 16
_BINARY: Final = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN", "OB or OW"})


@dataclass(frozen=True, slots=True)
class Element:
    """One element; `depth` counts the sequences around it."""

    depth: int
    tag: str
    vr: str
    name: str
    value: str


def elements(
    dataset: Dataset, first: int = 0, most: int = MAX_ELEMENTS
) -> tuple[list[Element], int | None]:
    """Some elements in order, the meta information first.

    Args:
        first: of them, counted from 0.
        most: how many.
    Returns:
        The elements, and the number of the one that follows; None at the end.
    """
    sources = (getattr(dataset, "file_meta", Dataset()), dataset)
    walked = chain.from_iterable(_walk(source, 0) for source in sources)
    found = list(islice(walked, first, first + most + 1))
    return found[:most], first + most if len(found) > most else None


def _walk(dataset: Dataset, depth: int) -> Iterator[Element]:
    for tag in sorted(dataset.keys()):
        try:
            element = dataset[tag]
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - one broken value must not hide the others
            yield Element(depth, _tag(tag), "", "", "cannot be read: its value does not fit its VR")
            continue
        yield Element(depth, _tag(tag), element.VR, element.name, _value(element))
        if element.VR == "SQ" and depth < MAX_DEPTH:
            for number, item in enumerate(element.value or [], 1):
                yield Element(depth + 1, "", "", f"item {number}", "")
                yield from _walk(item, depth + 1)


def _tag(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _value(element: DataElement) -> str:
    value = element.value
    if element.VR == "SQ":
        count = len(value or [])
        return f"{count} item{'' if count == 1 else 's'}"
    if element.VR in _BINARY or isinstance(value, bytes):
        return f"{len(value or b'')} bytes"
    if element.VM > 1:
        text = "\\".join(str(each) for each in value[:100])
    else:
        text = "" if value is None else str(value)
    return text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "…"
