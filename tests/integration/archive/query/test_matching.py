"""Kinds of matching that need their own words, and the plans the database makes for them."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from sqlalchemy import Connection

from lfscp.archive.query.keys import Name, Texts, wildcard_expression
from lfscp.archive.query.matching import MAX_BOUND_VALUES, build
from lfscp.archive.query.query import Model, parse_query
from lfscp.dicom.values.attributes import Level
from lfscp.dicom.values.temporal import date_time_span
from tests.support.index_rows import add, answers, identifier, steps

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SR_DOCUMENT = "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture
def one_study(connection: Connection) -> Connection:
    """A patient with one study of two series: two CT images and a report."""
    patient = add(connection, Level.PATIENT, PatientID="P1", PatientName="Doe^Jane")
    study = add(
        connection,
        Level.STUDY,
        patient,
        StudyInstanceUID="1.2",
        StudyDate="20200105",
        ProcedureCodeSequence='[{"CodeValue": "A1", "CodingSchemeDesignator": "99X"},'
        ' {"CodeValue": "B2", "CodingSchemeDesignator": "99Y", "CodeMeaning": "Thorax"}]',
    )
    images = add(connection, Level.SERIES, study, SeriesInstanceUID="1.2.1", Modality="CT")
    report = add(connection, Level.SERIES, study, SeriesInstanceUID="1.2.2", Modality="SR")
    for series, uid, sop_class in (
        (images, "1.2.1.1", CT_IMAGE),
        (images, "1.2.1.2", CT_IMAGE),
        (report, "1.2.2.1", SR_DOCUMENT),
    ):
        add(connection, Level.IMAGE, series, SOPInstanceUID=uid, SOPClassUID=sop_class)
    add(connection, Level.STUDY, patient, StudyInstanceUID="1.3")
    return connection


def found(
    connection: Connection, level: str, model: Model = Model.STUDY_ROOT, **keys: Any
) -> list[Dataset]:
    encoded = answers(connection, identifier(level, **keys), model, relational=True)
    return [read_dataset(BytesIO(data), True, True) for data in encoded]


def study_uids(connection: Connection, **keys: Any) -> list[str]:
    datasets = found(connection, "STUDY", **({"StudyInstanceUID": ""} | keys))
    return sorted(str(dataset.StudyInstanceUID) for dataset in datasets)


# ---- computed keys


def test_lower_levels_are_counted_and_gathered_when_asked_for(one_study: Connection) -> None:
    (study,) = found(
        one_study,
        "STUDY",
        StudyInstanceUID="1.2",
        ModalitiesInStudy="",
        SOPClassesInStudy="",
        NumberOfStudyRelatedSeries="",
        NumberOfStudyRelatedInstances="",
        NumberOfPatientRelatedStudies="",
        NumberOfPatientRelatedSeries="",
        NumberOfPatientRelatedInstances="",
    )
    assert list(study.ModalitiesInStudy) == ["CT", "SR"]
    assert list(study.SOPClassesInStudy) == [CT_IMAGE, SR_DOCUMENT]
    assert study.NumberOfStudyRelatedSeries == 2
    assert study.NumberOfStudyRelatedInstances == 3
    assert study.NumberOfPatientRelatedStudies == 2
    assert study.NumberOfPatientRelatedSeries == 2
    assert study.NumberOfPatientRelatedInstances == 3


def test_a_study_without_series_has_a_count_of_zero_and_no_modalities(
    one_study: Connection,
) -> None:
    (study,) = found(
        one_study,
        "STUDY",
        StudyInstanceUID="1.3",
        ModalitiesInStudy="",
        NumberOfStudyRelatedInstances="",
    )
    assert not study.ModalitiesInStudy
    assert study.NumberOfStudyRelatedInstances == 0


def test_instances_of_a_series_are_counted(one_study: Connection) -> None:
    series = found(
        one_study, "SERIES", SeriesInstanceUID="1.2.1", NumberOfSeriesRelatedInstances=""
    )
    assert [one.NumberOfSeriesRelatedInstances for one in series] == [2]


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of a wildcard in a CS
@pytest.mark.parametrize(
    ("keys", "uids"),
    [
        ({"ModalitiesInStudy": "SR"}, ["1.2"]),
        ({"ModalitiesInStudy": ["MR", "SR"]}, ["1.2"]),
        ({"ModalitiesInStudy": "?T"}, ["1.2"]),
        ({"ModalitiesInStudy": "MR"}, []),
        ({"SOPClassesInStudy": SR_DOCUMENT}, ["1.2"]),
        ({"SOPClassesInStudy": "1.2.3"}, []),
        ({"NumberOfStudyRelatedSeries": "2"}, ["1.2"]),
        ({"NumberOfStudyRelatedSeries": "0"}, ["1.3"]),
    ],
)
def test_computed_keys_are_matched(
    one_study: Connection, keys: dict[str, Any], uids: list[str]
) -> None:
    assert study_uids(one_study, **keys) == uids


# ---- sequences


def code(**keys: str) -> list[Dataset]:
    item = Dataset()
    for keyword, value in keys.items():
        setattr(item, keyword, value)
    return [item]


@pytest.mark.parametrize(
    ("item", "uids"),
    [
        ({"CodeValue": "B2"}, ["1.2"]),
        ({"CodeValue": "b2"}, []),
        ({"CodeValue": "A?", "CodingSchemeDesignator": "99X"}, ["1.2"]),
        ({"CodeValue": "A1", "CodingSchemeDesignator": "99Y"}, []),  # of two different items
        ({"CodeMeaning": ""}, ["1.2", "1.3"]),
    ],
)
def test_all_keys_of_a_sequence_fit_one_item(
    one_study: Connection, item: dict[str, str], uids: list[str]
) -> None:
    assert study_uids(one_study, ProcedureCodeSequence=code(**item)) == uids


def test_items_come_back_with_the_keys_asked_for(one_study: Connection) -> None:
    (study,) = found(
        one_study,
        "STUDY",
        StudyInstanceUID="1.2",
        ProcedureCodeSequence=code(CodeMeaning="", CodeValue=""),
    )
    first, second = study.ProcedureCodeSequence
    assert (first.CodeValue, first.CodeMeaning) == ("A1", "")
    assert (second.CodeValue, second.CodeMeaning) == ("B2", "Thorax")
    assert "CodingSchemeDesignator" not in second


@pytest.mark.parametrize(
    ("item", "values"),
    [
        ({"CodeValue": "B2"}, ["B2"]),
        ({"CodeValue": "?2", "CodeMeaning": ""}, ["B2"]),
        ({"CodeValue": "*", "CodingSchemeDesignator": "99X"}, ["A1"]),
        ({"CodeValue": "", "CodeMeaning": "*"}, ["A1", "B2"]),
        ({"CodeValue": "*", "CodingSchemeDesignator": "99?"}, ["A1", "B2"]),
    ],
)
def test_the_items_that_match_come_back_and_no_others(
    one_study: Connection, item: dict[str, str], values: list[str]
) -> None:
    (study,) = found(one_study, "STUDY", StudyInstanceUID="1.2", ProcedureCodeSequence=code(**item))
    assert [each.CodeValue for each in study.ProcedureCodeSequence] == values


@pytest.mark.parametrize("asked", [[], [Dataset()]])
def test_an_empty_sequence_key_returns_whole_items(
    one_study: Connection, asked: list[Dataset]
) -> None:
    (study,) = found(one_study, "STUDY", StudyInstanceUID="1.2", ProcedureCodeSequence=asked)
    assert study.ProcedureCodeSequence[1].CodingSchemeDesignator == "99Y"


def test_a_sequence_that_an_older_version_cut_is_none(one_study: Connection) -> None:
    patient = add(one_study, Level.PATIENT, PatientID="P2")
    cut = '[{"CodeValue": "B2"}, {"Co'
    add(one_study, Level.STUDY, patient, StudyInstanceUID="1.4", ProcedureCodeSequence=cut)
    assert study_uids(one_study, ProcedureCodeSequence=code(CodeValue="B2")) == ["1.2"]
    (study,) = found(one_study, "STUDY", StudyInstanceUID="1.4", ProcedureCodeSequence=[])
    assert len(study.ProcedureCodeSequence) == 0


# ---- person names with several groups, date-times


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("yamada*", True),
        ("山田*", True),
        ("*^たろう", True),
        ("yamada*=山田*", True),
        ("=山田^太郎", True),
        ("suzuki*=山田*", False),
        ("yamada*たろう", False),  # an asterisk stays inside its group
        ("太郎", False),
    ],
)
def test_a_key_fits_one_group_or_group_by_group(
    connection: Connection, pattern: str, fits: bool
) -> None:
    patient = add(connection, Level.PATIENT, PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    add(connection, Level.STUDY, patient, StudyInstanceUID="1.2")
    assert Name(pattern).accepts("yamada^tarou=山田^太郎=やまだ^たろう") is fits
    assert study_uids(connection, PatientName=pattern) == (["1.2"] if fits else [])


@pytest.mark.parametrize(
    ("key", "stored", "accepted"),
    [
        ("20200101", "20200101235959.9", True),
        ("20200101", "20200102", False),
        ("20200101-", "", False),
        ("202001-202003", "20200331", True),
        ("202001-202003", "20200401", False),
        ("20200101120000+0100", "20200101110000+0000", True),
        ("20200101120000+0100", "20200101120000+0000", False),
        ("20200101120000+0100", "20200101120000", True),  # no offset: the key's
        ("20200101-0500", "20200102030000+0000", True),  # an offset, no range
        ("20200101-0500-20200102-0500", "20200103045959+0000", True),
        ("20200101-0500-20200102-0500", "20200103050000+0000", False),
        ("-20200101", "2019", True),
        ("2019-2020", "20200630", True),
        ("9999", "99991231", True),
        ("0001-", "0001", True),
    ],
)
def test_date_times_compare_as_moments(
    connection: Connection, key: str, stored: str, accepted: bool
) -> None:
    assert date_time_span(key).accepts(stored) is accepted
    patient = add(connection, Level.PATIENT)
    study = add(connection, Level.STUDY, patient, StudyInstanceUID="1")
    series = add(connection, Level.SERIES, study, SeriesInstanceUID="1.1")
    add(connection, Level.IMAGE, series, SOPInstanceUID="1.1.1", AcquisitionDateTime=stored)
    asked = Dataset()
    asked.SOPInstanceUID = ""
    assert bool(found(connection, "IMAGE", AcquisitionDateTime=key)) is accepted


@pytest.mark.parametrize("key", ["20201301", "20200101250000", "x", "-", "2020-2021-2022"])
def test_a_date_time_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"date-time|range|month"):
        date_time_span(key)


# ---- hostile and large keys


def test_a_pattern_of_many_asterisks_is_decided_at_once(connection: Connection) -> None:
    """Backtracking over 40 asterisks would not end in the lifetime of the test."""
    pattern, stored = "*a" * 40 + "b", "a" * 2000
    assert wildcard_expression(pattern).fullmatch(stored) is None
    assert not Texts((pattern,), wildcards=True).accepts(stored)
    patient = add(connection, Level.PATIENT, PatientName=stored, PatientComments=stored)
    add(connection, Level.STUDY, patient, StudyInstanceUID="1.2")
    asked = identifier("STUDY", StudyInstanceUID="")
    for keyword in ("PatientName", "PatientComments"):
        setattr(asked, keyword, pattern[:60] + "b")
    assert answers(connection, asked) == []


def test_a_number_far_beyond_an_is_matches_nothing(one_study: Connection) -> None:
    data = b"\x08\x00\x52\x00\x06\x00\x00\x00SERIES\x20\x00\x11\x00\x0a\x00\x00\x001e99999999"
    asked = read_dataset(BytesIO(data), True, True)
    assert answers(one_study, asked, relational=True) == []


def test_more_numbers_than_a_statement_takes_spellings(connection: Connection) -> None:
    patient = add(connection, Level.PATIENT, PatientID="P1")
    study = add(connection, Level.STUDY, patient, StudyInstanceUID="1.2")
    for uid, number in (("1.2.1", "7"), ("1.2.2", "007"), ("1.2.3", "x"), ("1.2.4", "")):
        add(connection, Level.SERIES, study, SeriesInstanceUID=uid, SeriesNumber=number)
    for numbers, uids in (
        (range(8), ["1.2.1", "1.2.2"]),
        (range(3_000), ["1.2.1", "1.2.2"]),
        (range(10_000, 13_000), []),
    ):
        keys = {"SeriesNumber": [str(number) for number in numbers], "SeriesInstanceUID": ""}
        series = found(connection, "SERIES", **keys)
        assert sorted(str(each.SeriesInstanceUID) for each in series) == uids


def test_more_uids_than_a_statement_takes_parameters(one_study: Connection) -> None:
    uids = [f"1.{number}" for number in range(MAX_BOUND_VALUES * 4)]
    assert study_uids(one_study, StudyInstanceUID=uids) == ["1.2", "1.3"]
    assert study_uids(one_study, StudyInstanceUID=uids[4:]) == []


# ---- plans


def plan(connection: Connection, level: str, **keys: Any) -> list[str]:
    """The steps by which the database runs the query."""
    query = parse_query(identifier(level, **keys), Model.PATIENT_ROOT, relational=True)
    statement = build(query, connection.dialect.name).statement
    compiled = statement.compile(connection, compile_kwargs={"render_postcompile": True})
    order = getattr(compiled, "positiontup", None)
    parameters = compiled.params if order is None else tuple(compiled.params[n] for n in order)
    return steps(connection, str(compiled), parameters)


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("PATIENT", {"PatientID": "P1"}),
        ("PATIENT", {"PatientID": "P1*"}),
        ("PATIENT", {"PatientName": "Smith^J*"}),
        ("STUDY", {"PatientName": "Smith^John", "StudyDescription": ""}),
        ("STUDY", {"PatientID": "P1", "StudyDate": ""}),
        ("STUDY", {"StudyInstanceUID": "1.2"}),
        ("STUDY", {"StudyInstanceUID": ["1.2", "1.3"]}),
        ("STUDY", {"StudyDate": "20200101"}),
        ("STUDY", {"StudyDate": "20200101-20200107", "PatientName": ""}),
        ("STUDY", {"StudyTime": "1030-1045"}),
        ("STUDY", {"AccessionNumber": "A1", "PatientName": ""}),
        ("STUDY", {"StudyID": "7"}),
        ("STUDY", {"ReferringPhysicianName": "House*"}),
        ("STUDY", {"StudyDate": "20200101", "ModalitiesInStudy": "CT"}),
        ("SERIES", {"StudyInstanceUID": "1.2", "Modality": "CT", "PatientName": ""}),
        ("SERIES", {"SeriesInstanceUID": "1.2"}),
        ("SERIES", {"StudyInstanceUID": "1.2", "SeriesNumber": "7"}),
        ("SERIES", {"SeriesNumber": "7"}),
        ("IMAGE", {"SeriesInstanceUID": "1.2", "InstanceNumber": "7"}),
        ("IMAGE", {"SOPInstanceUID": "1.2", "PatientID": ""}),
    ],
)
def test_no_required_key_reads_a_whole_table(
    connection: Connection, level: str, keys: dict[str, Any]
) -> None:
    """SCAN of a table reads each row; names of several groups may scan an index alone."""
    steps = plan(connection, level, **keys)
    assert any("SEARCH" in step for step in steps)
    tables = ("patient", "study", "series", "instance")
    assert [step for step in steps if step in [f"SCAN {table}" for table in tables]] == []


@pytest.mark.parametrize("keyword", ["PatientName", "ReferringPhysicianName"])
def test_names_of_several_groups_are_found_by_the_index_of_just_those(
    connection: Connection, keyword: str
) -> None:
    steps = plan(connection, "STUDY", **{keyword: "Smith*"})
    column = {"PatientName": "patient_name", "ReferringPhysicianName": "referring_physician_name"}
    of_groups = f"ix_{column[keyword]}_search_groups"
    assert [step for step in steps if of_groups in step]
    assert [step for step in steps if "SCAN" in step and of_groups not in step] == []


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("SERIES", {"StudyInstanceUID": "1.2"}),
        ("SERIES", {"PatientID": "P1"}),
        ("SERIES", {"StudyDate": "20200101"}),
        ("IMAGE", {"SeriesInstanceUID": "1.2"}),
        ("IMAGE", {"StudyInstanceUID": "1.2", "InstanceNumber": "7"}),
    ],
)
def test_no_row_is_looked_for_by_its_modality_if_another_key_says_more(
    connection: Connection, level: str, keys: dict[str, Any]
) -> None:
    if connection.dialect.name != "sqlite":
        pytest.skip("PostgreSQL decides by what is in the table")
    steps = plan(connection, level, Modality="CT", **keys)
    assert [step for step in steps if "(modality=?)" in step] == []


def test_rows_are_looked_for_by_their_modality_if_nothing_else_is_asked_for(
    connection: Connection,
) -> None:
    assert any("modality" in step for step in plan(connection, "SERIES", Modality="CT"))


def test_a_plan_that_reads_a_whole_table_is_recognised(connection: Connection) -> None:
    assert "SCAN study" in plan(connection, "STUDY", Occupation="Baker")


@pytest.mark.parametrize("fuzzy", [False, True])
@pytest.mark.parametrize("pattern", ["Sm?th^John", "S*^John"])
def test_the_database_compares_a_whole_name_and_not_only_its_begin(
    connection: Connection, pattern: str, fuzzy: bool
) -> None:
    for number in range(20):
        name = "Smith^John" if number == 7 else f"Smith^Jane{number}"
        patient = add(connection, Level.PATIENT, PatientID=f"P{number}", PatientName=name)
        add(connection, Level.STUDY, patient, StudyInstanceUID=f"1.{number}")
    keys = identifier("STUDY", StudyInstanceUID="", PatientName=pattern)
    query = parse_query(keys, Model.STUDY_ROOT, relational=True, fuzzy_names=fuzzy)

    rows = connection.execute(build(query, connection.dialect.name).statement).all()

    assert len(rows) == 1, "the others must not be left to a test in Python"


def test_tables_above_are_joined_only_when_a_key_needs_them(connection: Connection) -> None:
    steps = plan(connection, "SERIES", Modality="CT")
    assert len(steps) == 1


def test_signs_of_the_database_in_a_wildcard_key_stand_for_themselves(
    connection: Connection,
) -> None:
    patient = add(connection, Level.PATIENT, PatientID="P")
    texts = {"1.1": "a%b_c!", "1.2": "axxb_c!", "1.3": "a%bxc!", "1.4": "a[x]b"}
    for uid, described in texts.items():
        add(connection, Level.STUDY, patient, StudyInstanceUID=uid, StudyDescription=described)
    assert study_uids(connection, StudyDescription="a%b_?!*") == ["1.1"]
    assert study_uids(connection, StudyDescription="a[x]?") == ["1.4"]
