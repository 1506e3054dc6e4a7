"""Values of answers on the page: each as the peer sent it, whatever its VR."""

from __future__ import annotations

import pytest
from jinja2 import StrictUndefined
from pydicom.dataset import Dataset

from lfscp.scu.identifiers import plain
from lfscp.web.pages.templating import name, text, values


@pytest.mark.parametrize(
    ("keyword", "value", "shown", "each"),
    [
        ("StudyComments", "a\\\\b\\", "a\\\\b\\", ["a\\\\b\\"]),  # LT
        ("DerivationDescription", "C:\\temp", "C:\\temp", ["C:\\temp"]),  # ST
        ("TextValue", "\\one\\", "\\one\\", ["\\one\\"]),  # UT
        ("ModalitiesInStudy", ["CT", "MR"], "CT\\MR", ["CT", "MR"]),
        ("OtherPatientIDs", ["A", "", "B"], "A\\\\B", ["A", "B"]),
        ("StudyDescription", "Thorax", "Thorax", ["Thorax"]),
        ("NumberOfStudyRelatedInstances", 0, "0", ["0"]),
        ("StudyDescription", None, "", []),
    ],
)
def test_a_value_is_shown_as_it_was_received(
    keyword: str, value: object, shown: str, each: list[str]
) -> None:
    answer = Dataset()
    setattr(answer, keyword, value)
    received = plain(answer)[keyword]
    assert text(received) == shown
    assert values(received) == each


def test_what_is_absent_is_empty() -> None:
    for absent in (None, StrictUndefined()):
        assert text(absent) == ""
        assert values(absent) == []


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("DOE^JANE^^DR", "DOE, JANE DR"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田 太郎, やまだ たろう)"),
        ("=山田^太郎=", "山田 太郎"),
        ("Wang^XiaoDong==", "Wang, XiaoDong"),
        ("Doe^Jane\\Roe^Jane", "Doe, Jane; Roe, Jane"),
        ("", ""),
        ("^^=", ""),
    ],
)
def test_a_name_is_shown_with_all_its_groups(stored: str, shown: str) -> None:
    assert name(stored) == shown
