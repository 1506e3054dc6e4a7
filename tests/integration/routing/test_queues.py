"""What a route puts into the queues with each object, and what becomes of it there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.route_tables import route_item, route_queue, study_completion
from lfscp.archive.index.tables.schema import instance, study
from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.dicom.values.attributes import Level
from lfscp.routing import steering
from lfscp.routing.completion import StudyCompletion
from lfscp.routing.matching import SettingsRouter
from lfscp.routing.outcomes import study_outcomes
from lfscp.routing.queue_rows import Failure, QueueName
from lfscp.routing.queues import Queues
from lfscp.routing.reading import read_routes
from lfscp.routing.release import forget_made, release_complete
from lfscp.routing.schedule import is_open
from tests.support.archive_datasets import received

OpenArchive = Callable[..., Archive]
PEERS = {title: {"host": "127.0.0.1", "port": 104} for title in ("A", "B", "C", "SENDER")}
ON_A = QueueName("r", "A")


def settings(*routes: dict[str, Any], **more: Any) -> Settings:
    tables = [{"name": "r", "send_to": ["A"], **route} for route in routes]
    return Settings.model_validate({"peers": PEERS, "route": tables, **more})


@contextmanager
def routed(
    open_archive: OpenArchive, folder: Path, wanted: Settings, **options: Any
) -> Iterator[Archive]:
    with open_archive(folder, **options) as archive:
        archive.router = SettingsRouter(CurrentSettings(wanted))
        yield archive


def make_older(archive: Archive, ms: int) -> None:
    """Let time pass for all that has come."""

    def work(connection: Connection) -> None:
        for column in (
            route_item.c.queued_at,
            instance.c.received_at,
            study.c.updated_at,
            study_completion.c.last_at,
        ):
            changed = {column.name: column - ms}
            connection.execute(update(column.table).values(**changed))

    archive.index.transact(work)


def waiting(archive: Archive, name: QueueName = ON_A) -> list[str]:
    queues = Queues(archive.index, "node", 10_000)
    return [item.sop_instance_uid for item in queues.next_items(name, 100)]


def test_an_object_waits_once_for_each_peer_in_the_order_of_arrival(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    wanted = settings({"send_to": ["A", "B"], "when": {"Modality": "CT"}})
    with routed(open_archive, tmp_path, wanted) as archive:
        for number in (3, 1, 2):
            archive.store(received(number))
        archive.store(received(4, Modality="MR"))
        archive.store(received(3))  # again, and the same
        for name in (ON_A, QueueName("r", "B")):
            assert waiting(archive, name) == ["1.2.3.1.3", "1.2.3.1.1", "1.2.3.1.2"]


def test_an_object_does_not_go_back_to_its_sender(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({"send_to": ["SENDER", "A"]})) as archive:
        archive.store(received(1))
        assert waiting(archive, QueueName("r", "SENDER")) == []
        assert waiting(archive) == ["1.2.3.1.1"]


def test_routes_that_do_the_same_send_an_object_once(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    wanted = settings({}, {"name": "same", "priority": 1}, {"name": "other", "commit": True})
    with routed(open_archive, tmp_path, wanted) as archive:
        archive.store(received(1))
        names = [QueueName(name, "A") for name in ("r", "same", "other")]
        assert [len(waiting(archive, name)) for name in names] == [0, 1, 1]


def test_the_studies_are_shared_among_peers_always_in_the_same_way(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    wanted = settings({"send_to": ["A", "B", "C"], "mode": "share", "copies": 2})
    with routed(open_archive, tmp_path, wanted) as archive:
        for number in range(30):
            archive.store(received(number, StudyInstanceUID=f"1.2.3.{number}"))
        got = {peer: set(waiting(archive, QueueName("r", peer))) for peer in "ABC"}
    assert sum(map(len, got.values())) == 60
    assert all(5 < len(each) < 30 for each in got.values())
    (route,) = read_routes(wanted)
    assert route.destinations("", "1.2.3.7") == route.destinations("", "1.2.3.7")


def test_what_is_stored_anew_while_it_is_sent_is_sent_once_more(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({}), duplicates="replace") as archive:
        archive.store(received(1))
        queues = Queues(archive.index, "node", 10_000)
        (item,) = queues.next_items(ON_A, 10)
        archive.store(received(1, PatientComments="newer"))
        queues.sent(ON_A, {item: 1})
        (again,) = queues.next_items(ON_A, 10)
        assert again.version == item.version + 1
        queues.sent(ON_A, {again: 1})
        assert waiting(archive) == []


def test_one_node_at_a_time_serves_a_queue(open_archive: OpenArchive, tmp_path: Path) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        archive.store(received(1))
        one, other = (Queues(archive.index, name, 60_000) for name in ("one", "other"))
        assert one.claimable([ON_A]) == other.claimable([ON_A]) == [ON_A]
        assert one.claim(ON_A)
        assert not other.claim(ON_A)
        assert other.claimable([ON_A]) == []
        assert one.renew([ON_A]) == {ON_A}
        archive.index.transact(  # it has given no sign of life for as long as its lease
            lambda connection: connection.execute(update(route_queue).values(held_until=1))
        )
        assert other.claim(ON_A)
        assert one.renew([ON_A]) == set()
        other.release(ON_A)
        assert one.claim(ON_A)


def test_a_queue_waits_longer_each_time_and_gives_up_in_the_end(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        archive.store(received(1))
        routes = read_routes(settings({}))
        queues = Queues(archive.index, "node", 10_000)
        waits = []
        for _ in range(4):
            assert queues.unreachable(ON_A, "is down", 10_000, 1_000_000) == 0
            (state,) = steering.queue_states(archive.index, routes)
            waits.append(round(state.retry_in_s, -1))
        assert waits == [10, 20, 40, 80]
        assert queues.claimable([ON_A]) == []
        make_older(archive, 60_000)
        assert queues.unreachable(ON_A, "is down", 10_000, 50_000) == 1
        (state,) = steering.queue_states(archive.index, routes)
        assert (state.waiting, state.given_up, state.reason) == (0, 1, "is down")
        (outcome,) = study_outcomes(archive.index, "1.2.3")
        assert (outcome.failed, outcome.given_up, outcome.reason) == (1, 1, "is down")
        assert steering.retry(archive.index, ON_A) == 1
        assert queues.claimable([ON_A]) == [ON_A]
        assert waiting(archive) == ["1.2.3.1.1"]


def test_a_refused_object_waits_and_the_others_go(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        for number in (1, 2):
            archive.store(received(number))
        queues = Queues(archive.index, "node", 10_000)
        first, _ = queues.next_items(ON_A, 10)
        assert queues.failed(ON_A, {first: Failure("0xA700")}, 60_000, 1_000_000) == []
        assert waiting(archive) == ["1.2.3.1.2"]
        assert steering.flush(archive.index, ON_A) == 2
        assert len(waiting(archive)) == 2
        assert steering.drop(archive.index, ON_A) == 2
        assert waiting(archive) == []


def test_what_failed_for_good_is_put_aside_with_its_reason_until_somebody_tries_again(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        for number in (1, 2):
            archive.store(received(number))
        queues = Queues(archive.index, "node", 10_000)
        first, second = queues.next_items(ON_A, 10)
        failures = {first: Failure("held back: why", is_final=True), second: Failure("later")}
        assert queues.failed(ON_A, failures, 60_000, 1_000_000) == [first]
        (state,) = steering.queue_states(archive.index, read_routes(settings({})))
        assert (state.given_up, state.waiting) == (1, 1)
        assert state.given_up_reason == "held back: why"
        (outcome,) = study_outcomes(archive.index, first.study_instance_uid)
        assert (outcome.given_up, outcome.reason) == (1, "held back: why")
        assert waiting(archive) == []
        assert steering.retry(archive.index, ON_A) == 1
        assert waiting(archive) == [first.sop_instance_uid]


def test_what_an_action_has_made_is_known_when_it_comes_back(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        for number in (1, 2):
            archive.store(received(number))
        queues = Queues(archive.index, "node", 10_000)
        first, second = queues.next_items(ON_A, 10)
        assert queues.made_here([first, second]) == []
        for _ in range(2):  # an object is sent again
            queues.note_made([second.sop_instance_uid, "1.2.99"])
        assert queues.made_here([first, second]) == [second]
        forget_made(archive.index)
        assert queues.made_here([second]) == [second]


def test_a_request_for_commitment_names_what_was_sent(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        archive.store(received(1))
        queues = Queues(archive.index, "node", 10_000)
        (item,) = queues.next_items(ON_A, 10)
        queues.ask_commitment({item: "1.2.99"}, "1.2.3.4")
        (asked,) = queues.asked(ON_A, "1.2.3.4")
        assert (asked.sop_instance_uid, asked.sent_uid) == (item.sop_instance_uid, "1.2.99")
        assert queues.next_items(ON_A, 10) == []


class Heard:
    """Plug-ins that hear of complete studies."""

    def __init__(self) -> None:
        self.studies: list[str] = []
        self.hooks = {"study_complete"}

    def hears(self, hook: str) -> bool:
        return hook in self.hooks

    def notify_study_complete(self, study_uid: str) -> None:
        self.studies.append(study_uid)


def look(archive: Archive, heard: Heard, quiet_s: float = 30.0, began_s: float = 0.0) -> int:
    """What a process finds that has just started, of a node that began so many seconds ago."""
    began_at = time.monotonic() - began_s
    return StudyCompletion(archive.index, heard, began_at).look(quiet_s)


def test_a_study_is_complete_once_for_all_nodes_without_any_route(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with open_archive(tmp_path) as archive:
        heard, other = Heard(), Heard()
        assert look(archive, heard) == 0  # from now on
        archive.store(received(1))
        archive.store(received(2))
        assert look(archive, heard) == 0
        make_older(archive, 15_000)
        archive.store(received(3))
        make_older(archive, 16_000)
        assert look(archive, heard) == 0  # the last one is 16 s old
        make_older(archive, 15_000)
        assert (look(archive, heard), look(archive, other)) == (1, 0)
        study_uid = heard.studies[0]
        archive.store(received(4))
        assert look(archive, other) == 0
        make_older(archive, 31_000)
        assert (look(archive, other), look(archive, heard)) == (1, 0)
        assert [*heard.studies, *other.studies] == [study_uid] * 2


def test_nobody_looks_for_complete_studies_whom_no_plug_in_asks(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with open_archive(tmp_path) as archive:
        heard = Heard()
        heard.hooks.clear()
        archive.store(received(1))
        make_older(archive, 60_000)
        assert look(archive, heard) == 0
        heard.hooks.add("study_complete")
        assert look(archive, heard) == 0  # it came before


def test_the_first_look_tells_what_was_complete_before_it_but_not_what_was_there_before_the_node(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with open_archive(tmp_path) as archive:
        archive.store(received(1, StudyInstanceUID="1.2.8", SeriesInstanceUID="1.2.8.1"))
        make_older(archive, 90_000)
        archive.store(received(2))
        make_older(archive, 60_000)
        heard = Heard()
        assert look(archive, heard, began_s=120) == 1
        assert look(archive, heard, began_s=120) == 0
        assert heard.studies == ["1.2.3"]


def test_a_plug_in_that_comes_later_is_not_told_of_what_came_before_it(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with open_archive(tmp_path) as archive:
        heard = Heard()
        heard.hooks.clear()
        completion = StudyCompletion(archive.index, heard, time.monotonic() - 120)
        archive.store(received(1))
        make_older(archive, 60_000)
        assert completion.look(30.0) == 0
        heard.hooks.add("study_complete")
        assert completion.look(30.0) == 0
        assert heard.studies == []


def test_a_paused_queue_is_not_served(open_archive: OpenArchive, tmp_path: Path) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        archive.store(received(1))
        queues = Queues(archive.index, "node", 10_000)
        assert queues.claim(ON_A)
        steering.pause(archive.index, ON_A)
        assert queues.renew([ON_A]) == set()
        assert queues.claimable([ON_A]) == []
        steering.resume(archive.index, ON_A)
        assert queues.claimable([ON_A]) == [ON_A]


@pytest.mark.parametrize("on", ["series", "study"])
def test_a_series_or_study_goes_as_a_whole_and_later_objects_after_it(
    open_archive: OpenArchive, tmp_path: Path, on: str
) -> None:
    wanted = settings({"on": on, "quiet_s": 30, "when": {"InstanceNumber": 2}})
    routes = read_routes(wanted)
    with routed(open_archive, tmp_path, wanted) as archive:
        for number in (1, 2, 3):
            archive.store(received(number))
        other = {"SeriesInstanceUID": "1.2.3.2"}
        archive.store(received(4, **other))
        assert release_complete(archive.index, routes) == []
        assert waiting(archive) == []
        make_older(archive, 60_000)
        ((_, _, count),) = release_complete(archive.index, routes)
        assert count == (3 if on == "series" else 4)
        assert len(waiting(archive)) == count
        archive.store(received(5, InstanceNumber=2))
        make_older(archive, 60_000)
        ((_, _, count),) = release_complete(archive.index, routes)
        assert count == 1
        assert waiting(archive)[-1] == "1.2.3.1.5"


def test_an_object_that_meets_no_condition_keeps_its_study_incomplete(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    wanted = settings({"on": "study", "quiet_s": 30, "when": {"InstanceNumber": 1}})
    with routed(open_archive, tmp_path, wanted) as archive:
        archive.store(received(1))
        make_older(archive, 60_000)
        archive.store(received(2))
        assert release_complete(archive.index, read_routes(wanted)) == []
        make_older(archive, 60_000)
        assert release_complete(archive.index, read_routes(wanted)) == [("r", "1.2.3", 2)]


def test_retention_spares_a_study_that_is_on_its_way(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    from lfscp.archive.upkeep.retention import Limits, Retention

    with routed(open_archive, tmp_path, settings({})) as archive:
        archive.store(received(1))
        limits = Limits(max_bytes=1, quiet_ms=0)
        retention = Retention(archive, limits, lambda _candidate, _count: None)
        make_older(archive, 60_000)
        assert retention.run() == 0
        queues = Queues(archive.index, "node", 10_000)
        queues.sent(ON_A, dict.fromkeys(queues.next_items(ON_A, 10), 1))
        assert retention.run() == 1


def test_an_object_that_was_deleted_is_not_waited_for(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        archive.store(received(1))
        archive.delete(Level.STUDY, "1.2.3")
        queues = Queues(archive.index, "node", 10_000)
        queues.gone(ON_A, queues.next_items(ON_A, 10), "no longer in the archive")
        assert waiting(archive) == []


def test_an_object_that_was_deleted_and_came_again_is_sent(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({})) as archive:
        archive.store(received(1))
        queues = Queues(archive.index, "node", 10_000)
        read_before = queues.next_items(ON_A, 10)
        archive.delete(Level.STUDY, "1.2.3")
        archive.store(received(1))
        queues.gone(ON_A, read_before, "no longer in the archive")
        assert waiting(archive) == ["1.2.3.1.1"]


def test_a_commitment_to_an_object_says_nothing_of_what_is_stored_in_its_place(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    wanted = settings({"commit": True})
    with routed(open_archive, tmp_path, wanted, duplicates="replace") as archive:
        archive.store(received(1))
        queues = Queues(archive.index, "node", 10_000)
        sent = queues.next_items(ON_A, 10)
        archive.store(received(1, PatientComments="newer"))
        queues.ask_commitment({each: each.sop_instance_uid for each in sent}, "1.2.9")
        assert queues.asked(ON_A, "1.2.9") == []
        assert waiting(archive) == ["1.2.3.1.1"]


def test_what_two_threads_find_committed_counts_once(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    wanted = settings({"commit": True})
    with routed(open_archive, tmp_path, wanted) as archive:
        archive.store(received(1))
        queues = Queues(archive.index, "node", 10_000)
        queues.claim(ON_A)
        items = queues.next_items(ON_A, 10)
        queues.ask_commitment({each: each.sop_instance_uid for each in items}, "1.2.9")
        found = dict.fromkeys(queues.asked(ON_A, "1.2.9"), 100)
        for _ in range(2):
            queues.committed(ON_A, found)
        (state,) = steering.queue_states(archive.index, read_routes(wanted))
        assert (state.waiting, state.sent, state.sent_bytes) == (0, 1, 100)


def put_clock_back(archive: Archive, ms: int) -> None:
    """Let all that was noted be later than it is now."""

    def work(connection: Connection) -> None:
        for column in (route_queue.c.held_until, route_queue.c.next_attempt_at):
            connection.execute(update(route_queue).values({column.name: column + ms}))
        later = {"next_attempt_at": route_item.c.next_attempt_at + ms}
        connection.execute(update(route_item).values(**later))

    archive.index.transact(work)
    make_older(archive, -ms)


def test_a_clock_that_is_put_back_stops_no_queue(open_archive: OpenArchive, tmp_path: Path) -> None:
    year = 365 * 86_400_000
    with routed(open_archive, tmp_path, settings({})) as archive:
        for number in (1, 2):
            archive.store(received(number))
        one, other = (Queues(archive.index, name, 60_000) for name in ("one", "other"))
        assert one.claim(ON_A)
        first, _ = one.next_items(ON_A, 10)
        one.failed(ON_A, {first: Failure("0xA700")}, 60_000, 10 * year)
        one.unreachable(ON_A, "is down", 10_000, 10 * year)
        put_clock_back(archive, year)  # and the node has died
        assert other.claimable([ON_A]) == [ON_A]
        assert other.claim(ON_A)
        assert waiting(archive) == ["1.2.3.1.1", "1.2.3.1.2"]


@pytest.mark.parametrize("ahead_ms", [2, 20_000])
def test_an_object_of_a_node_whose_clock_is_ahead_is_not_old(
    open_archive: OpenArchive, tmp_path: Path, ahead_ms: int
) -> None:
    wanted = settings({"on": "study", "quiet_s": 30})
    with routed(open_archive, tmp_path, wanted) as archive:
        archive.store(received(1))
        make_older(archive, -ahead_ms)
        assert release_complete(archive.index, read_routes(wanted)) == []


def test_a_clock_that_is_put_back_holds_no_study(open_archive: OpenArchive, tmp_path: Path) -> None:
    wanted = settings({"on": "study", "quiet_s": 30})
    with routed(open_archive, tmp_path, wanted) as archive:
        archive.store(received(1))
        put_clock_back(archive, 365 * 86_400_000)
        assert release_complete(archive.index, read_routes(wanted)) == [("r", "1.2.3", 1)]


def test_what_waits_for_a_route_that_was_renamed_goes_when_it_is_stored_anew(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    with routed(open_archive, tmp_path, settings({}), duplicates="replace") as archive:
        archive.store(received(1))
        archive.router = SettingsRouter(CurrentSettings(settings({"name": "renamed"})))
        archive.store(received(1, PatientComments="newer"))
        assert waiting(archive, QueueName("renamed", "A")) == ["1.2.3.1.1"]


def test_a_fail_over_list_in_another_order_leaves_nothing_behind(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    failover = {"mode": "failover"}
    with routed(open_archive, tmp_path, settings({**failover, "send_to": ["A", "B"]})) as archive:
        archive.store(received(1))
        (route,) = read_routes(settings({**failover, "send_to": ["B", "C", "A"]}))
        queues = Queues(archive.index, "node", 10_000)
        names = [QueueName(route.name, peer) for peer in route.queues]
        assert queues.claimable(names) == [ON_A]
        assert route.alternatives("A") == ("A", "B", "C")


def test_of_two_routes_to_a_peer_the_one_with_higher_priority_goes_first(
    open_archive: OpenArchive, tmp_path: Path
) -> None:
    wanted = settings({}, {"name": "first", "priority": 5, "when": {"InstanceNumber": 2}})
    with routed(open_archive, tmp_path, wanted) as archive:
        for number in (1, 2):
            archive.store(received(number))
        queues = Queues(archive.index, "node", 10_000)
        first = QueueName("first", "A")
        assert waiting(archive, first) == ["1.2.3.1.2"]
        assert queues.claim(first)
        assert queues.is_overtaken([first])
        assert not queues.is_overtaken([])
        assert not queues.is_overtaken([ON_A])  # which no node serves
        queues.unreachable(first, "is down", 10_000, 1_000_000)
        assert not queues.is_overtaken([first])


@pytest.mark.parametrize(
    ("days", "hours", "at", "expected"),
    [
        ([], [], "2024-03-15 12:00", True),
        (["fri"], [], "2024-03-15 12:00", True),
        (["sat", "sun"], [], "2024-03-15 12:00", False),
        ([], ["08:00-12:00"], "2024-03-15 12:00", False),
        ([], ["08:00-12:00", "13:00-24:00"], "2024-03-15 23:59", True),
        (["fri"], ["20:00-06:00"], "2024-03-16 05:59", True),  # Friday's night
        (["fri"], ["20:00-06:00"], "2024-03-15 05:59", False),
        (["fri"], ["20:00-06:00"], "2024-03-15 20:00", True),
    ],
)
def test_a_route_sends_in_its_days_and_hours(
    days: list[str], hours: list[str], at: str, expected: bool
) -> None:
    (route,) = settings({"days": days, "hours": hours}).route
    assert is_open(route, datetime.fromisoformat(at)) is expected
