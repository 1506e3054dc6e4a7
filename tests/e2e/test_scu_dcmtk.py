"""lfscp as a client of DCMTK's servers: echo, find, get, move, send, and what can go wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt

from lfscp.archive.store.received_objects import Received
from lfscp.scu.echo import echo
from lfscp.scu.errors import PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.find import find
from lfscp.scu.identifiers import FIND_MODELS, identifier, plain
from lfscp.scu.peer import Peer
from lfscp.scu.retrieve import get, move
from lfscp.scu.send import objects_in, send
from lfscp.upperlayer.scu import asking
from tests.support.dcmqrscp import AE_TITLE, dcmqrscp, fill
from tests.support.sample_objects import KINDS, sample
from tests.support.served_archive import CT, EXPLICIT, destination

STUDY = "1.2.826.0.1.3680043.8.498.1"
OTHER_STUDY = "1.2.826.0.1.3680043.8.498.2"


@pytest.fixture
def pacs(dcmtk: Any, tmp_path: Path) -> Iterator[Peer]:
    """A dcmqrscp with a study of three CT, one of one MR, and no destination to move to."""
    with dcmqrscp(tmp_path / "qr") as port:
        files = [
            sample(
                "CT_small.dcm",
                tmp_path / "in",
                StudyInstanceUID=STUDY,
                PatientID="P1",
                PatientName="Müller^Jürgen",
                SpecificCharacterSet="ISO_IR 100",
                SOPInstanceUID=f"{STUDY}.{number}",
            )
            for number in range(3)
        ]
        files.append(
            sample(
                "MR_small.dcm",
                tmp_path / "in",
                StudyInstanceUID=OTHER_STUDY,
                PatientID="P2",
                PatientName="Doe^Jane",
            )
        )
        fill(port, *files)
        yield Peer(AE_TITLE, "127.0.0.1", port, calling_ae_title="LFSCP")


class Kept:
    """Keeps what a C-GET brings."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}

    def __call__(self, received: Received) -> int:
        assert received.dataset is not None
        self.objects[received.sop_instance_uid] = (
            received.transfer_syntax_uid,
            bytes(received.dataset),
        )
        return 0x0000


def study(uid: str = STUDY) -> Any:
    return identifier({"StudyInstanceUID": uid}, "STUDY")


def test_echo_says_who_is_there(pacs: Peer) -> None:
    answer = echo(pacs)
    assert answer.implementation_version_name.startswith("OFFIS_DCMTK")


def test_find_decodes_names_in_their_character_set(pacs: Peer) -> None:
    keys = {"PatientName": "M*", "StudyInstanceUID": "", "PatientID": ""}
    matches = [plain(match) for match in find(pacs, identifier(keys, "STUDY"))]
    assert [(match["PatientName"], match["StudyInstanceUID"]) for match in matches] == [
        ("Müller^Jürgen", STUDY)
    ]


def test_a_find_that_is_cancelled_ends(pacs: Peer) -> None:
    cancel = threading.Event()
    cancel.set()
    keys = {"StudyInstanceUID": "", "PatientID": ""}
    assert list(find(pacs, identifier(keys, "STUDY"), cancel=cancel)) == []


def test_get_brings_the_bytes_that_the_peer_has(pacs: Peer, dcmtk: Any, tmp_path: Path) -> None:
    kept, seen = Kept(), []
    result = get(pacs, study(), on_object=kept, progress=seen.append)
    assert (result.status, result.completed, result.failed) == (0x0000, 3, 0)
    # dcmqrscp writes what it got anew, but for the pixels.
    stored = [dcmtk.dataset_bytes(file) for file in (tmp_path / "qr" / "storage").glob("CT_*")]
    assert sorted(content for _, content in kept.objects.values()) == sorted(stored)
    assert [each.completed for each in seen] == [1, 2, 3]


def test_get_of_a_large_object_goes_to_disk(dcmtk: Any, tmp_path: Path) -> None:
    with dcmqrscp(tmp_path / "qr") as port:
        pixels = bytes(8 << 20)
        file = sample(
            "CT_small.dcm",
            tmp_path / "in",
            StudyInstanceUID=STUDY,
            PixelData=pixels,
            Rows=2048,
            Columns=2048,
        )
        fill(port, file)
        spool = tmp_path / "spool"
        spool.mkdir()
        taken = []

        def take(received: Received) -> int:
            assert received.spooled_path is not None
            target = Path(received.spooled_path).rename(tmp_path / "taken.dcm")
            taken.append(dcmread(target).PixelData)
            return 0x0000

        peer = Peer(AE_TITLE, "127.0.0.1", port)
        result = get(peer, study(), on_object=take, spool_dir=spool)
        assert (result.completed, taken == [pixels]) == (1, True)
        assert list(spool.iterdir()) == []


def test_move_sends_to_the_destination_that_the_peer_knows(dcmtk: Any, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with dcmtk.storescp(there) as port, dcmqrscp(tmp_path / "qr", DEST=port) as qr_port:
        fill(qr_port, sample("CT_small.dcm", tmp_path / "in", StudyInstanceUID=STUDY))
        peer = Peer(AE_TITLE, "127.0.0.1", qr_port)
        result = move(peer, study(), "DEST")
        assert (result.status, result.completed) == (0x0000, 1)
        assert dcmtk.contents(there).keys() == dcmtk.contents(tmp_path / "in").keys()


def test_a_destination_that_the_peer_does_not_know_is_said(pacs: Peer) -> None:
    with pytest.raises(PeerError) as caught:
        move(pacs, study(), "NOBODY")
    assert (caught.value.kind, caught.value.status) == (PeerErrorKind.REFUSED, 0xA801)
    assert not caught.value.passing


def test_send_brings_every_kind_of_object_byte_for_byte(dcmtk: Any, tmp_path: Path) -> None:
    for kind in KINDS[:6]:
        sample(kind.file, tmp_path / "in")
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    others: list[tuple[str, str]] = []
    there = tmp_path / "there"
    objects = objects_in([tmp_path / "in"], on_other=lambda *other: others.append(other))
    with dcmtk.storescp(there) as port:
        result = send(Peer("STORESCP", "127.0.0.1", port), objects)
    assert (result.completed, result.failed, result.left) == (6, [], 0)
    (tmp_path / "in" / "notes.txt").unlink()
    assert dcmtk.contents(there) == dcmtk.contents(tmp_path / "in")
    assert [(file.name, reason) for file, reason in others] == [
        ("notes.txt", "no DICOM file: the prefix DICM is missing")
    ]


def test_what_the_receiver_does_not_take_fails_alone(dcmtk: Any, tmp_path: Path) -> None:
    sample("CT_small.dcm", tmp_path / "in")
    sample("reportsi.dcm", tmp_path / "in")
    objects = objects_in([tmp_path / "in"], on_other=lambda *_: None)
    with destination([(CT, [EXPLICIT])]) as there:
        result = send(Peer("DEST", "127.0.0.1", there.port), objects)
    assert result.completed == 1
    assert [reason for _, reason in result.failed] == ["the receiver does not take its SOP class"]


# What can go wrong


def test_nobody_there_is_said_at_once(dcmtk: Any) -> None:
    with pytest.raises(PeerError) as caught:
        echo(Peer("X", "127.0.0.1", dcmtk.free_port()))
    assert caught.value.kind is PeerErrorKind.UNREACHABLE
    assert "cannot be reached: Connection refused" in str(caught.value)
    assert caught.value.passing


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer("X", "127.0.0.1", silent.getsockname()[1], acse_timeout_s=0.3)
        with pytest.raises(PeerError, match=r"did not answer within 0\.3 s") as caught:
            echo(peer)
    assert caught.value.kind is PeerErrorKind.TIMED_OUT
    assert caught.value.passing


def test_a_server_that_is_no_dicom_server_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PeerError) as caught:
            echo(Peer("X", "127.0.0.1", other.getsockname()[1], acse_timeout_s=5))
        thread.join(10)
    assert caught.value.kind is PeerErrorKind.ABORTED


def test_a_wrong_called_ae_title_is_said_in_the_peer_s_words(pacs: Peer) -> None:
    with pytest.raises(PeerError) as caught:
        echo(replace(pacs, ae_title="WRONG"))
    assert caught.value.kind is PeerErrorKind.REJECTED
    assert "Called AE title not recognised" in str(caught.value)
    assert not caught.value.passing


def test_a_service_that_the_peer_does_not_have_is_said(dcmtk: Any, tmp_path: Path) -> None:
    with dcmtk.storescp(tmp_path / "there") as port:
        peer = Peer("STORESCP", "127.0.0.1", port)
        with pytest.raises(UnsupportedError, match="does not support queries"):
            list(find(peer, study()))
        with pytest.raises(UnsupportedError, match="does not support C-GET"):
            get(peer, study(), on_object=Kept())


# The peer is pynetdicom's server, which leaves the socket of a broken association open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_ignores_a_c_cancel_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "CANCEL_PATIENCE_S", 0.1)
    cancel, left = threading.Event(), threading.Event()

    def answer_for_ever(_event: Any) -> Iterator[Any]:
        while not left.is_set():
            yield 0xFF00, study()
            cancel.set()
            left.wait(0.01)

    ae = AE("STUBBORN")
    ae.add_supported_context(FIND_MODELS["study"])
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer_for_ever)]
    )
    try:
        peer = Peer("STUBBORN", "127.0.0.1", server.server_address[1])
        with pytest.raises(PeerError, match="after a C-CANCEL"):
            list(find(peer, study(), cancel=cancel))
    finally:
        left.set()
        for served in server.active_associations:
            served.join(10)  # it closes its socket, which a shutdown would leave open
        ae.shutdown()
