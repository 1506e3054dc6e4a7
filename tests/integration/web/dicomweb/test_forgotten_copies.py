"""What the node made of objects and keeps goes with them, whoever deletes them: patient data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lfscp.archive.archive import Archive
from lfscp.archive.upkeep.maintenance import Maintenance
from lfscp.archive.upkeep.retention import Limits, Retention
from lfscp.archive.upkeep.stale_copies import remove_stale
from lfscp.dicom.values.attributes import Level
from tests.support.dicom_peer import until
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice

OTHER_STUDY, OTHER_SERIES, OTHER = "1.9", "1.9.1", "1.9.1.1"
FIRST = f"{CT_SERIES}.1"


def other() -> bytes:
    dataset = ct_slice(1, 1)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = OTHER_STUDY, OTHER_SERIES
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = OTHER
    return as_file(dataset)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TestClient]:
    """Two studies whose metadata and pictures are kept, three files of each of their series."""
    with serving(tmp_path, duplicates="replace") as client:
        for content in (as_file(ct_slice(1, 2)), as_file(ct_slice(2, 2)), other()):
            assert client.post("/api/instances", content=content).status_code == 201
        look_at(client, CT_STUDY, CT_SERIES, FIRST)
        look_at(client, OTHER_STUDY, OTHER_SERIES, OTHER)
        assert kept(tmp_path) == {"metadata": 2, "pictures": 2}
        yield client


def look_at(client: TestClient, study: str, series: str, instance: str) -> None:
    url = f"/dicom-web/studies/{study}/series/{series}"
    assert client.get(f"{url}/metadata").status_code == 200
    assert client.get(f"{url}/instances/{instance}/rendered").status_code == 200


def kept(folder: Path) -> dict[str, int]:
    """How many files of each kind."""
    return {
        kind: sum(path.is_file() for path in (folder / "cache" / kind / "copies").rglob("*"))
        for kind in ("metadata", "pictures")
    }


def archive_of(client: TestClient) -> Archive:
    archive: Archive = client.app.state.web.archive  # type: ignore[attr-defined]
    return archive


def by_retention(client: TestClient) -> None:
    limits = Limits(max_bytes=1, quiet_ms=0)
    Retention(archive_of(client), limits, lambda *_: None).run()


def by_dicomweb(client: TestClient) -> None:
    for study in (CT_STUDY, OTHER_STUDY):
        assert client.delete(f"/dicom-web/studies/{study}").status_code == 204


def by_the_api(client: TestClient) -> None:
    for study in (CT_STUDY, OTHER_STUDY):
        assert client.delete(f"/api/studies/{study}").status_code == 200


def by_the_archive(client: TestClient) -> None:
    """As commands and services do."""
    for study in (CT_STUDY, OTHER_STUDY):
        archive_of(client).delete(Level.STUDY, study)


@pytest.mark.parametrize("delete", [by_retention, by_dicomweb, by_the_api, by_the_archive])
def test_a_deletion_takes_what_was_made_of_it(node, tmp_path, delete: Callable[[TestClient], None]):
    delete(node)

    assert node.get("/dicom-web/studies").status_code == 204
    assert kept(tmp_path) == {"metadata": 0, "pictures": 0}


def test_one_deletion_leaves_the_others(node, tmp_path):
    assert node.delete(f"/dicom-web/studies/{OTHER_STUDY}").status_code == 204

    assert kept(tmp_path) == {"metadata": 1, "pictures": 1}


def test_an_instance_that_is_replaced_takes_what_was_made_of_it(node, tmp_path):
    changed = ct_slice(1, 2)
    changed.PatientName = "Corrected^Name"
    assert node.post("/api/instances", content=as_file(changed)).status_code in (200, 201)

    assert kept(tmp_path) == {"metadata": 1, "pictures": 1}
    url = f"/dicom-web/studies/{CT_STUDY}/series/{CT_SERIES}/metadata"
    names = {each["00100010"]["Value"][0]["Alphabetic"] for each in node.get(url).json()}
    assert "Corrected^Name" in names


def test_what_another_node_deletes_goes_at_the_next_upkeep(node, tmp_path):
    archive = archive_of(node)
    archive.index.delete(Level.STUDY, CT_STUDY, None)  # the rows only: all that this node sees

    assert kept(tmp_path) == {"metadata": 2, "pictures": 2}
    assert remove_stale(archive) == 2
    assert kept(tmp_path) == {"metadata": 1, "pictures": 1}
    assert remove_stale(archive) == 0


def test_metadata_that_another_node_made_old_go_when_they_are_asked_for(node, tmp_path):
    archive = archive_of(node)
    archive.index.delete(Level.IMAGE, f"{CT_SERIES}.2", None)
    url = f"/dicom-web/studies/{CT_STUDY}/series/{CT_SERIES}/metadata"
    assert len(node.get(url).json()) == 1
    assert kept(tmp_path)["metadata"] == 2

    archive.index.delete(Level.STUDY, CT_STUDY, None)
    assert node.get(url).status_code == 404
    assert kept(tmp_path)["metadata"] == 1


def test_files_of_an_older_version_and_broken_ones_are_stale(node, tmp_path):
    copies = tmp_path / "cache/metadata/copies"
    [one, two] = [path for path in copies.rglob("*") if path.is_file()]
    one.write_bytes(b'{"00080018":{"vr":"UI"}}\n')
    two.write_bytes(b"\xff" * 600)

    assert remove_stale(archive_of(node)) == 2


def test_the_upkeep_of_a_node_removes_what_is_stale(node, tmp_path, monkeypatch):
    monkeypatch.setattr("lfscp.archive.upkeep.maintenance._FIRST_S", 0.0)
    archive = archive_of(node)
    archive.index.delete(Level.STUDY, CT_STUDY, None)
    maintenance = Maintenance(archive, Limits(), interval_s=60, scrub_mb_s=0)
    maintenance.start()
    try:
        assert until(lambda: kept(tmp_path) == {"metadata": 1, "pictures": 1})
    finally:
        maintenance.stop()


def test_without_a_cache_what_was_kept_goes_at_the_start(node, tmp_path):
    node.app.state.web.archive.close()
    with serving(tmp_path, dicomweb={"metadata_cache_mb": 0}):
        assert kept(tmp_path)["metadata"] == 0


def test_metadata_that_lack_an_object_are_not_kept(node, tmp_path):
    [file] = (tmp_path / "objects").rglob(f"{FIRST}.dcm")
    away = file.rename(tmp_path / "away")
    node.app.state.web.series_metadata.forget(CT_STUDY, CT_SERIES)
    url = f"/dicom-web/studies/{CT_STUDY}/series/{CT_SERIES}/metadata"
    assert len(node.get(url).json()) == 1
    assert kept(tmp_path)["metadata"] == 1

    away.rename(file)
    assert len(node.get(url).json()) == 2
