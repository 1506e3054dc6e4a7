"""The page of a node, its archive empty or with objects; fixtures of tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.web_app import serving
from tests.support.web_objects import write_all

PEERS = {"PACS": {"host": "127.0.0.1", "port": 9}}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT of 4 slices, a colour loop, a report."""
    return write_all(tmp_path_factory.mktemp("objects"), slices=4)


@pytest.fixture(scope="session")
def filled_data(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an archive to which the files were uploaded; to be copied."""
    data = tmp_path_factory.mktemp("filled") / "data"
    with serving(data, peers=PEERS) as client:
        for file in sorted(files.glob("*.dcm")):
            answer = client.post("/api/instances", content=file.read_bytes())
            assert answer.status_code == 201, answer.text
    return data


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """An open page on loopback, its archive empty unless the test asks for files in it."""
    with serving(tmp_path / "data", peers=PEERS) as client:
        yield client


@pytest.fixture
def filled(filled_data: Path, tmp_path: Path, request: pytest.FixtureRequest) -> TestClient:
    """The same with the files in its archive."""
    shutil.copytree(filled_data, tmp_path / "data")
    client: TestClient = request.getfixturevalue("client")
    return client
