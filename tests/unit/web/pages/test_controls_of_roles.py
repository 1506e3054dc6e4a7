"""Each page shows a login only what its role may do: every link and button of it is answered."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lfscp.config.passwords import new_token
from lfscp.config.roles import Role
from lfscp.jobs.control import JobEnd
from lfscp.jobs.model import Job, State
from lfscp.web.security.roles import needed_role
from tests.support.dicom_peer import until
from tests.support.web_app import serving
from tests.support.web_objects import CT_STUDY, LOOP_STUDY

TOKENS = {role: new_token() for role in Role}
START = ("/", "/worklist", "/procedure-steps", "/commitments", "/jobs", "/routes", "/node")
WHOLE = ("/zip", "/file", ".csv")  # downloads are asked for elsewhere


def perform(job: Job, *_: object) -> JobEnd:
    """Fails, so that a job has buttons."""
    return JobEnd(State.FAILED, "the disk is full")


@pytest.fixture
def node(files: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A node that has one of each: studies, a protected one, jobs, a peer, a route, an item."""
    tokens = [f"{role}-script:{role}:{hashed}" for role, (_, hashed) in TOKENS.items()]
    peers = {"PACS": {"host": "127.0.0.1", "port": 9}}
    route = {"name": "all", "send_to": ["PACS"]}
    sections = {"web": {"tokens": tokens}, "peers": peers, "route": [route]}
    with serving(tmp_path / "data", perform, **sections) as client:
        client.headers["Authorization"] = f"Bearer {TOKENS[Role.ADMIN][0]}"
        for file in sorted(files.glob("*.dcm")):
            assert client.post("/api/instances", content=file.read_bytes()).status_code == 201
        client.put(f"/api/studies/{LOOP_STUDY}/protection")
        client.put(f"/api/studies/{CT_STUDY}/labels/seen")
        client.post("/api/peers", json={"ae_title": "ADDED", "host": "127.0.0.1", "port": 9})
        jobs = [
            client.post("/api/send", json={"peer": "PACS", "studies": [CT_STUDY]}).json(),
            client.post(
                f"/api/studies/{CT_STUDY}/correct", json={"changes": {"PatientID": "P-8"}}
            ).json(),
        ]
        for job in jobs:
            until(lambda job=job: client.get(f"/api/jobs/{job['id']}").json()["ended_at"])
        yield client


class Controls(HTMLParser):
    """Method and address of each link, form and button of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        methods = {f"hx-{each}": each.upper() for each in ("get", "post", "put", "delete")}
        methods |= {"href": "GET", "action": given.get("method", "get").upper()}
        for name, method in methods.items():
            address = given.get(name, "").partition("#")[0]
            if address.startswith("/") and not address.startswith("/static/"):
                self.found.add((method, address))


@pytest.mark.parametrize("role", list(Role))
def test_what_a_page_offers_its_reader_may_do(node: TestClient, role: Role) -> None:
    node.headers["Authorization"] = f"Bearer {TOKENS[role][0]}"
    node.headers["Accept"] = "text/html"
    waiting, seen = list(START), set(START)
    offered: set[tuple[str, str]] = set()
    while waiting:
        address = waiting.pop()
        answer = node.get(address)
        assert answer.status_code == 200, f"{address}: {answer.text[:300]}"
        for method, target in Controls(answer.text).found:
            path = target.partition("?")[0]
            offered.add((method, path))
            may = role.may(needed_role(method, path))
            assert may, f"{address} offers {method} {target} to the role {role}"
            is_page = method == "GET" and not path.startswith("/api/")
            if is_page and not path.endswith(WHOLE) and target not in seen:
                seen.add(target)
                waiting.append(target)
    wishes = {path.rpartition("/")[2] for method, path in offered if method == "POST"}
    assert ("send" in wishes, "delete" in wishes) == (role.may(Role.WORK), role.may(Role.ADMIN))
    retried = sum(path.startswith("/jobs/") and path.endswith("/retry") for _, path in offered)
    assert retried == {Role.READ: 0, Role.WORK: 1, Role.ADMIN: 2}[role]
