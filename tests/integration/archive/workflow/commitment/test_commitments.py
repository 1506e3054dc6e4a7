"""Commitments in the index: kept, held by one, verified, reported, tried again and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.workflow_tables import commitment, committed_study
from lfscp.archive.workflow.commitment.commitment import Commitment, State, TransactionInUseError
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.commitment.committed_studies import note_studies
from lfscp.archive.workflow.commitment.references import Failure, Reference
from tests.support.archive_datasets import CT_IMAGE, received

_ASKED = [Reference(CT_IMAGE, "1.2.3.1.1"), Reference(CT_IMAGE, "1.2.3.1.2")]


@pytest.fixture
def archive(open_archive: Callable[..., Archive], tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path, durability="os") as opened:
        yield opened


@pytest.fixture
def taking(archive: Archive) -> Commitments:
    """Those of the process that a peer asks."""
    return Commitments(archive.index, "LFSCP")


@pytest.fixture
def other(archive: Archive) -> Commitments:
    """Those of another process of the node."""
    return Commitments(archive.index, "LFSCP")


def ask(commitments: Commitments, uid: str = "1.2.9", **changes: Any) -> tuple[Commitment, bool]:
    names = {"calling_ae_title": "MODALITY", "called_ae_title": "LFSCP", **changes}
    return commitments.add(uid, names.pop("references", _ASKED), **names)


def let_pass(archive: Archive, **values: Any) -> None:
    """Change rows as time would."""
    with archive.index.writing() as connection:
        connection.execute(update(commitment).values(values))


def test_a_request_is_kept_with_what_it_names(taking: Commitments) -> None:
    asked, is_mine = ask(taking, peer_address="192.0.2.1")
    assert is_mine
    assert (asked.state, asked.instances, asked.failed) == (State.RECEIVED, 2, 0)
    assert asked.peer_address == "192.0.2.1"
    assert taking.references(asked.id) == _ASKED
    assert taking.get(asked.id) == asked


def test_another_process_gets_it_when_its_holder_is_gone(
    archive: Archive, taking: Commitments, other: Commitments
) -> None:
    asked, _ = ask(taking)
    assert other.take_due() is None
    let_pass(archive, held_until=1)
    taken = other.take_due()
    assert taken is not None
    assert taken.id == asked.id
    assert not taking.keep(asked.id)
    assert not taking.verified(asked.id, [])
    assert not taking.reported(asked.id)
    assert other.keep(asked.id)


def test_one_that_is_freed_is_taken_at_once(taking: Commitments, other: Commitments) -> None:
    asked, _ = ask(taking)
    assert taking.verified(asked.id, [Failure(*_ASKED[1], 0x0112)])
    assert other.take_due() is None
    assert taking.free(asked.id)
    taken = other.take_due()
    assert taken is not None
    assert (taken.id, taken.state, taken.failed) == (asked.id, State.VERIFIED, 1)
    assert other.failures(asked.id) == [Failure(*_ASKED[1], 0x0112)]
    assert taking.take_due() is None


def test_a_report_that_failed_is_due_again_later(
    archive: Archive, taking: Commitments, other: Commitments
) -> None:
    asked, _ = ask(taking)
    taking.verified(asked.id, [])
    assert taking.put_off(asked.id, "cannot be reached", 60)
    assert other.take_due() is None
    let_pass(archive, next_attempt_at=1)
    taken = other.take_due()
    assert taken is not None
    assert (taken.attempts, taken.reason) == (1, "cannot be reached")
    assert other.reported(taken.id)
    [seen] = other.commitments()
    assert (seen.state, seen.reason, seen.attempts) == (State.REPORTED, "", 2)
    assert seen.reported_at >= seen.created_at > 0


def test_while_a_peer_is_away_its_other_reports_wait_too(
    taking: Commitments, other: Commitments
) -> None:
    tried, waiting, held = (ask(taking, f"1.2.{number}")[0] for number in range(3))
    of_another, _ = ask(taking, calling_ae_title="OTHER")
    for each in (tried, waiting, held, of_another):
        taking.verified(each.id, [])
    taking.free(waiting.id)
    taking.free(of_another.id)

    assert taking.put_off(tried.id, "cannot be reached", 60, of_peer="MODALITY")

    due = other.take_due()
    assert due is not None
    assert due.id == of_another.id
    assert other.take_due() is None
    seen = {each.id: each for each in other.commitments()}
    assert seen[waiting.id].next_attempt_at == seen[tried.id].next_attempt_at
    assert (seen[waiting.id].reason, seen[waiting.id].attempts) == ("cannot be reached", 0)
    assert seen[held.id].reason == ""
    assert not other.put_off(held.id, "lost", 90, of_peer="MODALITY")  # another has it
    assert other.get(waiting.id) == seen[waiting.id]


def test_those_of_some_peers_are_left_alone(taking: Commitments, other: Commitments) -> None:
    for title in ("MODALITY", "OTHER"):
        taking.free(ask(taking, calling_ae_title=title)[0].id)

    due = other.take_due(["MODALITY"])

    assert due is not None
    assert due.calling_ae_title == "OTHER"
    assert other.take_due(["MODALITY"]) is None
    assert other.take_due() is not None


def test_several_are_held_on_but_those_that_another_has(
    archive: Archive, taking: Commitments, other: Commitments
) -> None:
    kept, lost = (ask(taking, f"1.2.{number}")[0].id for number in range(2))
    let_pass(archive, held_until=1)
    taken = other.take_due()
    assert taken is not None
    mine, its = (lost, kept) if taken.id == kept else (kept, lost)

    assert taking.keep_all([mine, its, 99]) == {mine}
    assert other.take_due() is None


def test_nobody_tries_a_report_that_was_given_up_until_it_is_asked_for(
    taking: Commitments, other: Commitments
) -> None:
    asked, _ = ask(taking)
    assert not taking.retry(asked.id)  # there is no report yet
    taking.verified(asked.id, [])
    assert taking.put_off(asked.id, "no address is known", None)
    assert other.take_due() is None
    assert [each.state for each in other.commitments(states=["failed"])] == [State.FAILED]
    assert other.retry(asked.id)
    assert other.take_due() is not None


def test_nodes_of_another_ae_title_leave_it_alone(archive: Archive, taking: Commitments) -> None:
    asked, _ = ask(taking)
    taking.free(asked.id)
    assert Commitments(archive.index, "OTHER").take_due() is None
    assert [each.id for each in Commitments(archive.index).commitments()] == [asked.id]


def test_a_request_that_is_repeated_is_kept_once(taking: Commitments, other: Commitments) -> None:
    asked, _ = ask(taking)
    assert ask(other) == (asked, False)  # the first process is at it
    taking.verified(asked.id, [])
    taking.put_off(asked.id, "no address is known", 60)
    again, is_mine = ask(other)
    assert (again.id, again.state, is_mine) == (asked.id, State.VERIFIED, True)
    other.reported(asked.id)
    assert ask(taking)[0].id != asked.id  # that one has ended
    assert ask(taking, calling_ae_title="OTHER")[0].id > asked.id + 1


def test_a_transaction_uid_in_use_names_no_other_instances(taking: Commitments) -> None:
    ask(taking)
    with pytest.raises(TransactionInUseError, match=r"1\.2\.9 is in use"):
        ask(taking, references=_ASKED[:1])


def test_pages_are_the_newest_first(taking: Commitments) -> None:
    ids = [ask(taking, f"1.2.9.{number}")[0].id for number in range(5)]
    first = taking.commitments(limit=2)
    assert [each.id for each in first] == ids[:2:-1]
    assert [each.id for each in taking.commitments(after=first[-1].id)] == ids[2::-1]


def test_those_that_ended_long_ago_are_forgotten(archive: Archive, taking: Commitments) -> None:
    ended, open_ = ask(taking, "1.2.9.1")[0], ask(taking, "1.2.9.2")[0]
    taking.verified(ended.id, [])
    taking.reported(ended.id)
    assert taking.forget_ended(1000) == 0
    let_pass(archive, created_at=1)
    assert taking.forget_ended(1000) == 1
    assert [each.id for each in taking.commitments()] == [open_.id]


def test_the_studies_of_instances_that_are_there_are_noted(
    archive: Archive, taking: Commitments
) -> None:
    archive.store(received(1))
    for _ in range(2):
        note_studies(archive.index, _ASKED)
    with archive.index.engine.connect() as connection:
        [row] = connection.execute(select(committed_study)).all()
    assert row.study_instance_uid == "1.2.3"
    assert row.committed_at > 0
