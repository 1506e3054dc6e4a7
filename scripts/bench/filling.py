"""Fills an index with rows by the hundred thousand, through the archive's own tables.

A study has two series, of fifty instances unless told otherwise, and a patient of its own. Every
text comes from a header that the archive's reader has read, so that rows are as long as real ones;
keys and what is searched for differ from row to row. There are no files behind the rows.
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
from lfscp.archive.index.tables.study_tables import study_label, study_source
from lfscp.dicom.reading.header import read_header
from lfscp.dicom.values.attributes import Level, at_level
from lfscp.dicom.values.person_names import search_form

SERIES_PER_STUDY: Final = 2
INSTANCES_PER_SERIES: Final = 50
_BATCH_STUDIES: Final = 100
_RECEIVED_MS: Final = 1_700_000_000_000
_DESCRIPTIONS: Final = (
    *("CT thorax with contrast", "MR brain", "US abdomen", "chest pa and lateral"),
    *("CT abdomen", "MR knee left", "echo transthoracic", "hand right", "", "follow-up"),
)
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
    def patient_birth_date(self) -> str:
        return f"{1930 + self.number % 90}{1 + self.number % 12:02d}{1 + self.number % 28:02d}"

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
    def study_description(self) -> str:
        return _DESCRIPTIONS[self.number % len(_DESCRIPTIONS)]

    @property
    def referring_physician_name(self) -> str:
        return f"Referrer^Number{self.number % 400:03d}"

    @property
    def received_at(self) -> int:
        return _RECEIVED_MS + self.number * 60_000

    @property
    def calling_ae_title(self) -> str:
        return f"MODALITY{self.number % 20:02d}"

    @property
    def label(self) -> str:
        """One in fifty has one; else empty."""
        return f"label {self.number // 50 % 5}" if self.number % 50 == 0 else ""

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
                is_time = column.name.endswith("_at")
                number = _RECEIVED_MS if is_time else 0
                row[column.name] = number if column.type.python_type is int else ""
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

    def __init__(self, archive: Archive, per_series: int = INSTANCES_PER_SERIES) -> None:
        self._per_series = per_series
        self._index = archive.index
        self._templates = _templates()
        self._keys: dict[Level, Iterator[int]] = {}  # free ones, while a batch is added
        self.studies = 0

    @property
    def instances(self) -> int:
        """How many there are."""
        return self.studies * SERIES_PER_STUDY * self._per_series

    def fill_to(self, instances: int) -> None:
        """Add studies until there are so many instances, rounded up to whole studies."""
        wanted = -(-instances // (SERIES_PER_STUDY * self._per_series))
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
            keys = {row["study_instance_uid"]: row["id"] for row in rows[Level.STUDY]}
            made = [Filled(number) for number in numbers]
            sources = [
                {"study_fk": keys[each.study_uid], "calling_ae_title": each.calling_ae_title}
                for each in made
            ]
            connection.execute(study_source.insert(), sources)
            labels = [
                {"study_instance_uid": each.study_uid, "label": each.label}
                for each in made
                if each.label
            ]
            if labels:
                connection.execute(study_label.insert(), labels)
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
            "patient_birth_date": made.patient_birth_date,
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
                "study_description": made.study_description,
                "referring_physician_name": made.referring_physician_name,
                "referring_physician_name_search": search_form(made.referring_physician_name),
                "received_at": made.received_at,
                "updated_at": made.received_at,
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
        for at in range(1, self._per_series + 1):
            yield (
                Level.IMAGE,
                template
                | {
                    "id": next(self._keys[Level.IMAGE]),
                    "series_fk": key,
                    "sop_instance_uid": f"{uid}.{at}",
                    "instance_number": str(at),
                    "calling_ae_title": made.calling_ae_title,
                    "path": f"{made.study_uid}/{uid}/{uid}.{at}.dcm",
                },
            )
