"""/metrics, /healthz and /readyz: what they say when all is well, and when something is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from lfscp.archive.archive import Archive
from lfscp.archive.readiness import readiness
from lfscp.config.passwords import new_token
from lfscp.observe import metrics
from lfscp.web.status import readiness as web_readiness
from lfscp.web.status.state import ProcessState
from tests.support import web_app


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is an old one."""
    monkeypatch.setattr(web_readiness, "GOOD_FOR_S", 0.0)


def samples(client: TestClient, **headers: str) -> dict[tuple[str, tuple[Any, ...]], float]:
    """Every sample of /metrics by name and values of its labels, these in alphabetical order."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def failing(client: TestClient) -> dict[str, str]:
    """The failed checks of /readyz, which must say 503 and name them."""
    answer = client.get("/readyz")
    assert answer.status_code == 503, answer.text
    failed = {name: text for name, text in answer.json()["checks"].items() if text != "ok"}
    for name in failed:
        assert name in answer.json()["detail"]
    return failed


# /metrics


def test_metrics_are_those_of_the_archive_and_the_pool(filled: TestClient, files: Path) -> None:
    found = samples(filled)
    objects = list(files.glob("*.dcm"))
    assert found["lfscp_archive_instances", ()] == len(objects)
    assert found["lfscp_archive_bytes", ()] > 0
    assert found["lfscp_pool_leaders", ("node",)] == 1
    assert found["lfscp_pool_waiting_threads", ("node",)] == 2
    assert found["lfscp_pool_max_waiting_threads", ("node",)] == -1
    assert found["lfscp_jobs", ("send", "sleeping")] == 0
    assert found["lfscp_index_up", ()] == 1
    assert found["lfscp_disk_free_bytes", ("objects",)] > 0
    mine = [labels for name, labels in found if name == "lfscp_process_resident_memory_bytes"]
    assert (str(os.getpid()), "page") in mine


def test_an_upload_is_counted(client: TestClient, files: Path) -> None:
    before = samples(client)["lfscp_received_instances_total", ("upload",)]
    client.post("/api/instances", content=next(files.glob("*.dcm")).read_bytes())
    assert samples(client)["lfscp_received_instances_total", ("upload",)] == before + 1


def test_buckets_are_cumulative_and_end_with_all(client: TestClient) -> None:
    metrics.SERVED.of("C-ECHO", "0x0000").observe(0.003)
    metrics.SERVED.of("C-ECHO", "0x0000").observe(1e6)
    found = samples(client)
    name = "lfscp_request_duration_seconds"
    numbers = [
        value
        for (each, labels), value in found.items()
        if each == f"{name}_bucket" and labels[1:] == ("C-ECHO", "0x0000")
    ]
    assert numbers == sorted(numbers)
    assert numbers[-1] == found[f"{name}_count", ("C-ECHO", "0x0000")]
    assert numbers[-1] >= numbers[-2] + 1


def test_metrics_go_on_without_an_index(client: TestClient, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / "index.sqlite")) as connection:
        connection.execute("ALTER TABLE job RENAME TO gone")
    found = samples(client)
    assert found["lfscp_index_up", ()] == 0
    assert ("lfscp_pool_leaders", ("node",)) in found


def test_the_metrics_token_opens_metrics_and_nothing_else(tmp_path: Path) -> None:
    token, hashed = new_token()
    other, other_hash = new_token()
    web = {"token_hash": other_hash, "metrics_token_hash": hashed}
    with web_app.serving(tmp_path, web=web) as client:
        assert client.get("/metrics").status_code == 401
        assert samples(client, Authorization=f"Bearer {token}")
        assert samples(client, Authorization=f"bearer {other}")
        refused = client.get("/api/studies", headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code == 401
        # Who watches need not log in, by whatever name the node is asked.
        for path in ("/healthz", "/readyz"):
            assert client.get(path, headers={"Host": "10.1.2.3:8080"}).status_code == 200


# /readyz


def test_ready_says_what_was_looked_at(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    names = {"pool", "disk", "objects", "data folder", "index", "audit trail"}
    assert answer.json() == {"status": "ready", "checks": dict.fromkeys(names, "ok")}


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (ProcessState(1, None, 0, 9, 9), "no thread waits for connections"),
        (ProcessState(1, None, 0, 1, is_shutdown=True), "stopping"),
        (ProcessState(1, "Thread-1", 0, 1, is_silent=True), "worker 0"),
    ],
)
def test_a_pool_that_takes_nobody_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: ProcessState, words: str
) -> None:
    monkeypatch.setattr(web_readiness, "LEADER_WITHIN_S", 0.1)
    well = web_app.state()
    now = {"state": replace(well, processes=(process,))}
    monkeypatch.setattr(web_app, "state", lambda: now["state"])
    with web_app.serving(tmp_path) as client:
        assert words in failing(client)["pool"]
        assert client.get("/healthz").status_code == 200
        now["state"] = well
        assert client.get("/readyz").status_code == 200


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An open archive."""
    with Archive.open(tmp_path / "data", durability="os") as opened:
        yield opened


def problems(archive: Archive) -> dict[str, str]:
    """What is wrong with an archive."""
    return {check.name: check.problem for check in readiness(archive) if check.problem}


def test_a_locked_index_is_named_and_recovers(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lfscp.archive.readiness.PATIENCE_MS", 100)
    other = sqlite3.connect(archive.data_dir / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "locked" in problems(archive)["index"]
    other.execute("ROLLBACK")
    other.close()
    assert problems(archive) == {}


def test_a_corrupt_index_is_named_and_recovers(archive: Archive) -> None:
    archive.index.close()
    file = archive.data_dir / "index.sqlite"
    for rest in archive.data_dir.glob("index.sqlite-*"):
        rest.unlink()
    good = file.read_bytes()
    file.write_bytes(b"\xff" * 4096 + good[4096:])
    assert "not a database" in problems(archive)["index"]
    archive.index.close()
    file.write_bytes(good)
    assert problems(archive) == {}


def test_folders_that_are_gone_are_named_and_recover(archive: Archive) -> None:
    shutil.rmtree(archive.incoming_dir)
    assert problems(archive) == {"objects": "No such file or directory"}
    archive.incoming_dir.mkdir()
    assert problems(archive) == {}
    assert list(archive.incoming_dir.iterdir()) == []


def test_the_checks_change_nothing(archive: Archive) -> None:
    def found() -> list[Path]:
        paths = sorted(archive.data_dir.rglob("*"))
        return [each for each in paths if not each.name.startswith("index.sqlite")]

    before = found()
    assert problems(archive) == {}
    assert found() == before


def test_a_disk_that_hangs_is_an_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_readiness, "PATIENCE_S", 0.1)
    release = threading.Event()
    hanging = threading.Event()

    def hang(_archive: object) -> list[object]:
        hanging.set()
        assert release.wait(30)
        return []

    monkeypatch.setattr(web_readiness, "readiness", hang)
    try:
        assert "hangs" in failing(client)["checks"]
        assert hanging.is_set()
        threads = threading.active_count()
        assert "hangs" in failing(client)["checks"]
        assert threading.active_count() == threads  # one run, however many ask
    finally:
        release.set()
