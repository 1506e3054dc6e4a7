"""Deflated objects: any part of them, in any order, without all of it in memory."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lfscp.web.imaging.inflated_file import open_inflated
from lfscp.web.imaging.object_header import read_header
from lfscp.web.rendering.decoding import decode
from tests.support.web_objects import CT_CLASS, new, set_pixels

BYTES = 30 << 20


def deflated(content):
    deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


@pytest.fixture(scope="module")
def content():
    return np.random.default_rng(1).integers(0, 4, BYTES, "u1").tobytes()


def test_parts_are_read_in_any_order(content, tmp_path):
    path = tmp_path / "deflated"
    path.write_bytes(b"head" + deflated(content))
    places = random.Random(2).sample(range(BYTES), 40)
    for chosen in (sorted(places), sorted(places, reverse=True), places):
        with path.open("rb") as file:
            inflated = open_inflated(file, 4)
            for place in chosen:
                inflated.seek(place)
                assert inflated.read(1000) == content[place : place + 1000]
                inflated.seek(-500, 1)
                assert inflated.tell() == min(place + 1000, BYTES) - 500
            inflated.seek(BYTES)
            assert inflated.read(1) == b""


def test_little_of_it_is_in_memory(content, tmp_path):
    path = tmp_path / "deflated"
    path.write_bytes(deflated(content))
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            inflated = open_inflated(file, 0)
            for place in (BYTES - 10, 5, BYTES // 2):
                inflated.seek(place)
                inflated.read(10)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most < 3 << 20


def test_one_that_ends_early_gives_what_there_is(content, tmp_path):
    path = tmp_path / "deflated"
    path.write_bytes(deflated(content)[:-1000])
    with path.open("rb") as file:
        inflated = open_inflated(file, 0)
        inflated.seek(BYTES - (64 << 10))
        rest = inflated.read()

    assert content[BYTES - (64 << 10) :].startswith(rest)
    assert len(rest) < 64 << 10


def test_the_file_that_was_replaced_gives_its_own_bytes(tmp_path):
    path = tmp_path / "deflated"
    for letter in (b"a", b"b"):
        path.unlink(missing_ok=True)
        path.write_bytes(deflated(letter * (20 << 20)))
        with path.open("rb") as file:
            inflated = open_inflated(file, 0)
            inflated.seek(17 << 20)
            assert inflated.read(1) == letter


def test_frames_of_a_deflated_loop_are_shown_in_any_order(tmp_path):
    frames = np.arange(5 * 64 * 64, dtype="<u2").reshape(5, 64, 64)
    dataset = set_pixels(
        new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), frames, NumberOfFrames=5, Rows=64, Columns=64
    )
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    header = read_header(path)

    for number in (3, 0, 4, 1):
        assert (decode(path, header, number).values == frames[number]).all()
