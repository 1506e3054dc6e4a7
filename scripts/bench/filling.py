"""Fills an index with rows by the hundred thousand, through the archive's own tables.

A study has two series of fifty instances and a patient of its own. Every text comes from a header
that the archive's reader has read, so that rows are as long as real ones; keys and what is searched
for differ from row to row. There are no files behind the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from objects import Objects
from peers import dul
from sqlalchemy import Connection, Table, func, select

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.schema import TABLES
from lfscp.dicom.reading.header import read_header
from lfscp.dicom.values.attributes import Level, at_level
from lfscp.dicom.values.person_names import search_form

SERIES_PER_STUDY: Final = 2
INSTANCES_PER_SERIES: Final = 50
PER_STUDY: Final = SERIES_PER_STUDY * INSTANCES_PER_SERIES
_BATCH_STUDIES: Final = 100
_RECEIVED_MS: Final = 1_700_000_000_000
_ROOT: Final = "2.25.93481027465.8"

Row = dict[str, Any]


@dataclass(frozen=True)
class Filled:
    """What the study of a number looks like, for queries that find it."""

    number: int

    @property
    def study_uid(self) -> str:
        return f"{_ROOT}.{self.number}"

    @property
    def series_uid(self) -> str:
        return f"{self.study_uid}.1"

    @property
    def instance_uid(self) -> str:
        return f"{self.series_uid}.1"

    @property
    def patient_id(self) -> str:
        return f"FILL{self.number:07d}"

    @property
    def patient_name(self) -> str:
        return f"Filler^Number{self.number:07d}"

    @property
    def accession_number(self) -> str:
        return f"ACC{self.number:07d}"

    @property
    def study_date(self) -> str:
        days = self.number % 9000  # some 25 years, 336 days each
        return f"{2000 + days // 336}{1 + days % 336 // 28:02d}{1 + days % 28:02d}"

    @property
    def study_time(self) -> str:
        seconds = self.number * 37 % 86400
        return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"

    @property
    def modality(self) -> str:
        return ("CT", "MR", "US", "DX")[self.number % 4]


def _templates() -> dict[Level, Row]:
    """A row of each table with the texts of a real header; keys are filled in later."""
    _, dataset = Objects(8 * 1024, 1).following()
    header = read_header(dataset, dul.EXPLICIT_LE)
    rows: dict[Level, Row] = {}
    for level, table in TABLES.items():
        row: Row = {}
        for attribute in at_level(level):
            row[attribute.column] = header.text(attribute.tag)
            if attribute.search_column is not None:
                row[attribute.search_column] = search_form(row[attribute.column])
        for column in table.columns:
            if column.name not in row and not column.primary_key and not column.foreign_keys:
                row[column.name] = _RECEIVED_MS if column.type.python_type is int else ""
        rows[level] = row
    rows[Level.IMAGE] |= {
        "transfer_syntax_uid": dul.EXPLICIT_LE,
        "dataset_offset": 400,
        "size": len(dataset),
        "file_size": len(dataset) + 400,
        "digest": "xxh3_128:00000000000000000000000000000000",
        "calling_ae_title": "FILLING",
    }
    return rows


def _copy(connection: Connection, table: Table, rows: list[Row]) -> None:
    """Add rows to a table of PostgreSQL, and let its keys go on behind them."""
    driver: Any = connection.connection.driver_connection
    columns = ", ".join(f'"{name}"' for name in rows[0])
    with driver.cursor().copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(list(row.values()))
    connection.exec_driver_sql(
        f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {rows[-1]['id']})"
    )


class Filling:
    """Adds studies to an archive's index; counts on from what it has added before."""

    def __init__(self, archive: Archive) -> None:
        self._index = archive.index
        self._templates = _templates()
        self._keys: dict[Level, Iterator[int]] = {}  # free ones, while a batch is added
        self.studies = 0

    @property
    def instances(self) -> int:
        """How many there are."""
        return self.studies * PER_STUDY

    def fill_to(self, instances: int) -> None:
        """Add studies until there are so many instances, rounded up to whole studies."""
        wanted = -(-instances // PER_STUDY)
        while self.studies < wanted:
            self._add(range(self.studies, min(self.studies + _BATCH_STUDIES, wanted)))

    def _add(self, numbers: range) -> None:
        rows: dict[Level, list[Row]] = {level: [] for level in TABLES}
        with self._index.writing() as connection:
            for level, table in TABLES.items():
                last = connection.execute(select(func.max(table.c.id))).scalar_one()
                self._keys[level] = itertools.count((last or 0) + 1)
            for number in numbers:
                for level, row in self._study(number):
                    rows[level].append(row)
            for level, table in TABLES.items():
                if self._index.is_shared:
                    _copy(connection, table, rows[level])
                else:
                    connection.execute(table.insert(), rows[level])
        self.studies = numbers.stop

    def settle(self) -> None:
        """Let PostgreSQL look at what has been added, as it would do by itself after a while."""
        if self._index.is_shared:
            with self._index.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql("VACUUM ANALYZE")

    def _study(self, number: int) -> Iterator[tuple[Level, Row]]:
        made = Filled(number)
        patient_key, study_key = next(self._keys[Level.PATIENT]), next(self._keys[Level.STUDY])
        of_patient = {
            "patient_id": made.patient_id,
            "patient_name": made.patient_name,
            "patient_name_search": search_form(made.patient_name),
        }
        yield Level.PATIENT, self._templates[Level.PATIENT] | {"id": patient_key} | of_patient
        yield (
            Level.STUDY,
            self._templates[Level.STUDY]
            | of_patient
            | {
                "id": study_key,
                "patient_id_fk": patient_key,
                "study_instance_uid": made.study_uid,
                "study_date": made.study_date,
                "study_time": made.study_time,
                "accession_number": made.accession_number,
                "study_id": str(number),
            },
        )
        for at in range(SERIES_PER_STUDY):
            yield from self._series(made, study_key, at + 1)

    def _series(self, made: Filled, study_key: int, in_study: int) -> Iterator[tuple[Level, Row]]:
        key = next(self._keys[Level.SERIES])
        uid = f"{made.study_uid}.{in_study}"
        yield (
            Level.SERIES,
            self._templates[Level.SERIES]
            | {
                "id": key,
                "study_fk": study_key,
                "series_instance_uid": uid,
                "series_number": str(in_study),
                "modality": made.modality,
            },
        )
        template = self._templates[Level.IMAGE]
        for at in range(1, INSTANCES_PER_SERIES + 1):
            yield (
                Level.IMAGE,
                template
                | {
                    "id": next(self._keys[Level.IMAGE]),
                    "series_fk": key,
                    "sop_instance_uid": f"{uid}.{at}",
                    "instance_number": str(at),
                    "path": f"{made.study_uid}/{uid}/{uid}.{at}.dcm",
                },
            )
