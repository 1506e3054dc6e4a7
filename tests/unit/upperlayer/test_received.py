"""Where received data sets go: memory is bounded for all of them together, files take the rest."""

import random

import pytest

from lfscp.upperlayer import received
from lfscp.upperlayer.received import BUFFER_BYTES, DatasetSink

HEAD = b"head"
SIZE = 3 * BUFFER_BYTES
FRAGMENT = 100_000
BODIES = [random.Random(seed).randbytes(SIZE) for seed in range(6)]


def feed(sinks):
    """Give each its body, fragment by fragment, in turn."""
    for at in range(0, SIZE, FRAGMENT):
        for sink, body in zip(sinks, BODIES, strict=True):
            rest = body[at : at + FRAGMENT]
            while rest:
                view = sink.reserve(len(rest))
                view[:] = rest[: len(view)]
                sink.commit(len(view))
                rest = rest[len(view) :]
            sink.fragment_ends()


def content(sink):
    view = sink.finish()
    if view is not None:
        return bytes(view)
    spooled = sink.spooled()
    return spooled.path.read_bytes()[spooled.dataset_offset :]


@pytest.fixture
def few(monkeypatch):
    """Room for one sink of these to grow as it likes."""
    monkeypatch.setattr(received, "MAX_GROWN_BYTES", 3 * BUFFER_BYTES)
    assert received._grown_bytes == 0


@pytest.mark.parametrize("write_behind", [False, True])
def test_buffers_do_not_grow_beyond_what_all_may_have(few, tmp_path, write_behind):
    for _ in range(3):  # what one had taken is given back
        sinks = [DatasetSink(tmp_path, lambda: HEAD, write_behind=write_behind) for _ in BODIES]
        feed(sinks)
        grown = [len(sink._buffer) - BUFFER_BYTES for sink in sinks]
        assert 0 < received._grown_bytes <= 3 * BUFFER_BYTES
        assert sum(grown) <= 3 * BUFFER_BYTES + received._KEPT_GROWN_BUFFERS * 3 * BUFFER_BYTES
        assert grown.count(0) >= 1
        assert [content(sink) for sink in sinks] == BODIES
        for sink in sinks:
            sink.discard_file()
            sink.give_back()
        assert received._grown_bytes == 0
        received._buffers.clear()
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_for_files_they_grow_all_the_same(few):
    sinks = [DatasetSink(None, lambda: HEAD) for _ in BODIES]
    feed(sinks)
    assert [content(sink) for sink in sinks] == BODIES
    for sink in sinks:
        sink.give_back()
