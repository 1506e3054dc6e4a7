"""The cache on disk: files whole or not at all, within a bound; the longest unread leave."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.disk_cache import DiskCache

MEGABYTE = 1_000_000


def add(cache: DiskCache, name: str, content: bytes = b"x" * 100) -> str:
    piece = cache.new_piece()
    Path(piece).write_bytes(content)
    path = cache.add(piece, name, len(content))
    if path != piece:
        Path(piece).unlink()
    return path


def put_back(cache: DiskCache, name: str, seconds: float) -> None:
    """Let a copy look as if it had been read last so long ago."""
    path = cache.find(name)
    assert path is not None
    then = time.time() - seconds
    os.utime(path, (then, then))


def kept(cache: DiskCache, *names: str) -> list[str]:
    return [name for name in names if cache.find(name)]


def test_a_copy_is_found_by_its_name_alone(tmp_path):
    cache = DiskCache(tmp_path, MEGABYTE)
    path = add(cache, "a", b"content")
    assert cache.find("a") == path
    assert Path(path).read_bytes() == b"content"
    assert cache.find("b") is None


def test_copies_outlive_the_process_and_pieces_do_not(tmp_path):
    cache = DiskCache(tmp_path, MEGABYTE)
    add(cache, "a")
    piece = Path(cache.new_piece())
    piece.write_bytes(b"half")
    assert kept(DiskCache(tmp_path, MEGABYTE), "a") == ["a"]
    assert not piece.exists()


def test_a_node_that_follows_on_leaves_the_pieces_of_the_one_before(tmp_path):
    before = DiskCache(tmp_path, MEGABYTE)
    piece = Path(before.new_piece())
    piece.write_bytes(b"on its way")
    DiskCache(tmp_path, MEGABYTE, is_ours=False)
    assert piece.exists()


def test_pieces_of_processes_with_the_same_number_have_names_of_their_own(tmp_path):
    """Such as those of two containers, of which one follows on the other."""
    before = DiskCache(tmp_path, MEGABYTE)
    follows = DiskCache(tmp_path, MEGABYTE, is_ours=False)
    names = [each.new_piece() for each in (before, follows, before, follows)]
    assert len(set(names)) == 4


def test_copies_do_not_outlive_a_start_of_the_machine(tmp_path):
    add(DiskCache(tmp_path, MEGABYTE), "a")
    (tmp_path / "boot-id").write_text("of an earlier start")
    assert kept(DiskCache(tmp_path, MEGABYTE), "a") == []


def test_the_longest_unread_copies_leave_first(tmp_path):
    cache = DiskCache(tmp_path, MEGABYTE)
    for age, name in enumerate("abcdefghijkl"):
        add(cache, name)
        put_back(cache, name, 1000 - age)
    assert cache.find("a")  # read now
    DiskCache(tmp_path, 1000).shrink()
    assert kept(cache, *"abcdefghijkl") == ["a", *"efghijkl"]


def test_a_copy_that_was_just_read_stays_even_above_the_bound(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for name in "abcdefghijkl":
        add(cache, name)
    cache.shrink()
    assert len(kept(cache, *"abcdefghijkl")) == 12


def test_the_bound_is_kept_without_being_asked(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for number in range(100):
        add(cache, str(number))
        put_back(cache, str(number), 1000 - number)
    assert sum(path.stat().st_size for path in tmp_path.rglob("copies/*/*")) <= 1200


def test_copies_leave_half_of_a_small_disk_to_others(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path, MEGABYTE)
    for age, name in enumerate("abcdefghijkl"):
        add(cache, name)
        put_back(cache, name, 1000 - age)
    monkeypatch.setattr(cache, "_free", lambda: 200)
    cache.shrink()  # 1200 bytes of copies and 200 free: at most 700 of copies
    assert kept(cache, *"abcdefghijkl") == list("ghijkl")
    assert add(cache, "m", b"x" * 701).endswith(".part")


def test_what_is_larger_than_the_bound_stays_a_piece(tmp_path):
    cache = DiskCache(tmp_path, 10)
    assert add(cache, "a").endswith(".part")
    assert cache.find("a") is None


def test_two_processes_that_keep_the_same_copy_agree(tmp_path):
    cache = DiskCache(tmp_path, MEGABYTE)
    assert add(cache, "a") == add(cache, "a")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="open a cache on disk"):
        DiskCache(tmp_path / "file", MEGABYTE)


def test_one_process_never_keeps_more_than_the_bound(tmp_path):
    cache = DiskCache(tmp_path, 20_000, in_use_s=0)
    for number in range(300):
        add(cache, str(number))
        if number % 50 == 0 or 150 < number < 250:
            size = sum(path.stat().st_size for path in tmp_path.rglob("copies/*/*"))
            assert size <= 20_000
    assert cache.find("299")


def test_all_files_of_a_name_are_dropped_and_no_others(tmp_path):
    cache = DiskCache(tmp_path / "[folder]", MEGABYTE)
    for name, part in (("a", "-1"), ("a", "-2"), ("b", "-1")):
        piece = Path(cache.new_piece())
        piece.write_bytes(b"content")
        cache.add(str(piece), name, 7, part)
    cache.drop("a")
    assert [cache.find("a", "-1"), cache.find("a", "-2")] == [None, None]
    assert cache.find("b", "-1")


def test_a_folder_that_is_taken_away_costs_the_copies_and_nothing_else(tmp_path):
    cache = DiskCache(tmp_path, MEGABYTE)
    shutil.rmtree(tmp_path / "copies")
    cache.shrink()
    assert kept(cache, "a") == []
    add(cache, "a")
    assert kept(cache, "a") == ["a"]
