"""How an association ends when the peer says odd things at its end."""

import pytest
from dicom_peer import ABORT, Peer, associate_rq, nothing_left_behind, pdu, until
from serving import make_ae, serving

GARBAGE = pdu(0x99, b"")


@pytest.mark.parametrize("before", [b"", associate_rq()], ids=["no request", "established"])
def test_a_stream_of_garbage_is_answered_once(before):
    with nothing_left_behind(), serving(ae=make_ae(acse_timeout=5)) as server:
        with Peer(server.server_address) as peer:
            peer.send(before, GARBAGE * 500)
            if before:
                peer.pdu()
            assert peer.pdu()[0] == ABORT
            peer.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):  # it waits for the peer to close, and says no more
                peer.pdu()
        assert until(lambda: not server.active_associations)


@pytest.mark.parametrize("source", [1, 2, 255])
@pytest.mark.parametrize("reason", [3, 200])
@pytest.mark.parametrize("before", [b"", associate_rq()], ids=["no request", "established"])
def test_an_abort_of_a_source_and_reason_that_mean_nothing_is_an_abort(
    caplog, before, source, reason
):
    with serving() as server:
        with Peer(server.server_address) as peer:
            peer.send(before, pdu(ABORT, bytes([0, 0, source, reason])))
            if before:
                peer.pdu()
            assert peer.pdu() is None
        assert until(lambda: not server.active_associations)
    assert not [record for record in caplog.records if record.exc_info]
