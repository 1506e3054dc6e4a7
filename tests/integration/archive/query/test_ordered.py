"""Queries in order: page by page, while objects come and go, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lfscp.archive.archive import Archive
from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.query.query import Model, Query, parse_query
from lfscp.dicom.models.element_tree import Element, Tree, encode_tree
from lfscp.dicom.reading.identifiers import read_identifier
from lfscp.dicom.values.attributes import Level
from tests.support.served_archive import EXPLICIT, Node, image

UID = {Level.STUDY: 0x0020000D, Level.SERIES: 0x0020000E, Level.IMAGE: 0x00080018}
NAME = 0x00100010


@pytest.fixture(params=["sqlite", "postgresql"])
def node(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Node]:
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    with Archive.open(tmp_path, durability="os", index_url=url) as archive:
        yield Node(archive, 0)


def query(level: Level, **values: str) -> Query:
    tags = {"name": (NAME, b"PN"), "study": (UID[Level.STUDY], b"UI"), "date": (0x00080020, b"DA")}
    tree = Tree({0x00080052: Element(b"CS", level.value), UID[level]: Element(b"UI", "")})
    tree |= {tags[key][0]: Element(tags[key][1], text) for key, text in values.items()}
    identifier = read_identifier(encode_tree(tree), EXPLICIT)
    return parse_query(identifier, Model.STUDY_ROOT, relational=True)


def page(node: Node, asked: Query, offset: int = 0, limit: int = 100) -> list[str]:
    """The UIDs of one page."""
    keys = node.archive.find_keys(asked, offset=offset, limit=limit, interruption=Interruption())
    at = [key.attribute.tag for key in asked.keys].index(UID[asked.level])
    return [found.row[at] for found in node.archive.rows(asked, keys, Interruption())]


def store(node: Node, study: str, series: str = "", **values: str) -> str:
    """One object; gives its UID."""
    made = image(study=study, series=series or f"{study}.1", **values)
    node.store(made)
    return str(made.SOPInstanceUID)


def test_studies_come_newest_first_and_those_without_a_date_last(node):
    for study, date, time in (
        ("1.1", "20240102", "10"),
        ("1.2", "", ""),
        ("1.3", "20240102", "11"),
    ):
        store(node, study, StudyDate=date, StudyTime=time)
    store(node, "1.4", StudyDate="20250101")

    assert page(node, query(Level.STUDY)) == ["1.4", "1.3", "1.1", "1.2"]
    assert page(node, query(Level.STUDY, date="20240101-20241231")) == ["1.3", "1.1"]
    assert page(node, query(Level.STUDY), offset=1, limit=2) == ["1.3", "1.1"]
    assert page(node, query(Level.STUDY), offset=9) == []


def test_pages_hold_what_they_held_while_objects_arrive(node):
    for number in range(6):
        store(node, f"1.{number}", StudyDate=f"2024010{6 - number}")
    first = page(node, query(Level.STUDY), limit=3)
    store(node, "1.5", StudyDate="20240101")  # one more object of the last study
    store(node, "1.9", StudyDate="19990101")  # a study that is older than all

    assert page(node, query(Level.STUDY), limit=3) == first == ["1.0", "1.1", "1.2"]
    assert page(node, query(Level.STUDY), offset=3, limit=3) == ["1.3", "1.4", "1.5"]


def test_series_and_instances_come_in_the_order_of_their_arrival(node):
    uids = [store(node, "1.1", series) for series in ("1.1.9", "1.1.2", "1.1.9")]
    store(node, "1.2")

    assert page(node, query(Level.SERIES, study="1.1")) == ["1.1.9", "1.1.2"]
    assert page(node, query(Level.IMAGE, study="1.1")) == uids
    assert page(node, query(Level.IMAGE), limit=2) == uids[:2]


def test_offset_and_limit_count_what_matches_when_python_decides(node):
    for number in range(8):
        name = f"O'Neil{number}^Ann" if number % 2 else f"Other{number}"
        store(node, f"1.{number}", PatientName=name, StudyDate=f"2024010{number + 1}")
    asked = query(Level.STUDY, name="*neil?^a*")

    assert page(node, asked) == ["1.7", "1.5", "1.3", "1.1"]
    assert page(node, asked, offset=1, limit=2) == ["1.5", "1.3"]


def test_a_row_that_is_gone_when_it_is_read_is_left_out(node):
    store(node, "1.1", StudyDate="20240101")
    store(node, "1.2", StudyDate="20240102")
    asked = query(Level.STUDY)
    keys = node.archive.find_keys(asked, offset=0, limit=9, interruption=Interruption())
    node.archive.delete(Level.STUDY, "1.2")

    rows = list(node.archive.rows(asked, keys, Interruption()))
    assert len(keys) == 2
    assert [found.row[0] for found in rows] == ["1.1"]
