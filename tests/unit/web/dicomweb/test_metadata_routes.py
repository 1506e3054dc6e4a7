"""Metadata over HTTP: made once for a series, never old, with the URLs that each client sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient

from lfscp.web.dicomweb import metadata
from tests.support.served_archive import Node, image
from tests.support.web_app import serving

SERIES = "/dicom-web/studies/1.1/series/1.1.1/metadata"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[TestClient, Node]]:
    """Study 1.1 with the series 1.1.1 of three objects, and 1.1.2 of one."""
    with serving(tmp_path) as client:
        archive = Node(client.app.state.web.archive, 0)  # type: ignore[attr-defined]
        for number in (1, 2, 3):
            archive.store(image(study="1.1", series="1.1.1", SOPInstanceUID=f"1.1.1.{number}"))
        archive.store(image(study="1.1", series="1.1.2", SOPInstanceUID="1.1.2.1"))
        yield client, archive


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is made of objects, a location each."""
    locations: list[Any] = []
    real = metadata.metadata_of

    def noting(content: Any, encoding: Any, location: str, written: Any = None) -> str:
        locations.append(location)
        return real(content, encoding, location, written)

    monkeypatch.setattr(metadata, "metadata_of", noting)
    return locations


def instances(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["00080018"]["Value"][0] for each in answer.json()]


def test_a_study_a_series_and_an_instance_have_metadata(node):
    client, _ = node
    study, series, one = (
        client.get(path)
        for path in (
            "/dicom-web/studies/1.1/metadata",
            SERIES,
            "/dicom-web/studies/1.1/series/1.1.1/instances/1.1.1.2/metadata",
        )
    )

    assert instances(study) == ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.2.1"]
    assert instances(series) == ["1.1.1.1", "1.1.1.2", "1.1.1.3"]
    assert one.json() == series.json()[1:2]
    assert one.headers["content-type"] == "application/dicom+json"
    uri = one.json()[0]["7FE00010"]["BulkDataURI"]
    assert uri.endswith("/studies/1.1/series/1.1.1/instances/1.1.1.2/bulkdata/7FE00010")
    assert client.get(uri).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "studies/1.9",
        "studies/1.1/series/1.9",
        "studies/1.9/series/1.1.1",
        "studies/1.1/series/1.1.1/instances/1.9",
        "studies/1.1/series/1.1.2/instances/1.1.1.1",
    ],
)
def test_what_is_not_there_is_not_found(node, path):
    assert node[0].get(f"/dicom-web/{path}/metadata").status_code == 404


def test_those_of_a_series_are_made_once(node, made):
    client, _ = node
    first, second = client.get(SERIES), client.get(SERIES)
    study = client.get("/dicom-web/studies/1.1/metadata")

    assert first.content == second.content
    assert len(made) == 4, "three of the series, and the other's one"
    assert instances(study)[:3] == instances(first)


def test_a_series_that_changed_is_made_anew_and_the_old_is_dropped(node, made, tmp_path):
    client, archive = node
    before = client.get(SERIES)
    archive.store(image(study="1.1", series="1.1.1", SOPInstanceUID="1.1.1.9"))
    after = client.get(SERIES, headers={"If-None-Match": before.headers["etag"]})
    assert instances(after) == [*instances(before), "1.1.1.9"]

    deleted = client.delete("/api/instances/1.1.1.1")
    assert deleted.status_code == 200
    assert kept(tmp_path) == []
    assert instances(client.get(SERIES)) == ["1.1.1.2", "1.1.1.3", "1.1.1.9"]
    assert len(kept(tmp_path)) == 1


def kept(folder: Path) -> list[Path]:
    return [each for each in (folder / "cache/metadata/copies").rglob("*") if each.is_file()]


def test_a_client_that_has_them_gets_nothing(node):
    client, _ = node
    tag = client.get(SERIES).headers["etag"]
    again = client.get(SERIES, headers={"If-None-Match": tag})
    xml = client.get(
        SERIES,
        headers={
            "If-None-Match": tag,
            "Accept": 'multipart/related; type="application/dicom+xml"',
        },
    )

    assert (again.status_code, again.content) == (304, b"")
    assert xml.status_code == 200, "another form is another thing"


def test_each_client_gets_urls_of_the_host_that_it_asked(node):
    client, _ = node
    for host in ("localhost:1", "127.0.0.1:22222"):
        for _ in range(2):  # made, and kept
            found = client.get(SERIES, headers={"Host": host}).json()
            assert {each["7FE00010"]["BulkDataURI"].split("/dicom-web")[0] for each in found} == {
                f"http://{host}"
            }


def test_xml_has_each_instance_in_a_part(node):
    client, _ = node
    accept = 'multipart/related; type="application/dicom+xml"'
    answer = client.get(SERIES, headers={"Accept": accept})
    boundary = answer.headers["content-type"].partition("boundary=")[2]
    parts = answer.content.split(f"--{boundary}".encode())[1:-1]
    roots = [ElementTree.fromstring(part.partition(b"\r\n\r\n")[2].strip()) for part in parts]  # noqa: S314
    found = [{each.attrib["tag"]: each for each in root} for root in roots]

    assert [each["00080018"][0].text for each in found] == ["1.1.1.1", "1.1.1.2", "1.1.1.3"]
    assert found[0]["7FE00010"][0].attrib["uri"].endswith("1.1.1.1/bulkdata/7FE00010")


def test_head_has_no_content(node):
    answer = node[0].head(SERIES)
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_object_that_cannot_be_read_is_left_out(node):
    client, archive = node
    row = client.get("/api/instances/1.1.1.2").json()
    assert row["sop_instance_uid"] == "1.1.1.2"
    files = list(archive.archive.data_dir.rglob("1.1.1.2*"))
    assert len(files) == 1
    files[0].unlink()

    assert instances(client.get(SERIES)) == ["1.1.1.1", "1.1.1.3"]


def test_without_a_cache_they_are_made_each_time(tmp_path, made):
    with serving(tmp_path, dicomweb={"metadata_cache_mb": 0}) as client:
        Node(client.app.state.web.archive, 0).store(image(study="1.1", series="1.1.1"))
        assert client.get(SERIES).content == client.get(SERIES).content
    assert len(made) == 2
    assert not (tmp_path / "cache/metadata").exists()
