"""The API of routes: queues, what is done to them, and why a study goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.observe import audit
from lfscp.routing.queue_rows import QueueName
from lfscp.routing.queues import Queues
from tests.support.routed_web import routed_archive, upload, with_routes
from tests.support.sample_objects import made
from tests.support.web_app import serving_archive


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return with_routes(
        tmp_path / "data",
        {"name": "ct", "send_to": ["A", "B"], "when": {"Modality": "CT"}},
        {"name": "mr", "send_to": ["A"], "on": "study", "when": {"Modality": "MR"}},
    )


@pytest.fixture
def archive(settings: Settings) -> Iterator[Archive]:
    with routed_archive(settings) as archive:
        yield archive


@pytest.fixture
def client(archive: Archive, settings: Settings) -> Iterator[TestClient]:
    with serving_archive(archive, settings) as client:
        yield client


def test_what_is_uploaded_waits_in_the_queues(client: TestClient, tmp_path: Path) -> None:
    upload(client, made(tmp_path))
    upload(client, made(tmp_path, Modality="MR"))
    ct, mr = client.get("/api/routes").json()
    assert [(each["destination"], each["waiting"]) for each in ct["queues"]] == [
        ("A", 1),
        ("B", 1),
    ]
    assert mr["when"] == {"Modality": "MR"}
    assert (mr["queues"][0]["waiting"], mr["queues"][0]["held"]) == (0, 1)
    assert len(client.get("/api/routes/queues").json()) == 3


def test_what_a_user_drops_is_in_the_audit_trail_study_by_study(
    client: TestClient, tmp_path: Path
) -> None:
    audit.start(tmp_path / "audit.log", "LFSCP")
    try:
        for study in ("1.2.1", "1.2.1", "1.2.2"):
            upload(client, made(tmp_path, Modality="MR", StudyInstanceUID=study))
        client.post("/api/routes/mr/drop", params={"destination": "A"})
        client.post("/api/routes/mr/drop", params={"destination": "A"})  # nothing is left
    finally:
        audit.stop()
    lines = [
        line for line in (tmp_path / "audit.log").read_text().splitlines() if "dropped" in line
    ]
    assert len(lines) == 2, lines
    said = [
        [part in line for part in ("1.2.1", "1.2.2", '"mr"', '"page"', "Doe^Jane")]
        for line in lines
    ]
    assert sorted(said) == [
        [False, True, True, True, True],
        [True, False, True, True, True],
    ]


def test_a_queue_is_steered(client: TestClient, tmp_path: Path) -> None:
    upload(client, made(tmp_path, Modality="MR"))

    def wish(what: str, **query: str) -> tuple[int, object]:
        answer = client.post(f"/api/routes/mr/{what}", params={"destination": "A", **query})
        return answer.status_code, answer.json()

    def state() -> dict[str, object]:
        found = client.get("/api/routes").json()[1]["queues"][0]
        return {key: found[key] for key in ("waiting", "held", "is_paused")}

    assert wish("pause") == (200, {"instances": 0})
    assert state() == {"waiting": 0, "held": 1, "is_paused": True}
    assert wish("flush") == (200, {"instances": 1})
    assert wish("resume") == (200, {"instances": 0})
    assert state() == {"waiting": 1, "held": 0, "is_paused": False}
    assert wish("retry") == (200, {"instances": 0})
    assert wish("drop") == (200, {"instances": 1})
    assert state() == {"waiting": 0, "held": 0, "is_paused": False}
    status, problem = wish("pause", destination="NOBODY")
    assert status == 404
    assert isinstance(problem, dict)
    assert problem["detail"] == "there is no queue of route mr to NOBODY"
    assert wish("burn")[0] == 422


def test_a_study_says_why_it_goes_and_what_became_of_it(
    client: TestClient, archive: Archive, tmp_path: Path
) -> None:
    study = upload(client, made(tmp_path))
    queues = Queues(archive.index, "node", 10_000)
    name = QueueName("ct", "A")
    queues.sent(name, {item: item.size for item in queues.next_items(name, 10)})
    found = client.get(f"/api/studies/{study}/routes").json()
    assert [(each["destination"], each["sent"], each["waiting"]) for each in found["outcomes"]] == [
        ("A", 1, 0),
        ("B", 0, 1),
    ]
    ct, mr = found["routes"]
    assert (ct["goes"], ct["destinations"], ct["reason"]) == (True, ["A", "B"], 'Modality is "CT"')
    assert (mr["goes"], mr["reason"]) == (False, 'Modality is "CT", wanted "MR"')
    assert client.get("/api/studies/1.2.3.4/routes").status_code == 404


def test_the_queues_are_measured(client: TestClient, tmp_path: Path) -> None:
    upload(client, made(tmp_path))
    text = client.get("/metrics").text
    wanted = 'lfscp_route_queue_instances{destination="A",route="ct",state="waiting"} 1.0'
    assert wanted in text
    assert 'lfscp_route_queue_oldest_seconds{destination="A",route="ct"}' in text
