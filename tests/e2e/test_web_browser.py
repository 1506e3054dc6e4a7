"""A person at the page: a real browser (Debian's chromium) against real nodes."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from lfscp.config.passwords import hash_password
from tests.e2e.test_web_node import send
from tests.support.dcmtk import free_port
from tests.support.dicomweb_server import web_node
from tests.support.images import image, save
from tests.support.node_process import NodeProcess, proper_end
from tests.support.web_objects import CT_SERIES, CT_STUDY, LOOP_SERIES, LOOP_STUDY, write_all

EVIL = "<b>Evil</b>, <script>alert(1)</script>"
PASSWORD = "correct horse"  # noqa: S105 - of a test
USERS = [f"{role}:{role}:{hash_password(PASSWORD)}" for role in ("read", "work", "admin")]
# What a document asks of the node: its links to pages, and the requests of its buttons and forms.
OFFERS = """(root) => [
    [...root.querySelectorAll("a[href]")].map(link => link.pathname)
        .filter(path => !/^\\/(static|api)/.test(path)),
    ["get", "post", "put", "delete"].flatMap(method =>
        [...root.querySelectorAll(`[hx-${method}]`)].map(each =>
            `${method.toUpperCase()} ${each.getAttribute(`hx-${method}`).split("?")[0]}`))
        .concat([...root.querySelectorAll("form[action]")].map(form =>
            `${form.method.toUpperCase()} ${form.getAttribute("action")}`))]"""
OFFERS_OF = f"""(text) => ({OFFERS})(new DOMParser().parseFromString(text, "text/html"))"""
# How much of each link of the menu is on the screen.
IN_VIEW = """() => new Promise(done => {
    const links = [...document.querySelectorAll("nav a")].filter(each => each.checkVisibility());
    const observer = new IntersectionObserver(seen => {
        observer.disconnect();
        done(seen.map(each => each.intersectionRatio));
    });
    links.forEach(each => observer.observe(each));
})"""


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    return write_all(tmp_path / "objects")


@pytest.fixture
def remote_port() -> int:
    return free_port()


@pytest.fixture
def remote(start_node: Any, remote_port: int) -> Any:
    """The PACS of somebody else, for tests that need it."""
    return start_node("remote", flags=["--aet", "REMOTE", "--port", remote_port])


@pytest.fixture
def users() -> list[str]:
    """Who may log in; nobody need."""
    return []


@pytest.fixture
def local(start_node: Any, remote_port: int, objects: Path, users: list[str]) -> Any:
    """Our node, with a page, which knows the other one and one that is down."""
    return start_node(
        "local",
        configuration=f'web.roots = ["{objects}"]\nweb.users = {json.dumps(users)}\n',
        flags=[
            *("--http-port", "0", "--peer", "DOWN=127.0.0.1:9"),
            *("--peer", f"REMOTE=127.0.0.1:{remote_port}"),
        ],
    )


@contextmanager
def node_with(folder: Path, files: Iterable[Path], *flags: str) -> Iterator[NodeProcess]:
    """A node with these objects, for tests that change nothing of it."""
    node = NodeProcess(folder / "node", flags=["--http-port", "0", *flags])
    with proper_end(node):
        url = node.start().wait_for("page")["url"].rstrip("/")
        store(url, *files)
        yield node


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("filled")
    files = sorted(write_all(folder).glob("*.dcm"))
    with node_with(folder, files, "--peer", "DOWN=127.0.0.1:9") as node:
        yield node


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("overlay")
    with node_with(folder, [overlaid(folder / "overlay.dcm")]) as node:
        yield node


@pytest.fixture
def url(local: Any) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


def log_in(page: Page, url: str, name: str) -> None:
    page.context.clear_cookies()
    page.goto(url)
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def walk(page: Page, url: str, opened: dict[Any, Any]) -> set[str]:
    """Follow every link to a page: the requests that can be made there, as "METHOD /path".

    Args:
        opened: what was found on pages that the browser has opened. A page that offers the same to
            another role makes the same requests by itself, so it is not opened once more.
    """
    seen, found = {"/"}, set()
    left = ["/"]
    while left:
        path = left.pop()
        links, requests = page.evaluate(OFFERS_OF, page.request.get(url + path).text())
        key = (path, *sorted(requests))
        if key not in opened:
            page.goto(url + path)
            page.wait_for_load_state("networkidle")
            opened[key] = page.evaluate(f"() => ({OFFERS})(document)")
        found.update(requests, opened[key][1])
        new = {*links, *opened[key][0]} - seen
        seen |= new
        left += new
    return found | {f"GET {path}" for path in seen}


def store(url: str, *files: Path) -> None:
    """Hand objects to a node as a script does."""
    for file in files:
        send(f"{url}/api/instances", file.read_bytes())


def upload(page: Page, url: str, *files: Path) -> None:
    page.goto(f"{url}/upload")
    page.set_input_files("#files", [str(file) for file in files])
    expect(page.locator("#upload-text")).to_contain_text(f"{len(files)} of {len(files)} files")


def test_files_are_uploaded_and_what_is_no_dicom_is_refused_by_name(page, url, objects, shoot):
    wrong = objects / "notes.txt"
    wrong.write_text("no DICOM at all")

    upload(page, url, *sorted(objects.glob("ct*.dcm")), wrong)

    expect(page.locator("#upload-text")).to_contain_text("12 stored · 1 refused")
    expect(page.locator("#upload-list")).to_contain_text("notes.txt: cannot read the dataset")
    shoot("upload")
    page.get_by_role("link", name=re.compile(CT_STUDY)).click()
    expect(page.get_by_role("heading", name="Müller, Johanna Dr.")).to_be_visible()


PIXEL = """([x, y]) => {
    const canvas = document.getElementById("canvas");
    const side = Math.min(canvas.width, canvas.height);
    const left = (canvas.width - side) / 2, top = (canvas.height - side) / 2;
    const at = (part, start) => Math.round(start + part * side);
    return canvas.getContext("2d").getImageData(at(x, left), at(y, top), 1, 1).data[0];
}"""


def overlaid(path: Path) -> Path:
    """Dark frames of uneven times, with a cross as an overlay and no window of their own."""
    dataset = image(
        np.linspace(0, 1, 3 * 64 * 64).reshape(3, 64, 64).astype("<f4") / 10,
        NumberOfFrames=3,
        FrameTimeVector=["0", "100", "1500"],
        FrameIncrementPointer=0x00181065,
        Modality="OT",
        PatientName="Overlay^Olga",
    )
    cross = np.zeros((64, 64), int)
    cross[30:34], cross[:, 30:34] = 1, 1
    for element, value in ((0x10, 64), (0x11, 64), (0x100, 1), (0x102, 0)):
        dataset.add_new((0x6000, element), "US", value)
    dataset.add_new((0x6000, 0x40), "CS", "G")
    dataset.add_new((0x6000, 0x50), "SS", [1, 1])
    content = np.packbits(cross.ravel(), bitorder="little").tobytes()
    dataset.add_new((0x6000, 0x3000), "OW", content)
    return save(dataset, path)


def test_a_zip_is_stored_file_by_file_and_what_is_no_dicom_is_named(page, url, objects, tmp_path):
    file = tmp_path / "disc.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(objects.glob("ct*.dcm"))[:3]:
            made.write(path, f"DICOM/{path.stem}")
        made.writestr("READ.ME", "no DICOM at all")

    upload(page, url, file)

    expect(page.locator("#upload-text")).to_contain_text("3 stored · 1 refused")
    expect(page.locator("#upload-list")).to_contain_text("disc.zip/READ.ME: cannot read")
    expect(page.locator("#upload-list")).to_contain_text(f"study {CT_STUDY}: 3 objects")


def test_dropped_files_are_stored(page, url, objects):
    page.goto(f"{url}/upload")
    content = (objects / "loop.dcm").read_bytes().hex()
    transfer = page.evaluate_handle(
        """(hex) => {
            const octets = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
            const transfer = new DataTransfer();
            transfer.items.add(new File([octets], "loop.dcm"));
            return transfer;
        }""",
        content,
    )

    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})

    expect(page.locator("#upload-text")).to_contain_text("1 stored")


def test_a_peer_is_pinged_searched_and_studies_are_retrieved(
    page, url, objects, local, dcmtk, remote, shoot
):
    dcmtk.done(dcmtk.store(remote.port, *sorted(objects.glob("*.dcm"))))
    page.goto(f"{url}/remote")
    page.get_by_role("button", name="Ping REMOTE").click()
    expect(page.locator(".ping .state.done")).to_have_text("alive")
    page.get_by_role("button", name="Ping DOWN").click()
    expect(page.locator(".ping .state.failed")).to_contain_text("refused")

    page.get_by_role("button", name="Search").click()
    expect(page.locator(".toast.failed")).to_contain_text("choose a server")
    page.check("input[value=REMOTE]")
    page.fill("[name=PatientName]", "M*")
    page.get_by_role("button", name="Search").click()
    matches = page.locator("#results tr:has([name=study])")
    expect(matches).to_have_count(1)
    expect(matches).to_contain_text("Müller, Johanna Dr.")
    shoot("remote")
    matches.get_by_role("checkbox").check()
    folder = objects / "back"
    folder.mkdir()
    page.fill("#matches [name=folder]", str(folder))
    page.get_by_role("button", name="Retrieve selected").click()
    page.locator(".toast a").last.click()

    row = page.locator("#job-rows tr").first
    expect(row.locator(".state")).to_have_text("done")
    expect(row).to_contain_text("12 done")
    expect(row.locator(".reason")).to_have_text(f"12 files written to {folder}")
    assert len(list(folder.rglob("*.dcm"))) == 12
    shoot("jobs")
    page.goto(f"{url}/viewer/{CT_SERIES}")
    expect(page.locator("#where")).to_have_text("1 / 12")


def test_a_dicomweb_server_is_added_pinged_searched_and_retrieved_from(
    page, url, objects, tmp_path, shoot
):
    with web_node(tmp_path / "web") as there:
        for file in objects.glob("ct*.dcm"):
            send(f"http://127.0.0.1:{there.port}/api/instances", file.read_bytes())
        page.goto(f"{url}/remote")
        page.get_by_text("Add a DICOMweb server").click()
        page.get_by_label("Name", exact=True).fill("CLOUD")
        page.get_by_label("URL", exact=True).fill(there.url)
        page.get_by_role("button", name="Add").last.click()
        expect(page.locator("#peers")).to_contain_text(there.url)
        page.get_by_role("button", name="Ping CLOUD").click()
        expect(page.locator(".ping .state.done")).to_have_text("alive")
        page.check("input[value=CLOUD]")
        page.fill("[name=PatientName]", "M*")
        page.get_by_role("button", name="Search").click()
        matches = page.locator("#results tr:has([name=study])")
        expect(matches).to_contain_text("Müller, Johanna Dr.")
        shoot("remote-dicomweb")
        matches.get_by_role("checkbox").check()
        page.get_by_role("button", name="Retrieve selected").click()
        page.locator(".toast a").last.click()
        row = page.locator("#job-rows tr").first
        expect(row.locator(".state")).to_have_text("done")
        expect(row).to_contain_text("12 done")
        expect(row).to_contain_text("CLOUD")


def test_a_study_and_files_of_a_folder_are_sent_and_the_job_can_be_watched(
    page, url, objects, remote
):
    store(url, *sorted(objects.glob("ct*.dcm")))
    page.goto(f"{url}/studies/{CT_STUDY}")
    page.select_option("[name=peer]", "REMOTE")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("to REMOTE")
    remote.wait_for("C-STORE", count=12)

    page.goto(f"{url}/upload")
    page.get_by_role("button", name=re.compile("objects$")).click()
    page.get_by_role("checkbox", name="loop.dcm").check()
    page.select_option("[name=peer]", "REMOTE")
    page.get_by_role("button", name="Send selected").click()
    page.locator(".toast a").last.click()
    expect(page.locator("#job-rows tr").first.locator(".state")).to_have_text("done")
    remote.wait_for("C-STORE", count=13)

    # A list that comes late, with what has been forgotten meanwhile, does not stay.
    late = []
    page.wait_for_load_state("load")  # before it, nothing listens to "refresh"
    page.route("**/jobs/rows", lambda route: late.append((route, route.fetch())), times=1)
    page.evaluate(
        """() => {
            window.shown = 0;
            document.addEventListener("htmx:afterSettle", (event) => {
                if (event.target.id === "job-rows") window.shown += 1;
            });
            htmx.trigger("#job-rows", "refresh");
        }"""
    )
    while not late:
        page.wait_for_timeout(20)
    page.locator("#job-rows tr").first.locator("button").last.click()
    expect(page.locator("#job-rows tr")).to_have_count(1)
    ((route, response),) = late
    route.fulfill(response=response)
    while not page.evaluate("window.shown"):
        page.wait_for_timeout(20)
    expect(page.locator("#job-rows tr")).to_have_count(1)


def test_a_job_that_cannot_be_done_says_why_and_is_tried_again(page, url, objects):
    store(url, objects / "loop.dcm")
    page.goto(f"{url}/studies/{LOOP_STUDY}")
    page.select_option("[name=peer]", "DOWN")
    page.get_by_role("button", name="Send", exact=True).click()
    page.goto(f"{url}/jobs")

    row = page.locator("#job-rows tr").first
    expect(row).to_contain_text("next attempt in")
    row.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-rows tr").first.locator(".state")).to_have_text("cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#job-rows tr").first).to_contain_text("next attempt in")


def test_a_job_that_ended_while_the_page_was_loading_is_shown_as_it_is(page, url, objects):
    store(url, objects / "loop.dcm")
    page.goto(f"{url}/studies/{LOOP_STUDY}")
    page.select_option("[name=peer]", "DOWN")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("to DOWN")
    held = []
    page.route("**/jobs.js*", lambda route: held.append(route), times=1)
    page.goto(f"{url}/jobs", wait_until="commit")
    while not held:
        page.wait_for_timeout(20)
    (job,) = page.request.get(f"{url}/api/jobs").json()
    page.request.post(f"{url}/api/jobs/{job['id']}/cancel", data={})
    page.wait_for_timeout(500)  # for the news to come, should the page listen too early
    held[0].continue_()

    expect(page.locator("#job-rows tr").first.locator(".state")).to_have_text("cancelled")


def test_the_pool_is_drawn_with_who_is_connected(page, url, local, shoot):
    from pynetdicom import AE

    page.goto(f"{url}/node")
    expect(page.locator(".pool svg")).to_contain_text("waits for a")
    ae = AE("VISITOR")
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", local.port)
    try:
        expect(page.locator(".pool svg").first).to_contain_text("VISITOR · verification")
        expect(page.locator("#associations")).to_contain_text("VISITOR")
        shoot("node")
    finally:
        association.release()
    expect(page.locator("#associations")).to_contain_text("No open associations.")


def test_a_study_is_deleted_after_a_question(page, url, objects):
    store(url, objects / "loop.dcm")
    page.goto(f"{url}/studies/{LOOP_STUDY}")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#studies")).to_contain_text("The archive is empty.")


class TestFilledArchive:
    """To look at it changes nothing: one node has it for all."""

    @pytest.fixture
    def local(self, filled: NodeProcess) -> NodeProcess:
        return filled

    def test_a_report_that_is_none_says_so(self, page, url, shoot):
        page.goto(f"{url}/viewer/{LOOP_STUDY}.2")

        expect(page.locator(".document")).to_have_text("this object holds no report")
        shoot("no-report")

    def test_the_archive_is_searched_while_one_types_and_html_in_a_name_is_text(
        self, page, url, shoot
    ):
        page.goto(url)
        rows = page.locator("#studies tr")
        expect(rows).to_have_count(2)
        expect(page.get_by_role("link", name=EVIL)).to_be_visible()
        shoot("archive")

        page.keyboard.type("müll")
        expect(rows).to_have_count(1)
        page.fill("#q", "nobody at all")
        expect(page.locator("#studies")).to_contain_text("No study matches.")
        page.fill("#q", "")
        expect(rows).to_have_count(2)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=EVIL)).to_be_visible()
        expect(page.locator(".picture.none")).to_have_count(1)  # the report has no picture

    def test_the_viewer_scrolls_windows_zooms_and_plays(self, page, url, shoot):
        page.goto(f"{url}/studies/{CT_STUDY}")
        shoot("study")
        page.locator(".card .picture").first.click()
        where, how, screen = page.locator("#where"), page.locator("#how"), page.locator("#screen")
        expect(where).to_have_text("1 / 12")
        expect(how).to_contain_text("C 40 W 400")
        expect(page.locator("#message")).to_be_hidden()

        box = screen.bounding_box()
        page.mouse.move(box["x"] + 300, box["y"] + 200)
        page.mouse.wheel(0, 120)
        expect(where).not_to_have_text("1 / 12")
        page.keyboard.press("End")
        expect(where).to_have_text("12 / 12")
        page.keyboard.press("Home")
        for _ in range(5):
            page.keyboard.press("ArrowDown")
        expect(where).to_have_text("6 / 12")
        shoot("viewer")

        before = page.evaluate("document.getElementById('canvas').toDataURL()")
        page.mouse.down()
        page.mouse.move(box["x"] + 420, box["y"] + 260, steps=5)
        page.mouse.up()
        expect(how).to_contain_text(re.compile(r"C 1\d\d W 5\d\d"))
        page.wait_for_function(
            "(before) => document.getElementById('canvas').toDataURL() !== before", arg=before
        )
        page.select_option("#preset", label="Lung -600/1500")
        expect(how).to_contain_text("C -600 W 1500")
        page.keyboard.press("+")
        page.keyboard.press("r")
        expect(how).to_contain_text("C 40 W 400")

        page.goto(f"{url}/viewer/{LOOP_SERIES}")
        expect(where).to_have_text("1 / 8 · object 1, frame 1 of 8")
        page.keyboard.press("Space")
        expect(where).not_to_have_text(re.compile("frame 1 of 8"))
        page.keyboard.press("Space")
        page.get_by_role("link", name="Elements").click()
        expect(page.get_by_role("cell", name=EVIL.replace(", ", "^"), exact=True)).to_be_visible()

    def test_a_narrow_screen_shows_all_of_it(self, page, url, shoot):
        page.set_viewport_size({"width": 390, "height": 780})
        for path in (
            "/",
            f"/studies/{CT_STUDY}",
            "/remote",
            "/upload",
            "/jobs",
            "/worklist",
            "/node",
        ):
            page.goto(f"{url}{path}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, f"{path} is {wide} pixels wide"
            seen = page.evaluate(IN_VIEW)  # a menu must not have to be scrolled sideways
            assert (len(seen) >= 7, min(seen) > 0.99) == (True, True), (path, seen)
        shoot("menu-narrow")
        page.goto(f"{url}/viewer/{CT_SERIES}")
        expect(page.locator("#where")).to_have_text("1 / 12")
        shoot("viewer-narrow")

    def test_the_documentation_of_the_api_shows_without_the_network(self, page, url):
        page.goto(f"{url}/api/docs")
        expect(page.locator(".swagger-ui .opblock").first).to_be_visible()


class TestOverlay:
    """Of one object with everything that is unusual."""

    @pytest.fixture
    def local(self, overlay: NodeProcess) -> NodeProcess:
        return overlay

    def test_overlays_are_switched_on_and_off(self, page, url, shoot):
        page.goto(f"{url}/viewer/1.2.3")
        button, message = page.locator("#overlays"), page.locator("#message")
        expect(button).to_be_visible()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(message).to_be_hidden()
        beside, cross = page.evaluate(PIXEL, [0.25, 0.25]), page.evaluate(PIXEL, [0.25, 0.5])
        assert (cross, beside < 200) == (255, True)
        shoot("overlays-on")

        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")
        page.wait_for_function(f"() => ({PIXEL})([0.25, 0.5]) < 200")
        shoot("overlays-off")
        page.keyboard.press("Escape")
        page.locator("#screen").focus()
        page.keyboard.press("o")
        page.wait_for_function(f"() => ({PIXEL})([0.25, 0.5]) === 255")

    def test_a_window_of_small_fractions_is_set_by_hand(self, page, url):
        page.goto(f"{url}/viewer/1.2.3")
        how = page.locator("#how")
        expect(how).to_have_text(re.compile(r"C 0\.0\d+ W 0\.0\d+ "))
        box = page.locator("#screen").bounding_box()
        before = page.evaluate(PIXEL, [0.75, 0.75])
        page.mouse.move(box["x"] + 300, box["y"] + 300)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, box["y"] + 200, steps=5)
        page.mouse.up()

        page.wait_for_function(f"(before) => ({PIXEL})([0.75, 0.75]) > before + 20", arg=before)
        expect(how).to_have_text(re.compile(r"C 0\.0\d+ W 0\.0\d+ "))

    def test_frames_are_played_for_as_long_as_their_object_says(self, page, url):
        page.goto(f"{url}/viewer/1.2.3")
        expect(page.locator("#viewer")).to_have_attribute("data-ready", "true")
        asked = """() => {
            window.pauses = [];
            performance.now = () => 0;  // to show a frame takes no time
            const later = window.setTimeout.bind(window);
            window.setTimeout = (what, pause) => {
                window.pauses.push([view.at + 1, pause]);
                return later(what, Math.min(pause, 20));
            };
            play(true);
        }"""
        page.evaluate(asked)
        page.wait_for_function("() => window.pauses.length >= 4")
        page.evaluate("() => play(false)")

        for frame, pause in page.evaluate("() => window.pauses"):
            assert pause == {1: 100, 2: 1500, 3: 800}[frame]


@pytest.mark.parametrize("users", [USERS])
def test_nobody_sees_what_his_role_may_not_do(page, url, objects, shoot):
    log_in(page, url, "admin")
    upload(page, url, objects / "loop.dcm")
    page.goto(f"{url}/remote")
    page.get_by_role("button", name="Ping DOWN").click()
    expect(page.locator(".ping .state.failed")).to_be_visible()
    study, asked, opened = f"/studies/{LOOP_STUDY}", {}, {}
    for name in ("read", "work", "admin"):
        log_in(page, url, name)
        refused: list[str] = []
        note = lambda answer, refused=refused: (  # noqa: E731
            refused.append(answer.url) if answer.status in (401, 403) else None
        )
        page.on("response", note)
        asked[name] = walk(page, url, opened)
        page.remove_listener("response", note)
        assert refused == []
        shoot(f"as-{name}")
        if name != "admin":  # what the page offers is allowed, if asked for nothing in particular
            headers = {"X-CSRF-Token": page.evaluate("document.body.dataset.csrf")}
            for each in sorted(asked[name] - {"POST /logout"}):
                method, _, path = each.partition(" ")
                answer = page.context.request.fetch(url + path, method=method, headers=headers)
                assert answer.status not in (401, 403), each
    sent = {each for each in asked["read"] if not each.startswith("GET ")}
    assert sent == {
        "POST /logout",
        f"POST {study}/deidentify",
    }  # which gives a ZIP
    assert {f"GET {study}", "GET /jobs", "GET /node"} <= asked["read"]
    assert not {"GET /upload", "GET /remote"} & asked["read"]
    assert {"GET /upload", "GET /remote", f"POST {study}/send"} <= asked["work"]
    assert not {each for each in asked["work"] if "/delete" in each or "/protect" in each}
    assert {f"POST {study}/delete", f"POST {study}/protect"} <= asked["admin"]
    page.goto(url + study)
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
