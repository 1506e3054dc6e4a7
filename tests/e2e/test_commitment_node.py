"""Storage commitment by whole nodes: workers, two nodes of one index, SIGKILL, Orthanc, limits."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom.dsutils import encode

from tests.support import orthanc
from tests.support.ci import in_ci
from tests.support.dicom_peer import until
from tests.support.modality import (
    HeldAnswer,
    Modality,
    Named,
    action_information,
    ask,
    send_bytes,
)
from tests.support.node_process import NodeProcess, StartNode
from tests.support.orthanc import orthanc_scu
from tests.support.pynetdicom_client import store
from tests.support.sample_objects import CT, made

STUDY = "1.2.826.0.1.3680043.8.498.91"
TRANSACTION = f"{STUDY}.77"
IMPLICIT = "1.2.840.10008.1.2"


def stored(node: NodeProcess, folder: Path, count: int = 1) -> list[Named]:
    files = [made(folder, StudyInstanceUID=STUDY, PatientID="P91") for _ in range(count)]
    assert store(node.port, *files) == [0x0000] * count
    return [(CT, file.stem) for file in files]


def peers(port: int, title: str = "MODALITY") -> str:
    return f'[peers.{title}]\nhost = "127.0.0.1"\nport = {port}\n'


def rows(node: NodeProcess) -> list[Any]:
    """State and reason of the commitments, the newest first."""
    with closing(sqlite3.connect(node.data_dir / "index.sqlite")) as connection:
        return connection.execute(
            "SELECT state, reason FROM commitment ORDER BY id DESC"
        ).fetchall()


def let_time_pass(node: NodeProcess) -> None:
    """Who held a commitment holds it no longer, and what was put off is due."""
    with closing(sqlite3.connect(node.data_dir / "index.sqlite")) as connection, connection:
        connection.execute("UPDATE commitment SET held_until = 0, next_attempt_at = 1")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_of_several_workers_reports_on_either_association(
    start_node: StartNode, tmp_path: Path, workers: int
) -> None:
    modality = Modality()
    with modality.listening() as port:
        node = start_node(flags=["--workers", workers], configuration=peers(port))
        references = stored(node, tmp_path / "sent", 3)
        with modality.association(node.port) as assoc:
            assert ask(assoc, TRANSACTION, references) == 0x0000
            assert not modality.wait_for_report().on_new_association
        assert modality.ask(node.port, f"{TRANSACTION}.1", references) == 0x0000
        report = modality.wait_for_report(2)
        assert report.on_new_association
        assert report.committed == [uid for _, uid in references]
        node.wait_for("storage commitment reported", count=2)


def test_a_peer_that_becomes_known_by_a_reload_is_reported_to(
    start_node: StartNode, tmp_path: Path
) -> None:
    modality = Modality()
    node = start_node()
    modality.ask(node.port, TRANSACTION, stored(node, tmp_path / "sent"))
    line = node.wait_for("storage commitment put off")
    assert line["reason"] == "no address is known for this AE title: enter it as a peer"
    with modality.listening() as port:
        node.reload(peers(port))
        let_time_pass(node)
        assert modality.wait_for_report().on_new_association


# SIGKILL


def test_a_node_that_is_killed_after_the_answer_reports_when_it_is_back(
    start_node: StartNode, tmp_path: Path
) -> None:
    modality = Modality()
    with modality.listening() as port:
        node = start_node(configuration=peers(port))
        references = stored(node, tmp_path / "sent", 20)
        with modality.association(node.port) as assoc:
            assert ask(assoc, TRANSACTION, references) == 0x0000
            node.kill()
            seen = len(modality.reports)
        let_time_pass(node)
        node.start()
        if not seen:
            assert modality.wait_for_report().committed == [uid for _, uid in references]
        node.wait_for("storage commitment reported")
    assert [state for state, _ in rows(node)] == ["reported"]


def test_a_node_that_is_killed_before_the_report_reports_when_it_is_back(
    start_node: StartNode, tmp_path: Path
) -> None:
    modality = Modality()
    node = start_node()
    modality.ask(node.port, TRANSACTION, stored(node, tmp_path / "sent"))
    node.wait_for("storage commitment put off")
    node.kill()
    let_time_pass(node)
    assert rows(node) == [("verified", "no address is known for this AE title: enter it as a peer")]
    node.start()
    with modality.listening() as port:
        node.reload(peers(port))
        let_time_pass(node)
        assert modality.wait_for_report().event_type == 1


def test_a_node_that_is_killed_while_the_peer_has_the_report_sends_it_again(
    start_node: StartNode, tmp_path: Path
) -> None:
    answer = HeldAnswer()
    modality = Modality(answer=answer)
    with modality.listening() as port:
        node = start_node(configuration=peers(port))
        modality.ask(node.port, TRANSACTION, stored(node, tmp_path / "sent"))
        assert answer.has_report.wait(60)
        node.kill()
        answer.may_answer.set()
        modality.wait_for_report()
        assert rows(node)[0][0] == "verified"
        let_time_pass(node)
        node.start()
        assert modality.wait_for_report(2).transaction_uid == TRANSACTION
        node.wait_for("storage commitment reported")


@pytest.mark.parametrize("stays", [True, False], ids=["asked", "reporter"])
def test_a_node_ends_though_the_disk_does_not_answer_what_it_verifies(
    start_node: StartNode, tmp_path: Path, stays: bool
) -> None:
    modality = Modality()
    with modality.listening() as port:
        node = start_node(configuration=peers(port))
        references = stored(node, tmp_path / "sent")
        (file,) = node.objects.glob(f"*/*/{references[0][1]}*")
        file.unlink()
        os.mkfifo(file)  # who opens it to read waits
        with modality.association(node.port) as assoc:
            assert ask(assoc, TRANSACTION, references) == 0x0000
            if not stays:
                node.kill()
                let_time_pass(node)
                with closing(sqlite3.connect(node.data_dir / "index.sqlite")) as index, index:
                    index.execute("DELETE FROM committed_study")
                node.start()
            assert until(lambda: is_noted(node), 30)
            assert node.stop() == 0
    assert rows(node) == [("received", "")]


def is_noted(node: NodeProcess) -> bool:
    """Whether the study of what is verified is noted, which is done before it is read."""
    with closing(sqlite3.connect(node.data_dir / "index.sqlite")) as connection:
        return bool(connection.execute("SELECT * FROM committed_study").fetchall())


def test_a_worker_that_dies_leaves_its_commitments_to_the_others(
    start_node: StartNode, tmp_path: Path
) -> None:
    modality = Modality()
    with modality.listening() as port:
        node = start_node(flags=["--workers", 2], configuration=peers(port), errors_expected=True)
        references = stored(node, tmp_path / "sent")
        with modality.association(node.port) as assoc:
            assert ask(assoc, TRANSACTION, references) == 0x0000
            for pid in _children(node.pid):
                os.kill(pid, signal.SIGKILL)
        let_time_pass(node)
        modality.wait_for_report()
        assert until(lambda: rows(node)[0][0] == "reported")


def _children(pid: int) -> Iterable[int]:
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


# Two nodes


def test_two_nodes_of_one_index_report_once(
    start_node: StartNode, postgresql_url: str, tmp_path: Path
) -> None:
    modality = Modality()
    with modality.listening() as port:
        shared = f"""
            [index]
            url = "{postgresql_url}"
            [objects]
            url = "file://{tmp_path / "objects"}"
            {peers(port)}
        """
        one, other = (start_node(name, configuration=shared) for name in ("one", "other"))
        references = stored(one, tmp_path / "sent", 3)
        for number in range(6):
            asked = one if number % 2 else other
            assert modality.ask(asked.port, f"{TRANSACTION}.{number}", references) == 0x0000
        modality.wait_for_report(6)
        with modality.association(other.port) as assoc:
            ask(assoc, TRANSACTION, references)
            assert not modality.wait_for_report(7).on_new_association
        one.kill()
        assert modality.ask(other.port, f"{TRANSACTION}.9", references) == 0x0000
        modality.wait_for_report(8)
    reported = [each.transaction_uid for each in modality.reports]
    assert len(set(reported)) == len(reported) == 8
    assert all(each.event_type == 1 for each in modality.reports)


# Limits


def _raw_references(count: int) -> bytes:
    """A request with so many references, of 110 bytes each."""
    uid = "1.2.826.0.1.3680043.8.498.12345678901234567890123456789012345678.9"[:62]
    data = encode(action_information(TRANSACTION, [(CT, uid), (CT, uid)]), True, True)
    assert data is not None
    begin = data.index(b"\xfe\xff\0\xe0")
    item = data[begin : data.index(b"\xfe\xff\0\xe0", begin + 1)]
    head = b"\x08\0\x95\x11\x06\0\0\x001.2.3\0" + b"\x08\0\x99\x11\xff\xff\xff\xff"
    return head + item * count + b"\xfe\xff\xdd\xe0\0\0\0\0"


def test_what_is_larger_than_other_requests_may_be_is_taken_and_too_much_is_refused(
    start_node: StartNode, tmp_path: Path
) -> None:
    modality = Modality()
    node = start_node()
    references = stored(node, tmp_path / "sent")
    many = [*references, *((CT, f"{STUDY}.1234567890.1234567890.{n}") for n in range(10_000))]
    with modality.association(node.port, syntax=IMPLICIT) as assoc:
        assert ask(assoc, TRANSACTION, many) == 0x0000
        assert len(modality.wait_for_report().failed) == 10_000
        answer = send_bytes(assoc, _raw_references(100_000))
        assert (answer.Status, answer.ErrorComment[:10]) == (0x0213, "more than ")
        assert ask(assoc, f"{TRANSACTION}.1", references) == 0x0000
        modality.wait_for_report(2)
    with modality.association(node.port, syntax=IMPLICIT) as assoc:
        assert "Status" not in send_bytes(assoc, _raw_references(160_000))
        assert until(lambda: not assoc.is_established)
    ended = node.wait_for("association ended")
    assert ended["reason"] == "data set of a message larger than 16000000 bytes"
    assert list((node.data_dir / "incoming").glob("**/*.part")) == []
    assert list(node.objects.glob("**/*.part")) == []


def test_many_peers_with_long_requests_at_once(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node()
    references = stored(node, tmp_path / "sent")
    many = [*references, *((CT, f"{STUDY}.1234567890.1234567890.{n}") for n in range(10_000))]
    modalities = [Modality(f"MODALITY{number}") for number in range(4)]
    statuses: list[int | None] = []

    def work(modality: Modality, number: int) -> None:
        with modality.association(node.port) as assoc:
            statuses.append(ask(assoc, f"{TRANSACTION}.{number}", many))
            modality.wait_for_report()

    threads = [
        threading.Thread(target=work, args=(modality, number))
        for number, modality in enumerate(modalities)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert statuses == [0x0000] * 4
    assert [each.reports[0].committed for each in modalities] == [[references[0][1]]] * 4


# Orthanc


@pytest.mark.skipif(
    not orthanc.PROGRAM.exists() and not in_ci(), reason="the package orthanc is not installed"
)
def test_orthanc_sends_and_asks_and_gets_its_report(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node()
    files = [made(tmp_path / "sent", StudyInstanceUID=STUDY, PatientID="P91") for _ in range(3)]
    with orthanc_scu(tmp_path / "orthanc", LFSCP=node.port) as asking:
        node.reload(peers(asking.port, orthanc.AE_TITLE))
        ids = [asking.call("/instances", file.read_bytes())["ID"] for file in files]
        asking.call("/modalities/LFSCP/store", ids)
        references = [[CT, str(dcmread(file).SOPInstanceUID)] for file in files]
        report = asking.commit("LFSCP", references)
        assert report["Status"] == "Success"
        assert len(report["Success"]) == 3
        report = asking.commit("LFSCP", [*references, [CT, f"{STUDY}.404"]])
        assert report["Status"] == "Failure"
        [failed] = report["Failures"]
        assert (failed["SOPInstanceUID"], failed["FailureReason"]) == (f"{STUDY}.404", 0x0112)
    node.wait_for("storage commitment reported", count=2)
