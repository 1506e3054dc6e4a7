"""Accept as clients write it: quoted or not, with qualities, in the header and in the query."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from lfscp.web.dicomweb.accept import MediaRange, Wanted, media_ranges, wanted_forms
from lfscp.web.problems import Problem

J2K = "1.2.840.10008.1.2.4.90"


def asked(*lines: str, query: str = "") -> list[Wanted]:
    headers = [(b"accept", line.encode()) for line in lines]
    scope = {"type": "http", "headers": headers, "query_string": query.encode()}
    return wanted_forms(Request(scope))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image/png", MediaRange("image/png")),
        (" Image/PNG ; Q=0.5", MediaRange("image/png", {}, 0.5)),
        ("*/*;q=0", MediaRange("*/*", {}, 0.0)),
        (
            'multipart/related; type="application/octet-stream"; transfer-syntax="*"',
            MediaRange(
                "multipart/related", {"type": "application/octet-stream", "transfer-syntax": "*"}
            ),
        ),
        (
            f"multipart/related;type=image/jp2;transfer-syntax={J2K}",
            MediaRange("multipart/related", {"type": "image/jp2", "transfer-syntax": J2K}),
        ),
        ("a/b; x=", MediaRange("a/b", {"x": ""})),
        ("a/b; x", MediaRange("a/b", {"x": ""})),
        ("a/b;", MediaRange("a/b")),
        (r'a/b; x="1\"2,;3"', MediaRange("a/b", {"x": '1"2,;3'})),
    ],
)
def test_one_media_range_is_read(text, expected):
    assert media_ranges(text) == [expected]


@pytest.mark.parametrize("text", ["image", "image/", "/png", 'a/b; x="1', "a/b; q=2", "a/b; q=x"])
def test_what_is_no_media_range_is_a_bad_request(text):
    with pytest.raises(Problem) as refused:
        media_ranges(text)

    assert refused.value.status == 400


def test_a_list_of_any_length_is_a_bad_request():
    with pytest.raises(Problem):
        media_ranges(",".join(["a/b"] * 1000))


@given(st.text(alphabet='ab/*;=,"\\ \t1.', max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(Problem):
        assert all(0 <= each.quality <= 1 for each in media_ranges(text))


def test_the_best_comes_first_and_what_is_exact_before_what_has_wildcards():
    found = asked("image/gif;q=0.1, */*;q=0.8, image/png", "image/jpeg;q=0.8, application/pdf;q=0")

    assert [each.media_type for each in found] == ["image/png", "image/jpeg", "*/*", "image/gif"]


def test_the_query_goes_before_the_header():
    found = asked("image/png", query="accept=image/jpeg&accept=application/dicom%2Bjson")

    assert [each.media_type for each in found] == [
        "image/jpeg",
        "application/dicom+json",
        "image/png",
    ]


def test_a_plus_sign_in_the_query_that_became_a_space_is_one_again():
    assert asked(query="accept=application/dicom+json")[0].media_type == "application/dicom+json"


def test_a_silent_client_takes_anything():
    assert asked() == [Wanted("*/*")]


def test_multipart_is_read_by_the_type_of_its_parts():
    assert asked('multipart/related; type="image/*"; transfer-syntax=*', "image/jp2") == [
        Wanted("image/*", "*", is_multipart=True),
        Wanted("image/jp2", is_multipart=False),
    ]


@pytest.mark.parametrize(
    ("wanted", "media_type", "expected"),
    [
        ("*/*", "image/jp2", True),
        ("image/*", "image/jp2", True),
        ("image/jp2", "image/jp2", True),
        ("image/jpeg", "image/jp2", False),
        ("image/*", "video/mp4", False),
    ],
)
def test_wildcards_take_what_they_include(wanted, media_type, expected):
    assert Wanted(wanted).takes(media_type) is expected
