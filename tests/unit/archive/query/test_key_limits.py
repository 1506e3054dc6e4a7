"""How much an identifier may ask for; what asks for more is refused by the element."""

from __future__ import annotations

from struct import pack

import pytest
from pydicom.dataset import Dataset

from lfscp.archive.query.key_limits import (
    DEFAULT_MAX_VALUES,
    MAX_CHARACTER_SETS,
    MAX_KEYS,
    MAX_SHORT_VALUE_BYTES,
    MAX_VALUE_BYTES,
    PATTERN_VALUES,
    ExcessiveKeyError,
    require_within_limits,
)
from lfscp.archive.query.keys import Texts
from lfscp.archive.query.object_keys import MAX_DEPTH
from lfscp.archive.query.query import InvalidKeyError, Model, parse_query, unique_keys
from lfscp.dicom.reading.identifiers import (
    MAX_ELEMENTS,
    ExcessiveIdentifierError,
    ReceivedIdentifier,
    read_identifier,
)

IMPLICIT = "1.2.840.10008.1.2"
CHARACTER_SET = 0x00080005
LEVEL = 0x00080052
SOP_INSTANCE_UID = 0x00080018
DESCRIPTION = 0x00081030
NAME = 0x00100010
COMMENTS = 0x00104000
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E
SERIES_NUMBER = 0x00200011
REQUESTS = 0x00400275
PRIVATE = 0x00091001
MAX_NAMES = DEFAULT_MAX_VALUES // PATTERN_VALUES


def element(tag: int, value: bytes) -> bytes:
    return pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def asked(keys: dict[int, bytes]) -> ReceivedIdentifier:
    """An identifier as it comes from the network."""
    elements = [
        element(tag, value + b" " * (len(value) % 2)) for tag, value in sorted(keys.items())
    ]
    return read_identifier(b"".join(elements), IMPLICIT)


def joined(value: bytes, times: int) -> bytes:
    return b"\\".join([value] * times)


def item(content: bytes) -> bytes:
    return element(0xFFFEE000, content)


def sequences(depth: int) -> bytes:
    """The value of a sequence that has others in it, the innermost with a key."""
    value = item(element(SERIES_NUMBER, b"7 "))
    for _ in range(depth - 1):
        value = item(element(REQUESTS, value))
    return value


TOO_MUCH = {
    "uids": {SOP_INSTANCE_UID: joined(b"1.2", DEFAULT_MAX_VALUES + 1)},
    "numbers": {SERIES_NUMBER: joined(b"7", DEFAULT_MAX_VALUES + 1)},
    "empty values": {SERIES_NUMBER: b"\\" * DEFAULT_MAX_VALUES},
    "names": {NAME: joined(b"A", MAX_NAMES + 1)},
    "patterns": {DESCRIPTION: joined(b"A*", MAX_NAMES + 1)},
    "question marks": {DESCRIPTION: joined(b"?", MAX_NAMES + 1)},
    "a long text": {DESCRIPTION: b"A" * (MAX_SHORT_VALUE_BYTES + 2)},
    "a long value among short ones": {
        DESCRIPTION: b"A\\" + b"B" * (MAX_SHORT_VALUE_BYTES + 2) + b"\\C"
    },
    "a long number": {SERIES_NUMBER: b"1" * (MAX_SHORT_VALUE_BYTES + 2)},
    "a long name": {NAME: b"A=" * MAX_VALUE_BYTES["PN"]},
    "a long comment": {COMMENTS: b"A" * (MAX_VALUE_BYTES["LT"] + 2)},
    "a long pattern in a comment": {COMMENTS: b"*" + b"A" * (MAX_SHORT_VALUE_BYTES + 2)},
    "character sets": {CHARACTER_SET: joined(b"ISO_IR 100", MAX_CHARACTER_SETS + 1)},
    "items": {REQUESTS: item(b"") * (DEFAULT_MAX_VALUES + 1)},
    "values in an item": {
        REQUESTS: item(element(SERIES_NUMBER, joined(b"17", DEFAULT_MAX_VALUES) + b" "))
    },
    "nested sequences": {REQUESTS: sequences(MAX_DEPTH + 1)},
}


@pytest.mark.parametrize("keys", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_asks_for_too_much_is_refused_by_its_element(keys: dict[int, bytes]) -> None:
    with pytest.raises(ExcessiveKeyError) as refused:
        require_within_limits(asked({LEVEL: b"IMAGE "} | keys))
    assert refused.value.tag in {*keys, SERIES_NUMBER}
    assert 0 < len(refused.value.comment) <= 64
    assert refused.value.comment.isascii()


def test_too_many_keys_are_refused() -> None:
    few = asked({0x00090000 + number: b"" for number in range(1, MAX_KEYS + 1)})
    many = asked({0x00090000 + number: b"" for number in range(1, MAX_KEYS + 2)})
    require_within_limits(few)
    with pytest.raises(ExcessiveKeyError, match="keys"):
        require_within_limits(many)


WELL_ASKED = {
    "uids of a large study": {SOP_INSTANCE_UID: joined(b"1.2.826.0.1.3680043.8.498.1", 9_000)},
    "some names": {NAME: joined(b"A*=B*=C*", MAX_NAMES - 1)},
    "a name of three groups in UTF-8": {NAME: b"=".join([("山" * 64).encode()] * 3)},
    "a comment": {COMMENTS: b"A" * 10_240},
    "nested sequences": {REQUESTS: sequences(MAX_DEPTH)},
    "a large private value": {PRIVATE: bytes(100_000)},
}


@pytest.mark.parametrize("keys", WELL_ASKED.values(), ids=WELL_ASKED)
def test_what_clients_ask_for_is_taken(keys: dict[int, bytes]) -> None:
    require_within_limits(asked({LEVEL: b"IMAGE "} | keys))


UNDEFINED_ITEM = pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
UNDEFINED_SEQUENCE = pack("<HHL", 0x0040, 0x0275, 0xFFFFFFFF)
ITEM_END, SEQUENCE_END = element(0xFFFEE00D, b""), element(0xFFFEE0DD, b"")
TOO_MANY_ELEMENTS = {
    "keys": b"".join(element(0x00110010 + number, b"") for number in range(MAX_ELEMENTS + 1)),
    "nested": (UNDEFINED_SEQUENCE + UNDEFINED_ITEM) * MAX_ELEMENTS,
    "items": UNDEFINED_SEQUENCE + (UNDEFINED_ITEM + ITEM_END) * MAX_ELEMENTS + SEQUENCE_END,
}


@pytest.mark.parametrize("data", TOO_MANY_ELEMENTS.values(), ids=TOO_MANY_ELEMENTS)
def test_an_identifier_of_too_many_elements_is_not_read(data: bytes) -> None:
    with pytest.raises(ExcessiveIdentifierError, match="elements and items"):
        read_identifier(data, IMPLICIT)


def test_a_sequence_of_too_many_elements_is_not_read() -> None:
    inside = (UNDEFINED_ITEM + ITEM_END) * MAX_ELEMENTS
    identifier = asked({LEVEL: b"IMAGE ", REQUESTS: inside})
    with pytest.raises(ExcessiveIdentifierError) as refused:
        require_within_limits(identifier)
    assert refused.value.tag == REQUESTS


def test_the_limit_is_over_all_keys_and_is_a_setting() -> None:
    keys = {SERIES_NUMBER: joined(b"7", 60), DESCRIPTION: joined(b"A", 60)}
    require_within_limits(asked(keys), 120)
    with pytest.raises(ExcessiveKeyError, match="more than 119 values"):
        require_within_limits(asked(keys), 119)


def test_an_identifier_that_was_built_has_the_same_limits() -> None:
    built = Dataset()
    built.PatientName = ["A"] * (MAX_NAMES + 1)
    step = Dataset()
    step.StudyInstanceUID = ["1.2"] * (DEFAULT_MAX_VALUES + 1)
    other = Dataset()
    other.RequestAttributesSequence = [step]
    for identifier in (built, other):
        with pytest.raises(ExcessiveKeyError):
            require_within_limits(identifier)
    few = Dataset()
    few.PatientName, few.SeriesNumber, few.RequestAttributesSequence = "A", None, [Dataset()]
    require_within_limits(few)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"A=B=C=D", "4 component groups"),
        (b"A=" * 500 + b"B", "501 component groups"),
        (b"^".join([b"A"] * 17), "components"),
        (b"*a" * 40, "asterisks"),
    ],
)
def test_a_name_of_too_many_parts_is_refused(name: bytes, reason: str) -> None:
    identifier = asked({LEVEL: b"STUDY ", NAME: name})
    require_within_limits(identifier)
    with pytest.raises(InvalidKeyError, match=reason) as refused:
        parse_query(identifier, Model.STUDY_ROOT)
    assert refused.value.tag == NAME


@pytest.mark.parametrize("name", [b"A^B^C^D^E^F", b"A==", b"A=B=C", b"A^^^^^^=", b"**" * 100])
def test_a_name_as_clients_write_it_is_taken(name: bytes) -> None:
    parse_query(asked({LEVEL: b"STUDY ", NAME: name}), Model.STUDY_ROOT)


def test_a_text_of_too_many_asterisks_is_refused() -> None:
    identifier = asked({LEVEL: b"STUDY ", DESCRIPTION: b"*a" * 33})
    with pytest.raises(InvalidKeyError, match="asterisks"):
        parse_query(identifier, Model.STUDY_ROOT)


def test_many_values_with_a_pattern_among_them_are_no_pattern_of_that_length() -> None:
    """SQLite takes none of more than 50,000 bytes."""
    values = joined(b"A" * 20, 5_000) + b"\\B*"
    query = parse_query(asked({LEVEL: b"STUDY ", DESCRIPTION: values}), Model.STUDY_ROOT)
    (match,) = [key.match for key in query.keys]
    assert isinstance(match, Texts)
    assert match.values == ("A" * 20, "B*")


def test_a_retrieve_may_name_thousands_of_instances() -> None:
    uids = [f"1.2.826.0.1.3680043.8.498.{number}" for number in range(9_900)]
    keys = {LEVEL: b"IMAGE ", STUDY_UID: b"1.2", SERIES_UID: b"1.2.3"}
    identifier = asked(keys | {SOP_INSTANCE_UID: "\\".join(uids).encode()})
    require_within_limits(identifier)
    _, found = unique_keys(identifier, Model.STUDY_ROOT)
    assert list(found.values())[-1] == uids
