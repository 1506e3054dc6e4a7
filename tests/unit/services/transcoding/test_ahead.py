"""The next objects of a retrieve are converted while one is sent, within the budgets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from lfscp.archive.store import spool
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.services.transcoding import ahead
from lfscp.services.transcoding.ahead import Ahead, Wanted, wanted_of
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.decoding_memory import MEMORY
from tests.support.dicom_peer import until
from tests.support.pixel_objects import described, with_fragments

EXPLICIT = str(ExplicitVRLittleEndian)


def nothing() -> None:
    """Go on."""


@pytest.fixture(autouse=True)
def three_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ahead, "MAX_AHEAD", 3)
    yield
    assert until(lambda: spool.SPACE.in_use == spool.IN_MEMORY._size == MEMORY.in_use == 0)


def wanted(folder: Path, value: int, size: int = 128, *, is_broken: bool = False) -> Wanted:
    """An object in RLE Lossless whose pixels have one value."""
    runs = bytes([0x81, value]) * (0 if is_broken else size * size // 128)
    frame = np.array([1, 64, *[0] * 14], "<u4").tobytes() + runs
    place = folder / str(value)
    place.mkdir()
    path = with_fragments(described(size, size, syntax=RLELossless), [frame], place)
    whole = path.read_bytes()
    return Wanted(path, str(RLELossless), EXPLICIT, whole.index(b"\x08\0\x16\0"), len(whole))


def value_of(made: ahead.Converted) -> int:
    body = made.body if isinstance(made.body, bytes) else made.body.read()
    return body[-1]


def test_objects_come_in_their_order_and_are_converted_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = [wanted(tmp_path, value) for value in range(8)]
    converted_in: set[str] = set()
    convert = ahead.converted

    def noted(*arguments: object, **options: object) -> object:
        converted_in.add(threading.current_thread().name.split("_")[0])
        return convert(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ahead, "converted", noted)
    one = Ahead(object())
    for number, each in enumerate(objects):
        one.prepare(objects[number:])
        with one.converted(each, nothing) as made:
            assert value_of(made) == number
    one.close()
    assert "converting" in converted_in


def test_a_broken_one_fails_when_its_turn_comes_and_the_others_do_not(tmp_path: Path) -> None:
    objects = [wanted(tmp_path, value, is_broken=value == 2) for value in range(4)]
    one = Ahead(object())
    one.prepare(objects)
    for number in (0, 1, 3):
        with one.converted(objects[number], nothing) as made:
            assert value_of(made) == number
    with pytest.raises(DecodingError, match="RLE Lossless"), one.converted(objects[2], nothing):
        pass
    one.close()


def test_what_is_large_is_converted_when_its_turn_comes(tmp_path: Path) -> None:
    objects = [wanted(tmp_path, value, 2048) for value in range(2)]
    one = Ahead(object())
    one.prepare(objects)
    assert until(lambda: all(job.done() for job in one._jobs.values()))
    assert spool.SPACE.in_use == spool.IN_MEMORY._size == 0
    with one.converted(objects[1], nothing) as made:
        assert value_of(made) == 1
    one.close()


def test_what_is_large_as_it_is_stored_is_not_read_ahead(tmp_path: Path) -> None:
    small, large = wanted(tmp_path, 1), wanted(tmp_path, 2)._replace(size=spool.SMALL + 1)
    one = Ahead(object())
    one.prepare([small, large, small])
    assert set(one._jobs) == {small}
    one.close()


def test_what_nobody_wants_any_more_is_let_go(tmp_path: Path) -> None:
    objects = [wanted(tmp_path, value) for value in range(6)]
    one = Ahead(object())
    one.prepare(objects[:3])
    assert until(lambda: all(job.done() for job in one._jobs.values()))
    one.prepare(objects[3:])
    assert set(one._jobs) == set(objects[4:])
    one.close()
    assert not one._jobs


def test_an_object_that_was_deleted_or_replaced_meanwhile_is_not_what_was_prepared(
    tmp_path: Path,
) -> None:
    objects = [instance_of(wanted(tmp_path, value)) for value in range(4)]
    one = Ahead(object())
    one.prepare([wanted_of(each, EXPLICIT) for each in objects])
    assert until(lambda: all(job.done() for job in one._jobs.values()))
    objects[1].path.unlink()
    (tmp_path / "3" / "object.dcm").replace(objects[2].path)
    with pytest.raises(FileNotFoundError), one.converted(wanted_of(objects[1], EXPLICIT), nothing):
        pass
    with one.converted(wanted_of(objects[2], EXPLICIT), nothing) as made:
        assert value_of(made) == 3
    one.close()


def instance_of(each: Wanted) -> StoredInstance:
    return StoredInstance("1.2", "1.2.3", each.stored_syntax, *each[:1], *each[3:5], "1.4", "1.5")


def test_without_threads_each_is_converted_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    objects = [wanted(tmp_path, value) for value in range(3)]
    one = Ahead(object())
    monkeypatch.setattr(threading.Thread, "start", start)
    for number, each in enumerate(objects):
        one.prepare(objects[number:])
        with one.converted(each, nothing) as made:
            assert value_of(made) == number
    one.close()


def test_whoever_waits_for_one_may_give_up(tmp_path: Path) -> None:
    objects = [wanted(tmp_path, value) for value in range(2)]

    class GaveUpError(Exception):
        pass

    def give_up() -> None:
        raise GaveUpError

    one = Ahead(object())
    with MEMORY.reserve(MEMORY.limit_bytes, nothing):
        one.prepare(objects)
        with pytest.raises(GaveUpError), one.converted(objects[1], give_up):
            pass
        one.close()
