"""Where received data sets go: memory is bounded for all of them together, files take the rest."""

import random

import pytest
from pynetdicom import evt

from lfscp.upperlayer.connection.limits import ReceiveLimits
from lfscp.upperlayer.receiving import sink as module
from lfscp.upperlayer.receiving.sink import BUFFER_BYTES, DatasetSink
from tests.support.dicom_peer import LAST, Peer, data_set, message, p_data, pdv, store_rq
from tests.support.serving import serving

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
    spooled = sink.spooled_file()
    return spooled.path.read_bytes()[spooled.dataset_offset :]


@pytest.fixture
def few(monkeypatch):
    """Room for one sink of these to grow as it likes."""
    monkeypatch.setattr(module, "MAX_GROWN_BYTES", 3 * BUFFER_BYTES)
    assert module._grown_bytes == 0


@pytest.mark.parametrize("write_behind", [False, True])
def test_buffers_do_not_grow_beyond_what_all_may_have(few, tmp_path, write_behind):
    for _ in range(3):  # what one had taken is given back
        sinks = [DatasetSink(tmp_path, lambda: HEAD, write_behind=write_behind) for _ in BODIES]
        feed(sinks)
        grown = [len(sink._buffer) - BUFFER_BYTES for sink in sinks]
        assert 0 < module._grown_bytes <= 3 * BUFFER_BYTES
        assert sum(grown) <= 3 * BUFFER_BYTES + module._KEPT_GROWN_BUFFERS * 3 * BUFFER_BYTES
        assert grown.count(0) >= 1
        assert [content(sink) for sink in sinks] == BODIES
        for sink in sinks:
            sink.discard_file()
            sink.return_buffer()
        assert module._grown_bytes == 0
        module._buffers.clear()
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_for_files_they_grow_all_the_same(few):
    sinks = [DatasetSink(None, lambda: HEAD) for _ in BODIES]
    feed(sinks)
    assert [content(sink) for sink in sinks] == BODIES
    for sink in sinks:
        sink.return_buffer()


def test_an_object_that_would_fill_the_disk_is_given_up(tmp_path):
    said = iter(["", "1 MB is free"])
    sink = DatasetSink(tmp_path, lambda: HEAD, shortage=lambda: next(said))
    kept = []
    for _ in range(20 * BUFFER_BYTES // FRAGMENT):
        view = sink.reserve(FRAGMENT)
        sink.commit(len(view))
        kept.append(len(list(tmp_path.iterdir())))
    assert sink.finish() is None
    assert max(kept) == 1
    assert kept[-1] == 0
    assert sink.error.strerror == "1 MB is free"
    sink.return_buffer()


def test_a_peer_is_told_that_there_is_no_room_for_its_object(tmp_path, caplog):
    limits = ReceiveLimits(shortage=lambda: "1 MB is free")
    stored = []

    def store(event):
        stored.append(event.request.size)
        return 0x0000

    handler = (evt.EVT_C_STORE, store)
    with (
        serving(handler, spool_dir=tmp_path, receive_limits=limits) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        peer.send(message(3, store_rq()))
        peer.send(*[p_data(pdv(3, 0, bytes(FRAGMENT)))] * 100, p_data(pdv(3, LAST, bytes(2))))
        assert peer.status() == 0xA700
        peer.send(message(3, store_rq(), data_set()))  # one that needs no file
        assert peer.status() == 0x0000
        peer.release()
    assert len(stored) == 1
    assert list(tmp_path.iterdir()) == []
    (line,) = [each for each in caplog.messages if "0xA700" in each]
    assert line.endswith("1 MB is free")
