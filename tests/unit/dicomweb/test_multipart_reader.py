"""Multipart bodies in pieces of any size: their parts come out, and broken ones are refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfscp.dicomweb.errors import BodyError
from lfscp.dicomweb.multipart_reader import (
    MAX_HEAD_BYTES,
    MAX_PREAMBLE_BYTES,
    MultipartReader,
)

TYPE = {"content-type": "application/dicom"}
HEAD = b"Content-Type: application/dicom\r\n\r\n"


class Collected:
    """The parts of a body."""

    def __init__(self) -> None:
        self.heads: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self.whole = 0

    def begin(self, head: Mapping[str, str]) -> None:
        self.heads.append(head)
        self.bodies.append(b"")

    def data(self, piece: memoryview) -> None:
        self.bodies[-1] += piece

    def end(self) -> None:
        self.whole += 1


def read(body: bytes, boundary: bytes = b"b", step: int = 1 << 20) -> Collected:
    parts = Collected()
    reader = MultipartReader(boundary, parts)
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
    reader.close()
    assert parts.whole == len(parts.bodies)
    return parts


def written(*bodies: bytes, boundary: bytes = b"b") -> bytes:
    parts = b"".join(b"--%b\r\n%b%b\r\n" % (boundary, HEAD, body) for body in bodies)
    return parts + b"--" + boundary + b"--"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        written(b"one", b"two"),
        b"a preamble\r\n" + written(b"one", b"two") + b"\r\nan epilogue\r\n--b\r\n",
        written(b"one", b"two").replace(b"--b\r\n", b"--b \t \r\n"),
    ],
)
def test_parts_come_out_whatever_the_pieces(body: bytes, step: int) -> None:
    parts = read(body, step=step)
    assert parts.bodies == [b"one", b"two"]
    assert parts.heads == [TYPE, TYPE]


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        b"\r\n--bb\r\n",  # a longer line
        b"\r\n--b -\r\n",
        b"x--b\r\n",  # not at the beginning of a line
        b"\n--b\r\n",
        b"\r\n--b\r",
        b"\r\n--",
        b"\r\n" * 9,
        b"",
    ],
)
def test_what_is_no_delimiter_is_data(data: bytes, step: int) -> None:
    assert read(written(data, b"next"), step=step).bodies == [data, b"next"]


def test_an_empty_part_may_share_the_line_end_of_its_head() -> None:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n--b\r\n\r\n--b--"
    parts = read(body)
    assert (parts.bodies, parts.heads) == ([b"", b""], [TYPE, {}])


def test_header_fields_may_be_folded_and_in_any_case() -> None:
    body = b"--b\r\ncontent-TYPE: application/dicom;\r\n transfer-syntax=1.2\r\n\r\nx\r\n--b--"
    assert read(body).heads == [{"content-type": "application/dicom; transfer-syntax=1.2"}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b--",
        b"--b\r\n",
        b"--b\r\n" + HEAD + b"one",
        b"--b\r\n" + HEAD + b"one\r\n--b",
        b"--b\r\n" + HEAD + b"one\r\n--b\r\n",
        b"--b\r\n" + HEAD + b"one\r\n--b-",
        b"no multipart at all",
        b"--other\r\n" + HEAD + b"one\r\n--other--",
    ],
)
def test_a_body_without_its_end_is_refused(body: bytes) -> None:
    with pytest.raises(BodyError):
        read(body)


def test_a_part_before_the_end_of_a_broken_body_is_whole() -> None:
    parts = Collected()
    reader = MultipartReader(b"b", parts)
    reader.feed(b"--b\r\n" + HEAD + b"one\r\n--b\r\n" + HEAD + b"tw")
    with pytest.raises(BodyError, match="breaks off"):
        reader.close()
    assert parts.whole == 1


@pytest.mark.parametrize(
    ("beginning", "piece", "most"),
    [
        (b"--b\r\n", b"x" * 1000, MAX_HEAD_BYTES),
        (b"--b\r\n", b"X: y\r\n" * 100, MAX_HEAD_BYTES),
        (b"", b"x" * 1000, MAX_PREAMBLE_BYTES),
    ],
)
def test_a_head_or_preamble_without_end_is_refused(
    beginning: bytes, piece: bytes, most: int
) -> None:
    with pytest.raises(BodyError, match=r"without end|where the body begins"):
        read(beginning + piece * (most // len(piece) + 2), step=len(piece))


@pytest.mark.parametrize("line", [b"no field", b": no name", b" Folded: first", b"Name : spaced"])
def test_a_line_that_is_no_header_field_is_refused(line: bytes) -> None:
    with pytest.raises(BodyError, match="no header field"):
        read(b"--b\r\n" + line + b"\r\n\r\nx\r\n--b--")


@pytest.mark.parametrize("boundary", [b"", b"ends with a space ", b"x" * 71, b"\r\n", b"\xff"])
def test_what_is_no_boundary_is_refused(boundary: bytes) -> None:
    with pytest.raises(BodyError):
        MultipartReader(boundary, Collected())


@given(
    st.lists(
        st.lists(st.sampled_from([b"\r", b"\n", b"-", b"b", b" ", b"x", b"\r\n--b"])), min_size=1
    ),
    st.integers(1, 9),
)
def test_parts_of_almost_boundaries_come_out_as_the_standard_says(
    pieces: list[list[bytes]], step: int
) -> None:
    boundary = b"bx-b"  # no data here can hold this line
    bodies = [b"".join(each) for each in pieces]
    if not any(b"\r\n--bx-b" in body for body in bodies):
        body = written(*bodies, boundary=boundary)
        assert read(body, boundary, step).bodies == bodies
