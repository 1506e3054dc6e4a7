"""A rebuilt index has what no object could tell: worklist, procedure steps, commitments."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.workflow_tables import (
    commitment,
    commitment_request,
    committed_study,
    procedure_step,
    worklist_item,
    worklist_step,
)
from lfscp.archive.workflow.procedure_steps.steps import ProcedureSteps
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.models.element_tree import encode_tree
from tests.support.archive_datasets import received
from tests.support.element_trees import tree_of
from tests.support.procedure_steps import ended, started
from tests.support.worklist_items import worklist_tree
from tests.unit.archive.upkeep.test_rebuild import rebuilt

TABLES = (
    *(worklist_item, worklist_step, procedure_step),
    *(commitment, committed_study, commitment_request),
)
STEPS = 400
PAGE = 4096


def contents(archive: Archive) -> dict[str, list[Any]]:
    with archive.index.engine.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table)))) for table in TABLES
        }


def fill(archive: Archive, *, steps: int = 1) -> None:
    """An item whose step is performed, steps, and a row in each table of commitments."""
    archive.store(received(1))
    Worklist(archive.index).add(worklist_tree())
    kept = ProcedureSteps(archive.index)
    for number in range(steps):
        dataset = started(CommentsOnThePerformedProcedureStep=f"<{number}>" + "." * 900)
        kept.create(f"1.2.3.{number}", tree_of(dataset), "CT01")
    kept.update("1.2.3.0", tree_of(ended()))
    with archive.index.writing() as connection:
        request = encode_tree(tree_of(started()))
        titles = {"calling_ae_title": "CT01", "called_ae_title": "LFSCP"}
        values = {"transaction_uid": "1.9", "request": request, "state": "waiting", **titles}
        connection.execute(insert(commitment).values(values))
        connection.execute(insert(committed_study).values(study_instance_uid="1.2", committed_at=7))
        connection.execute(insert(commitment_request).values(transaction_uid="1.8", ae_title="B"))


def test_all_of_a_whole_index_is_taken(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        fill(archive)
        before = contents(archive)
    assert all(before.values())
    assert rebuilt(tmp_path)[0] == []
    with Archive.open(tmp_path) as archive:
        assert contents(archive) == before
        fresh = Worklist(archive.index).add(worklist_tree(2))
        assert fresh > before["worklist_item"][-1][0]  # no key is used twice


def test_damage_costs_the_rows_that_it_hits(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        fill(archive, steps=STEPS)
        before = contents(archive)
    damage(tmp_path / "index.sqlite", b"<200>.")
    rebuilt(tmp_path)
    with Archive.open(tmp_path) as archive:
        after = contents(archive)
    lost = set(before["procedure_step"]) - set(after["procedure_step"])
    assert 1 <= len(lost) < 10
    assert set(after["procedure_step"]) < set(before["procedure_step"])
    for table in TABLES:
        if table is not procedure_step:
            assert after[table.name] == before[table.name]


def damage(index: Path, marker: bytes) -> None:
    """Overwrite the page of a file that holds a text."""
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert connection.execute("PRAGMA page_size").fetchone() == (PAGE,)
    content = index.read_bytes()
    start = content.index(marker) // PAGE * PAGE
    index.write_bytes(content[:start] + b"\xa5" * PAGE + content[start + PAGE :])


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("procedure_step", "dataset = x'0800'"),
        ("procedure_step", "dataset = 'text'"),
        ("procedure_step", "created_at = 'text'"),
        ("worklist_item", "dataset = x'0800'"),
        ("worklist_step", "item_id = 99"),
        ("commitment", "request = x'00'"),
        ("commitment_request", "instances = 'many'"),
    ],
)
def test_a_row_that_nobody_wrote_so_is_left_out(tmp_path: Path, table: str, change: str) -> None:
    with Archive.open(tmp_path) as archive:
        fill(archive)
        before = contents(archive)
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection, connection:
        connection.execute(f"UPDATE {table} SET {change}")  # noqa: S608
    assert rebuilt(tmp_path)[0] == []
    with Archive.open(tmp_path) as archive:
        after = contents(archive)
    gone = {table, "worklist_step"} if table == "worklist_item" else {table}
    assert {name for name, rows in after.items() if rows != before[name]} == gone
    assert all(after[name] == [] for name in gone)


def test_an_index_from_before_the_workflow_has_none(tmp_path: Path) -> None:
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection, connection:
        for table in reversed(TABLES):
            connection.execute(f"DROP TABLE {table.name}")
    assert rebuilt(tmp_path)[0] == []
    with Archive.open(tmp_path) as archive:
        assert not any(contents(archive).values())
        assert archive.statistics().instances == 1
