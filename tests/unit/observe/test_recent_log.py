"""The newest warnings and errors are kept in a file, whichever process wrote them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfscp.observe import logging
from lfscp.observe.logging import get_logger
from lfscp.observe.recent_log import FILE, RecentLog, lines_backwards


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[RecentLog]:
    file = RecentLog(tmp_path, 20_000)
    logging.keep_recent(file)
    yield file
    logging.keep_recent(None)


def events(kept: RecentLog) -> list[str]:
    return [line.event for line in kept.lines()]


def test_warnings_and_errors_are_kept_and_nothing_below(kept: RecentLog) -> None:
    log = get_logger("lfscp.tests")
    log.info("stored")
    log.warning("almost full", free_mb=7, peer="CT1@10.0.0.7")
    log.error("full")

    newest, older = kept.lines()
    assert (newest.level, newest.event) == ("error", "full")
    assert (older.part, older.fields) == ("lfscp.tests", {"free_mb": 7, "peer": "CT1@10.0.0.7"})
    assert older.has("ct1@10")
    assert not older.has("full disk")


def test_lines_of_other_processes_are_there_too(kept: RecentLog) -> None:
    get_logger("lfscp.tests").warning("parent")
    child = os.fork()
    if not child:
        get_logger("lfscp.tests").warning("child")
        os._exit(0)
    os.waitpid(child, 0)

    assert events(kept) == ["child", "parent"]


def test_the_newest_lines_stay_within_the_limit(kept: RecentLog, tmp_path: Path) -> None:
    for number in range(1000):
        get_logger("lfscp.tests").warning(f"event {number}")

    assert events(kept)[:3] == ["event 999", "event 998", "event 997"]
    assert 50 < len(events(kept)) < 200
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 21_000


def test_what_a_crash_has_cut_off_is_passed_over(kept: RecentLog, tmp_path: Path) -> None:
    get_logger("lfscp.tests").warning("whole")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"time":"2026')

    assert events(kept) == ["whole"]


def test_a_folder_that_is_gone_disturbs_nobody(tmp_path: Path) -> None:
    logging.keep_recent(RecentLog(tmp_path / "gone", 1000))
    try:
        get_logger("lfscp.tests").error("unheard")
    finally:
        logging.keep_recent(None)


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 200_000])
def test_lines_come_backwards_wherever_the_pieces_are_cut(tmp_path: Path, size: int) -> None:
    file = tmp_path / "lines"
    lines = [f"{number}-".encode() + b"x" * (size // 3) for number in range(7)]
    file.write_bytes(b"\n".join(lines) + b"\n")

    assert list(lines_backwards(file)) == lines[::-1]
