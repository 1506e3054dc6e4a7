"""A job with a DICOMweb server whose node is killed goes on at another node of the same index."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from lfscp.config.passwords import new_token
from lfscp.dicom.part10.file_meta import part10_header, read_part10
from tests.e2e.test_web_node import page_of
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.halting_proxy import halting_proxy
from tests.support.node_process import NodeProcess, StartNode

COUNT = 20
STUDY = "1.2.3"
TOKEN, HASHED = new_token()


def port_of(node: NodeProcess) -> int:
    return int(page_of(node).rstrip("/").rpartition(":")[2])


def call(node: NodeProcess, path: str, body: bytes, kind: str = "application/json") -> Any:
    request = urllib.request.Request(page_of(node).rstrip("/") + path, body)  # noqa: S310
    request.add_header("Content-Type", kind)
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own node
        return json.loads(answer.read())


def fill(node: NodeProcess) -> None:
    """Put a study into a node."""
    for number in range(1, COUNT + 1):
        data = encoded(number, pixels=b"\1\2" * 20_000)
        file = part10_header(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT) + data
        call(node, "/dicom-web/studies", file, "application/dicom")


def datasets_in(folder: Path) -> dict[str, bytes]:
    """The stored datasets by UID."""
    found = {}
    for file in folder.rglob("1.2.3*"):
        if file.is_file():
            content = file.read_bytes()
            head = read_part10(content)
            found[head.sop_instance_uid] = content[head.dataset_offset :]
    return found


@pytest.mark.parametrize("kind", ["send", "retrieve"])
def test_another_node_goes_on_with_its_own_login(
    start_node: StartNode, postgresql_url: str, tmp_path: Path, kind: str
) -> None:
    web = f'[web]\ntokens = ["a:work:{HASHED}"]\n'
    cloud = start_node("cloud", configuration=web, flags=["--http-port", "0"])
    limits = {"halt_after" if kind == "send" else "halt_answers_after": 400_000}
    with halting_proxy(port_of(cloud), **limits) as halting:

        def member(name: str, port: int) -> NodeProcess:
            token = tmp_path / f"{name}.token"  # each node has a file of its own
            token.write_text(TOKEN)
            token.chmod(0o600)
            configuration = (
                f'[index]\nurl = "{postgresql_url}"\n[objects]\nurl = "file://{tmp_path}/objects"\n'
                f'[peers.CLOUD]\nurl = "http://127.0.0.1:{port}/dicom-web"\n'
                f'token_file = "{token}"\n[jobs]\nlease_s = 2\n'
            )
            return start_node(name, configuration=configuration, flags=["--http-port", "0"])

        first = member("first", halting.port)
        fill(first if kind == "send" else cloud)
        series = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}
        body = {"studies": [STUDY]} if kind == "send" else {"keys": series, "level": "SERIES"}
        job = call(first, f"/api/{kind}", json.dumps({"peer": "CLOUD", **body}).encode())
        assert halting.halted.wait(60)
        second = member("second", port_of(cloud))
        first.kill()
        second.wait_for("job ended", job=job["id"], state="done", done=COUNT, failed=0)
    assert TOKEN not in first.log + second.log
    here = tmp_path / "objects"
    assert datasets_in(here) == datasets_in(cloud.objects)
    assert len(datasets_in(here)) == COUNT
