"""The buffer of a received object is lent: who keeps the request gets a copy, and nobody else."""

import threading

import pytest
from pynetdicom import evt

from lfscp.upperlayer.receiving import sink
from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.receiving.sink import DatasetSink
from lfscp.upperlayer.wire.commands import StoreRequest
from tests.support.dicom_peer import Peer, data_set, message, store_rq, until
from tests.support.serving import serving

BODY = data_set()


def received():
    target = DatasetSink(None, lambda: b"")
    target.reserve(len(BODY))[: len(BODY)] = BODY
    target.commit(len(BODY))
    request = StoreRequest(1, "1.2.840.10008.5.1.4.1.1.2", "1.2.3", 2, None, None)
    return ReceivedStore(request, 3, target)


def objects_of(handle, numbers):
    """What a server's handler makes of objects that are stored one after another."""
    with (
        serving((evt.EVT_C_STORE, handle)) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        for number in numbers:
            peer.send(message(3, store_rq(number, f"1.2.3.{number}"), data_set(f"1.2.3.{number}")))
            assert peer.status() == 0x0000
        peer.release()
        assert until(lambda: not server.active_associations)


def test_a_request_that_nobody_keeps_is_not_copied():
    request = received()
    parts = request.received
    del request
    parts.take_back()
    assert parts.view is None
    assert parts.stream is None


def test_a_request_that_somebody_keeps_is_copied():
    request = received()
    request.received.take_back()
    assert request.dataset is None
    assert request.DataSet.getvalue() == BODY


@pytest.mark.parametrize("kept", ["the event", "the request", "nothing"])
def test_a_server_copies_what_its_handler_keeps_and_nothing_else(kept):
    parts, held = [], []

    def handle(event):
        parts.append(event.request.received)
        if kept != "nothing":
            held.append(event if kept == "the event" else event.request)
        return 0x0000

    objects_of(handle, (1, 2, 3))
    streams = [each.stream and each.stream.getvalue() for each in parts]
    whole = [data_set(f"1.2.3.{number}") for number in (1, 2, 3)]
    assert streams == (whole if held else [None] * 3)


def test_one_buffer_serves_objects_that_nobody_keeps():
    sink._buffers.clear()
    objects_of(lambda event: 0x0000, range(1, 9))
    assert len(sink._buffers) == 1


def test_what_is_kept_in_the_exception_of_a_handler_is_its_own(caplog):
    """A traceback holds the frames of a handler, and those its event; a log may hold both."""
    events = []

    def handle(event):
        if event.request.MessageID == 1:
            raise RuntimeError("on purpose")
        return 0x0000

    with serving((evt.EVT_C_STORE, handle)) as server, Peer(server.server_address) as peer:
        peer.associate()
        for number in (1, 2):
            peer.send(message(3, store_rq(number, f"1.2.3.{number}"), data_set(f"1.2.3.{number}")))
            peer.status()
        peer.release()
    for record in caplog.records:
        trace = record.msg.__traceback__ if isinstance(record.msg, Exception) else None
        while trace is not None:
            events += [trace.tb_frame.f_locals["event"]] if trace.tb_next is None else []
            trace = trace.tb_next
    assert [event.encoded_dataset(include_meta=False) for event in events] == [data_set("1.2.3.1")]


def test_a_thread_that_reads_while_the_buffer_is_taken_back_gets_the_object():
    """By turns: each reader starts before the handler's time ends, and must never see a part."""
    for _ in range(200):
        request, found = received(), []
        began = threading.Event()

        def read(request=request, found=found, began=began):
            began.set()
            found.append(request.DataSet.getvalue())

        reader = threading.Thread(target=read)
        reader.start()
        began.wait()
        request.received.take_back()
        reader.join()
        assert found == [BODY]
