"""A person at the daily work: jobs, remote PACS and the node's pages, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.e2e.test_web_browser import store
from tests.support.dcmtk import free_port
from tests.support.dicom_peer import until
from tests.support.web_objects import write_all

FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    return write_all(tmp_path / "objects")


@pytest.fixture
def remote_port() -> int:
    return free_port()


@pytest.fixture
def remote(start_node: Any, remote_port: int) -> Any:
    """The PACS of somebody else."""
    return start_node("remote", flags=["--aet", "REMOTE", "--port", remote_port])


@pytest.fixture
def local(start_node: Any, remote_port: int) -> Any:
    """Our node, which knows the other one and one that is down."""
    peers = ["--peer", "DOWN=127.0.0.1:9", "--peer", f"REMOTE=127.0.0.1:{remote_port}"]
    return start_node("local", flags=["--http-port", "0", *peers])


@pytest.fixture
def url(local: Any) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


def test_times_and_numbers_are_those_of_the_readers_browser(
    browser: Browser, page: Page, url: str, objects: Path
) -> None:
    store(url, objects / "loop.dcm")
    for _ in range(2):
        page.request.post(f"{url}/api/echo", data={"peer": "DOWN"})
    context = browser.new_context(locale="de-DE", timezone_id="Asia/Tokyo")
    try:
        german = context.new_page()
        german.goto(f"{url}/jobs")
        expect(german.locator("thead")).to_contain_text("Asia/Tokyo", ignore_case=True)
        created = german.locator("#job-rows time").first
        expect(created).to_have_text(re.compile(r"^\d\d\.\d\d\.\d{4}, \d\d:\d\d:\d\d$"))
        german.goto(f"{url}/node")
        size = german.locator("dl data[data-unit=byte]")
        expect(size).to_have_text(re.compile(r"^\d+(,\d)? [kM]B$"))
    finally:
        context.close()


def test_the_series_of_a_match_are_looked_at_and_one_is_retrieved(
    page: Page, url: str, objects: Path, dcmtk: Any, remote: Any, shoot: Any
) -> None:
    dcmtk.done(dcmtk.store(remote.port, *sorted(objects.glob("*.dcm"))))
    page.goto(f"{url}/remote")
    page.check("input[value=REMOTE]")
    page.fill("[name=PatientName]", "*Evil*")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("button", name=re.compile("^Series of")).click()
    series = page.locator(".preview tbody tr")
    expect(series).to_have_count(2)
    shoot("remote-series")
    series.filter(has_text="SR").get_by_role("checkbox").check()
    page.get_by_role("button", name="Retrieve selected").click()
    expect(page.locator(".toast")).to_contain_text("Retrieving 1 series.")
    page.locator(".toast a").last.click()
    row = page.locator("#job-rows tr").first
    expect(row.locator(".state")).to_have_text("done")
    expect(row).to_contain_text("1 done")
    expect(row.locator(".subject")).to_contain_text("<b>Evil</b>")

    page.goto(f"{url}/remote")
    page.check("input[value=REMOTE]")
    page.get_by_label("Search for").select_option("SERIES")
    page.locator("#find [name=model]").select_option("patient")
    page.fill("[name=ModalitiesInStudy]", "ct")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#results tbody tr")).to_have_count(1)
    expect(page.locator("#results tbody tr")).to_contain_text("Müller, Johanna Dr.")
    shoot("remote-series-search")


def test_a_list_is_uploaded_and_worked_off(
    page: Page, url: str, objects: Path, dcmtk: Any, remote: Any, tmp_path: Path, shoot: Any
) -> None:
    dcmtk.done(dcmtk.store(remote.port, *sorted(objects.glob("ct*.dcm"))))
    file = tmp_path / "list.csv"
    file.write_text("Name;Patient ID\nMüller;P-0007\nNobody;P-4711\n")
    page.goto(f"{url}/remote")
    page.get_by_text("Retrieve a list of").click()
    page.get_by_label("The list has").select_option("PatientID")
    page.set_input_files("[name=file]", file)
    page.get_by_role("button", name="Retrieve the list").click()
    expect(page.locator(".toast.failed")).to_contain_text("choose a server in the list")
    page.check("input[value=REMOTE]")
    page.get_by_role("button", name="Retrieve the list").click()
    expect(page.locator(".toast").last).to_contain_text("Retrieving 2 patient ids.")
    page.goto(f"{url}/jobs")

    row = page.locator("#job-rows tr").first
    expect(row.locator(".state")).to_have_text("done")
    expect(row).to_contain_text("12 done")
    expect(row).to_contain_text("no study for 1 of 2 values: P-4711")
    expect(row.get_by_role("link", name="Müller, Johanna Dr.")).to_be_visible()
    shoot("jobs-list")


def test_a_peer_is_added_tested_and_its_rights_count(
    page: Page, url: str, local: Any, remote: Any, shoot: Any
) -> None:
    def may_query() -> bool:
        ae = AE("NEWCT")
        ae.add_requested_context(FIND)
        association = ae.associate("127.0.0.1", local.port)
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", ""
        statuses = [int(status.Status) for status, _ in association.send_c_find(keys, FIND)]
        association.release()
        assert statuses[-1] in (0x0000, 0x0124)
        return statuses[-1] == 0

    assert may_query()
    page.goto(f"{url}/remote")
    page.get_by_text("Add a DICOM server").click()
    form = page.locator("details[open] form").first
    form.get_by_label("AE title").fill("NEWCT")
    form.get_by_label("Address").fill("127.0.0.1")
    form.get_by_label("Port", exact=True).fill(str(remote.port))
    form.get_by_label("query").uncheck()
    form.get_by_role("button", name="Test").click()
    expect(form.locator(".state.done")).to_have_text("alive")
    form.get_by_role("button", name="Add").click()
    expect(page.locator("#peers")).to_contain_text("may be pinged, store objects, retrieve")
    shoot("peer-added")
    until(lambda: not may_query())

    page.get_by_role("button", name="Edit NEWCT").click()
    form = page.get_by_role("form", name="Change NEWCT")
    expect(form.get_by_label("query")).not_to_be_checked()
    form.get_by_label("query").check()
    form.get_by_label("Port", exact=True).fill("9")
    form.get_by_role("button", name="Test").click()
    expect(form.locator(".state.failed")).to_contain_text("refused")
    form.get_by_role("button", name="Save").click()
    expect(page.locator("#peers")).to_contain_text("127.0.0.1:9")
    expect(page.locator("#peers")).not_to_contain_text("may be pinged")


def test_the_keyboard_goes_from_row_to_row_with_one_stop_each(
    page: Page, url: str, objects: Path
) -> None:
    store(url, *sorted(objects.glob("*.dcm")))
    page.goto(url)
    expect(page.locator("#studies tr")).to_have_count(2)
    links = page.locator("#studies td.name a")
    page.keyboard.press("ArrowDown")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(links.nth(0)).to_be_focused()


def test_the_pool_is_whole_on_a_phone(page: Page, url: str, local: Any, shoot: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{url}/node")
    expect(page.locator(".pool svg")).to_contain_text("waits for a")
    ae = AE("VISITOR")
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", local.port)
    try:
        expect(page.locator(".pool svg")).to_contain_text("VISITOR · verification")
        drawing = page.locator(".pool svg").bounding_box()
        assert drawing is not None
        assert drawing["x"] >= 0
        assert drawing["x"] + drawing["width"] <= 390
        beyond = page.evaluate(
            """() => {
                const svg = document.querySelector(".pool svg");
                const right = svg.getBoundingClientRect().right + 1;
                return [...svg.children].filter(each => each.getBoundingClientRect().right > right)
                    .map(each => each.outerHTML);
            }"""
        )
        assert beyond == []
        page.locator(".legend").scroll_into_view_if_needed()
        shoot("pool-phone")
    finally:
        association.release()
    expect(page.locator(".legend")).to_contain_text("followers wait to lead")


def test_audit_trail_and_settings_are_looked_up(page: Page, url: str, shoot: Any) -> None:
    page.goto(f"{url}/node/audit?q=application+start")
    expect(page.locator("tbody tr").first).to_contain_text("Application Start")
    shoot("audit")
    page.goto(f"{url}/node/settings")
    page.get_by_label("Only what is set").check()
    page.get_by_role("button", name="Show").click()
    row = page.locator("tbody tr").filter(has_text="peers.DOWN.host")
    expect(row).to_contain_text("flag --peer")
    shoot("settings")
