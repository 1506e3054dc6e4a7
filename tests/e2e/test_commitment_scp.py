"""Storage commitment asked of a node by pynetdicom: answers, verification, and where it reports."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import event

from lfscp.archive.store.space import Space
from lfscp.archive.workflow.commitment.commitment import Commitment, State
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.commitment.verification import Verification
from lfscp.config import Settings
from lfscp.services.commitment import reporter as reporting
from lfscp.services.commitment import same_association
from lfscp.services.commitment.reporter import Reporter
from lfscp.services.commitment.request import MAX_REFERENCES
from lfscp.services.contexts import UNCOMPRESSED
from lfscp.upperlayer.scp import idle_calls
from tests.support.dicom_peer import until
from tests.support.modality import Modality, Named, action_information, ask, send, send_bytes
from tests.support.served_archive import CT, MR, Node, image, served

STUDY, SERIES = "1.2.826.0.2.9", "1.2.826.0.2.9.1"
TRANSACTION = "1.2.826.0.2.9.77"
NO_SUCH, CONFLICT, DAMAGED = 0x0112, 0x0119, 0x0110


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report follows sooner than in use, on the association and on a new one."""
    monkeypatch.setattr(idle_calls, "QUIET_S", 0.05)
    monkeypatch.setattr(reporting, "_LOOK_S", 0.1)


def stored(node: Node, count: int = 1) -> list[Named]:
    """Objects that are put into the archive."""
    images = [image(study=STUDY, series=SERIES) for _ in range(count)]
    for each in images:
        node.store(each)
    return [(CT, str(each.SOPInstanceUID)) for each in images]


def file_of(node: Node, instance: str) -> Path:
    return node.archive.files.root / STUDY / SERIES / f"{instance}.dcm"


@contextmanager
def reporter(node: Node, port: int | None = None, **settings: Any) -> Iterator[None]:
    """The node's reporter, which knows the modality when it listens on `port`."""
    peers = {} if port is None else {"MODALITY": {"host": "127.0.0.1", "port": port}}
    chosen = {"data_dir": node.archive.data_dir, "peers": peers, **settings}
    running = Reporter(node.archive, Settings.model_validate(chosen))
    running.start()
    try:
        yield
    finally:
        running.stop()


def commitments(node: Node) -> list[Commitment]:
    return Commitments(node.archive.index).commitments()


def is_state(node: Node, state: State) -> bool:
    """Whether the newest commitment is in a state."""
    return commitments(node)[0].state is state


# On the same association


@pytest.mark.parametrize("syntax", UNCOMPRESSED)
def test_a_peer_that_waits_gets_its_report_on_the_association(tmp_path: Path, syntax: str) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port, syntax=syntax) as assoc:
        references = stored(node, 3)
        assert ask(assoc, TRANSACTION, references) == 0x0000
        report = modality.wait_for_report()
        assert report.event_type == 1
        assert report.transaction_uid == TRANSACTION
        assert report.committed == [uid for _, uid in references]
        assert report.failed == {}
        assert not report.on_new_association
        assert until(lambda: is_state(node, State.REPORTED))


def test_what_is_missing_of_another_class_or_damaged_is_reported_with_its_reason(
    tmp_path: Path,
) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        sound, gone, cut, flipped, head = (uid for _, uid in stored(node, 5))
        file_of(node, gone).unlink()
        file_of(node, cut).write_bytes(file_of(node, cut).read_bytes()[:-10])
        for uid, at in ((flipped, -5), (head, 140)):
            content = bytearray(file_of(node, uid).read_bytes())
            content[at] ^= 0xFF
            file_of(node, uid).write_bytes(content)
        named = [(CT, uid) for uid in (sound, gone, cut, flipped, head, "1.2.3.4.5")]
        assert ask(assoc, TRANSACTION, [*named, (MR, sound)]) == 0x0000
        report = modality.wait_for_report()
        assert report.event_type == 2
        assert report.committed == [sound]
        damaged = dict.fromkeys((gone, cut, flipped, head), DAMAGED)
        assert report.failed == {**damaged, "1.2.3.4.5": NO_SUCH, sound: CONFLICT}
        assert until(lambda: is_state(node, State.REPORTED))
        assert commitments(node)[0].failed == 6


@pytest.mark.parametrize(("verify", "failing"), [("digest", 2), ("size", 1), ("index", 0)])
def test_the_setting_says_how_much_is_looked_at(tmp_path: Path, verify: str, failing: int) -> None:
    modality = Modality()
    with (
        served(tmp_path, commitment={"verify": verify}) as node,
        modality.association(node.port) as assoc,
    ):
        references = stored(node, 3)
        file_of(node, references[0][1]).unlink()
        changed = file_of(node, references[1][1])
        changed.write_bytes(changed.read_bytes()[:-1] + b"\x5a")
        ask(assoc, TRANSACTION, references)
        assert len(modality.wait_for_report().failed) == failing


def test_a_peer_may_store_and_ask_on_while_it_waits(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        transactions = [f"{TRANSACTION}.{number}" for number in range(4)]
        for transaction in transactions:
            new = image(study=STUDY, series=SERIES)
            assert assoc.send_c_store(new).Status == 0x0000
            assert ask(assoc, transaction, [(CT, str(new.SOPInstanceUID))]) == 0x0000
        modality.wait_for_report(len(transactions))
        assert {each.transaction_uid for each in modality.reports} == set(transactions)
        assert all(each.event_type == 1 for each in modality.reports)
        assert not any(each.on_new_association for each in modality.reports)


@pytest.mark.parametrize("count", [2_000, 10_000])
def test_many_references_in_one_request(tmp_path: Path, count: int) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        references = stored(node, 20)
        missing = [(CT, f"1.2.826.0.1.3680043.9.1234567890.1234567890.{n}") for n in range(count)]
        assert ask(assoc, TRANSACTION, [*references, *missing[20:]]) == 0x0000
        report = modality.wait_for_report()
        assert report.committed == [uid for _, uid in references]
        assert len(report.failed) == count - 20
        assert until(lambda: is_state(node, State.REPORTED))


def test_the_same_instance_twice_is_reported_once(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        references = stored(node, 2)
        ask(assoc, TRANSACTION, [*references, *references])
        assert modality.wait_for_report().committed == [uid for _, uid in references]


# On a new association


def test_a_peer_that_has_released_gets_its_report_on_a_new_association(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.listening() as port, reporter(node, port):
        references = stored(node)
        assert modality.ask(node.port, TRANSACTION, references) == 0x0000
        report = modality.wait_for_report()
        assert report.on_new_association
        assert report.committed == [references[0][1]]
        assert report.calling_ae_title == "LFSCP"
        assert until(lambda: is_state(node, State.REPORTED))


def test_the_node_calls_by_the_title_by_which_it_was_called(tmp_path: Path) -> None:
    modality = Modality()
    with (
        served(tmp_path, server={"require_called_ae_title": False}) as node,
        modality.listening() as port,
        reporter(node, port),
    ):
        with modality.association(node.port, called="ARCHIVE2") as assoc:
            ask(assoc, TRANSACTION, stored(node))
        assert modality.wait_for_report().calling_ae_title == "ARCHIVE2"


def test_a_report_that_the_peer_refuses_is_tried_again(tmp_path: Path) -> None:
    statuses = iter([0x0110, 0xB000])
    modality = Modality(answer=lambda _: next(statuses))
    with served(tmp_path) as node, modality.listening() as port, reporter(node, port):
        modality.ask(node.port, TRANSACTION, stored(node))
        modality.wait_for_report()
        assert until(lambda: commitments(node)[0].attempts == 1)
        assert commitments(node)[0].reason == "the peer answered 0x0110"
        assert Commitments(node.archive.index).retry(commitments(node)[0].id)
        modality.wait_for_report(2)
        assert until(lambda: is_state(node, State.REPORTED))  # a warning will do
    assert len(modality.reports) == 2


def test_a_peer_that_is_away_is_tried_again(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node:
        with modality.listening() as port:
            pass
        with reporter(node, port):
            modality.ask(node.port, TRANSACTION, stored(node))
            assert until(lambda: commitments(node)[0].attempts == 1)
            assert "refused" in commitments(node)[0].reason
            assert is_state(node, State.VERIFIED)


def test_a_peer_that_hangs_does_not_hold_up_the_reports_of_the_others(tmp_path: Path) -> None:
    modality = Modality()
    hanging = [Modality(f"HANG{number}") for number in range(2)]
    with (
        served(tmp_path) as node,
        modality.listening() as port,
        socket.create_server(("127.0.0.1", 0)) as silent,  # takes connections, and answers none
    ):
        references = stored(node)
        for number, each in product(range(4), hanging):
            each.ask(node.port, f"{TRANSACTION}.{number}", references)
        modality.ask(node.port, TRANSACTION, references)
        silent.setblocking(False)
        known = {each.ae_title: silent.getsockname()[1] for each in hanging} | {"MODALITY": port}
        peers = {title: {"host": "127.0.0.1", "port": at} for title, at in known.items()}
        with reporter(node, peers=peers):
            assert modality.wait_for_report().transaction_uid == TRANSACTION
        called = []
        with suppress(BlockingIOError):
            while True:
                called.append(silent.accept()[0])
        for each in called:
            each.close()
    assert len(called) <= len(hanging)


def test_a_flood_of_requests_costs_what_each_of_them_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Verification.failures
    may_verify = threading.Event()

    def wait(verification: Verification, asked: Any) -> Any:
        assert may_verify.wait(60)
        return verify(verification, asked)

    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        references = stored(node)
        statements: list[str] = []
        event.listen(
            node.archive.index.engine,
            "before_cursor_execute",
            lambda *execution: statements.append(execution[2]),
        )
        with monkeypatch.context() as patched:
            patched.setattr(Verification, "failures", wait)
            for number in range(60):
                assert ask(assoc, f"{TRANSACTION}.{number}", references) == 0x0000
            may_verify.set()
            modality.wait_for_report(60)
            assert until(lambda: is_state(node, State.REPORTED))
    assert sum(each.startswith("UPDATE commitment ") for each in statements) < 60 * 6


def test_more_than_a_process_holds_is_left_to_the_reporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(same_association, "_MOST_WAITING", 0)
    modality = Modality()
    with served(tmp_path) as node, modality.listening() as port, reporter(node, port):
        assert modality.ask(node.port, TRANSACTION, stored(node)) == 0x0000
        assert modality.wait_for_report().on_new_association


def test_a_peer_without_an_address_gets_its_report_when_it_asks_again(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node, reporter(node):
        references = stored(node)
        modality.ask(node.port, TRANSACTION, references)
        assert until(lambda: "no address" in commitments(node)[0].reason)
        with modality.association(node.port) as assoc:
            ask(assoc, TRANSACTION, references)
            assert not modality.wait_for_report().on_new_association
        assert until(lambda: is_state(node, State.REPORTED))
        assert len(commitments(node)) == 1


def test_nobody_tries_for_longer_than_the_setting_says(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node, reporter(node, commitment={"retry_hours": 1e-9}):
        modality.ask(node.port, TRANSACTION, stored(node))
        assert until(lambda: is_state(node, State.FAILED))
        assert (
            commitments(node)[0].reason
            == "no address is known for this AE title: enter it as a peer"
        )


def test_of_two_reporters_one_reports(tmp_path: Path) -> None:
    modality = Modality()
    with (
        served(tmp_path) as node,
        modality.listening() as port,
        reporter(node, port),
        reporter(node, port),
    ):
        for number in range(5):
            modality.ask(node.port, f"{TRANSACTION}.{number}", stored(node))
        modality.wait_for_report(5)
        assert until(lambda: all(each.state is State.REPORTED for each in commitments(node)))
    assert len({each.transaction_uid for each in modality.reports}) == len(modality.reports) == 5


def test_a_peer_that_breaks_off_while_the_node_verifies_is_reported_to(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.listening() as port, reporter(node, port):
        with modality.association(node.port) as assoc:
            ask(assoc, TRANSACTION, stored(node, 30))
            assoc.abort()
        assert modality.wait_for_report().event_type == 1


# What is refused


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"action_type": 2}, 0x0123),
        ({"instance": "1.2.840.10008.1.20.1.2"}, 0x0112),
    ],
)
def test_an_action_that_commitment_does_not_have(
    tmp_path: Path, how: dict[str, Any], status: int
) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        assert ask(assoc, TRANSACTION, [(CT, "1.2.3")], **how) == status
        assert commitments(node) == []


def test_a_peer_that_may_not_ask(tmp_path: Path) -> None:
    peers = {"MODALITY": {"host": "127.0.0.1", "port": 104, "may": ["store"]}}
    modality = Modality()
    with served(tmp_path, peers=peers) as node, modality.association(node.port) as assoc:
        assert ask(assoc, TRANSACTION, [(CT, "1.2.3")]) == 0x0124
        assert commitments(node) == []


def _without(keyword: str) -> Dataset:
    information = action_information(TRANSACTION, [(CT, "1.2.3")])
    delattr(information, keyword)
    return information


def _with(keyword: str, value: Any) -> Dataset:
    information = action_information(TRANSACTION, [(CT, "1.2.3")])
    setattr(information, keyword, value)
    return information


def _item_with(keyword: str, value: str) -> Dataset:
    information = action_information(TRANSACTION, [(CT, "1.2.3")])
    setattr(information.ReferencedSOPSequence[0], keyword, value)
    return information


@pytest.mark.parametrize(
    ("information", "status", "comment"),
    [
        (None, 0x0120, "Action Information is missing"),
        (_without("TransactionUID"), 0x0120, "Transaction UID is missing"),
        (_with("TransactionUID", ""), 0x0115, "Transaction UID is empty"),
        (_without("ReferencedSOPSequence"), 0x0120, "Referenced SOP Sequence is missing"),
        (_with("ReferencedSOPSequence", []), 0x0115, "Referenced SOP Sequence is empty"),
        (_item_with("ReferencedSOPClassUID", ""), 0x0115, "Referenced SOP Class UID is empty"),
        (_item_with("ReferencedSOPInstanceUID", ""), 0x0115, "Instance UID is empty"),
    ],
)
def test_a_request_without_what_it_must_have(
    tmp_path: Path, information: Dataset | None, status: int, comment: str
) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        answer = send(assoc, information)
        assert answer.Status == status
        assert comment in answer.ErrorComment
        assert ask(assoc, TRANSACTION, stored(node)) == 0x0000  # the association goes on
        modality.wait_for_report()


def _encoded(information: Dataset) -> bytes:
    data = encode(information, True, True)
    assert data is not None
    return data


_GOOD = _encoded(action_information(TRANSACTION, [(CT, "1.2.3"), (CT, "1.2.4")]))


@pytest.mark.parametrize(
    "information",
    [
        _GOOD[:-1],
        _GOOD[:-20],
        _GOOD[:21],
        b"\xff" * 64,
        b"\x08\0\x95\x11\x06\0\0\0a/b\\c\0" + _GOOD[20:],
        _GOOD.replace(b"1.2.4", b"1.2.x"),
        _GOOD.replace(b"1.2.4", b"1..24"),
    ],
    ids=[
        "cut",
        "cut-in-an-item",
        "cut-in-a-header",
        "garbage",
        "two-values",
        "no-uid",
        "no-number",
    ],
)
def test_a_hostile_request_is_refused_and_nothing_kept(tmp_path: Path, information: bytes) -> None:
    modality = Modality()
    with (
        served(tmp_path) as node,
        modality.association(node.port, syntax="1.2.840.10008.1.2") as assoc,
    ):
        assert send_bytes(assoc, information).Status == 0x0115
        assert commitments(node) == []
        assert send_bytes(assoc, _GOOD).Status == 0x0000
        modality.wait_for_report()


def test_a_sequence_of_another_type(tmp_path: Path) -> None:
    wrong = b"\x08\0\x95\x11UI\x06\x001.2.3\0" + b"\x08\0\x99\x11UI\x04\x001.2\0"
    modality = Modality()
    with (
        served(tmp_path) as node,
        modality.association(node.port, syntax="1.2.840.10008.1.2.1") as assoc,
    ):
        assert send_bytes(assoc, wrong).Status in (0x0115, 0x0212)
        assert commitments(node) == []


@pytest.mark.parametrize("count", [MAX_REFERENCES + 1, 100_000])
def test_too_many_references_are_refused_with_the_reason(tmp_path: Path, count: int) -> None:
    begin = _GOOD.index(b"\xfe\xff\0\xe0")
    item = _GOOD[begin : _GOOD.index(b"\xfe\xff\0\xe0", begin + 1)]
    head = b"\x08\0\x95\x11\x06\0\0\x001.2.3\0" + b"\x08\0\x99\x11\xff\xff\xff\xff"
    modality = Modality()
    with (
        served(tmp_path) as node,
        modality.association(node.port, syntax="1.2.840.10008.1.2") as assoc,
    ):
        answer = send_bytes(assoc, head + item * count + b"\xfe\xff\xdd\xe0\0\0\0\0")
        assert answer.Status == 0x0213
        assert f"more than {MAX_REFERENCES} instances" in answer.ErrorComment
        assert commitments(node) == []


def test_the_reserve_of_the_disk_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path) as node, Modality().association(node.port) as assoc:
        monkeypatch.setattr(Space, "shortage", "1 MB are free, below the reserve of 512 MB")
        answer = send(assoc, action_information(TRANSACTION, [(CT, "1.2.3")]))
        assert answer.Status == 0x0213
        assert answer.ErrorComment.startswith("out of resources: 1 MB are free")
        assert commitments(node) == []


def test_a_transaction_uid_in_use_for_others_is_refused(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node, reporter(node):
        references = stored(node, 2)
        modality.ask(node.port, TRANSACTION, references)
        with modality.association(node.port) as assoc:
            answer = send(assoc, action_information(TRANSACTION, references[:1]))
        assert answer.Status == 0x0115
        assert "in use" in answer.ErrorComment
        assert len(commitments(node)) == 1


def test_an_index_that_is_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:

        def away(*_: Any, **__: Any) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(node.archive.index, "transact", away)
            assert ask(assoc, TRANSACTION, [(CT, "1.2.3")]) == 0x0213
        assert ask(assoc, TRANSACTION, [(CT, "1.2.3")]) == 0x0000
        modality.wait_for_report()


def test_objects_whose_volume_is_away_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        references = stored(node)
        moved = node.archive.files.root.rename(tmp_path / "elsewhere")
        ask(assoc, TRANSACTION, references)
        assert until(lambda: commitments(node)[0].reason != "")
        assert is_state(node, State.RECEIVED)
        moved.rename(node.archive.files.root)
        assert modality.reports == []


def test_no_thread_is_left_when_nothing_is_to_do(tmp_path: Path) -> None:
    modality = Modality()
    with served(tmp_path) as node:
        with modality.association(node.port) as assoc:
            ask(assoc, TRANSACTION, stored(node, 20))
            modality.wait_for_report()
        assert until(lambda: not [each for each in threading.enumerate() if "commit" in each.name])
        assert not [each for each in threading.enumerate() if "verify" in each.name]


def test_explicit_deletion_still_works(tmp_path: Path) -> None:
    from lfscp.dicom.values.attributes import Level

    modality = Modality()
    with served(tmp_path) as node, modality.association(node.port) as assoc:
        ask(assoc, TRANSACTION, stored(node))
        modality.wait_for_report()
        assert node.archive.delete(Level.STUDY, STUDY) == 1
