"""The form in which person names are compared."""

from __future__ import annotations

import pytest

from lfscp.dicom.values.person_names import search_form


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("SMITH^John", "smith^john"),
        ("Smith^John^^^", "smith^john"),
        (" Smith ^ John ", "smith^john"),
        ("Smith\0", "smith"),
        ("MÜLLER^Hans", "müller^hans"),
        ("Mu\u0308ller", "müller"),  # a combining diaeresis is the same letter
        ("WEIẞ", "weiss"),
        ("Weiß", "weiss"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada^tarou=山田^太郎=やまだ^たろう"),
        ("Smith^==", "smith"),
        ("=山田^", "=山田"),
        ("A^B^\\C^", "a^b\\c"),
        ("smi*^?", "smi*^?"),
        ("", ""),
        ("^^", ""),
    ],
)
def test_case_padding_and_empty_ends_do_not_count(name: str, form: str) -> None:
    assert form == search_form(name)


def test_accents_count() -> None:
    assert search_form("Muller") != search_form("Müller")


def test_the_form_of_a_form_is_itself() -> None:
    form = search_form("İSTANBUL^Ǆ= X ^^")
    assert form == search_form(form)
