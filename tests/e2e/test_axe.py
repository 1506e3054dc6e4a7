"""axe-core finds nothing on any page: light and dark, on a screen and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lfscp.config.passwords import hash_password
from tests.e2e.test_web_node import send
from tests.support.axe import OF_COLOURS, axe_script, findings
from tests.support.node_process import NodeProcess, proper_end
from tests.support.web_objects import CT_SERIES, CT_STUDY, LOOP_INSTANCE, LOOP_STUDY, write_all
from tests.support.worklist_items import worklist_dataset

WIDTHS = (1440, 390)
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


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    cache = pytestconfig.cache
    assert cache is not None
    return axe_script(Path(cache.mkdir("axe")))


@contextmanager
def node_with_a_page(folder: Path, **settings: object) -> Iterator[NodeProcess]:
    """A node with these settings of its page."""
    lines = [f"web.{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    flags = ["--http-port", "0", "--peer", "DOWN=127.0.0.1:9"]
    node = NodeProcess(folder, configuration="".join(lines) + ROUTE, flags=flags)
    with proper_end(node):
        yield node.start()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that has something of everything to show; to look at it changes nothing."""
    folder = tmp_path_factory.mktemp("local")
    objects = write_all(folder / "objects")
    with node_with_a_page(folder / "node", roots=[str(objects)]) as node:
        fill(page_of(node), objects)
        yield node


@pytest.fixture
def url(local: NodeProcess) -> str:
    return page_of(local)


def page_of(node: NodeProcess) -> str:
    return str(node.wait_for("page")["url"]).rstrip("/")


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


def in_both_themes(page: Page, axe: str, shoot: Callable[[str], object], name: str) -> list[str]:
    """What axe finds on the page in the light, and of its colours in the dark."""
    page.emulate_media(color_scheme="light")
    found = findings(page, axe)
    shoot(f"{name}-light-{page.viewport_size['width']}")
    page.emulate_media(color_scheme="dark")
    shoot(f"{name}-dark-{page.viewport_size['width']}")
    return found + [f"in the dark: {each}" for each in findings(page, axe, OF_COLOURS)]


def at_all_widths(page: Page, axe: str, shoot: Callable[[str], object], name: str) -> list[str]:
    """The same on a screen and on a phone; none is scrolled sideways."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        found += [f"{width} wide: {each}" for each in in_both_themes(page, axe, shoot, name)]
        needed = page.evaluate("document.documentElement.scrollWidth")
        assert needed <= width, f"{page.url} is {needed} pixels wide"
    return found


@pytest.mark.parametrize("kind", PATHS)
def test_no_page_keeps_anybody_out(page, url, axe, shoot, kind):
    found = []
    for path in PATHS[kind]:
        page.goto(url + path)
        page.wait_for_load_state("load")
        expect(page.locator("#live.on")).to_be_attached()
        page.evaluate("document.querySelectorAll('main details').forEach(each => each.open = true)")
        page.wait_for_load_state("networkidle")
        name = path.strip("/").replace("/", "-").split("?")[0] or "archive"
        found += [f"{path}: {each}" for each in at_all_widths(page, axe, shoot, name)]
    assert found == [], "\n".join(found)


def test_what_is_said_of_an_error_keeps_nobody_out(page, url, axe):
    other = page.context.new_page()  # whose console may say that the page is missing
    other.goto(f"{url}/no-such-page")
    expect(other.get_by_role("heading", name="Not Found")).to_be_visible()

    assert at_all_widths(other, axe, lambda _: None, "error") == []


class TestLogin:
    """Of a node with users."""

    @pytest.fixture
    def local(self, tmp_path: Path) -> Iterator[NodeProcess]:
        users = [f"admin:admin:{hash_password('correct horse')}"]
        with node_with_a_page(tmp_path, users=users) as node:
            yield node

    def test_it_keeps_nobody_out(self, page, url, axe, shoot):
        page.goto(url)
        assert at_all_widths(page, axe, shoot, "login") == []

        other = page.context.new_page()  # whose console may say that the password is wrong
        other.goto(url)
        other.fill("[name=name]", "admin")
        other.fill("[name=password]", "wrong")
        other.get_by_role("button", name="Log in").click()
        expect(other.get_by_role("alert")).to_be_visible()
        expect(other.get_by_label("Name")).to_have_value("admin")
        assert at_all_widths(other, axe, lambda _: None, "login refused") == []
