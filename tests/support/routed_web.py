"""The application of a node with routes: what is uploaded is put into their queues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from pydicom import dcmread

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.routing.matching import SettingsRouter


def with_routes(data_dir: Path, *routes: dict[str, Any]) -> Settings:
    """Settings with routes to the peers A and B, which nobody has to run."""
    peers = {title: {"host": "127.0.0.1", "port": 104} for title in "AB"}
    given = {"data_dir": str(data_dir), "peers": peers, "route": list(routes)}
    return Settings.model_validate(given)


@contextmanager
def routed_archive(settings: Settings) -> Iterator[Archive]:
    """An archive that asks the routes about each object."""
    with Archive.open(settings.data_dir, durability="os") as archive:
        archive.router = SettingsRouter(CurrentSettings(settings))
        yield archive


def upload(client: TestClient, file: Path) -> str:
    """Upload a file; its Study Instance UID."""
    answer = client.post("/api/instances", files={"files": ("x.dcm", file.read_bytes())})
    assert answer.status_code == 201, answer.text
    return str(dcmread(file).StudyInstanceUID)
