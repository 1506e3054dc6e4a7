"""Fuzzy matching of names on both databases: by what, and by which indexes."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.filereader import read_dataset
from sqlalchemy import Connection

from lfscp.archive.index.browsing import browse, study_pages
from lfscp.archive.index.browsing.study_filter import StudyFilter
from lfscp.archive.query.matching import build
from lfscp.archive.query.query import Model, parse_query
from lfscp.dicom.values.attributes import Level
from tests.support.index_rows import add, answers, identifier, steps

PATIENTS = {
    "1": "Müller^Jörg",
    "2": "Mueller^Jana",
    "3": "MULLER^JIM",
    "4": "Miller^Ann",
    "5": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "6": "ﾔﾏﾀﾞ^ﾀﾛｳ",
    "7": "",
}


@pytest.fixture
def filled(connection: Connection) -> Connection:
    """One study for each of the patients, with a physician of the same name."""
    for key, name in PATIENTS.items():
        patient = add(connection, Level.PATIENT, PatientID=key, PatientName=name)
        uid = {"StudyInstanceUID": key, "ReferringPhysicianName": name}
        study = add(connection, Level.STUDY, patient, **uid)
        series = {"SeriesInstanceUID": f"{key}.1", "OperatorsName": f"{name}\\X"}
        add(connection, Level.SERIES, study, **series)
    return connection


@pytest.mark.parametrize(
    ("pattern", "literally", "fuzzily"),
    [
        ("Müller*", "1", "123"),
        ("muller*", "3", "13"),
        ("MUELLER*", "2", "12"),
        ("*ll?r*", "1234", "1234"),
        ("m?ller^j*", "13", "13"),
        ("*jorg", "", "1"),
        ("Muller^Jim", "3", "3"),
        ("やまだ*", "5", "56"),
        ("ヤマダ^*", "", "56"),
        ("=山田*", "5", "5"),
        ("Yamada*=山田*=ﾔﾏﾀﾞ*", "", "5"),
        ("Nobody", "", ""),
    ],
)
def test_a_key_finds_names_without_regard_to_accents(
    filled: Connection, pattern: str, literally: str, fuzzily: str
) -> None:
    for keyword in ("PatientName", "ReferringPhysicianName"):
        for fuzzy, expected in ((False, literally), (True, fuzzily)):
            asked = identifier("STUDY", StudyInstanceUID="", **{keyword: pattern})
            asked.SpecificCharacterSet = "ISO_IR 192"
            found = [
                str(read_dataset(BytesIO(each), True, True).StudyInstanceUID)
                for each in answers(filled, asked, fuzzy_names=fuzzy)
            ]
            assert "".join(sorted(found)) == expected, (keyword, fuzzy)


def test_a_name_without_a_folded_column_is_found_too(filled: Connection) -> None:
    asked = identifier(
        "SERIES", StudyInstanceUID="", SeriesInstanceUID="", OperatorsName="mueller*"
    )
    found = answers(filled, asked, relational=True, fuzzy_names=True)
    uids = {str(read_dataset(BytesIO(each), True, True).SeriesInstanceUID) for each in found}
    assert uids == {"1.1", "2.1"}


def test_no_table_is_read_for_a_name_that_begins_with_letters(filled: Connection) -> None:
    asked = identifier("STUDY", PatientName="Müller*")
    asked.SpecificCharacterSet = "ISO_IR 192"
    query = parse_query(asked, Model.STUDY_ROOT, fuzzy_names=True)
    statement = build(query, filled.dialect.name).statement
    compiled = statement.compile(filled, compile_kwargs={"render_postcompile": True})
    order = getattr(compiled, "positiontup", None)
    parameters = compiled.params if order is None else tuple(compiled.params[n] for n in order)
    plan = steps(filled, str(compiled), parameters)
    assert "SCAN study" not in plan
    assert any("ix_study_patient_name_folded" in each for each in plan), plan


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("muller", "13"),
        ("mueller", "12"),
        ("MÜLLER", "123"),
        ("jörg", "1"),
        ("ueller", "12"),
        ("山田", "5"),
        ("ヤマダ", "56"),
        ("100%", ""),
    ],
)
def test_the_page_finds_them_as_well(filled: Connection, word: str, expected: str) -> None:
    rows = study_pages.studies(filled, StudyFilter(text=word)).rows
    assert "".join(sorted(row["study_instance_uid"] for row in rows)) == expected
    rows = browse.patients(filled, word).rows
    assert "".join(sorted(row["patient_id"] for row in rows)) == expected
