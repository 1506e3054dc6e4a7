"""HL7 messages are read in every character set, with every separator, and hostile ones refused."""

from __future__ import annotations

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfscp.hl7.errors import MessageError
from lfscp.hl7.message import Message, read_message
from tests.support.hl7_messages import header, message


def name_in(data: bytes, default: str = "UNICODE UTF-8") -> str:
    """PID-5.1 of a message."""
    return read_message(data, default).named("PID")[0].field(5).component(1).text()


def test_fields_components_and_subcomponents_are_found_by_their_numbers():
    read = read_message(message(header("ORM^O01"), "PID|1||47^^^HOSP&1.2.3&ISO~48|X"))
    assert read.header.field(1).text() == "|"
    assert read.header.field(2).raw == "^~\\&"
    assert read.header.field(9).component(2).text() == "O01"
    patient = read.named("PID")[0]
    assert [each.text() for each in patient.field(3).repetitions()] == ["47", "48"]
    first = patient.field(3).repetitions()[0]
    assert first.component(4).subcomponent(2).text() == "1.2.3"
    assert patient.field(30).text() == ""
    assert not patient.field(3).component(9)


def test_a_sender_may_choose_its_separators():
    read = read_message(b"MSH#*+!%#A#B#######1#P#2.3\rPID###1*2%3+4#a!S!b!T!c!F!d!R!e!E!f\r")
    patient = read.named("PID")[0]
    assert [each.component(1).text() for each in patient.field(3).repetitions()] == ["1", "4"]
    assert patient.field(3).component(2).subcomponent(2).text() == "3"
    assert patient.field(4).text() == "a*b%c#d+e!f"


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        (r"Tom \T\ Jerry", "Tom & Jerry"),
        (r"a\X41\b", "aAb"),
        (r"\XC3BC\ber", "über"),
        (r"\XFC\ber", "über"),  # not UTF-8, though the message is
        (r"one\.br\two", "one\ntwo"),
        (r"\H\bold\N\ text", "bold text"),
        (r"\.sp99999999999\x", "\\.sp99999999999\\x"),  # no escape sequence; must not grow
        (r"C:\temp\x", r"C:\temp\x"),
        (r"\Zabc\x", "x"),
        ('""', ""),
        ("tab\there", "tabhere"),
    ],
)
def test_escape_sequences(raw, meant):
    read = read_message(message(header("ORM^O01"), f"NTE|1||{raw}"))
    assert read.named("NTE")[0].field(3).whole() == meant


@pytest.mark.parametrize(
    ("named", "codec"),
    [
        ("UNICODE UTF-8", "utf-8"),
        ("8859/1", "latin-1"),
        ("ISO 8859-1", "latin-1"),
        ("8859/15", "iso8859-15"),
        ("ISO_IR 100", "latin-1"),
        ("ASCII", "utf-8"),
        ("", "latin-1"),
        ("", "utf-8"),
    ],
)
def test_names_come_out_of_their_character_set(named, codec):
    text = header("ORM^O01", charset=named)
    assert name_in(message(text, "PID|1||1||Müller^Jörg", charset=codec)) == "Müller"


@pytest.mark.parametrize(
    ("named", "codec", "name"),
    [
        ("8859/2", "iso8859-2", "Dvořák"),
        ("8859/5", "iso8859-5", "Люкceмбypг"),  # noqa: RUF001
        ("8859/7", "iso8859-7", "Διονυσιος"),
        ("GB 18030-2000", "gb18030", "王小东"),
        ("KS X 1001", "euc-kr", "김희중"),
        ("BIG-5", "big5", "許功蓋"),  # its second bytes look like separators
        ("~ISO IR87", "iso2022_jp", "山田"),
        ("ASCII~ISO IR87", "iso2022_jp", "山田"),
        ("ISO IR6~ISO IR87", "iso2022_jp", "山田"),
    ],
)
def test_other_scripts(named, codec, name):
    text = header("ORM^O01", charset=named)
    assert name_in(message(text, f"PID|1||1||{name}^X", charset=codec)) == name


def test_katakana_of_a_byte_each_and_kanji_in_one_name():
    data = message(header("ORM^O01", charset="ISO IR14~ISO IR87"), "PID|1||1||")
    name = "ﾔﾏﾀﾞ".encode("shift_jis") + b"^" + "山田".encode("iso2022_jp")
    read = read_message(data.rstrip(b"\r") + name + b"\r").named("PID")[0].field(5)
    assert (read.component(1).text(), read.component(2).text()) == ("ﾔﾏﾀﾞ", "山田")


@pytest.mark.parametrize(
    ("named", "raw", "default"),
    [
        ("8859/99", b"M\xfcller", "UNICODE UTF-8"),
        ("UNICODE UTF-8", b"M\xfcller", "UNICODE UTF-8"),
        ("", b"\x81\xff", "BIG-5"),
        ("~ISO IR87", b"\x1b$B\x99\x99\x1b(B", "UNICODE UTF-8"),
    ],
)
def test_text_that_cannot_be_read_for_sure_is_an_error(named, raw, default):
    data = message(header("ORM^O01", charset=named), "PID|1||1||").rstrip(b"\r") + raw
    with pytest.raises(MessageError) as refused:
        read_message(data, default)
    assert (refused.value.answer, str(refused.value.place)) == ("AE", "MSH-18")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MSH",
        b"MSH|",
        b"MSH||||",
        b"MSH|^^^^|A",
        b"MSHA^~\\&A",
        b"PID|1",
        b"\xff\xfeM\0S\0H\0",
        b"MSH|^~\\&|A\r" * 6000,
        b"MSH| ~\\&|A",
    ],
)
def test_what_is_no_message_is_rejected(data):
    with pytest.raises(MessageError) as refused:
        read_message(data)
    assert refused.value.answer == "AR"


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data):
    for each in (data, b"MSH|^~\\&|" + data, message(header("ORM^O01")) + data):
        try:
            read = read_message(each)
        except MessageError:
            continue
        for part in read.segments:
            part.field(3).repetitions()
            part.field(5).component(2).subcomponent(2).text()
            part.field(5).whole()


PLAIN = st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='|^~\\&"')
TEXT = st.text(PLAIN, max_size=5)
FIELD = st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=3)


@given(st.lists(FIELD, max_size=5))
def test_fields_are_split_as_the_library_hl7_splits_them(fields):
    written = "|".join("~".join("^".join(each) for each in field) for field in fields)
    text = f"MSH|^~\\&|A\rZZZ|{written}|end"
    theirs, ours = hl7.parse(text)[1], Message(text).named("ZZZ")[0]
    for number, _ in enumerate(fields, 1):
        assert str(theirs[number]) == ours.field(number).raw
        assert str(theirs.extract_field(1, number)).strip() == ours.field(number).text()


def test_a_message_of_separators_costs_little():
    read = read_message(b"MSH|^~\\&|A\rPID|" + b"|" * 1_000_000)
    assert len(read.named("PID")[0]._fields) <= 201
    read = read_message(b"MSH|^~\\&|A\rPID|" + b"^" * 1_000_000)
    assert read.named("PID")[0].field(1).component(3).text() == ""
