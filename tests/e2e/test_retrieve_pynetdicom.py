"""C-MOVE and C-GET asked for by pynetdicom over real sockets: objects, counters, failures."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import RLELossless, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from lfscp.archive.archive import StoredInstance
from lfscp.dicom.values.attributes import Level
from tests.support.dicom_peer import DATA_SET, Peer, command, element, message, uid, us
from tests.support.served_archive import (
    CT,
    EXPLICIT,
    IMPLICIT,
    MR,
    Destination,
    Node,
    compressed,
    destination,
    image,
    served,
)

MOVE = StudyRootQueryRetrieveInformationModelMove
GET = StudyRootQueryRetrieveInformationModelGet
STUDY = "1.2.826.0.1.1"
SERIES = "1.2.826.0.1.1.1"
Response = tuple[Dataset, Dataset | None]


def identifier(level: str = "STUDY", **keys: Any) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in (keys or {"StudyInstanceUID": STUDY}).items():
        tag = Tag(keyword)
        vr = dictionary_VR(tag)
        asked.add(DataElement(tag, vr, value, validation_mode=IGNORE))  # wrong ones are meant
    return asked


def counters(status: Dataset) -> tuple[int | None, int, int, int]:
    """Remaining (None when absent), completed, failed, warning."""
    return (
        status.get("NumberOfRemainingSuboperations"),
        status.NumberOfCompletedSuboperations,
        status.NumberOfFailedSuboperations,
        status.NumberOfWarningSuboperations,
    )


def fill(node: Node, count: int = 3, **options: Any) -> dict[str, bytes]:
    objects = (image(study=STUDY, series=SERIES, **options) for _ in range(count))
    return {str(one.SOPInstanceUID): node.store(one) for one in objects}


def peer(port: int, *may: str) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, **({"may": list(may)} if may else {})}


def move(
    node: Node, asked: Dataset, to: str = "DEST", *, calling: str = "ASKER", model: str = MOVE
) -> list[Response]:
    ae = AE(calling)
    ae.add_requested_context(model)
    association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
    assert association.is_established
    responses = list(association.send_c_move(asked, to, model, msg_id=7))
    association.release()
    return responses


@contextmanager
def asking(node: Node) -> Iterator[Peer]:
    """A peer that may send what no toolkit would."""
    with Peer(("127.0.0.1", node.port)) as asker:
        asker.associate([(1, MOVE, (IMPLICIT,))], called="LFSCP")
        yield asker
        asker.release()


def raw_move(asker: Peer, to: bytes | None) -> dict[int, bytes]:
    """The answer to a C-MOVE of nothing with these bytes as destination, or without one."""
    elements = [uid(0x0002, MOVE), us(0x0100, 0x0021), us(0x0110, 7), us(0x0700, 0)]
    if to is not None:
        elements.append(element(0x0600, to))
    keys = b"\x08\0\x52\0\x06\0\0\0STUDY \x20\0\x0d\0\x06\0\0\x001.2.3\0"
    asker.send(message(1, command(*elements, us(0x0800, DATA_SET)), keys))
    _, answer, _ = asker.message()
    return dict(answer)


@contextmanager
def getter(
    node: Node, contexts: list[tuple[str, list[str]]], answer: int = 0x0000
) -> Iterator[tuple[Association, dict[str, tuple[str, bytes]]]]:
    """An association for C-GET that takes objects in `contexts`, and what it has got."""
    got: dict[str, tuple[str, bytes]] = {}

    def keep(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        syntax = str(event.context.transfer_syntax)
        got[uid] = (syntax, event.encoded_dataset(include_meta=False))
        return answer

    ae = AE("ASKER")
    ae.add_requested_context(GET)
    ae.add_requested_context(PatientRootQueryRetrieveInformationModelGet)
    for sop_class, syntaxes in contexts:
        ae.add_requested_context(sop_class, syntaxes)
    roles = [build_role(sop_class, scp_role=True) for sop_class, _ in contexts]
    association = ae.associate(
        "127.0.0.1",
        node.port,
        ae_title="LFSCP",
        ext_neg=roles,
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    assert association.is_established
    yield association, got
    if association.is_established:
        association.release()


class TestMove:
    def test_objects_arrive_byte_for_byte_with_their_originator(self, tmp_path: Path) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            stored = fill(node)

            responses = move(node, identifier())

        assert {uid: data for uid, (_, data) in there.objects.items()} == stored
        assert there.originators == {("ASKER", 7)}
        assert there.associations == 1
        *pending, (final, nothing) = responses
        assert [status.Status for status, _ in pending] == [0xFF00] * 3
        assert [counters(status) for status, _ in pending] == [
            (2, 1, 0, 0),
            (1, 2, 0, 0),
            (0, 3, 0, 0),
        ]
        assert final.Status == 0x0000
        assert counters(final) == (None, 3, 0, 0)
        assert nothing is None

    @pytest.mark.parametrize(
        ("level", "keys", "expected"),
        [
            ("SERIES", {"SeriesInstanceUID": "1.2.826.0.1.1.2"}, ["1.2.826.0.1.1.2"]),
            (
                "SERIES",
                {"SeriesInstanceUID": [SERIES, "1.2.826.0.1.1.3"]},
                [SERIES, "1.2.826.0.1.1.3"],
            ),
        ],
    )
    def test_series_and_lists_of_series(
        self, tmp_path: Path, level: str, keys: dict[str, Any], expected: list[str]
    ) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            by_series = {}
            for number in (1, 2, 3):
                one = image(study=STUDY, series=f"1.2.826.0.1.1.{number}")
                node.store(one)
                by_series[str(one.SeriesInstanceUID)] = str(one.SOPInstanceUID)

            responses = move(node, identifier(level, StudyInstanceUID=STUDY, **keys))

        assert responses[-1][0].Status == 0x0000
        assert set(there.objects) == {by_series[uid] for uid in expected}

    def test_nothing_matches(self, tmp_path: Path) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            ((final, _),) = move(node, identifier(StudyInstanceUID="1.2.3"))

        assert final.Status == 0x0000
        assert counters(final) == (None, 0, 0, 0)
        assert there.associations == 0

    @pytest.mark.parametrize("may", [None, ("echo", "store", "query", "retrieve")])
    def test_unknown_or_forbidden_destination_is_never_contacted(
        self, tmp_path: Path, may: tuple[str, ...] | None
    ) -> None:
        with destination([(CT, [EXPLICIT])]) as there:
            peers = {"DEST": peer(there.port, *may)} if may else {}
            with served(tmp_path, peers=peers) as node:
                fill(node)
                ((final, _),) = move(node, identifier())

        assert final.Status == 0xA801
        assert final.ErrorComment == "DEST is no move destination here"
        assert there.associations == 0

    def test_a_dicomweb_server_is_no_destination(self, tmp_path: Path) -> None:
        with served(tmp_path, peers={"DEST": {"url": "http://127.0.0.1:1/dicom-web"}}) as node:
            fill(node)
            ((final, _),) = move(node, identifier())

        assert final.Status == 0xA801
        assert final.ErrorComment == "DEST is a DICOMweb peer, and no move destination here"

    def test_a_destination_that_is_no_ae_title_is_unknown(self, tmp_path: Path) -> None:
        empty = "the empty AE title"
        named: dict[bytes | None, str] = {
            **dict.fromkeys((None, b"", b"    ", b"\0\0"), empty),
            b"A" * 18: "A" * 18,
            b"DE\x1bST ": "DE/x1bST",
            "DÜST ".encode("latin-1"): "D/xdcST",
            b"DE\\ST ": "DE/ST",
        }
        with served(tmp_path, peers={"DEST": peer(104)}) as node, asking(node) as asker:
            for sent, name in named.items():
                answer = raw_move(asker, sent)
                assert answer[0x0900] == b"\x01\xa8"
                comment = answer[0x0902].decode().strip()
                assert comment == f"{name} is no move destination here"

    @pytest.mark.parametrize("padded", [b"DEST\0\0", b"  DEST", b"DEST  "])
    def test_padding_is_no_part_of_a_destination(self, tmp_path: Path, padded: bytes) -> None:
        with served(tmp_path, peers={"DEST": peer(104)}) as node, asking(node) as asker:
            assert raw_move(asker, padded)[0x0900] == b"\0\0", "there was nothing to move"

    def test_unreachable_destination_fails_all_of_them(self, tmp_path: Path) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
            peers = {"DEST": peer(nobody.getsockname()[1])}
            with served(tmp_path, peers=peers) as node:
                stored = fill(node)
                *_, (final, failed) = move(node, identifier())

        assert final.Status == 0xA702
        assert final.ErrorComment.endswith(" cannot be reached: Connection refused")
        assert counters(final) == (None, 0, 3, 0)
        assert failed is not None
        assert set(failed.FailedSOPInstanceUIDList) == set(stored)

    def test_rejecting_destination_fails_all_of_them(self, tmp_path: Path) -> None:
        with destination([(CT, [EXPLICIT])]) as there:
            peers = {"ANOTHER": peer(there.port)}
            with served(tmp_path, peers=peers) as node:
                stored = fill(node)
                *_, (final, failed) = move(node, identifier(), "ANOTHER")

        assert final.Status == 0xA702
        assert "rejected the association" in final.ErrorComment
        assert failed is not None
        assert set(failed.FailedSOPInstanceUIDList) == set(stored)

    def test_one_failure_does_not_end_the_move(self, tmp_path: Path) -> None:
        refused: list[str] = []

        def refuse_the_first(there: Destination, event: evt.Event) -> int:
            if not refused:
                refused.append(str(event.request.AffectedSOPInstanceUID))
                return 0xA700
            return there.keep(event)

        with (
            destination([(CT, [EXPLICIT])], refuse_the_first) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            fill(node)
            *_, (final, failed) = move(node, identifier())

        assert final.Status == 0xB000
        assert counters(final) == (None, 2, 1, 0)
        assert failed is not None
        assert failed.FailedSOPInstanceUIDList == refused[0]

    @pytest.mark.parametrize("remark", [0xB000, 0xB007, 0x0111])
    def test_remarks_of_the_receiver_are_warnings(self, tmp_path: Path, remark: int) -> None:
        with (
            destination([(CT, [EXPLICIT])], lambda *_: remark) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            fill(node, 2)
            *_, (final, failed) = move(node, identifier())

        assert final.Status == 0xB000
        assert counters(final) == (None, 0, 0, 2)
        assert failed is None or "FailedSOPInstanceUIDList" not in failed

    def test_class_the_receiver_refuses_fails_alone(self, tmp_path: Path) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            fill(node, 1)
            refused = set(fill(node, 1, sop_class=MR))
            *_, (final, failed) = move(node, identifier())

        assert final.Status == 0xB000
        assert counters(final) == (None, 1, 1, 0)
        assert failed is not None
        assert {failed.FailedSOPInstanceUIDList} == refused

    def test_missing_file_fails_alone(self, tmp_path: Path) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            gone, *_ = fill(node)
            next(tmp_path.rglob(f"{gone}*")).unlink()
            *_, (final, failed) = move(node, identifier())

        assert final.Status == 0xB000
        assert counters(final) == (None, 2, 1, 0)
        assert failed is not None
        assert failed.FailedSOPInstanceUIDList == gone

    def test_object_replaced_meanwhile_is_sent_from_its_new_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            stored = fill(node, 2)
            select = node.archive.select

            def select_outdated(level: Level, keys: Any, *_: Any) -> list[StoredInstance]:
                found = select(level, keys)
                if level is Level.IMAGE:
                    return found
                return [replace(one, path=tmp_path / "replaced.dcm") for one in found]

            monkeypatch.setattr(node.archive, "select", select_outdated)
            *_, (final, _) = move(node, identifier())

        assert final.Status == 0x0000
        assert {uid: data for uid, (_, data) in there.objects.items()} == stored

    @pytest.mark.parametrize("study", [STUDY, "1.2.826.0.1.99"])
    def test_object_stored_again_meanwhile_is_sent_whole_if_it_is_in_the_same_study(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str
    ) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            [known] = fill(node, 1)
            select = node.archive.select
            again = image(study=study, series=SERIES, ImageComments="longer " * 100 + "X")
            again.SOPInstanceUID = known
            stored = [b""]

            def select_before(level: Level, keys: Any, *_: Any) -> Any:
                found = list(select(level, keys))
                if level is not Level.IMAGE:
                    node.archive.delete(Level.IMAGE, known)
                    stored[0] = node.store(again)
                return found

            monkeypatch.setattr(node.archive, "select", select_before)
            *_, (final, _) = move(node, identifier())

        is_there = study == STUDY
        assert final.Status == (0x0000 if is_there else 0xA702)
        assert [data for _, data in there.objects.values()] == (stored if is_there else [])

    def test_compressed_goes_as_it_is_to_whom_takes_it(self, tmp_path: Path) -> None:
        with (
            destination([(CT, [EXPLICIT, IMPLICIT, RLELossless])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            one = compressed(image(study=STUDY, series=SERIES), RLELossless)
            data = node.store(one)
            responses = move(node, identifier())

        assert responses[-1][0].Status == 0x0000
        assert there.objects == {str(one.SOPInstanceUID): (RLELossless, data)}

    @pytest.mark.parametrize("takes", [[EXPLICIT], [IMPLICIT]])
    def test_compressed_is_decoded_for_whom_takes_only_uncompressed(
        self, tmp_path: Path, takes: list[str]
    ) -> None:
        original = image(study=STUDY, series=SERIES)
        pixels = bytes(original.PixelData)
        seen: list[Dataset] = []

        def keep_decoded(there: Destination, event: evt.Event) -> int:
            seen.append(event.dataset)
            return there.keep(event)

        with (
            destination([(CT, takes)], keep_decoded) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            node.store(compressed(original, RLELossless))
            responses = move(node, identifier())

        assert responses[-1][0].Status == 0x0000
        assert seen[0].PixelData == pixels
        assert seen[0].SOPInstanceUID == original.SOPInstanceUID

    def test_decoding_can_be_turned_off(self, tmp_path: Path) -> None:
        with destination([(CT, [EXPLICIT])]) as there:
            options = {"decode_when_needed": False}
            peers = {"DEST": peer(there.port)}
            with served(tmp_path, peers=peers, retrieve=options) as node:
                node.store(compressed(image(study=STUDY, series=SERIES), RLELossless))
                *_, (final, _) = move(node, identifier())

        assert final.Status == 0xA702
        assert not there.objects

    def test_more_than_128_contexts_take_several_associations(self, tmp_path: Path) -> None:
        classes = [str(cx.abstract_syntax) for cx in AllStoragePresentationContexts[:70]]
        with (
            destination([(uid, [EXPLICIT]) for uid in classes]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            stored: dict[str, bytes] = {}
            for sop_class in classes:
                stored |= fill(node, 1, sop_class=sop_class)
            *_, (final, _) = move(node, identifier())

        assert final.Status == 0x0000
        assert set(there.objects) == set(stored)
        assert [len(proposed) for proposed in there.proposed] == [128, 12]

    def test_association_of_which_nothing_is_accepted_fails_alone(self, tmp_path: Path) -> None:
        classes = [str(cx.abstract_syntax) for cx in AllStoragePresentationContexts[:70]]
        with (
            destination([(classes[-1], [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            for sop_class in classes:
                stored = fill(node, 1, sop_class=sop_class)
            *_, (final, _) = move(node, identifier())

        assert final.Status == 0xB000
        assert counters(final) == (None, 1, 69, 0)
        assert "accepts none of the SOP classes" in final.ErrorComment
        assert set(there.objects) == set(stored)

    def test_broken_association_is_opened_anew_for_the_rest(self, tmp_path: Path) -> None:
        broken: list[str] = []

        def abort_once(there: Destination, event: evt.Event) -> int:
            if len(there.objects) == 1 and not broken:
                broken.append(str(event.request.AffectedSOPInstanceUID))
                event.assoc.abort()
                return 0x0000
            return there.keep(event)

        with (
            destination([(CT, [EXPLICIT])], abort_once) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            stored = fill(node, 4)
            *_, (final, failed) = move(node, identifier())

        assert there.associations == 2
        assert counters(final) == (None, 3, 1, 0)
        assert final.Status == 0xB000
        assert failed is not None
        assert failed.FailedSOPInstanceUIDList == broken[0]
        assert set(there.objects) == set(stored) - set(broken)

    def test_destination_that_always_breaks_is_given_up(self, tmp_path: Path) -> None:
        def always_abort(there: Destination, event: evt.Event) -> int:
            event.assoc.abort()
            return 0x0000

        with (
            destination([(CT, [EXPLICIT])], always_abort) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            stored = fill(node, 5)
            *_, (final, failed) = move(node, identifier())

        assert there.associations == 2
        assert final.Status == 0xA702
        assert counters(final) == (None, 0, 5, 0)
        assert failed is not None
        assert set(failed.FailedSOPInstanceUIDList) == set(stored)

    def test_cancel_stops_the_move(self, tmp_path: Path) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            fill(node, 200)
            ae = AE("ASKER")
            ae.add_requested_context(MOVE)
            association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
            final = None
            for status, _ in association.send_c_move(identifier(), "DEST", MOVE, msg_id=9):
                if final is None:
                    association.send_c_cancel(9, query_model=MOVE)
                final = status
            association.release()

        assert final is not None
        assert final.Status == 0xFE00
        remaining, completed, failed, warning = counters(final)
        assert remaining is not None
        assert remaining > 0
        assert remaining + completed + failed + warning == 200
        assert completed == len(there.objects)

    def test_requestor_that_goes_away_ends_the_move(self, tmp_path: Path) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            fill(node, 300)
            ae = AE("ASKER")
            ae.add_requested_context(MOVE)
            association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
            for _ in association.send_c_move(identifier(), "DEST", MOVE):
                association.abort()
                break
        # served() has drained: the move ended, and not for want of objects
        assert 0 < len(there.objects) < 300

    @pytest.mark.parametrize(
        ("asked", "guilty"),
        [
            (identifier("PATIENT", PatientID="P1"), 0x00080052),
            (identifier("STUDY", StudyInstanceUID=""), 0x0020000D),
            (identifier("STUDY", PatientID="P1"), 0x0020000D),
            (identifier("SERIES", SeriesInstanceUID=SERIES), 0x0020000D),
            (identifier("STUDY", StudyInstanceUID="1.2.*"), 0x0020000D),
        ],
        ids=["level", "empty", "missing", "no-study", "wildcard"],
    )
    def test_wrong_identifier_is_never_everything(
        self, tmp_path: Path, asked: Dataset, guilty: int
    ) -> None:
        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            fill(node, 1)
            ((final, _),) = move(node, asked)

        assert final.Status == 0xA900
        assert final.OffendingElement == guilty
        assert final.ErrorComment
        assert not there.objects

    def test_peer_that_may_not_retrieve(self, tmp_path: Path) -> None:
        with destination([(CT, [EXPLICIT])]) as there:
            peers = {"DEST": peer(there.port), "SENDER": peer(104, "store")}
            with served(tmp_path, peers=peers) as node:
                fill(node, 1)
                ((final, _),) = move(node, identifier(), calling="SENDER")

        assert final.Status == 0x0124
        assert not there.objects

    def test_unreadable_index_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_index(*_: object) -> None:
            raise RuntimeError("index is down")

        with (
            destination([(CT, [EXPLICIT])]) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            monkeypatch.setattr(node.archive, "select", no_index)
            ((final, _),) = move(node, identifier())

        assert final.Status == 0xA701
        assert final.ErrorComment == "the index cannot be read, see the log"

    def test_slow_destination_does_not_leave_the_requestor_in_silence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lfscp.services.query_retrieve.c_move_c_get.PENDING_INTERVAL_S", 0.0)
        said = _Gate()

        def answer_when_told(there: Destination, event: evt.Event) -> int:
            assert said.wait(), "no pending response came while the destination was busy"
            return there.keep(event)

        with (
            destination([(CT, [EXPLICIT])], answer_when_told) as there,
            served(tmp_path, peers={"DEST": peer(there.port)}) as node,
        ):
            fill(node, 1)
            ae = AE("ASKER")
            ae.add_requested_context(MOVE)
            association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
            responses = []
            for status, _ in association.send_c_move(identifier(), "DEST", MOVE):
                responses.append(status)
                said.open()
            association.release()

        assert counters(responses[0]) == (1, 0, 0, 0)  # before the only object was answered
        assert counters(responses[-1]) == (None, 1, 0, 0)


class _Gate:
    """Holds a destination back until a pending response was seen."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> bool:
        return self._event.wait(20)


class TestGet:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, RLELossless])
    def test_objects_come_back_byte_for_byte(self, tmp_path: Path, syntax: str) -> None:
        with served(tmp_path) as node:
            stored = {}
            for _ in range(3):
                one = image(study=STUDY, series=SERIES)
                if syntax == RLELossless:
                    compressed(one, RLELossless)
                one.file_meta.TransferSyntaxUID = syntax
                stored[str(one.SOPInstanceUID)] = (syntax, node.store(one))
            with getter(node, [(CT, [syntax])]) as (association, got):
                *pending, (final, _) = list(association.send_c_get(identifier(), GET))

        assert got == stored
        assert [counters(status) for status, _ in pending] == [
            (2, 1, 0, 0),
            (1, 2, 0, 0),
            (0, 3, 0, 0),
        ]
        assert final.Status == 0x0000
        assert counters(final) == (None, 3, 0, 0)

    def test_image_level_with_a_list(self, tmp_path: Path) -> None:
        with served(tmp_path) as node:
            wanted = list(fill(node, 5))[1:4]
            asked = identifier(
                "IMAGE",
                StudyInstanceUID=STUDY,
                SeriesInstanceUID=SERIES,
                SOPInstanceUID=wanted,
            )
            with getter(node, [(CT, [EXPLICIT])]) as (association, got):
                *_, (final, _) = association.send_c_get(asked, GET)

        assert final.Status == 0x0000
        assert set(got) == set(wanted)

    def test_patient_level_in_patient_root(self, tmp_path: Path) -> None:
        with served(tmp_path) as node:
            fill(node, 2)
            other = image(study=generate_uid(), series=generate_uid(), PatientID="P2")
            node.store(other)
            asked = identifier("PATIENT", PatientID="P2")
            with getter(node, [(CT, [EXPLICIT])]) as (association, got):
                model = PatientRootQueryRetrieveInformationModelGet
                *_, (final, _) = association.send_c_get(asked, model)

        assert final.Status == 0x0000
        assert set(got) == {str(other.SOPInstanceUID)}

    def test_compressed_is_decoded_when_only_uncompressed_was_agreed_on(
        self, tmp_path: Path
    ) -> None:
        with served(tmp_path) as node:
            one = image(study=STUDY, series=SERIES)
            pixels = bytes(one.PixelData)
            node.store(compressed(one, RLELossless))
            with getter(node, [(CT, [IMPLICIT, EXPLICIT])]) as (association, got):
                *_, (final, _) = association.send_c_get(identifier(), GET)

        assert final.Status == 0x0000
        syntax, data = got[str(one.SOPInstanceUID)]
        assert syntax == EXPLICIT
        assert data.endswith(pixels)

    def test_class_without_context_fails_alone(self, tmp_path: Path) -> None:
        with served(tmp_path) as node:
            fill(node, 2)
            refused = set(fill(node, 1, sop_class=MR))
            with getter(node, [(CT, [EXPLICIT])]) as (association, got):
                *_, (final, failed) = association.send_c_get(identifier(), GET)

        assert final.Status == 0xB000
        assert counters(final) == (None, 2, 1, 0)
        assert failed is not None
        assert {failed.FailedSOPInstanceUIDList} == refused
        assert len(got) == 2

    def test_without_the_scp_role_nothing_is_sent(self, tmp_path: Path) -> None:
        with served(tmp_path) as node:
            fill(node, 1)
            ae = AE("ASKER")
            ae.add_requested_context(GET)
            ae.add_requested_context(CT, EXPLICIT)
            association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
            *_, (final, _) = association.send_c_get(identifier(), GET)
            association.release()

        assert final.Status == 0xA702
        assert counters(final) == (None, 0, 1, 0)

    def test_cancel_stops_the_get(self, tmp_path: Path) -> None:
        with served(tmp_path) as node:
            fill(node, 200)
            with getter(node, [(CT, [EXPLICIT])]) as (association, got):
                final = None
                for status, _ in association.send_c_get(identifier(), GET, msg_id=5):
                    if final is None:
                        association.send_c_cancel(5, query_model=GET)
                    final = status

        assert final is not None
        assert final.Status == 0xFE00
        remaining, completed, *_ = counters(final)
        assert remaining is not None
        assert remaining + completed == 200
        assert completed == len(got)

    def test_object_larger_than_a_pdu(self, tmp_path: Path) -> None:
        with served(tmp_path) as node:
            one = image(study=STUDY, series=SERIES, Rows=1024, Columns=512)
            one.PixelData = bytes(range(256)) * 4096
            data = node.store(one)
            with getter(node, [(CT, [EXPLICIT])]) as (association, got):
                *_, (final, _) = association.send_c_get(identifier(), GET)

        assert final.Status == 0x0000
        assert got[str(one.SOPInstanceUID)] == (EXPLICIT, data)
