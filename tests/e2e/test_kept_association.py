"""Objects over an association that stays open, to peers that take, refuse, abort and rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage  # type: ignore[attr-defined]

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.scu.errors import PeerError
from lfscp.scu.files import read_instance
from lfscp.scu.kept_association import KeptAssociation
from lfscp.scu.peer import Peer
from lfscp.services.sending.sub_operations import SubOperationOutcome
from tests.support.sample_objects import made

Outcomes = list[tuple[str, SubOperationOutcome]]


class Receiver:
    """An SCP that counts.

    Attributes:
        associations: how many it has accepted.
        received: (SOP Instance UID, transfer syntax) of what it took, in order.
        aborts: UIDs at which it aborts.
    """

    def __init__(self) -> None:
        self.associations = 0
        self.received: list[tuple[str, str]] = []
        self.aborts: set[str] = set()
        self.open: list[Any] = []

    def accept(self, event: evt.Event) -> None:
        self.associations += 1
        self.open.append(event.assoc)

    def store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in self.aborts:
            event.assoc.abort()
            return 0xC000
        self.received.append((uid, str(event.context.transfer_syntax)))
        return 0x0000


@contextmanager
def receiving(*syntaxes: str) -> Iterator[tuple[Receiver, Peer]]:
    receiver, ae = Receiver(), AE("DST")
    for sop_class in (CTImageStorage, MRImageStorage):
        ae.add_supported_context(sop_class, list(syntaxes))
    handlers = [(evt.EVT_ACCEPTED, receiver.accept), (evt.EVT_C_STORE, receiver.store)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        port = server.socket.getsockname()[1]
        yield receiver, Peer("DST", "127.0.0.1", port, calling_ae_title="SRC")
    finally:
        server.shutdown()


def instance(folder: Path, **attributes: Any) -> StoredInstance:
    return read_instance(made(folder, **attributes), lambda _note: None)


def send(kept: KeptAssociation, *instances: StoredInstance) -> Outcomes:
    outcomes: Outcomes = []
    kept.send(instances, lambda each, how, _: outcomes.append((each.sop_instance_uid, how)))
    return outcomes


BOTH = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


def test_objects_of_one_kind_share_an_association_over_several_calls(tmp_path: Path) -> None:
    objects = [instance(tmp_path) for _ in range(4)]
    with receiving(*BOTH) as (receiver, peer):
        kept = KeptAssociation(peer)
        for each in objects:
            assert send(kept, each) == [(each.sop_instance_uid, SubOperationOutcome.COMPLETED)]
        kept.close()
    assert receiver.associations == 1
    assert [uid for uid, _ in receiver.received] == [each.sop_instance_uid for each in objects]


def test_another_kind_opens_an_association_for_both(tmp_path: Path) -> None:
    ct = [instance(tmp_path) for _ in range(3)]
    mr = [instance(tmp_path, SOPClassUID=MRImageStorage) for _ in range(3)]
    mixed = [each for pair in zip(ct, mr, strict=True) for each in pair]
    with receiving(*BOTH) as (receiver, peer):
        kept = KeptAssociation(peer)
        outcomes = send(kept, *mixed)
        kept.close()
    assert [how for _, how in outcomes] == [SubOperationOutcome.COMPLETED] * 6
    assert receiver.associations == 2
    assert [uid for uid, _ in receiver.received] == [each.sop_instance_uid for each in mixed]


def test_an_object_that_breaks_associations_fails_and_the_others_go(tmp_path: Path) -> None:
    objects = [instance(tmp_path) for _ in range(4)]
    with receiving(*BOTH) as (receiver, peer):
        receiver.aborts = {objects[1].sop_instance_uid}
        kept = KeptAssociation(peer)
        outcomes = [how for _, how in send(kept, *objects)]
        kept.close()
    assert [how.is_transferred for how in outcomes] == [True, False, True, True]
    assert len(receiver.received) == 3


def test_a_peer_that_ended_the_association_while_it_rested_is_asked_again(tmp_path: Path) -> None:
    objects = [instance(tmp_path) for _ in range(2)]
    with receiving(*BOTH) as (receiver, peer):
        kept = KeptAssociation(peer)
        send(kept, objects[0])
        receiver.open[0].abort()
        assert send(kept, objects[1])[0][1] is SubOperationOutcome.COMPLETED
        kept.close()
    assert receiver.associations == 2


def test_objects_go_in_the_transfer_syntax_that_is_wanted(tmp_path: Path) -> None:
    with receiving(*BOTH) as (receiver, peer):
        kept = KeptAssociation(peer, transfer_syntax_uid=str(ImplicitVRLittleEndian))
        each = instance(tmp_path)
        assert send(kept, each)[0][1] is SubOperationOutcome.COMPLETED
        kept.close()
    assert receiver.received == [(each.sop_instance_uid, str(ImplicitVRLittleEndian))]


def test_a_peer_that_takes_no_such_objects_refuses_each(tmp_path: Path) -> None:
    with receiving(*BOTH) as (receiver, peer):
        kept = KeptAssociation(peer)
        unknown = instance(tmp_path, SOPClassUID="1.2.840.10008.5.1.4.1.1.128")
        ct = instance(tmp_path)
        outcomes = send(kept, unknown, ct)
        kept.close()
    assert [how.is_transferred for _, how in outcomes] == [False, True]
    assert len(receiver.received) == 1


def test_a_peer_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with receiving(*BOTH) as (_, peer):
        pass
    kept = KeptAssociation(peer)
    with pytest.raises(PeerError) as away:
        send(kept, instance(tmp_path))
    assert "cannot be reached" in str(away.value)
