"""Roles: every route has one, and nobody gets past his own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lfscp.config import Settings
from lfscp.config.passwords import hash_password, new_token
from lfscp.config.roles import Role
from lfscp.observe import audit
from lfscp.web.security import roles
from tests.support.web_app import serving
from tests.support.web_objects import CT_STUDY

pytestmark = pytest.mark.usefixtures("quick_passwords")
ROLES = [Role.READ, Role.WORK, Role.ADMIN]
TOKENS = {role: new_token() for role in ROLES}
PASSWORD = "correct horse"  # noqa: S105 - of a test
PEER = {"ae_title": "A", "host": "127.0.0.1", "port": 9}


@pytest.fixture
def node(tmp_path, files) -> Iterator[TestClient]:
    """A node with one token for each role, and the files in its archive."""
    tokens = [f"{role}-script:{role}:{hashed}" for role, (_, hashed) in TOKENS.items()]
    with serving(tmp_path / "data", web={"tokens": tokens}) as client:
        for file in sorted(files.glob("*.dcm")):
            answer = client.post("/api/instances", content=file.read_bytes(), headers=as_a("work"))
            assert answer.status_code == 201
        yield client


def as_a(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[Role(role)][0]}"}


def routes_of(routes: Any, prefix: str = "") -> Iterator[str]:
    """All routes as "METHOD /path", those of routers that were included and of mounts too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes, prefix)
        elif getattr(route, "methods", None) is None:
            beginning = f"{prefix}{route.path}".removesuffix("/{path:path}")
            yield f"GET {beginning}/{{path:path}}"
        else:
            yield from (f"{method} {prefix}{route.path}" for method in route.methods - {"HEAD"})


def test_every_route_has_a_role_and_every_role_s_route_is_there(node):
    found = {route.replace("/static/swagger/", "/static/") for route in routes_of(node.app.routes)}
    declared = [*roles.OPEN, *(entry for entries in roles.TABLE.values() for entry in entries)]

    assert len(found) > 60
    assert found == set(declared)
    assert len(declared) == len(set(declared)), "one role for each"


def test_what_has_no_role_is_closed():
    assert roles.needed_role("GET", "/api/studies") is Role.READ
    assert roles.needed_role("HEAD", "/api/studies") is Role.READ
    assert roles.needed_role("GET", "/api/forgotten") is Role.ADMIN
    assert roles.needed_role("PATCH", "/api/studies") is Role.ADMIN
    assert roles.needed_role("POST", "/studies/1.2/delete") is Role.ADMIN


REQUESTS = [
    ("read", "GET", f"/api/studies/{CT_STUDY}", None),
    ("read", "GET", "/api/jobs", None),
    ("read", "GET", "/jobs", None),
    ("read", "GET", "/metrics", None),
    ("work", "GET", "/upload", None),
    ("work", "POST", "/api/instances", b"no DICOM"),
    ("work", "POST", "/api/send", {"peer": "X", "studies": []}),
    ("work", "POST", "/c-find", {}),
    ("work", "POST", "/jobs", {}),
    ("work", "POST", "/api/jobs/1/cancel", None),
    ("work", "DELETE", "/api/jobs/1", None),
    ("read", "GET", "/api/worklist", None),
    ("read", "GET", "/worklist", None),
    ("read", "GET", "/procedure-steps", None),
    ("read", "GET", "/commitments", None),
    ("work", "POST", "/api/worklist", {}),
    ("work", "PUT", "/api/worklist/1", {}),
    ("work", "DELETE", "/api/worklist/1", None),
    ("work", "POST", "/api/commitments/1/retry", None),
    ("work", "GET", "/worklist/new", None),
    ("work", "POST", "/worklist", None),
    ("work", "POST", "/worklist/items/1", None),
    ("work", "POST", "/worklist/items/1/remove", None),
    ("work", "POST", "/commitments/1/retry", None),
    ("admin", "POST", "/api/peers", PEER),
    ("admin", "DELETE", "/api/peers/A", None),
    ("admin", "PUT", f"/api/studies/{CT_STUDY}/protection", None),
    ("admin", "DELETE", f"/api/studies/{CT_STUDY}/protection", None),
    ("admin", "DELETE", "/api/series/1.2", None),
    ("admin", "POST", "/studies/1.2/delete", None),
    ("admin", "POST", "/remote/peers/A/remove", None),
]


@pytest.mark.parametrize(("needed", "method", "path", "body"), REQUESTS)
def test_a_role_may_do_what_it_says_and_no_more(node, needed, method, path, body):
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    for role in ROLES:
        answer = node.request(method, path, headers=as_a(role), **content)
        if role.may(Role(needed)):
            assert answer.status_code not in (401, 403), role
        else:
            assert answer.status_code == 403, role
            sentence = f"your login has the role {role}; this needs the role {needed}"
            assert answer.json()["detail"] == sentence


@pytest.mark.parametrize("path", ["/dicomweb/studies", "/studies", "/api/nothing"])
def test_a_path_that_leads_nowhere_is_not_found_whatever_the_role(node, path):
    for role in ROLES:
        answer = node.get(path, headers=as_a(role))
        assert (answer.status_code, role) == (404, role)
        assert "there is nothing at" in answer.json()["detail"]


def test_a_refusal_by_role_is_one_record_in_the_audit_trail(node, tmp_path):
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        node.delete(f"/api/studies/{CT_STUDY}", headers=as_a("work"))
    finally:
        audit.stop()
    (record,) = map(json.loads, trail.read_text().splitlines())

    text = json.dumps(record)
    assert "work-script" in text
    assert "this needs the role admin" in text
    assert node.get(f"/api/studies/{CT_STUDY}", headers=as_a("read")).status_code == 200


def test_the_page_shows_nobody_what_he_may_not_do(node):
    def page(role, path=f"/studies/{CT_STUDY}"):
        return node.get(path, headers={**as_a(role), "Accept": "text/html"}).text

    assert ">Delete</button>" not in page("read")
    assert ">Send</button>" not in page("read")
    assert "Remote PACS" not in page("read")
    assert ">Send</button>" in page("work")
    assert ">Delete</button>" not in page("work")
    assert ">Protect</button>" not in page("work")
    assert "Remote PACS" in page("work")
    assert "Add a DICOM server" not in page("work", "/remote")
    assert ">Delete</button>" in page("admin")
    assert ">Protect</button>" in page("admin")
    assert "Add a DICOM server" in page("admin", "/remote")


def test_a_user_s_role_is_that_of_the_session_and_of_basic_authentication(tmp_path):
    hashed = hash_password(PASSWORD)
    users = [f"rita:read:{hashed}", f"anna:{hashed}"]
    with serving(tmp_path, web={"users": users}) as client:
        removal = [
            client.request("DELETE", "/api/studies/1.2", auth=(name, PASSWORD)).status_code
            for name in ("rita", "anna")
        ]
        client.post("/login", data={"name": "rita", "password": PASSWORD})
        page = client.get("/").text
        token = page.split('data-csrf="')[1].split('"')[0]
        by_session = client.delete("/api/studies/1.2", headers={"X-CSRF-Token": token})

    assert removal == [403, 404], "without a role one is an administrator, as ever"
    assert by_session.status_code == 403
    assert "Remote PACS" not in page


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("users", "anna"),
        ("users", ":read:scrypt$1$2$3$a$b"),
        ("users", "anna:chief:scrypt$1$2$3$a$b"),
        ("users", "anna:read:sha256$" + "0" * 64),
        ("tokens", "script:sha256$" + "0" * 64),
        ("tokens", "script:read:scrypt$1$2$3$a$b"),
        ("tokens", "script:read:"),
    ],
)
def test_a_login_that_is_none_is_said_with_its_form(key, entry):
    with pytest.raises(ValueError, match="NAME:ROLE:HASH"):
        Settings.model_validate({"web": {key: [entry]}})


def test_a_name_is_given_once():
    entries = ["anna:read:scrypt$1$2$3$a$b", "anna:admin:scrypt$1$2$3$a$b"]
    with pytest.raises(ValueError, match="each name once; anna is there twice"):
        Settings.model_validate({"web": {"users": entries}})


def test_tokens_alone_open_the_page_to_others_too():
    token = f"script:read:{TOKENS[Role.READ][1]}"
    Settings.model_validate({"web": {"host": "0.0.0.0", "tokens": [token]}})  # noqa: S104


@pytest.mark.parametrize("path", ["", "/", "/x", "/x/y"])
def test_all_that_a_plug_in_has_at_and_below_admin_needs_that_role(path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        assert roles.needed_role(method, f"/plugins/mine/admin{path}") is Role.ADMIN
    assert roles.needed_role("GET", "/plugins/mine/administration") is Role.READ


def test_a_correction_is_the_matter_of_those_who_may_correct(node):
    asked = {"changes": {"PatientName": "Secret^Name"}}
    begun = node.post(f"/api/studies/{CT_STUDY}/correct", json=asked, headers=as_a("admin"))
    assert begun.status_code == 202, begun.text
    job = f"/api/jobs/{begun.json()['id']}"
    for path in (job, "/api/jobs"):
        seen = {role: node.get(path, headers=as_a(role)).text for role in ROLES}
        assert ["Secret^Name" in seen[role] for role in ("read", "work", "admin")] == [
            False,
            True,
            True,
        ]
    for wish in ("retry", "cancel", "pause"):
        refused = node.post(f"{job}/{wish}", headers=as_a("work"))
        assert refused.status_code == 403
        assert "a correction needs the role admin" in refused.json()["detail"]
        assert node.post(f"{job}/{wish}", headers=as_a("admin")).status_code in (200, 409)
    assert node.delete(job, headers=as_a("work")).status_code == 403
