"""The page of routes: what it says of each queue, what was given up, and its buttons."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.routing import steering
from lfscp.routing.queue_rows import Failure, QueueName
from lfscp.routing.queues import Queues
from lfscp.routing.reading import read_routes
from lfscp.web.status.queue_rates import QueueRate, QueueRates
from tests.support.routed_web import routed_archive, upload, with_routes
from tests.support.sample_objects import made
from tests.support.web_app import serving_archive

CT = QueueName("ct", "A")
DAY_MS = 86_400_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return with_routes(
        tmp_path / "data",
        {"name": "ct", "send_to": ["A"], "when": {"Modality": ["CT", "PT"], "Rows": {"from": 1}}},
        {"name": "all of it", "send_to": ["A", "B"], "on": "study", "mode": "failover"},
        {"name": "off", "send_to": ["B"], "enabled": False},
    )


@pytest.fixture
def archive(settings: Settings) -> Iterator[Archive]:
    with routed_archive(settings) as archive:
        yield archive


@pytest.fixture
def client(archive: Archive, settings: Settings) -> Iterator[TestClient]:
    with serving_archive(archive, settings) as client:
        yield client


@pytest.fixture
def queues(archive: Archive) -> Queues:
    return Queues(archive.index, "node", 10_000)


def shown(client: TestClient, path: str = "/routes") -> str:
    """The words of a page."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return words(answer.text)


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def press(client: TestClient, wish: str, **fields: str) -> str:
    """What the page says after a button."""
    token = client.get("/routes").text.split('data-csrf="')[1].split('"')[0]
    data = {"destination": "A", **fields}
    answer = client.post(f"/routes/ct/{wish}", data=data, headers={"X-CSRF-Token": token})
    assert answer.status_code == 200, answer.text
    return str(json.loads(answer.headers["hx-trigger"])["toast"]["text"])


def give_up(queues: Queues, name: QueueName, reason: str) -> None:
    items = queues.next_items(name, 100)
    queues.failed(name, dict.fromkeys(items, Failure(reason)), 1000, -DAY_MS)


def test_routes_stand_there_in_words(client: TestClient, tmp_path: Path) -> None:
    upload(client, made(tmp_path))
    page = shown(client)
    assert 'Modality is "CT" or "PT" and Rows is from 1' in page
    assert "with its study, 60 s after the last object" in page
    assert "to the first that answers of A, B" in page
    assert "off not enabled" in page
    assert "A waiting 1" in page
    assert "1 until complete" in page


def test_without_a_route_the_page_says_how_to_have_one(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": str(tmp_path / "data")})
    with (
        Archive.open(settings.data_dir, durability="os") as archive,
        serving_archive(archive, settings) as client,
    ):
        assert "No route is configured" in shown(client)
        assert client.get("/api/routes").json() == []


def test_a_destination_that_cannot_be_reached_is_said_with_its_reason(
    client: TestClient, queues: Queues, tmp_path: Path
) -> None:
    upload(client, made(tmp_path))
    queues.unreachable(CT, "A@127.0.0.1:104 cannot be reached", 40_000, DAY_MS)
    page = shown(client)
    assert re.search("A tries again A@127.0.0.1:104 cannot be reached next try in 3[0-9] s", page)


def test_an_object_that_is_refused_is_said_too(
    client: TestClient, queues: Queues, tmp_path: Path
) -> None:
    upload(client, made(tmp_path))
    items = queues.next_items(CT, 10)
    queues.failed(CT, dict.fromkeys(items, Failure("status 0xA900: not mine")), 40_000, DAY_MS)
    page = shown(client)
    assert re.search("A tries again status 0xA900: not mine next try in 3[0-9] s", page)
    state = client.get("/api/routes/queues").json()[0]
    assert (state["reason"], state["failures"]) == ("status 0xA900: not mine", 0)
    assert 30 < state["retry_in_s"] <= 40


def test_buttons_steer_a_queue(client: TestClient, archive: Archive, tmp_path: Path) -> None:
    study = upload(client, made(tmp_path))
    assert press(client, "pause") == "The queue to A is paused."
    assert "A paused" in shown(client)
    assert press(client, "resume") == "The queue to A goes on."
    assert press(client, "flush") == "1 object is to be sent now."
    assert press(client, "drop") == "1 object is forgotten. The archive keeps them."
    state = steering.queue_states(archive.index, ())
    assert {each.route: each.waiting for each in state} == {"all of it": 0, "ct": 0}
    assert client.get(f"/api/studies/{study}").status_code == 200, "the archive keeps it"


def test_what_was_given_up_is_tried_again_or_dropped_a_study_at_a_time(
    client: TestClient, queues: Queues, tmp_path: Path
) -> None:
    first, second = (
        upload(client, made(tmp_path, PatientName=name, StudyInstanceUID=uid))
        for name, uid in (("One^Ann", "1.2.3.1"), ("Two^Ben", "1.2.3.2"))
    )
    give_up(queues, CT, "it is <full>")
    page = shown(client)
    assert "One, Ann" in page
    assert "Two, Ben" in page
    assert "it is <full>" in page
    listed = client.get("/api/routes/given-up").json()
    assert {(each["study_instance_uid"], each["instances"]) for each in listed} == {
        (first, 1),
        (second, 1),
    }
    assert {each["reason"] for each in listed} == {"it is <full>"}

    assert press(client, "retry", study=first) == "1 object is to be tried again."
    assert press(client, "drop", study=second, only_given_up="true").startswith("1 object is forg")
    assert client.get("/api/routes/given-up").json() == []
    assert [item.study_instance_uid for item in queues.next_items(CT, 10)] == [first]
    wrong = client.post("/api/routes/ct/flush", params={"destination": "A", "study": first})
    assert wrong.status_code == 422


def test_dropping_what_was_given_up_leaves_what_waits(
    client: TestClient, queues: Queues, tmp_path: Path
) -> None:
    upload(client, made(tmp_path))
    give_up(queues, CT, "full")
    study = upload(client, made(tmp_path))
    query = {"destination": "A", "only_given_up": "true"}
    assert client.post("/api/routes/ct/drop", params=query).json() == {"instances": 1}
    assert [item.study_instance_uid for item in queues.next_items(CT, 10)] == [study]


def test_queues_of_a_route_that_is_gone_can_be_dropped(
    client: TestClient, archive: Archive, settings: Settings, tmp_path: Path
) -> None:
    upload(client, made(tmp_path))
    left = settings.model_copy(update={"route": settings.route[1:]})
    with serving_archive(archive, left) as later:
        page = shown(later)
        assert "ct no longer configured" in page
        assert press(later, "drop").startswith("1 object is forgotten")
        assert "no longer configured" not in shown(later)


def test_the_page_of_a_study_says_why_it_goes_and_what_became_of_it(
    client: TestClient, queues: Queues, tmp_path: Path
) -> None:
    study = upload(client, made(tmp_path))
    give_up(queues, CT, "it is full")
    assert f'hx-get="/studies/{study}/routes"' in client.get(f"/studies/{study}").text
    page = shown(client, f"/studies/{study}/routes")
    assert 'ct goes to A , at once Modality is "CT"' in page
    assert "A : 1 given up last on" in page
    assert "it is full" in page
    assert "off does not go the route is not enabled" in page


def test_a_study_whose_files_are_gone_says_so(
    client: TestClient, archive: Archive, tmp_path: Path
) -> None:
    study = upload(client, made(tmp_path))
    for file in archive.files.root.rglob("*.dcm"):
        file.unlink()
    answer = client.get(f"/api/studies/{study}/routes")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "no object of this study can be read; see the log"


def test_the_rate_is_what_was_sent_between_looks(archive: Archive, settings: Settings) -> None:
    now = 0.0
    rates = QueueRates(lambda: now)
    state = steering.queue_states(archive.index, read_routes(settings))
    one = next(each for each in state if each.route == "ct")

    def look(sent: int) -> QueueRate:
        changed = {**{name: getattr(one, name) for name in one.__slots__}, "sent": sent}
        return rates.of([type(one)(**{**changed, "sent_bytes": sent * 100})])[CT]

    assert look(10) == QueueRate(0, 0)
    now = 2.0
    assert look(30) == QueueRate(10, 1000)
    now = 10.0
    assert look(30) == QueueRate(2, 200)
    now = 100.0
    assert look(30) == QueueRate(0, 0), "what is older than a minute does not count"
    now = 110.0
    assert look(5) == QueueRate(0, 0), "the index was put back"
