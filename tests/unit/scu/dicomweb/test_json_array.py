"""Arrays of objects in pieces of any size: objects come out, and what is no array is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfscp.scu.dicomweb.json_array import objects_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(document: bytes, size: int, largest: int = 1 << 20) -> list[Any]:
    blocks = [document[at : at + size] for at in range(0, len(document), size)]
    return [found for found, _ in objects_of(blocks, largest)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a loaded machine
@given(
    st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_objects_come_out_as_they_went_in(
    objects: list[Any], size: int, ascii_only: bool, indent: int | None
) -> None:
    document = json.dumps(objects, ensure_ascii=ascii_only, indent=indent)
    assert read(document.encode(), size) == objects


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"[{}",
        b"[{},",
        b"[{},]",
        b"[,{}]",
        b"[{}{}]",
        b"[{}]]",
        b"[{}] x",
        b'[{"a": NaN}]',
        b'[{"a": 1]',
        b'[{"a": "\xff"}]',
        b"[[{}]]",
        b'[{"a": ' + b"[" * 5000,
        b'[{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}]",
        b'[{"a": ' + b"[" * 600 + b"]" * 600 + b"}]",
        b'[{"a": ' + b"1" * 5000 + b"}]",
        b"<html></html>",
    ],
)
def test_what_is_no_array_of_objects_is_refused(document: bytes, size: int) -> None:
    if size == 1 and len(document) > 100:
        size = 100
    with pytest.raises(ValueError, match=r"."):
        read(document, size)


def test_objects_before_a_fault_are_given() -> None:
    reading = objects_of([b'[{"a": 1}, ', b"oops"], 100)
    assert next(reading)[0] == {"a": 1}
    with pytest.raises(ValueError, match="no array"):
        next(reading)


def test_an_object_may_have_its_maximum_and_no_more() -> None:
    def document(size: int) -> bytes:
        return b'[{"a": "' + b"x" * size + b'"}, {}]'

    assert len(read(document(900), 64, 1000)) == 2
    with pytest.raises(ValueError, match="more than"):
        read(document(100_000), 64, 1000)


def test_an_object_in_single_bytes_is_refused_as_any_other() -> None:
    """If each byte copied all before it, this would take minutes."""
    begin = b'[{"a": "'
    blocks = (begin[at : at + 1] or b"A" for at in range(2_200_000))
    with pytest.raises(ValueError, match="a match of more than"):
        list(objects_of(blocks, 1 << 20))


def test_many_arrays_that_are_not_in_each_other_are_read() -> None:
    objects = [{"a": [["[{"]] * 2000, "b": [[[1]]] * 300}]
    assert read(json.dumps(objects).encode(), 100) == objects
