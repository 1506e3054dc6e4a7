"""Status codes: what counts as a warning, and what a comment may hold."""

from __future__ import annotations

import pytest

from lfscp.services import status


@pytest.mark.parametrize("code", [0xB000, 0xB006, 0xB007, 0xBFFF, 0x0001, 0x0107, 0x0111, 0x0116])
def test_stored_with_a_remark_is_a_warning(code: int) -> None:
    assert status.is_store_warning(code)


@pytest.mark.parametrize("code", [0x0000, 0x0110, 0x0117, 0x0122, 0x0124, 0xA700, 0xA900, 0xC000])
def test_success_and_failures_are_no_warnings(code: int) -> None:
    assert not status.is_store_warning(code)


@pytest.mark.parametrize("code", [0x0000, 0x0001, 0x0107, 0x0116, 0xB000, 0xBFFF])
def test_what_is_done_with_a_remark_is_done(code: int) -> None:
    assert status.is_success(code)
    assert status.is_warning(code) == (code != 0)


@pytest.mark.parametrize("code", [0x0110, 0x0111, 0x0112, 0xA700, 0xC000, 0xFE00, 0xFF00])
def test_what_is_not_done_is_no_success(code: int) -> None:
    assert not status.is_success(code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("disk full", "disk full"),
        ("a\nb\tc", "a b c"),
        ("path\\to", "path/to"),  # a backslash would make two values of it
        ("Müller", "M?ller"),
        ("x" * 65, "x" * 61 + "..."),
        ("x" * 64, "x" * 64),
    ],
)
def test_error_comment_is_one_short_line_of_ascii(text: str, expected: str) -> None:
    assert status.error_comment(text) == expected


def test_reason_and_offending_elements_are_in_the_response() -> None:
    response = status.with_reason(status.IDENTIFIER_DOES_NOT_MATCH, "level", (0x00080052,))

    assert response.Status == 0xA900
    assert response.ErrorComment == "level"
    assert response.OffendingElement == 0x00080052


def test_no_offending_element_is_sent_when_none_is_to_blame() -> None:
    assert "OffendingElement" not in status.with_reason(status.OUT_OF_RESOURCES, "disk full")
