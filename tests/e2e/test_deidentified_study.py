"""Real nodes give a study without the people, wherever its objects and its index are."""

from __future__ import annotations

import io
import json
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from lfscp.deidentification.deidentifier import Deidentifier
from tests.support.node_process import StartNode
from tests.support.pynetdicom_client import store
from tests.support.s3_service import CREDENTIALS, S3Service
from tests.support.web_objects import CT_STUDY, write_all

KEY = "the secret of the project"


def zip_of(node: Any) -> dict[str, bytes]:
    """The files of the ZIP of the study."""
    page = str(node.wait_for("page")["url"])
    body = json.dumps({"key": KEY}).encode()
    headers = {"Content-Type": "application/json", "Origin": page.rstrip("/")}
    url = f"{page}api/studies/{CT_STUDY}/deidentify"
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - our own node
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
        packed = zipfile.ZipFile(io.BytesIO(answer.read()))
        assert "CT" not in answer.headers["Content-Disposition"]
    return {name: packed.read(name) for name in packed.namelist()}


def expected(files: list[Path]) -> dict[str, bytes]:
    """What the same key makes of the files themselves."""
    found = {}
    for file in files:
        made = Deidentifier(key=KEY.encode()).deidentify(file.read_bytes())
        folder = f"{made.study_instance_uid}/{made.series_instance_uid}"
        found[f"{folder}/{made.sop_instance_uid}.dcm"] = made.to_bytes()
    return found


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return sorted(write_all(tmp_path / "files", slices=4).glob("ct*.dcm"))


def test_workers_with_files_give_what_the_key_makes(
    start_node: StartNode, files: list[Path]
) -> None:
    node = start_node(flags=["--http-port", "0", "--workers", "2"])
    assert set(store(node.port, *files)) == {0x0000}
    assert zip_of(node) == expected(files)


def test_nodes_with_postgresql_and_a_bucket_give_the_same(
    start_node: StartNode, postgresql_url: str, s3_service: S3Service, files: list[Path]
) -> None:
    configuration = f"""
        [index]
        url = "{postgresql_url}"
        [objects]
        url = "s3://{s3_service.new_bucket()}/pacs"
        endpoint = "{s3_service.url}"
        allow_http = true
    """
    one, other = (
        start_node(name, configuration=configuration, env=CREDENTIALS, flags=["--http-port", "0"])
        for name in ("one", "other")
    )
    assert set(store(one.port, *files)) == {0x0000}
    assert zip_of(other) == expected(files)
    for copy in other.data_dir.glob("cache/objects/copies/*/*"):
        copy.unlink()
    found = zip_of(other)
    assert found == expected(files)
    assert all(dcmread(io.BytesIO(each)).PatientIdentityRemoved == "YES" for each in found.values())
