"""Worklist queries give what a plain reading of PS3.4 K.6.1.2 gives, on both databases."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.item import ACCESSION_NUMBER, STEP_ID, STEPS
from lfscp.archive.workflow.worklist.query import parse_worklist_query
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.models.element_tree import read_tree
from tests.support.element_trees import tree_of
from tests.support.worklist_items import clear

Values = dict[str, Any]
Items = list[tuple[Values, list[Values]]]

DATES = ("20261130", "20261201", "20261202", "20270101")
TIMES = ("0800", "1000", "100000.5", "12", "235959")
NAMES = ("Doe^Jane", "DOE^John", "Dorn", "Müller^Jörg", "Yamada^Tarou=山田^太郎", "Straße^An")
STATIONS = ("CT01", "CT02", "CT01\\CT02", "MR01", "MR01\\US")
STATUSES = ("SCHEDULED", "ARRIVED", "STARTED", "COMPLETED", "DISCONTINUED")

STEP_VALUES: dict[str, tuple[str, ...]] = {
    "ScheduledStationAETitle": STATIONS,
    "ScheduledProcedureStepStartDate": DATES,
    "ScheduledProcedureStepStartTime": TIMES,
    "Modality": ("CT", "MR", "US"),
    "ScheduledPerformingPhysicianName": ("", *NAMES),
    "ScheduledProcedureStepStatus": STATUSES,
    "ScheduledProcedureStepLocation": ("", "Room 1", "Room 2"),
}
ITEM_VALUES: dict[str, tuple[str, ...]] = {
    "PatientName": NAMES,
    "PatientID": ("P1", "P2", "p1", "P[1]"),
    "RequestedProcedureID": ("R1", "R2"),
    "StudyInstanceUID": ("1.2.3", "1.2.4", "1.2.30"),
    "PatientBirthDate": ("", *DATES),
    "AdmissionID": ("", "V1", "V2"),
}


def ranges(values: tuple[str, ...]) -> st.SearchStrategy[str]:
    ends = st.tuples(st.sampled_from(("", *values)), st.sampled_from(("", *values)))
    return ends.filter(any).map("-".join)


def patterns(values: tuple[str, ...]) -> st.SearchStrategy[str]:
    """A value with some of its characters replaced by wildcards."""

    @st.composite
    def pattern(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from([value for value in values if value]))
        begin = draw(st.integers(0, len(text)))
        end = draw(st.integers(begin, len(text)))
        return text[:begin] + draw(st.sampled_from(("*", "?"))) + text[end:]

    return pattern()


def key_of(keyword: str, known: tuple[str, ...]) -> st.SearchStrategy[str]:
    """A key that asks for nothing, for one value, for a range or for a pattern."""
    values = tuple(filter(None, known))
    asked = [st.just(""), st.sampled_from(values), st.sampled_from(values)]
    if keyword.endswith(("Date", "Time")):
        asked.append(ranges(values))
    elif keyword == "StudyInstanceUID":
        asked.append(st.just("1.2.3\\1.2.4"))
    else:
        asked.append(patterns(values))
    if keyword == "ScheduledStationAETitle":
        asked.append(st.just("CT02\\MR01"))
    return st.one_of(*asked)


def keys_of(values: dict[str, tuple[str, ...]]) -> st.SearchStrategy[Values]:
    """Few keys, so that some queries find something."""
    chosen = st.lists(st.sampled_from(sorted(values)), max_size=2, unique=True)
    return chosen.flatmap(
        lambda keywords: st.fixed_dictionaries({k: key_of(k, values[k]) for k in keywords})
    )


def periods() -> st.SearchStrategy[Values]:
    """Both a date and a time, which two ranges make one span of time."""
    date, time = (f"ScheduledProcedureStepStart{which}" for which in ("Date", "Time"))
    return st.fixed_dictionaries({date: ranges(DATES), time: ranges(TIMES)})


def some_items() -> st.SearchStrategy[Items]:
    step = st.fixed_dictionaries({k: st.sampled_from(v) for k, v in STEP_VALUES.items()})
    item = st.fixed_dictionaries({k: st.sampled_from(v) for k, v in ITEM_VALUES.items()})
    return st.lists(st.tuples(item, st.lists(step, min_size=1, max_size=3)), max_size=4)


# The reference


def fits_text(key: str, stored: str) -> bool:
    return fnmatchcase(stored, key.replace("[", "[[]"))


def fits_name(key: str, stored: str) -> bool:
    """Case does not count; `Doe^*` is also `Doe`; any group of the name may be meant."""
    forms = (str.casefold, str.lower)  # ß is ss, and one character for a question mark
    if "=" in key:
        wanted, groups = key.split("="), stored.split("=")
        groups += [""] * (len(wanted) - len(groups))
        return all(not w or fits_name(w, g) for w, g in zip(wanted, groups, strict=False))
    return any(
        fits_text(form(pattern), form(group))
        for form in forms
        for group in stored.split("=")
        for pattern in ({key, key[:-2].rstrip("^")} if key.endswith("^*") else {key})
        if group
    )


def seconds(time: str) -> float:
    return int(time[:2]) * 3600 + int(time[2:4] or 0) * 60 + float(time[4:] or 0)


def last_second(time: str) -> float:
    """The end of an hour, minute or part of a second that is all that is said."""
    length = {2: 3600.0, 4: 60.0, 6: 1.0}.get(len(time), 0.1)
    return seconds(time) + length - 0.000001


def ends(key: str) -> tuple[str, str]:
    low, _, high = key.partition("-")
    return (low, high) if "-" in key else (key, key)


def fits_date(key: str, stored: str) -> bool:
    low, high = ends(key)
    return low <= stored <= (high or "9")


def fits_time(key: str, stored: str) -> bool:
    low, high = ends(key)
    after = not low or seconds(low) <= seconds(stored)
    return after and (not high or seconds(stored) <= last_second(high))


def fits_one(keyword: str, key: str, stored: str) -> bool:
    if keyword.endswith("Name"):
        return fits_name(key, stored)
    if keyword.endswith("Date"):
        return fits_date(key, stored)
    if keyword.endswith("Time"):
        return fits_time(key, stored)
    return fits_text(key, stored)


def fits(keyword: str, key: str, stored: str) -> bool:
    if not key.strip("*"):
        return True
    return any(
        value != "" and fits_one(keyword, one, value)
        for one in key.split("\\")
        for value in stored.split("\\")
    )


def fits_step(keys: Values, step: Values) -> bool:
    date, time = (f"ScheduledProcedureStepStart{which}" for which in ("Date", "Time"))
    status = "ScheduledProcedureStepStatus"
    if not keys.get(status, "").strip("*") and step[status] in STATUSES[-2:]:
        return False
    if "-" in keys.get(date, "") and "-" in keys.get(time, ""):
        (first, last), (begin, end) = ends(keys[date]), ends(keys[time])
        start = (step[date], seconds(step[time]))
        earliest = (first, seconds(begin) if begin else 0.0)
        latest = (last or "9", last_second(end) if end else 86400.0)
        if not earliest <= start <= latest:
            return False
        keys = {keyword: key for keyword, key in keys.items() if keyword not in (date, time)}
    return all(fits(keyword, key, step[keyword]) for keyword, key in keys.items())


def expected(items: Items, keys: Values, step_keys: Values) -> dict[str, list[str]]:
    """The steps that are answered of each item, by their numbers."""
    answers = {}
    for number, (item, steps) in enumerate(items):
        fitting = [str(at) for at, step in enumerate(steps) if fits_step(step_keys, step)]
        if fitting and all(fits(keyword, key, item[keyword]) for keyword, key in keys.items()):
            answers[str(number)] = fitting
    return answers


# What is tested


def dataset(values: Values) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def item_of(number: int, values: Values, steps: list[Values]) -> Dataset:
    item = dataset({"SpecificCharacterSet": "ISO_IR 192", **values})
    item.AccessionNumber = str(number)
    item.ScheduledProcedureStepSequence = [
        dataset({**step, "ScheduledProcedureStepID": str(at)}) for at, step in enumerate(steps)
    ]
    return item


def found(worklist: Worklist, keys: Values, step_keys: Values) -> dict[str, list[str]]:
    asked = dataset({"SpecificCharacterSet": "ISO_IR 192", **keys})
    asked.AccessionNumber = ""
    step = dataset({**step_keys, "ScheduledProcedureStepID": ""})
    asked.ScheduledProcedureStepSequence = [step]
    query = parse_worklist_query(asked)
    answers = {}
    for data in worklist.find(query, transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN):
        answer = read_tree(data, EXPLICIT_VR_LITTLE_ENDIAN)
        assert answer.keys() == tree_of(asked).keys()
        steps = answer.sequence(STEPS)
        assert all(each.keys() == tree_of(step).keys() for each in steps)
        assert answer.text(ACCESSION_NUMBER) not in answers
        answers[answer.text(ACCESSION_NUMBER)] = [each.text(STEP_ID) for each in steps]
    return answers


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of values that only a key may have
def test_a_query_finds_what_the_standard_says(shared_index: Index) -> None:
    worklist = Worklist(shared_index)
    examples = 150 if shared_index.dialect.name == "sqlite" else 40
    of_steps = st.one_of(keys_of(STEP_VALUES), keys_of(STEP_VALUES), periods())
    some_queries = st.lists(st.tuples(keys_of(ITEM_VALUES), of_steps), min_size=1, max_size=8)

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(some_items(), some_queries)
    def check(items: Items, queries: list[tuple[Values, Values]]) -> None:
        trees = [(str(n), tree_of(item_of(n, *item)), "") for n, item in enumerate(items)]
        worklist.put_all("api", trees)
        try:
            for keys, step_keys in queries:
                assert found(worklist, keys, step_keys) == expected(items, keys, step_keys)
        finally:
            clear(worklist)

    check()
