"""Matching in the index against a plain reference written here, on rows and keys made up."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from sqlalchemy import Connection

from lfscp.archive.query.query import Model
from lfscp.dicom.values.attributes import Level
from tests.support.index_rows import add, answers

Row = dict[str, Any]


# ---- the reference: PS3.4 section C.2.2.2 written down plainly, one row and one key at a time


def fits(pattern: str, text: str) -> bool:
    """Wildcards by trying every way."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(fits(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and fits(pattern[1:], text[1:])


def text_answers(key: str, stored: str) -> bool:
    return stored != "" and fits(key, stored)


def folded(group: str) -> str:
    return group.casefold().rstrip("^ ")


def lowered(group: str) -> str:
    return group.lower().rstrip("^ ")


def name_answers(key: str, stored: str) -> bool:
    """A group fits when it does with some number of empty components written out after it.

    Of a letter that folding makes two, a question mark takes both: as it was written.
    """
    return any(
        fits(form(key), form(group) + "^" * more if more else form(group))
        for form in (folded, lowered)
        for group in stored.split("=")
        if form(group)
        for more in ((0, 1) if form(key).endswith("^*") else (0,))
    )


def date_answers(key: str, stored: str) -> bool:
    low, high = key.split("-") if "-" in key else (key, key)
    return stored != "" and int(low or 0) <= int(stored) <= int(high or 99999999)


def time_us(text: str) -> tuple[int, int]:
    """The first and the last microsecond of a time of any precision."""
    clock, _, fraction = text.partition(".")
    first = int(clock.ljust(6, "0")) * 10**6 + int(fraction.ljust(6, "0") or 0)
    last = int(clock.ljust(6, "9")) * 10**6 + int(fraction.ljust(6, "9"))
    return first, last


def time_answers(key: str, stored: str) -> bool:
    low, high = key.split("-") if "-" in key else (key, key)
    if not stored:
        return False
    first = time_us(stored)[0]
    return (not low or time_us(low)[0] <= first) and (not high or first <= time_us(high)[1])


def any_of(answer: Any) -> Any:
    """Several stored values, several wanted: one pair that fits is enough."""
    return lambda key, stored: any(
        answer(one, value) for one in key.split("\\") for value in stored.split("\\")
    )


def number_answers(key: str, stored: str) -> bool:
    return stored != "" and float(key) == float(stored)


REFERENCE: dict[str, Any] = {
    "PatientID": text_answers,
    "OtherPatientIDs": any_of(text_answers),
    "PatientName": name_answers,
    "OtherPatientNames": any_of(name_answers),
    "StudyDate": date_answers,
    "StudyTime": time_answers,
    "StudyDescription": text_answers,
    "StudyInstanceUID": any_of(text_answers),
    "PatientWeight": number_answers,
    "SeriesNumber": number_answers,
    "Modality": any_of(text_answers),
}


def asks_for_nothing(keyword: str, key: str) -> bool:
    """Universal matching; a name of empty components and asterisks is one."""
    return not key.strip("*^" if "Name" in keyword else "*\\")


def expected(rows: list[Row], keys: dict[str, str]) -> set[str]:
    return {
        row["SeriesInstanceUID"]
        for row in rows
        if all(
            asks_for_nothing(keyword, key) or REFERENCE[keyword](key, row[keyword])
            for keyword, key in keys.items()
        )
    }


# ---- what rows and keys are made of: few signs, so that they meet often


def some(signs: str, most: int) -> st.SearchStrategy[str]:
    return st.text(signs, max_size=most)


names = st.builds(
    lambda groups: "=".join(groups).rstrip("="),
    st.lists(some("aAbÄß^", 5), min_size=1, max_size=3),
)
dates = st.sampled_from(["", "20191231", "20200101", "20200102", "20201231"])
times = st.sampled_from(
    ["", "10", "1030", "103000", "103000.5", "103000.500", "103059.999999", "235959"]
)
ids = some("aA[%_!b", 3)
texts = some("aA[]%_!b", 4)


def joined(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map("\\".join)


rows_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "PatientID": ids,
            "OtherPatientIDs": joined(ids),
            "PatientName": names,
            "OtherPatientNames": joined(names),
            "StudyDate": dates,
            "StudyTime": times,
            "StudyDescription": texts,
            "PatientWeight": st.sampled_from(["", "70", "70.0", "7e1", "70.5"]),
            "SeriesNumber": st.sampled_from(["", "1", "01", "+1", "-1", "10"]),
            "Modality": st.sampled_from(["", "CT", "MR", "ct"]),
        }
    ),
    min_size=1,
    max_size=8,
)


def ranges(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    some_value = values.filter(bool)
    return st.one_of(
        st.just(""),
        some_value,
        some_value.map(lambda value: value + "-"),
        some_value.map(lambda value: "-" + value),
        st.builds(lambda low, high: f"{low}-{high}", some_value, some_value),
    )


keys_strategy = st.fixed_dictionaries(
    {},
    optional={
        "PatientID": some("aA[%_!b*?", 4),
        "OtherPatientIDs": some("aA[%_!b*?", 3),
        "PatientName": some("aAbÄß^*?", 6),
        "OtherPatientNames": some("aAbÄß^*?", 4),
        "StudyDate": ranges(dates),
        "StudyTime": ranges(times),
        "StudyDescription": some("aA[]%_!b*?", 4),
        "StudyInstanceUID": st.lists(
            st.sampled_from(["1.2.0", "1.2.1", "1.2.2", "9"]), max_size=3
        ).map("\\".join),
        "PatientWeight": st.sampled_from(["", "70", "70.50", "0.7e2"]),
        "SeriesNumber": st.sampled_from(["", "1", "001", "-1", "2"]),
        "Modality": st.sampled_from(["", "CT", "CT\\MR", "?T", "*", "M*\\ct"]),
    },
)


def fill(connection: Connection, rows: list[Row]) -> None:
    connection.rollback()  # when the last example failed
    for number, row in enumerate(rows):
        row["StudyInstanceUID"] = f"1.2.{number}"
        row["SeriesInstanceUID"] = f"1.2.{number}.1"
        of_patient = ("PatientID", "OtherPatientIDs", "PatientName", "OtherPatientNames")
        of_series = ("SeriesInstanceUID", "SeriesNumber", "Modality")
        # The issuer keeps patients apart whose Patient IDs are the same.
        issuer = {"IssuerOfPatientID": str(number)}
        patient = add(connection, Level.PATIENT, **{k: row[k] for k in of_patient}, **issuer)
        of_study = row.keys() - set(of_patient) - set(of_series)
        study = add(connection, Level.STUDY, patient, **{k: row[k] for k in of_study})
        add(connection, Level.SERIES, study, **{k: row[k] for k in of_series})


def encoded(keys: dict[str, str]) -> Dataset:
    """The identifier as it comes from the wire: pydicom has not looked at its values."""
    elements = {0x00080005: b"ISO_IR 192", 0x00080052: b"SERIES", 0x0020000E: b""}
    elements |= {tag_for_keyword(keyword): key.encode() for keyword, key in keys.items()}
    data = b"".join(
        pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) + len(value) % 2)
        + value
        + b" " * (len(value) % 2)
        for tag, value in sorted(elements.items())
    )
    return read_dataset(BytesIO(data), is_implicit_VR=True, is_little_endian=True)


def uids(found: list[bytes]) -> list[str]:
    datasets = [read_dataset(BytesIO(data), True, True) for data in found]
    return [str(dataset.SeriesInstanceUID) for dataset in datasets]


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(rows=rows_strategy, keys=keys_strategy)
def test_the_index_finds_what_the_reference_finds(
    connection: Connection, rows: list[Row], keys: dict[str, str]
) -> None:
    """Every kind of matching at once, over three tables, relational as no parent is named."""
    fill(connection, rows)
    found = uids(answers(connection, encoded(keys), Model.PATIENT_ROOT, relational=True))
    assert len(found) == len(set(found))
    assert set(found) == expected(rows, keys)
    connection.rollback()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    rows=rows_strategy,
    dates_key=ranges(dates).filter(bool),
    times_key=ranges(times).filter(bool),
)
def test_combined_date_and_time_bound_one_span(
    connection: Connection, rows: list[Row], dates_key: str, times_key: str
) -> None:
    """Combined matching compares day and time together; a boundary day needs its time."""
    fill(connection, rows)
    keys = {"StudyDate": dates_key, "StudyTime": times_key}
    found = uids(
        answers(
            connection,
            encoded(keys),
            Model.PATIENT_ROOT,
            relational=True,
            combined_date_time=True,
        )
    )
    low_day, high_day = dates_key.split("-") if "-" in dates_key else (dates_key, dates_key)
    low_time, high_time = times_key.split("-") if "-" in times_key else (times_key, times_key)

    def inside(row: Row) -> bool:
        day, time = row["StudyDate"], row["StudyTime"]
        if not date_answers(dates_key, day):
            return False
        if day == low_day and not time_answers(low_time + "-" if low_time else "0-", time):
            return bool(low_time == "" and time)
        return day != high_day or (time_answers("-" + high_time, time) if high_time else time != "")

    assert set(found) == {row["SeriesInstanceUID"] for row in rows if inside(row)}
    connection.rollback()


def test_the_reference_itself_tells_apart() -> None:
    """The reference is not simply true or false."""
    assert name_answers("A^*", "a")
    assert name_answers("b*", "a^x=B^y")
    assert not name_answers("a", "a^b")
    assert name_answers("A?", "aß")
    assert not name_answers("a?", "ass")
    assert not date_answers("-20200101", "")
    assert time_answers("1030", "103059.5")
    assert not time_answers("103001-", "1030")


@pytest.fixture(autouse=True)
def _nothing_left(connection: Connection) -> Iterator[None]:
    yield
    connection.rollback()
