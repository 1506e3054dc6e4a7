"""Messages between processes, from an end that may have been taken over."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfscp.processes.connection import Connection


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours), theirs


def message(fields: bytes, length: int = 0) -> bytes:
    return struct.pack("<IQ", len(fields), length) + fields


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "sent",
    [message(b"[" * 100_000), message(b"[1]"), message(b"{"), struct.pack("<IQ", 5 << 20, 0)],
    ids=["deep", "a list", "no JSON", "long"],
)
def test_what_is_no_message_is_an_error(
    ends: tuple[Connection, socket.socket], sent: bytes
) -> None:
    connection, other = ends
    other.sendall(sent)
    with pytest.raises(ValueError, match=r"fields|Expecting"):
        connection.receive(30)


@pytest.mark.parametrize("sent", [b"", message(b"{}")[:5], message(b'{"a": 1}')[:-1]])
def test_an_end_in_the_middle_is_told(ends: tuple[Connection, socket.socket], sent: bytes) -> None:
    connection, other = ends
    other.sendall(sent)
    other.close()
    with pytest.raises(EOFError):
        connection.receive(30)


def test_a_body_that_ends_early_is_told(ends: tuple[Connection, socket.socket]) -> None:
    connection, other = ends
    other.sendall(message(b"{}", 10) + b"12345")
    other.close()
    found = connection.receive(30)
    with pytest.raises(EOFError):
        list(connection.pieces(found.length, 30))


def test_a_file_is_taken_only_where_one_is_awaited(
    ends: tuple[Connection, socket.socket], tmp_path: Path
) -> None:
    connection, other = ends
    (tmp_path / "file").write_bytes(b"content")
    with (tmp_path / "file").open("rb") as file:
        before = descriptors()
        socket.send_fds(other, [message(b"{}")], [file.fileno()])
        assert connection.receive(30).descriptor == -1
        assert descriptors() == before

        Connection(other).send({"x": 1}, descriptor=file.fileno())
        found = connection.receive(takes_file=True)
        assert found.fields == {"x": 1}
        with os.fdopen(found.descriptor, "rb") as taken:
            assert taken.read() == b"content"


def test_a_second_file_is_one_to_write_to(
    ends: tuple[Connection, socket.socket], tmp_path: Path
) -> None:
    connection, other = ends
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file, (tmp_path / "output").open("wb") as output:
        before = descriptors()
        Connection(other).send({}, descriptor=file.fileno(), output=output.fileno())
        found = connection.receive(takes_file=True)
        os.write(found.output, b"content")
        os.close(found.descriptor)
        os.close(found.output)
        assert descriptors() == before
    assert (tmp_path / "output").read_bytes() == b"content"


def test_a_file_that_comes_with_no_message_is_not_kept(
    ends: tuple[Connection, socket.socket], tmp_path: Path
) -> None:
    connection, other = ends
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file:
        before = descriptors()
        socket.send_fds(other, [message(b"[]")], [file.fileno()])
        with pytest.raises(ValueError, match="no fields"):
            connection.receive(takes_file=True)
        assert descriptors() == before
