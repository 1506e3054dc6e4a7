"""A ZIP whose client has left is not made to its end: the only place is free for others."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.file_sets import package
from tests.support.archive_datasets import received
from tests.support.web_app import serving_archive
from tests.support.web_socket import on_socket

OBJECTS = 120
STEP_S = 0.5  # of the abandoned ZIP for each object: it would take a minute
WAIT_S = 20  # for the next one
OTHER_STUDY = {"StudyInstanceUID": "1.2.9", "SeriesInstanceUID": "1.2.9.1"}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Where a node is that has a long study 1.2.3 and a short one 1.2.9."""
    settings = Settings.model_validate({"data_dir": str(tmp_path)})
    with Archive.open(tmp_path, durability="os") as archive:
        for number in range(OBJECTS):
            archive.store(received(number))
        archive.store(received(OBJECTS, **OTHER_STUDY))
        with serving_archive(archive, settings) as client, on_socket(client) as server:
            yield server.address


def status_of(address: tuple[str, int], path: str) -> int:
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path", ["/api/studies/1.2.3/zip", "/api/zip?study=1.2.3", "/api/series/1.2.3.1/zip"]
)
def test_the_place_is_free_once_the_client_has_left(
    address: tuple[str, int], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over, read_head = threading.Event(), threading.Event(), package.read_record_head

    def read_slowly(instance: Any) -> Any:
        if instance.sop_instance_uid != f"1.2.3.1.{OBJECTS}":
            begun.set()
            over.wait(STEP_S)
        return read_head(instance)

    monkeypatch.setattr(package, "read_record_head", read_slowly)
    try:
        with socket.create_connection(address) as abandoned:
            abandoned.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert begun.wait(60)
            assert status_of(address, "/api/studies/1.2.9/zip") == 503
        deadline = time.monotonic() + WAIT_S
        while (status := status_of(address, "/api/studies/1.2.9/zip")) == 503:
            assert time.monotonic() < deadline, "the abandoned ZIP holds the place"
            time.sleep(0.05)
        assert status == 200
    finally:
        over.set()


def test_a_zip_that_lacks_an_object_does_not_look_whole(
    address: tuple[str, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    [last] = tmp_path.rglob(f"1.2.3.1.{OBJECTS - 1}.dcm")
    last.unlink()
    last.symlink_to(last)  # it cannot be opened
    with closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
        connection.request("GET", "/api/studies/1.2.3/zip")
        with connection.getresponse() as answer:
            assert answer.status == 200
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
    said = capfd.readouterr().err
    assert said.count("answer broken off") == 1
    assert "Traceback" not in said
