"""Names in every multi-byte character set: the examples of PS3.5 annexes H, I, J and K."""

from __future__ import annotations

import pytest

from lfscp.dicom.values.charset import codecs_of, decode, encoder

# Specific Character Set, the bytes as in the standard, what they say.
EXAMPLES = {
    "H.3.1": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    "H.3.2": (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J="
        b"\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "I.2": (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7="
        b"\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "J.1": (
        "ISO_IR 192",
        b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=",
        "Wang^XiaoDong=王^小東=",
    ),
    "J.3": (
        "GB18030",
        b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=",
        "Wang^XiaoDong=王^小东=",
    ),
    "K.2": (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    # Not in the standard: a kanji of JIS X 0212, and both Japanese sets in one component.
    "JIS X 0212": (
        "\\ISO 2022 IR 87\\ISO 2022 IR 159",
        b"\x1b$(D0!\x1b(B^\x1b$B;3\x1b$(D0!\x1b(B",
        "丂^山丂",
    ),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_names_lose_their_escape_sequences_and_nothing_else(example: str) -> None:
    character_set, raw, name = EXAMPLES[example]
    assert decode(raw, codecs_of(character_set)) == name


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_is_encoded_for_a_response_reads_the_same(example: str) -> None:
    character_set, _, name = EXAMPLES[example]
    answered, encode = encoder(character_set)
    assert answered == character_set
    assert decode(encode(name), codecs_of(character_set)) == name


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        ("ISO_IR 13", "¥"),  # would be read as a backslash
        ("ISO_IR 13", "ﾔ‾"),  # as a tilde
        ("ISO 2022 IR 13\\ISO 2022 IR 87", "¥"),
        ("\\ISO 2022 IR 149", "\u3164"),
    ],
)
def test_what_would_be_read_as_something_else_is_not_encoded(character_set: str, text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        encoder(character_set)[1](text)


@pytest.mark.parametrize("example", ["H.3.1", "H.3.2", "I.2", "J.1", "J.3", "K.2"])
def test_encoded_names_are_those_of_the_standard(example: str) -> None:
    character_set, raw, name = EXAMPLES[example]
    assert encoder(character_set)[1](name) == raw


def test_chinese_and_ascii_take_turns_in_running_text() -> None:
    """PS3.5 section K.3: the escape sequence stands again in each line."""
    raw = b"1. \x1b$)A\xb5\xda\xd2\xbb\xd0\xd0 one.\r\n2. \x1b$)A\xb5\xda\xb6\xfe\xd0\xd0"
    assert decode(raw, codecs_of("\\ISO 2022 IR 58")) == "1. 第一行 one.\r\n2. 第二行"
