"""Fixtures of the page's unit tests: the application with an archive, files in it or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.web_app import serving
from tests.support.web_objects import write_all


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of 4 slices, a colour loop, a report."""
    return write_all(tmp_path_factory.mktemp("objects"), slices=4)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """An open page on loopback, its archive empty."""
    with serving(tmp_path / "data", peers={"PACS": {"host": "127.0.0.1", "port": 9}}) as client:
        yield client


@pytest.fixture
def filled(client: TestClient, files: Path) -> TestClient:
    """The same with the files in its archive."""
    for file in sorted(files.glob("*.dcm")):
        answer = client.post("/api/instances", content=file.read_bytes())
        assert answer.status_code == 201, answer.text
    return client
