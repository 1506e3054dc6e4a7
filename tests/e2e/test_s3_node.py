"""A real node whose objects are in a bucket, asked by real clients."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.dcmtk import contents, dataset_bytes, free_port
from tests.support.node_process import run_lfscp
from tests.support.s3_service import CREDENTIALS, Relay, S3Service
from tests.support.sample_objects import made
from tests.support.web_objects import CT_STUDY, write_all

OUT_OF_RESOURCES = 0xA700


@pytest.fixture
def relay(s3_service: S3Service) -> Iterator[Relay]:
    with Relay(s3_service) as relay:
        yield relay


@pytest.fixture
def bucket(s3_service: S3Service) -> str:
    return s3_service.new_bucket()


@pytest.fixture
def configuration(relay: Relay, bucket: str) -> str:
    return f"""
        [objects]
        url = "s3://{bucket}/pacs"
        endpoint = "{relay.url}"
        allow_http = true
        timeout_s = 2.0
        [web]
        host = "127.0.0.1"
    """


def sent_bytes(files: list[Path]) -> list[bytes]:
    return sorted(dataset_bytes(file) for file in files)


def received_bytes(folder: Path) -> list[bytes]:
    return sorted(content for _, content in contents(folder).values())


def forget_copies(node: Any) -> None:
    for path in node.data_dir.glob("cache/objects/copies/*/*"):
        path.unlink()


def ask(url: str, method: str = "GET") -> bytes:
    origin = {"Origin": url.rpartition("/api")[0]}
    request = urllib.request.Request(url, method=method, headers=origin)  # noqa: S310 - our node
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
        return bytes(answer.read())


@pytest.mark.parametrize("workers", [1, 2])
def test_every_service_works_on_a_bucket(
    start_node, dcmtk, tmp_path, configuration, s3_service, bucket, workers
):
    files = sorted(write_all(tmp_path / "files", slices=3).glob("*.dcm"))
    port = free_port()
    node = start_node(
        configuration=configuration + f'\n[peers.DST]\nhost = "127.0.0.1"\nport = {port}\n',
        env=CREDENTIALS,
        flags=["--http-port", "0", "--workers", workers],
    )
    with ThreadPoolExecutor(3) as senders:
        for one in [senders.submit(dcmtk.store, node.port, *files[at::3]) for at in range(3)]:
            dcmtk.done(one.result())
    keys = s3_service.keys(bucket)
    assert len(keys) == len(files)
    assert all(key.startswith("pacs/") and key.count("/") == 3 for key in keys)
    assert not node.objects.exists()

    (found,) = dcmtk.find(node.port, "STUDY", {"StudyInstanceUID": CT_STUDY})
    assert found.StudyInstanceUID == CT_STUDY
    of_study = [file for file in files if file.name.startswith("ct")]
    for run in ("from copies", "from the bucket"):
        with dcmtk.storescp(tmp_path / run, port=port):
            moved = dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": CT_STUDY}, to="DST")
            dcmtk.done(moved)
        assert received_bytes(tmp_path / run) == sent_bytes(of_study)
        forget_copies(node)
    dcmtk.done(dcmtk.get(node.port, "STUDY", {"StudyInstanceUID": CT_STUDY}, tmp_path / "got"))
    assert received_bytes(tmp_path / "got") == sent_bytes(of_study)

    forget_copies(node)
    page = str(node.wait_for("page")["url"]).rstrip("/")
    uid = str(contents(tmp_path / "got").popitem()[0])
    assert ask(f"{page}/api/instances/{uid}/frames/1").startswith(b"\xff\xd8")
    assert ask(f"{page}/api/instances/{uid}/file")[128:132] == b"DICM"
    deleted = json.loads(ask(f"{page}/api/studies/{CT_STUDY}", "DELETE"))
    assert deleted["deleted"] == len(of_study)
    assert len(s3_service.keys(bucket)) == len(files) - len(of_study)

    assert node.stop() == 0
    check = run_lfscp(
        *("check", "--config", node.command[3], "--data-dir", node.data_dir), env=CREDENTIALS
    )
    assert (check.returncode, check.stdout) == (0, "index and objects agree\n"), check.stderr


def test_a_bucket_that_fails_for_a_while_costs_one_line_and_nothing_else(
    start_node, dcmtk, tmp_path, configuration, relay, s3_service, bucket
):
    (file,) = write_all(tmp_path / "files", slices=1).glob("ct*.dcm")
    node = start_node(configuration=configuration, env=CREDENTIALS)
    relay.fail(503, "SlowDown")
    refused = dcmtk.store(node.port, file, options=["-d"])
    assert refused.status == OUT_OF_RESOURCES
    line = node.wait_for(service="C-STORE")
    assert "503 Service Unavailable (SlowDown)" in line["reason"]
    assert dcmtk.find(node.port, "STUDY", {"StudyInstanceUID": ""}) == []
    relay.heal()
    dcmtk.done(dcmtk.store(node.port, file))
    assert len(s3_service.keys(bucket)) == 1
    assert node.complaints() == []


def test_a_node_is_not_ready_while_its_bucket_fails(start_node, configuration, relay):
    node = start_node(configuration=configuration, env=CREDENTIALS, flags=["--http-port", "0"])
    page = str(node.wait_for("page")["url"]).rstrip("/")
    ask(f"{page}/readyz")
    relay.fail(503, "SlowDown")
    assert "bucket" in until_not_ready(f"{page}/readyz")


def until_not_ready(url: str) -> str:
    """What /readyz says is wrong; an answer is good for a second."""
    for _ in range(100):
        try:
            ask(url)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.read().decode()
        time.sleep(0.1)
    raise AssertionError("it stays ready")


def test_a_large_object_is_sent_while_it_is_fetched(
    start_node, dcmtk, tmp_path, configuration, relay
):
    rows = 3000
    file = made(
        tmp_path,
        StudyInstanceUID=CT_STUDY,
        Rows=rows,
        Columns=rows,
        PixelData=os.urandom(2 * rows * rows),
    )
    node = start_node(configuration=configuration, env=CREDENTIALS)
    dcmtk.done(dcmtk.store(node.port, file))
    forget_copies(node)
    keys = {"StudyInstanceUID": CT_STUDY}

    relay.fail(503, "SlowDown", "GET", passes=1)  # the object's first part comes
    broken = dcmtk.get(node.port, "STUDY", keys, tmp_path / "broken")
    assert broken.code != 0
    assert contents(tmp_path / "broken") == {}
    ended = node.wait_for("association ended")
    assert "503 Service Unavailable" in ended["reason"]

    relay.heal()
    dcmtk.done(dcmtk.get(node.port, "STUDY", keys, tmp_path / "got"))
    assert received_bytes(tmp_path / "got") == sent_bytes([file])


def test_objects_that_cannot_be_fetched_are_failed_sub_operations(
    start_node, dcmtk, tmp_path, configuration, relay
):
    files = sorted(write_all(tmp_path / "files", slices=3).glob("ct*.dcm"))
    node = start_node(configuration=configuration, env=CREDENTIALS)
    dcmtk.done(dcmtk.store(node.port, *files))
    forget_copies(node)
    keys = {"StudyInstanceUID": CT_STUDY}

    relay.fail(403, "AccessDenied", "GET")
    failed = dcmtk.get(node.port, "STUDY", keys, tmp_path / "failed")
    assert (failed.status, failed.counters) == (0xA702, ("none", "0", str(len(files)), "0"))
    assert "403 Forbidden (AccessDenied)" in node.wait_for("sub-operation failed")["reason"]

    relay.heal()
    dcmtk.done(dcmtk.get(node.port, "STUDY", keys, tmp_path / "got"))
    assert received_bytes(tmp_path / "got") == sent_bytes(files)


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "NoSuchBucket", "make the bucket"),
        (403, "SignatureDoesNotMatch", "correct AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_bucket_that_cannot_be_used_stops_the_start_with_one_line(
    tmp_path, configuration, relay, status, code, says
):
    (tmp_path / "lfscp.toml").write_text(configuration)
    relay.fail(status, code)
    refused = run_lfscp(
        *("serve", "--config", tmp_path / "lfscp.toml", "--data-dir", tmp_path / "data"),
        *("--port", 0, "--no-http"),
        env=CREDENTIALS,
    )
    assert refused.returncode == 1
    assert says in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in refused.stderr
