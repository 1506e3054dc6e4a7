"""axe-core finds nothing on any page: dark and light, on a screen and on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from lfscp.config.passwords import hash_password
from tests.e2e.test_web_node import send
from tests.support.axe import axe_script, findings
from tests.support.web_objects import CT_SERIES, CT_STUDY, LOOP_INSTANCE, LOOP_STUDY, write_all
from tests.support.worklist_items import worklist_dataset

LOOKS = [
    pytest.param(theme, width, id=f"{theme}-{width}")
    for theme in ("light", "dark")
    for width in (1440, 390)
]
PATHS = {
    "archive": (
        *("/", f"/studies/{CT_STUDY}", f"/studies/{LOOP_STUDY}", f"/instances/{LOOP_INSTANCE}"),
        *(f"/viewer/{CT_SERIES}", "/upload", f"/studies/{CT_STUDY}/correct", "/corrections"),
    ),
    "workflow": (
        *("/worklist?from=", "/worklist/new", "/worklist/items/1"),
        *("/procedure-steps", "/commitments"),
    ),
    "work": ("/remote", "/jobs", "/routes", "/node", "/node/log", "/node/audit", "/node/settings"),
}
# Its queue waits, since the peer is down.
ROUTE = """
[[route]]
name = "to a workstation"
when = { any = [{ Modality = ["CT", "MR"] }, { StudyDescription = "*chest*" }] }
send_to = ["DOWN"]
hours = ["00:00-24:00"]
"""
ADMIN = f"admin:admin:{hash_password('correct horse')}"


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    cache = pytestconfig.cache
    assert cache is not None
    return axe_script(Path(cache.mkdir("axe")))


@pytest.fixture
def users() -> list[str]:
    return []


@pytest.fixture
def local(start_node: Any, tmp_path: Path, users: list[str]) -> Any:
    """A node that has something of everything to show."""
    objects = write_all(tmp_path / "objects")
    return start_node(
        "local",
        configuration=f'web.roots = ["{objects}"]\nweb.users = {json.dumps(users)}\n{ROUTE}',
        flags=["--http-port", "0", "--peer", "DOWN=127.0.0.1:9"],
    )


@pytest.fixture
def url(local: Any) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


def fill(url: str, objects: Path) -> None:
    """Objects, a worklist item, and jobs that failed, wait and are done."""
    for file in sorted(objects.glob("*.dcm")):
        send(f"{url}/api/instances", file.read_bytes())
    item = worklist_dataset().to_json().encode()
    send(f"{url}/api/worklist", item, **{"Content-Type": "application/dicom+json"})
    for kind, asked in (
        ("echo", {}),
        ("send", {"studies": [CT_STUDY]}),
        ("retrieve", {"keys": {"StudyInstanceUID": CT_STUDY}}),
    ):
        body = json.dumps({"peer": "DOWN", **asked}).encode()
        send(f"{url}/api/{kind}", body, **{"Content-Type": "application/json"})


def look(page: Page, theme: str, width: int) -> None:
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize(("theme", "width"), LOOKS)
def test_no_page_keeps_anybody_out(page, url, tmp_path, axe, shoot, theme, width, kind):
    fill(url, tmp_path / "objects")
    look(page, theme, width)
    found = []
    for path in PATHS[kind]:
        page.goto(url + path)
        page.wait_for_load_state("load")
        expect(page.locator("#live.on")).to_be_attached()
        page.evaluate("document.querySelectorAll('main details').forEach(each => each.open = true)")
        page.wait_for_load_state("networkidle")
        found += [f"{path}: {each}" for each in findings(page, axe)]
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{path} is {wide} pixels wide"
        shoot(f"{path.strip('/').replace('/', '-').split('?')[0] or 'archive'}-{theme}-{width}")
    assert found == [], "\n".join(found)


@pytest.mark.parametrize(("theme", "width"), LOOKS)
def test_what_is_said_of_an_error_keeps_nobody_out(page, url, axe, theme, width):
    other = page.context.new_page()  # whose console may say that the page is missing
    look(other, theme, width)
    other.goto(f"{url}/no-such-page")
    expect(other.get_by_role("heading", name="Not Found")).to_be_visible()

    assert findings(other, axe) == []


@pytest.mark.parametrize("users", [[ADMIN]], ids=["users"])
@pytest.mark.parametrize(("theme", "width"), LOOKS)
def test_the_login_keeps_nobody_out(page, url, axe, shoot, theme, width):
    look(page, theme, width)
    page.goto(url)
    shoot(f"login-{theme}-{width}")
    assert findings(page, axe) == []

    other = page.context.new_page()  # whose console may say that the password is wrong
    look(other, theme, width)
    other.goto(url)
    other.fill("[name=name]", "admin")
    other.fill("[name=password]", "wrong")
    other.get_by_role("button", name="Log in").click()
    expect(other.get_by_role("alert")).to_be_visible()
    expect(other.get_by_label("Name")).to_have_value("admin")
    assert findings(other, axe) == []
