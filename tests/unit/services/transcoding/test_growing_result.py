"""What is converted for long is read while it is written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from lfscp.services.transcoding import growing_result
from lfscp.services.transcoding.dataset_conversion import Converted, Note
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.growing_result import GrowingResult, growing
from lfscp.upperlayer.scu.sending import FileSlice
from tests.support.dicom_peer import until

CONTENT = bytes(range(256)) * 8192  # 2 MB
HALF = len(CONTENT) // 2


def nothing() -> None:
    """Go on."""


class Writer:
    """A conversion that waits in its middle, until it may go on.

    Args:
        fails: instead of the second half.
        again: begins again in the middle.
    """

    def __init__(self, folder: Path, *, fails: bool = False, again: bool = False) -> None:
        self._path = folder / "result"
        self._fails, self._again = fails, again
        self.may_go_on = threading.Event()
        self.has_ended = False

    def __call__(
        self, look: Callable[[], None], note: Note | None = None
    ) -> AbstractContextManager[Converted]:
        return self._convert(look, note or (lambda *_: None))

    @contextmanager
    def _convert(self, look: Callable[[], None], note: Note) -> Iterator[Converted]:
        try:
            with self._path.open("w+b", buffering=0) as file:
                self._write(file.fileno(), look, note)
                body = FileSlice(self._path, 0, len(CONTENT), descriptor=file.fileno())
                yield Converted(body, len(CONTENT))
        finally:
            self.has_ended = True

    def _write(self, file: int, look: Callable[[], None], note: Note) -> None:
        os.write(file, CONTENT[:HALF])
        note(file, HALF)
        while not self.may_go_on.wait(0.01):
            look()
        if self._fails:
            raise DecodingError("frame 2 is broken")
        if self._again:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
            note(file, os.write(file, CONTENT[:1000]))
            os.lseek(file, 0, os.SEEK_SET)
            os.write(file, CONTENT[:HALF])
        os.write(file, CONTENT[HALF:])
        note(file, len(CONTENT))


@pytest.fixture(autouse=True)
def at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is waited for, and no file stays open."""
    monkeypatch.setattr(growing_result, "SOON_S", 0.0)
    yield
    assert until(lambda: not opened_in(tmp_path))


def opened_in(folder: Path) -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(each.readlink()))
    return [each for each in found if each.startswith(str(folder))]


@pytest.mark.parametrize("again", [False, True], ids=["once", "begun again"])
def test_what_is_written_is_read_before_the_rest_is_there(tmp_path: Path, again: bool) -> None:
    writer = Writer(tmp_path, again=again)
    with growing(writer, nothing) as result:
        assert isinstance(result, GrowingResult)
        pieces = result.pieces(nothing)
        read = b""
        while len(read) < HALF:
            read += next(pieces)
        assert not writer.has_ended
        writer.may_go_on.set()
        assert read + b"".join(pieces) == CONTENT
    assert writer.has_ended


def test_what_is_ready_soon_is_given_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_result, "SOON_S", 60.0)
    writer = Writer(tmp_path)
    writer.may_go_on.set()
    with growing(writer, nothing) as made:
        assert isinstance(made, Converted)
        assert isinstance(made.body, FileSlice)
        assert made.body.read() == CONTENT
        assert not writer.has_ended, "its file is open for as long as it is read"


def test_an_error_soon_comes_before_any_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_result, "SOON_S", 60.0)
    writer = Writer(tmp_path, fails=True)
    writer.may_go_on.set()
    with pytest.raises(DecodingError, match="frame 2"), growing(writer, nothing):
        pass


def test_an_error_later_comes_behind_what_was_read(tmp_path: Path) -> None:
    writer = Writer(tmp_path, fails=True)
    with growing(writer, nothing) as result:
        assert isinstance(result, GrowingResult)
        pieces = result.pieces(nothing)
        assert CONTENT.startswith(next(pieces))
        writer.may_go_on.set()
        with pytest.raises(DecodingError, match="frame 2"):
            b"".join(pieces)


def test_a_reader_that_goes_ends_the_conversion(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    with growing(writer, nothing) as result:
        assert isinstance(result, GrowingResult)
        next(result.pieces(nothing))
    assert until(lambda: writer.has_ended)


def test_one_that_gives_up_while_it_waits_too(tmp_path: Path) -> None:
    class GaveUpError(Exception):
        pass

    def give_up() -> None:
        raise GaveUpError

    writer = Writer(tmp_path)
    with growing(writer, nothing) as result:
        assert isinstance(result, GrowingResult)
        with pytest.raises(GaveUpError):
            b"".join(result.pieces(give_up))
    assert until(lambda: writer.has_ended)


def test_a_reader_behind_waits_while_the_conversion_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GaveUpError(Exception):
        pass

    def give_up() -> None:
        raise GaveUpError

    reads = 0

    def read(descriptor: int, size: int, at: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads < 100, "it reads again and again"
        return pread(descriptor, size, at)

    pread = os.pread
    monkeypatch.setattr(os, "pread", read)
    with growing(Writer(tmp_path), nothing) as result:
        assert isinstance(result, GrowingResult)
        pieces = result.pieces(give_up)
        next(pieces)
        os.truncate(tmp_path / "result", 0)
        with pytest.raises(GaveUpError):
            next(pieces)


def test_without_a_thread_it_is_converted_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    writer = Writer(tmp_path)
    writer.may_go_on.set()
    monkeypatch.setattr(threading.Thread, "start", start)
    with growing(writer, nothing) as made:
        assert isinstance(made, Converted)
