"""The delivery of a queue to a destination that fails in many ways: the other objects go."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.route_tables import route_item
from lfscp.archive.node_id import node_id
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.routing import sending
from lfscp.routing.actions.action import Means
from lfscp.routing.delivery import Delivery
from lfscp.routing.matching import SettingsRouter
from lfscp.routing.queue_rows import QueueName
from lfscp.routing.queues import Queues
from lfscp.routing.reading import read_routes
from lfscp.routing.service import RoutingService
from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.send import OnSent
from lfscp.services.sending.sub_operations import SubOperationOutcome
from tests.support.archive_datasets import received

ON_A = QueueName("r", "A")
PATIENCE_S = 60.0


class NotTold:
    """No plug-ins."""

    def hears(self, _hook: str) -> bool:
        return False

    def notify_study_complete(self, study_uid: str) -> None:
        raise AssertionError(study_uid)


class Destination:
    """Takes objects, but for one, at which it fails.

    Attributes:
        taken: SOP Instance UIDs, in order.
    """

    def __init__(self, poison: str, error: Exception) -> None:
        self.taken: list[str] = []
        self._poison = poison
        self._error = error

    def send(self, instances: Sequence[StoredInstance], on_sent: OnSent) -> None:
        for instance in instances:
            if instance.sop_instance_uid == self._poison:
                raise self._error
            self.taken.append(instance.sop_instance_uid)
            on_sent(instance, SubOperationOutcome.COMPLETED, "")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "error",
    [
        PeerError(PeerErrorKind.ABORTED, "A", "broke off"),
        PeerError(PeerErrorKind.TIMED_OUT, "A", "was silent"),
        PeerError(PeerErrorKind.REFUSED, "A", "refused the objects (HTTP 502)"),
        ZeroDivisionError(),
    ],
    ids=lambda error: str(error) or "unforeseen",
)
def test_an_object_at_which_the_destination_breaks_off_again_and_again_does_not_stop_the_others(
    open_archive: Callable[..., Archive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    route = {"name": "r", "send_to": ["A"], "retry_delay_s": 0.05}
    peers = {"A": {"host": "127.0.0.1", "port": 104}}
    settings = Settings.model_validate({"peers": peers, "route": [route]})
    destination = Destination("1.2.3.1.1", error)
    monkeypatch.setattr(sending, "open_outlet", lambda *_args, **_options: destination)
    with open_archive(tmp_path) as archive:
        current = CurrentSettings(settings)
        archive.router = SettingsRouter(current)
        for number in (1, 2, 3):
            archive.store(received(number))
        queues = Queues(archive.index, "node", 10_000)
        routes = {each.name: each for each in read_routes(settings)}
        deadline = time.monotonic() + PATIENCE_S
        while len(set(destination.taken)) < 2 and time.monotonic() < deadline:
            serve(lambda: Delivery(ON_A, archive, current, queues, lambda: routes), queues)
        assert destination.taken == ["1.2.3.1.2", "1.2.3.1.3"]
        ((waiting, reason),) = [(row.sop_instance_uid, row.reason) for row in items_of(archive)]
        assert waiting == "1.2.3.1.1"
        assert reason


def held_by(archive: Archive, process: str) -> None:
    """Let a process of the node hold the queue."""
    holder = f"{node_id(archive.data_dir)}#{process}"
    assert Queues(archive.index, holder, 60_000).claim(ON_A)


def is_taken(archive: Archive, monkeypatch: pytest.MonkeyPatch, *, within_s: float) -> bool:
    """Whether this process sends what is in the queue."""
    peers = {"A": {"host": "127.0.0.1", "port": 104}}
    settings = Settings.model_validate({"peers": peers, "route": [{"name": "r", "send_to": ["A"]}]})
    destination = Destination("", ValueError())
    monkeypatch.setattr(sending, "open_outlet", lambda *_args, **_options: destination)
    current = CurrentSettings(settings)
    archive.router = SettingsRouter(current)
    archive.store(received(1))
    service = RoutingService(archive, current, lambda _settings: Means("HERE"), NotTold())
    service.start()
    deadline = time.monotonic() + within_s
    while not destination.taken and time.monotonic() < deadline:
        time.sleep(0.02)
    service.stop()
    return destination.taken == ["1.2.3.1.1"]


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_queue_is_taken_from_a_process_of_the_node_only_once_it_has_ended(
    open_archive: Callable[..., Archive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_ended: bool,
) -> None:
    other = subprocess.Popen(["sleep", "600"])
    try:
        with open_archive(tmp_path) as archive:
            held_by(archive, f"{other.pid}.{archive.life}")
            if has_ended:
                other.kill()
                other.wait()
            within_s = PATIENCE_S if has_ended else 1.5
            assert is_taken(archive, monkeypatch, within_s=within_s) is has_ended
    finally:
        other.kill()
        other.wait()


NUMBERS = {"the same number": os.getpid(), "a number of nobody": 2**22 + 1, "another's": 1}


@pytest.mark.parametrize("life", ["", ".0123abcd"])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_queue_of_another_life_is_taken_at_once_unless_that_hands_over(
    open_archive: Callable[..., Archive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
    life: str,
) -> None:
    """In containers the numbers of processes tell nothing: each life has the same."""
    process = f"{NUMBERS[number]}{life}"
    with open_archive(tmp_path) as before:
        held_by(before, process)
        with open_archive(tmp_path, lock=os.dup(before.lock_descriptor)) as follows:
            assert not is_taken(follows, monkeypatch, within_s=1.0)
    with open_archive(tmp_path) as anew:
        assert is_taken(anew, monkeypatch, within_s=PATIENCE_S)


def serve(make: Callable[[], Delivery], queues: Queues) -> None:
    """Serve the queue for a moment, if it may be served now."""
    if not (queues.claimable([ON_A]) and queues.claim(ON_A)):
        time.sleep(0.02)
        return
    delivery = make()
    delivery.start()
    time.sleep(0.1)
    delivery.stop()
    delivery.join()


def items_of(archive: Archive) -> list[Any]:

    with archive.index.engine.connect() as connection:
        return list(connection.execute(select(route_item)).all())
