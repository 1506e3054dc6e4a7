"""Values of answers on the page: each as the peer sent it, whatever its VR."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import StrictUndefined
from markupsafe import Markup
from pydicom.dataset import Dataset

from lfscp.scu.identifiers import plain
from lfscp.web.pages.templating import name, templates, text, values


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


@pytest.mark.parametrize(
    ("received", "shown"),
    [
        ("\x1b[31mDOE", "\ufffd[31mDOE"),
        ("a\x00b\x9bc", "a\ufffdb\ufffdc"),
        ("\u202eEOD\u202c \u2066x\u2069", "\ufffdEOD\ufffd \ufffdx\ufffd"),
        ("one\ttwo\r\nthree", "one\ttwo\r\nthree"),
        (
            "\u05d3\u05d5\u200f \u0639",
            "\u05d3\u05d5\u200f \u0639",
        ),  # as they are
        ("<b>\x1b", "&lt;b&gt;\ufffd"),
        (Markup("<b>\n\x1b</b>"), "<b>\n\ufffd</b>"),
        (7, "7"),
    ],
)
def test_no_value_changes_the_text_around_it(tmp_path: Path, received: object, shown: str) -> None:
    (tmp_path / "page.html").write_text(
        "{% macro one(value) %}({{ value }}){% endmacro %}{{ one(value) }}"
    )
    page = templates(tmp_path).env.get_template("page.html")
    assert page.render(value=received) == f"({shown})"
