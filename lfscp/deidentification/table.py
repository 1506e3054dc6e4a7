"""Table E.1-1 of PS3.15: what the profile and each option do with each attribute.

The table is data, `table_e1_1.tsv`: one row for each attribute, one column for the Basic Profile
and one for each option. `EDITION` is the edition of all of them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VM, dictionary_VR

from lfscp.deidentification.options import Option

EDITION: Final = "2026c"
PRIVATE: Final = "private"


class Row(NamedTuple):
    """One row of the table.

    Args:
        vr: of the attribute; empty where the row stands for many.
        basic: the action of the Basic Profile, such as "X/Z".
        by_option: the action of each option that has one, "K" or "C".
    """

    tag: str
    vr: str
    basic: str
    by_option: dict[Option, str]
    name: str


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """All rows. Tags are hexadecimal; `x` stands for any digit."""
    text = resources.files(__package__).joinpath("table_e1_1.tsv").read_text("utf-8")
    head, *lines = (line.split("\t") for line in text.splitlines())
    options = [Option(name) for name in head[3:-1]]
    return tuple(
        Row(
            tag,
            vr,
            basic,
            {option: cell for option, cell in zip(options, cells, strict=True) if cell},
            name,
        )
        for tag, vr, basic, *cells, name in lines
    )


@lru_cache(maxsize=1)
def _by_tag() -> dict[int, Row]:
    return {int(row.tag, 16): row for row in rows() if row.tag != PRIVATE and "x" not in row.tag}


def row_of(tag: int) -> Row | None:
    """The row of an attribute; None if the table has none."""
    return _by_tag().get(tag)


@lru_cache(maxsize=16384)
def vr_of(tag: int) -> str:
    """The VR of a standard attribute, which may leave a choice; empty if nobody knows it."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        row = row_of(tag)
        return row.vr if row is not None else ""


def is_of_repeating_group(tag: int) -> bool:
    """Whether a tag is known only as one of a group that repeats, such as curves and overlays.

    Most of them were retired long ago: nobody reads them, and pixels and text may be in them.
    """
    return tag not in DicomDictionary and row_of(tag) is None


@lru_cache(maxsize=16384)
def vm_of(tag: int) -> int:
    """How many values an attribute has at most; 0 if there is no limit."""
    try:
        most = dictionary_VM(tag).rpartition("-")[2]
    except KeyError:
        return 0
    return int(most) if most.isdigit() else 0
