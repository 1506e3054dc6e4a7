"""Worklist queries are served by an index, and not by reading all items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.narrowing import Narrowing
from lfscp.archive.workflow.worklist.query import parse_worklist_query

STATION_AND_DAY = {
    "ScheduledStationAETitle": "CT01",
    "ScheduledProcedureStepStartDate": "20261201",
    "Modality": "CT",
}
DAYS = {"ScheduledProcedureStepStartDate": "20261201-20261202"}


def query(step: dict[str, str], values: dict[str, str]) -> Any:
    asked, inside = Dataset(), Dataset()
    for made, keys in ((asked, values), (inside, step)):
        for keyword, value in keys.items():
            setattr(made, keyword, value)
    asked.ScheduledProcedureStepSequence = [inside]
    return parse_worklist_query(asked)


@pytest.mark.parametrize(
    ("step", "values", "index"),
    [
        (STATION_AND_DAY, {}, "worklist_step_station_ae_title_start_date_start_time"),
        (DAYS, {}, "worklist_step_start_date_start_time"),
        ({}, {"PatientID": "P1"}, "worklist_item_patient_id"),
        (STATION_AND_DAY, {"AccessionNumber": "A1"}, "worklist_item_accession_number"),
        (DAYS, {"StudyInstanceUID": "1.2\\1.3"}, "worklist_item_study_instance_uid"),
        ({}, {"PatientName": "Doe*"}, "worklist_item_patient_name_search"),
    ],
)
def test_a_query_searches_by_the_index_of_what_names_the_fewest(
    tmp_path: Path, step: dict[str, str], values: dict[str, str], index: str
) -> None:
    made = Index(sqlite_url(tmp_path / "index.sqlite"))
    sql, parameters = Narrowing(made.dialect).statement(query(step, values))
    with made.reading() as cursor:
        plan = [row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    made.close()
    assert any(f"INDEX ix_{index} (" in line for line in plan), plan
    assert not any(line in {"SCAN worklist_item", "SCAN worklist_step"} for line in plan), plan


def test_queries_of_one_shape_share_a_statement(tmp_path: Path) -> None:
    made = Index(sqlite_url(tmp_path / "index.sqlite"))
    narrowing = Narrowing(made.dialect)
    (first, of_first), (second, of_second) = (
        narrowing.statement(query({"Modality": modality}, {})) for modality in ("CT", "MR")
    )
    made.close()
    assert first is second
    assert (of_first, of_second) == (["CT"], ["MR"])
