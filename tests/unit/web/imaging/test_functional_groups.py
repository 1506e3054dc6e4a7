"""Values that are kept since other objects of the series have them as well."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from lfscp.web.imaging.functional_groups import forget_values, numbers
from lfscp.web.rendering.tasks import Memory


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    forget_values()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def header(keyword: str, text: str) -> Dataset:
    tag, written = Tag(keyword), text.encode()
    return Dataset({tag: RawDataElement(tag, "DS", len(written), written, 0, False, True)})


@pytest.mark.parametrize("values", [1, 3, 8, 63])
def test_those_of_hostile_objects_take_little_memory(values: int) -> None:
    before = tracemalloc.get_traced_memory()[0]
    for number in range(2000):
        found = header("ImagePositionPatient", "\\".join([f"{number}", *["1"] * (values - 1)]))
        assert len(numbers(found, "ImagePositionPatient")) == values

    assert tracemalloc.get_traced_memory()[0] - before < 6 << 20


def test_a_process_that_lacks_memory_forgets_them() -> None:
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1000):
        numbers(header("ImagePositionPatient", f"{number}.5\\2\\3"), "ImagePositionPatient")
    Memory().clear()

    assert tracemalloc.get_traced_memory()[0] - before < 1 << 19
