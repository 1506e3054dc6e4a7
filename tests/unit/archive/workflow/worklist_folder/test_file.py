"""Worklist files as others write them, and files that are broken in any way."""

from __future__ import annotations

import os
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from lfscp.archive.workflow.worklist.item import InvalidItemError, complete_item
from lfscp.archive.workflow.worklist_folder.file import (
    MAX_BYTES,
    WorklistFileError,
    is_worklist_name,
    read_worklist_file,
)
from lfscp.dicom.models.element_tree import encode_tree
from lfscp.dicom.part10.file_meta import part10_header
from tests.support.worklist_files import bare, cut_in_an_element, part10
from tests.support.worklist_items import worklist_tree

WORKLIST = "1.2.840.10008.5.1.4.31"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_dataset_without_a_head_is_read_in_the_syntax_it_is_written_in(
    tmp_path: Path, syntax: str
) -> None:
    (tmp_path / "a.wl").write_bytes(encode_tree(worklist_tree(), syntax))
    assert read_worklist_file(tmp_path / "a.wl").dataset == worklist_tree()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_with_a_head_is_read_in_the_syntax_that_it_names(
    tmp_path: Path, syntax: str
) -> None:
    head = part10_header(WORKLIST, "1.2.3", syntax)
    (tmp_path / "a.wl").write_bytes(head + encode_tree(worklist_tree(), syntax))
    assert read_worklist_file(tmp_path / "a.wl").dataset == worklist_tree()


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    head = part10_header(WORKLIST, "1.2.3", DeflatedExplicitVRLittleEndian)
    deflated = zlib.compress(encode_tree(worklist_tree()), wbits=-zlib.MAX_WBITS)
    (tmp_path / "a.wl").write_bytes(head + deflated)
    assert read_worklist_file(tmp_path / "a.wl").dataset == worklist_tree()


@pytest.mark.parametrize("content", [bare(), part10()])
def test_a_dataset_cut_in_an_element_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wl").write_bytes(cut_in_an_element(content))
    with pytest.raises(WorklistFileError, match="100 bytes of value, 10 are there"):
        read_worklist_file(tmp_path / "a.wl")


def test_a_file_may_have_a_megabyte_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.wl"
    path.write_bytes(b"\0" * MAX_BYTES)
    with pytest.raises(WorklistFileError, match="the dataset is empty"):
        read_worklist_file(path)
    path.write_bytes(b"\0" * (MAX_BYTES + 1))
    with pytest.raises(WorklistFileError, match="more than 1 MB"):
        read_worklist_file(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wl")
    with pytest.raises(WorklistFileError, match="no file"):
        read_worklist_file(tmp_path / "a.wl")
    (tmp_path / "b.wl").mkdir()
    with pytest.raises(WorklistFileError, match=r"directory|no file"):
        read_worklist_file(tmp_path / "b.wl")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.wl", True), ("A.WL", True), (".a.wl", False), ("a.wl~", False), ("lockfile", False)],
)
def test_names_of_worklist_files(name: str, is_one: bool) -> None:
    assert is_worklist_name(name) is is_one


def taken_or_refused(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".wl") as file:
        file.write(content)
        file.flush()
        with suppress(WorklistFileError, InvalidItemError):  # whose reasons are one line
            complete_item(read_worklist_file(Path(file.name)).dataset)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_taken_or_refused_with_a_reason(content: bytes) -> None:
    taken_or_refused(content)


@given(
    st.sampled_from([bare(), part10(), encode_tree(worklist_tree(), ImplicitVRLittleEndian)]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), max_size=4),
    st.integers(0, 2000),
)
@settings(max_examples=400, deadline=None)
def test_a_file_with_some_bytes_changed_or_cut_is_taken_or_refused_with_a_reason(
    content: bytes, changes: list[tuple[int, bytes]], length: int
) -> None:
    changed = bytearray(content)
    for at, new in changes:
        at %= len(changed)
        changed[at : at + len(new)] = new
    taken_or_refused(bytes(changed[: length or None]))
