"""Names without case, accents, widths and kinds of kana; in one spelling or two."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfscp.dicom.values.folded_names import MAX_FOLDED, folded_column, folded_forms
from lfscp.dicom.values.person_names import search_form


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("Müller^Jörg", ("muller^jorg", "mueller^joerg")),
        (unicodedata.normalize("NFD", "Müller"), ("muller", "mueller")),
        ("Mueller^Hans", ("mueller^hans",)),
        ("Strauß", ("strauss",)),
        ("Åse^Bjørn", ("ase^bjorn", "aase^bjoern")),
        ("Łukasz^Gżegżółka", ("lukasz^gzegzolka",)),
        ("Nguyễn^Đức", ("nguyen^duc",)),
        ("Παπαδόπουλος", ("παπαδοπουλοσ",)),
        ("Фёдоров", ("федоров",)),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("yamada^tarou=山田^太郎=やまだ^たろう",)),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", ("やまだ^たろう",)),
        ("ヤマダ^ガガ", ("やまだ^がが",)),
        ("Hong^Gildong=洪^吉洞=홍^길동", ("hong^gildong=洪^吉洞=홍^길동",)),
        ("M?ll*^Ä", ("m?ll*^a", "m?ll*^ae")),
        ("＊＾＝", ("＊＾＝",)),  # noqa: RUF001 - full-width signs part no name and ask for nothing
        ("", ("",)),
    ],
)
def test_a_name_is_folded(name: str, forms: tuple[str, ...]) -> None:
    assert folded_forms(name) == forms


def test_the_index_keeps_what_is_not_ascii_up_to_a_length() -> None:
    assert folded_column("DOE^JANE") == ""
    assert folded_column("Müller\\Doe") == "muller\\doe\\mueller\\doe"
    assert len(folded_column("\ufdfa" * 300)) == MAX_FOLDED


NAMES = st.text("aäöüßøﾀﾞダだé*?^=\\ 山", max_size=12)


@given(NAMES)
def test_folding_again_changes_nothing_and_parts_stay(name: str) -> None:
    for form in folded_forms(name):
        assert form in folded_forms(form)
        assert form == search_form(form)
        for sign in "*?":
            assert form.count(sign) == search_form(name).count(sign)
