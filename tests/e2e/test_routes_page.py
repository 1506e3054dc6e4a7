"""A person at the page of routes: sees why nothing goes, pauses, resumes, and finds it gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pydicom import dcmread

from tests.e2e.test_routes import here, names, of_study, peer, route, wait_until
from tests.support.dcmtk import free_port
from tests.support.node_process import StartNode
from tests.support.pynetdicom_client import store

PLUGIN = """from lfscp.plugins import *

@hook
def may_store(arrival):
    return None
"""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def local(start_node: StartNode, port: int, tmp_path: Path) -> Any:
    """A node with two routes, a plug-in, and a destination that is not there yet."""
    plugin = tmp_path / "watcher.py"
    plugin.write_text(PLUGIN)
    root = tmp_path / "root"
    root.mkdir()
    return start_node(
        "local",
        configuration=f'web.roots = ["{root}"]\nplugins.files = ["{plugin}"]\n'
        + peer("DST", port)
        + route("ct on", when={"Modality": "CT"})
        + route("mr on", when={"Modality": "MR"}),
        flags=["--http-port", "0"],
    )


@pytest.fixture
def url(local: Any) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


@pytest.mark.parametrize("width", [1440, 390])
def test_a_queue_is_paused_and_resumed_and_its_study_says_that_it_has_gone(
    page: Page, url: str, local: Any, start_node: StartNode, port: int, tmp_path: Path,
    shoot: Any, width: int,
) -> None:  # fmt: skip
    page.set_viewport_size({"width": width, "height": 900})
    files = of_study(tmp_path / "sent", 3, Modality="CT", PatientName="Goes^On")
    study = dcmread(files[0]).StudyInstanceUID
    assert store(local.port, *files) == [0x0000] * 3

    page.goto(f"{url}/jobs")
    page.get_by_label("Main").get_by_role("link", name="Routes").click()
    page.wait_for_url("**/routes")  # and the load: before it, nothing listens to buttons
    route_on = page.get_by_role("region", name="Route ct on", exact=True)
    queue = route_on.locator('tr[data-queue="DST"]')
    expect(queue).to_contain_text("DST@127.0.0.1")  # why it does not go, after the next look
    expect(route_on).to_contain_text('Modality is "CT"')
    expect(queue.locator("td").nth(1)).to_contain_text("3")
    shoot(f"routes-waiting-{width}")
    queue.get_by_role("button", name="Pause").click()
    expect(page.locator("#toasts")).to_contain_text("The queue to DST is paused.")
    expect(queue).to_contain_text("paused")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width

    destination = start_node("destination", flags=["--port", port, "--aet", "DST"])
    queue.get_by_role("button", name="Resume").click()
    queue.get_by_role("button", name="Send now").click()
    # 3, or none any more: what is resumed goes by itself.
    expect(page.locator("#toasts")).to_contain_text("objects are to be sent now.")
    wait_until(lambda: here(destination) == names(files), lambda: local.tail)
    expect(queue).to_contain_text("nothing to send")
    expect(queue.locator("td").nth(2)).to_contain_text("3")

    page.goto(f"{url}/studies/{study}")
    page.get_by_text("Routes: why it goes, or does not").click()
    said = page.locator("li.of-route")
    expect(said.nth(0)).to_contain_text("3 sent")
    expect(said.nth(1)).to_contain_text("does not go")
    expect(said.nth(1)).to_contain_text('Modality is "CT", wanted "MR"')
    shoot(f"routes-of-study-{width}")

    page.goto(f"{url}/node")
    plugins = page.get_by_role("region", name="Plug-ins")
    expect(plugins).to_contain_text("watcher")
    expect(plugins.locator("tbody td.num").first).to_have_text("3")
    shoot(f"plug-ins-{width}")


@pytest.mark.parametrize("width", [1440, 390])
def test_selected_studies_are_exported_and_one_object_is_deleted(
    page: Page, url: str, local: Any, tmp_path: Path, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    files = of_study(tmp_path / "sent", 2, Modality="OT", PatientName="Stays^Here")
    first = dcmread(files[0])
    assert store(local.port, *files) == [0x0000] * 2
    page.goto(url)
    page.get_by_label("Select Stays, Here").check()
    page.get_by_label("Folder of the node").fill(str(tmp_path / "root"))
    page.get_by_role("button", name="Export files").click()
    expect(page.locator("#toasts")).to_contain_text("Exporting 1 study")
    folder = tmp_path / "root" / first.StudyInstanceUID
    wait_until(lambda: {each.stem for each in folder.glob("*.dcm")} == names(files))

    page.goto(f"{url}/instances/{first.SOPInstanceUID}")
    page.get_by_role("button", name="Delete object").click()
    page.wait_for_url(f"**/studies/{first.StudyInstanceUID}*")
    expect(page.locator("dl.facts")).to_contain_text("1 in 1 series")
    wait_until(lambda: here(local) == names(files[1:]))


def test_what_a_button_did_is_said_though_the_list_was_renewed_meanwhile(
    page: Page, url: str, local: Any, tmp_path: Path
) -> None:
    files = of_study(tmp_path / "sent", 1, Modality="CT")
    assert store(local.port, *files) == [0x0000]
    page.goto(f"{url}/routes")
    held = []
    page.route("**/pause", lambda route: held.append(route), times=1)
    page.get_by_role("button", name="Pause: ct on to DST").click()
    while not held:
        page.wait_for_timeout(20)
    page.evaluate("""() => new Promise((resolve) => {
        document.body.addEventListener("htmx:afterSettle", resolve, {once: true});
        htmx.ajax("GET", "/routes/queues", "#routes");
    })""")
    held[0].continue_()

    expect(page.locator("#toasts")).to_contain_text("The queue to DST is paused.")
