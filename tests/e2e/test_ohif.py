"""A radiologist at OHIF: the real package, in a real browser, at a node's own port."""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pydicom.dataset import Dataset

from lfscp.config.passwords import hash_password
from lfscp.web.ohif.installing import install
from tests.support.node_process import NodeProcess, run_lfscp
from tests.support.ohif_package import real_package, small_package
from tests.support.ohif_studies import (
    COLOUR_STUDY,
    COLOURS,
    DOCUMENT_STUDY,
    SLICES,
    colours,
    ct_volume,
    document,
)
from tests.support.retrieved_objects import as_file
from tests.support.web_objects import CT_STUDY

PASSWORD = "correct horse"  # noqa: S105 - of a test
# Of the first viewport with a picture: how much its pixels differ, and the pixel at a place.
DRAWN = """() => [...document.querySelectorAll("[data-cy=viewport-pane] canvas")].map(canvas => {
    const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const grey = all.filter((_, at) => at % 4 === 1);
    const mean = grey.reduce((sum, each) => sum + each, 0) / grey.length;
    return Math.sqrt(grey.reduce((sum, each) => sum + (each - mean) ** 2, 0) / grey.length);
})"""
QUARTERS = """() => {
    const canvas = document.querySelector("[data-cy=viewport-pane] canvas");
    const side = Math.min(canvas.width, canvas.height) / 2;
    const at = (x, y) => [...canvas.getContext("2d").getImageData(
        canvas.width / 2 + x * side / 2, canvas.height / 2 + y * side / 2, 1, 1).data].slice(0, 3);
    return [at(-1, -1), at(1, -1), at(-1, 1), at(1, 1)];
}"""


@pytest.fixture(scope="module")
def installed(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OHIF as `lfscp ohif install` makes it, in a data folder of its own."""
    cache = pytestconfig.cache
    assert cache is not None
    package = real_package(Path(cache.mkdir("ohif")))
    data_dir = tmp_path_factory.mktemp("installed")
    made = run_lfscp("ohif", "install", "--from", package, "--data-dir", data_dir)
    assert made.stdout.startswith(f"OHIF 3.13.2 (59 MB) is installed in {data_dir}/ohif\n")
    return data_dir / "ohif"


@pytest.fixture
def local(start_node: Any, installed: Path, tmp_path: Path) -> Any:
    """A node with OHIF, for which one must log in."""
    data_dir = tmp_path / "node/data"
    data_dir.mkdir(parents=True)
    (data_dir / "ohif").symlink_to(installed)
    users = json.dumps([f"anna:work:{hash_password(PASSWORD)}"])
    configuration = f"web.users = {users}\nohif.port = 0\n"
    return start_node(configuration=configuration, flags=["--http-port", "0"])


@pytest.fixture
def url(local: NodeProcess) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


@pytest.fixture
def ohif(local: NodeProcess) -> str:
    return str(local.wait_for("OHIF")["url"]).rstrip("/")


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    """It asks no other host."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    assert [
        each for each in asked if not re.match(r"(blob:)?http://127\.0\.0\.1:|chrome", each)
    ] == []


def store(url: str, objects: Iterable[Dataset]) -> None:
    credential = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
    for each in objects:
        request = urllib.request.Request(  # noqa: S310 - our own node
            f"{url}/api/instances",
            as_file(each),
            {"Authorization": f"Basic {credential}"},
            method="POST",
        )
        urllib.request.urlopen(request).close()  # noqa: S310


def log_in(page: Page) -> None:
    page.fill("[name=name]", "anna")
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Log in").click()


def wait_for_pictures(page: Page, count: int = 1) -> None:
    page.wait_for_function(f"() => ({DRAWN})().filter(each => each > 5).length >= {count}")


def test_a_ct_is_found_scrolled_measured_and_the_measurement_is_kept(page, local, url, ohif, shoot):
    store(url, [*colours(), *ct_volume()])

    # The list, after a login, with the newest study first; then the CT.
    page.goto(f"{ohif}/")
    log_in(page)
    page.get_by_role("button", name="Confirm and hide").click()
    names = page.get_by_text(re.compile(r"Carl|Johanna"))
    expect(names).to_have_count(2)
    expect(names.first).to_contain_text("Carl")
    shoot("ohif-list")
    page.goto(f"{ohif}/viewer?StudyInstanceUIDs={CT_STUDY}")
    wait_for_pictures(page)

    # The wheel goes to the next slice.
    corner = page.locator("[data-cy=viewport-overlay-bottom-right]")
    expect(corner).to_contain_text(f"1/{SLICES}")
    box = page.locator("[data-cy=viewport-pane]").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    for number in range(2, 6):
        page.mouse.wheel(0, 100)
        expect(corner).to_contain_text(f"{number}/{SLICES}")

    # A length, saved as a report.
    page.locator("[data-cy=Length-btn]").first.click()
    page.mouse.click(x - 100, y - 20)
    page.mouse.click(x + 80, y + 30)
    page.locator("[data-cy=prompt-begin-tracking-yes-btn]").click()
    page.locator("[data-cy=trackedMeasurements-btn]").click()
    shoot("ohif-length")
    page.get_by_role("button", name="Create SR").click()
    page.locator("[data-cy=dialog-input], [data-cy=dialog-input] input").last.fill("Length of anna")
    with page.expect_response(lambda answer: answer.request.method == "POST") as stored:
        page.get_by_role("button", name="Save", exact=True).click()
    assert stored.value.status == 200

    # It is in the archive, and shows its measurement when the study is opened again.
    found = run_lfscp(
        *("find", f"LFSCP@127.0.0.1:{local.port}", "-k", "QueryRetrieveLevel=SERIES"),
        *("-k", "Modality=SR", "-k", "SeriesDescription="),
        *("-k", f"StudyInstanceUID={CT_STUDY}"),
    )
    assert "Length of anna" in found.stdout
    page.goto(f"{ohif}/viewer?StudyInstanceUIDs={CT_STUDY}")
    wait_for_pictures(page)
    page.locator("[data-cy=study-browser-thumbnail-no-image]").dblclick()
    page.locator("[data-cy=yes-hydrate-btn]").click()
    page.locator("[data-cy=trackedMeasurements-btn]").click()
    expect(page.get_by_text(re.compile(r"\d+(\.\d+)? mm")).first).to_be_visible()
    shoot("ohif-reopened")

    # As a volume, cut three ways.
    page.goto(f"{ohif}/viewer?StudyInstanceUIDs={CT_STUDY}&hangingprotocolId=mpr")
    wait_for_pictures(page, 3)
    page.wait_for_load_state("networkidle")
    shoot("ohif-mpr")


def test_colours_are_right_and_a_document_opens_from_the_page(page, url, ohif, shoot):
    store(url, [*colours(), document()])
    page.goto(f"{url}/studies/{DOCUMENT_STUDY}")
    log_in(page)
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open in OHIF").click()
    document_page = opened.value
    expect(document_page.locator("object[type='application/pdf']")).to_be_visible()
    document_page.close()

    page.goto(f"{ohif}/viewer?StudyInstanceUIDs={COLOUR_STUDY}")
    page.get_by_role("button", name="Confirm and hide").click()
    wait_for_pictures(page)
    assert_colours(page.evaluate(QUARTERS))
    shoot("ohif-rgb")
    page.locator("[data-cy=study-browser-thumbnail]").last.dblclick()
    expect(page.locator("[data-cy=viewport-pane]")).to_contain_text("Compressed")
    wait_for_pictures(page)
    assert_colours(page.evaluate(QUARTERS))


def assert_colours(shown: list[list[int]]) -> None:
    """The quarters have their colours, within what JPEG and the screen change."""
    for seen, colour in zip(shown, COLOURS, strict=True):
        assert max(abs(a - b) for a, b in zip(seen, colour, strict=True)) <= 8, shown


SEND = """(url) => {
    const form = document.createElement("form");
    Object.assign(form, {method: "post", enctype: "text/plain", action: url});
    document.body.append(form);
    form.submit();
}"""


def test_a_page_at_another_port_of_the_host_has_the_cookie_and_can_send_nothing(
    browser, local, ohif
):
    with browser.new_context() as context, elsewhere() as other:
        page = context.new_page()
        page.goto(f"{ohif}/login")
        log_in(page)
        answers = []
        for home in (ohif, other):
            page.goto(home)
            with page.expect_response(lambda answer: answer.request.method == "POST") as got:
                page.evaluate(SEND, f"{ohif}/dicom-web/studies")
            page.wait_for_url(f"{ohif}/dicom-web/studies")
            request = got.value.request
            answers.append((got.value.status, "lfscp_session" in request.all_headers()["cookie"]))

    # From OHIF it is let through, and refused for what it is: text.
    assert answers == [(415, True), (403, True)]


@contextmanager
def elsewhere() -> Iterator[str]:
    """A web server of somebody else, at another port of the same host."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Quiet(BaseHTTPRequestHandler):
    """Answers every request with an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_its_port_is_handed_over_to_a_successor(start_node, tmp_path):
    data_dir = tmp_path / "node/data"
    install(data_dir, *small_package(tmp_path))
    options: dict[str, Any] = {
        "configuration": "ohif.port = 0\n",
        "flags": ["--http-port", "0", "--take-over", "--workers", "2"],
    }
    first = start_node(**options)
    ohif = first.wait_for("OHIF")["url"]

    def start_page() -> str:
        with urllib.request.urlopen(ohif) as answer:  # noqa: S310 - our own node
            return str(answer.read().decode())

    before = start_page()
    successor = start_node(**options)
    assert first.wait() == 0
    assert successor.events("OHIF") == []  # it listens where the first one did
    assert start_page() == before
