"""A person at the list of studies: what is asked stands in the address; several studies at once."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from playwright.sync_api import Locator, Page, expect
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.dcmtk import free_port
from tests.support.node_process import NodeProcess, proper_end
from tests.support.pynetdicom_client import association, store_one
from tests.support.web_objects import CT_CLASS, ROOT, new

STUDIES = 130  # three pages of 60
NOW = date.today()  # noqa: DTZ011 - the node and the test are in one place
TODAY = f"{NOW:%Y%m%d}"
LONG_AGO = f"{NOW - timedelta(days=400):%Y%m%d}"
WIDTHS = pytest.mark.parametrize("width", [1440, 390])


def study_file(folder: Path, number: int, series: int = 1) -> Path:
    """One object of a study: odd numbers are CT of today, even ones MR of long ago."""
    study = f"{ROOT}.9.{number}"
    uid = f"{study}.{series}.1"
    made = new(
        CT_CLASS,
        uid,
        study,
        f"{study}.{series}",
        PatientName=f"Number{number:03d}^Ann",
        PatientID=f"ID{number:03d}",
        PatientBirthDate=f"19{50 + number % 40}0101",
        StudyDate=TODAY if number % 2 else LONG_AGO,
        StudyTime=f"10{number % 60:02d}00",
        StudyID="1",
        StudyDescription="thorax" if number % 2 else "brain",
        AccessionNumber=f"ACC{number:03d}",
        ReferringPhysicianName=f"Doctor{number % 3}^Dora",
        Modality="CT" if number % 2 else "MR",
        SeriesNumber=series,
        InstanceNumber=1,
    )
    file = folder / f"{number}-{series}.dcm"
    made.save_as(file)
    return file


@pytest.fixture
def remote_port() -> int:
    return free_port()


@pytest.fixture
def local(start_node: Any, remote_port: int) -> Any:
    """Our node, which knows the PACS of somebody else."""
    flags = [*("--http-port", "0"), *("--peer", f"REMOTE=127.0.0.1:{remote_port}")]
    return start_node("local", flags=flags)


def sent(node: Any, folder: Path, *numbers: int, sender: str = "SCANNER", series: int = 1) -> None:
    """Send studies to the node as a modality with an AE title does."""
    offered = [(CT_CLASS, str(ExplicitVRLittleEndian))]
    with association(node.port, offered, sender) as assoc:
        for number in numbers:
            assert store_one(assoc, study_file(folder, number, series)) == 0


@contextmanager
def node_with(folder: Path, count: int) -> Iterator[NodeProcess]:
    """A node with as many studies, for tests that change nothing of it."""
    node = NodeProcess(folder / "node", flags=["--http-port", "0"])
    with proper_end(node):
        sent(node.start(), folder, *range(1, count + 1))
        yield node


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with node_with(tmp_path_factory.mktemp("seven"), 7) as node:
        yield node


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with node_with(tmp_path_factory.mktemp("many"), STUDIES) as node:
        yield node


@pytest.fixture
def store(local: Any, tmp_path: Path) -> Callable[..., None]:
    """Sends studies to the node."""
    return partial(sent, local, tmp_path)


@pytest.fixture
def url(local: Any) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


@pytest.fixture
def sized(page: Page, width: int) -> Page:
    page.set_viewport_size({"width": width, "height": 900 if width > 640 else 780})
    return page


def asked(url: str) -> dict[str, str]:
    """The parameters in an address."""
    return {name: each[0] for name, each in parse_qs(urlsplit(url).query).items()}


def rows(page: Page) -> Locator:
    return page.locator("#studies tr[data-href]")


def expect_names(page: Page, numbers: Iterable[int]) -> None:
    wanted = [re.compile(rf"^Number{number:03d},") for number in numbers]
    expect(page.locator("#studies .name a")).to_have_text(wanted)


def expect_asked(page: Page, **wanted: str) -> None:
    """Wait for an address with these parameters and no others."""
    page.wait_for_url(lambda url: asked(url) == wanted)


def show_filters(page: Page, width: int) -> None:
    if width <= 640:
        page.get_by_role("button", name="Filters").click()


class TestSevenStudies:
    """Of one node for all of these: to look at them changes nothing."""

    @pytest.fixture
    def local(self, seven: NodeProcess) -> NodeProcess:
        return seven

    @WIDTHS
    def test_back_brings_back_the_search_with_its_fields_and_rows(self, sized, url, width, shoot):
        page = sized
        page.goto(url)
        expect(rows(page)).to_have_count(7)
        show_filters(page, width)
        page.get_by_label("Modality").select_option("CT")
        expect(rows(page)).to_have_count(4)
        page.fill("#q", "number00")
        page.get_by_label("Filter by referring physician").fill("doctor1") if width > 640 else None
        expect(rows(page)).to_have_count(2 if width > 640 else 4)
        referrer = {"referrer": "doctor1"} if width > 640 else {}
        wanted = {"modality": "CT", "q": "number00", **referrer}
        expect_asked(page, **wanted)
        shown = [7, 1] if width > 640 else [7, 5, 3, 1]
        expect_names(page, shown)
        shoot(f"archive-filtered-{width}")

        page.locator("#studies .name a").first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Number")
        page.go_back()

        expect_names(page, shown)
        expect_asked(page, **wanted)
        expect(page.locator("[name=modality]")).to_have_value("CT")
        expect(page.locator("#q")).to_have_value("number00")

        page.go_back()  # to before the choice of a modality
        expect(rows(page)).to_have_count(7)
        expect(page.locator("[name=modality]")).to_have_value("")
        page.go_forward()
        expect(page.locator("[name=modality]")).to_have_value("CT")
        expect(rows(page)).to_have_count(len(shown))

    @WIDTHS
    def test_an_address_shows_the_same_to_somebody_else(self, sized, url, browser, width):
        page = sized
        page.goto(f"{url}/?modality=CT&order=name")
        page.get_by_label("Select Number003, Ann").check()
        expect(page.locator("#selected-count")).to_have_text("1")

        context = browser.new_context()
        other = context.new_page()
        other.goto(page.url)

        for each in (page, other):
            expect_names(each, [1, 3, 5, 7])
        expect(other.get_by_label("Select Number003, Ann")).to_be_checked()
        expect(other.locator("#selected-count")).to_have_text("1")
        context.close()

    @WIDTHS
    def test_no_width_is_scrolled_sideways(self, sized, url, width, shoot):
        page = sized
        page.goto(f"{url}/?q=number")
        show_filters(page, width)
        page.get_by_label("Select Number003, Ann").check()
        shoot(f"archive-{width}")

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto(f"{url}/studies/{ROOT}.9.3")
        page.get_by_text("Download, send, delete").click()
        shoot(f"study-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    @pytest.mark.parametrize(
        ("field", "value", "numbers"),
        [
            ("Filter by patient name", "number004", {4}),
            ("Filter by patient ID", "id00?", {1, 2, 3, 4, 5, 6, 7}),
            ("Filter by birth date", "1953", {3}),
            ("Filter by description", "brain", {2, 4, 6}),
            ("Filter by accession number", "acc005", {5}),
            ("Filter by referring physician", "doctor2", {2, 5}),
            ("Study date to", f"{NOW - timedelta(days=1)}", {2, 4, 6}),
        ],
    )
    def test_each_column_has_a_filter(self, page, url, field, value, numbers):
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(url)

        page.get_by_label(field, exact=True).fill(value)

        expect(rows(page)).to_have_count(len(numbers))
        for number in numbers:
            expect(rows(page).filter(has_text=f"Number{number:03d}")).to_have_count(1)


class TestManyStudies:
    """More than a page shows."""

    @pytest.fixture
    def local(self, many: NodeProcess) -> NodeProcess:
        return many

    def test_pages_and_orders_are_links_that_keep_search_and_selection(self, page, url):
        page.goto(url)
        expect(page.locator("#found")).to_contain_text("130 studies, 1 to 60 shown")
        page.get_by_role("link", name="Patient").click()
        expect(page.locator("th[aria-sort=ascending]")).to_have_text("Patient")
        expect_names(page, range(1, 61))
        page.get_by_label("Select Number002, Ann").check()

        page.get_by_role("link", name="Next").click()
        expect(page.locator("#found")).to_contain_text("61 to 120 shown")
        expect_names(page, range(61, 121))
        page.get_by_label("Select Number061, Ann").check()
        expect(page.locator("#selected-count")).to_have_text("2")
        page.get_by_role("link", name="Next").click()
        expect_names(page, range(121, 131))
        expect(page.get_by_role("link", name="Next")).to_have_count(0)
        page.get_by_role("link", name="Previous").click()
        page.get_by_role("link", name="Previous").click()
        expect(page.locator("#found")).to_contain_text("1 to 60 shown")
        expect(page.get_by_label("Select Number002, Ann")).to_be_checked()

        page.get_by_role("link", name="Patient").click()
        expect(page.locator("th[aria-sort=descending]")).to_have_text("Patient")
        expect_names(page, range(130, 70, -1))
        page.fill("#q", "acc00")
        expect(page.locator("#found")).to_contain_text("9 studies match")
        expect_names(page, range(9, 0, -1))

    def test_the_head_stays_while_the_rows_are_scrolled(self, page, url):
        page.goto(url)
        expect(rows(page)).to_have_count(60)

        rows(page).last.scroll_into_view_if_needed()

        expect(page.get_by_role("link", name="Patient")).to_be_in_viewport()
        expect(page.get_by_label("Filter by patient name")).to_be_in_viewport()


def test_studies_are_chosen_by_sender_and_by_a_preset_of_dates(page, url, store):
    page.set_viewport_size({"width": 1440, "height": 900})
    store(1, 2, sender="SCANNER")
    store(3, sender="OTHER")
    page.goto(url)

    page.get_by_label("Sent by AE title").select_option("OTHER")
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("OTHER")
    page.get_by_label("Sent by AE title").select_option("")
    page.get_by_label("Study date", exact=True).select_option("Last 7 days")
    expect(rows(page)).to_have_count(2)
    expect_asked(page, when="7d")
    page.get_by_label("Study date from").fill("2001-01-01")
    expect(rows(page)).to_have_count(3)
    expect_asked(page, date_from="2001-01-01")


def test_selected_studies_are_labelled_protected_downloaded_and_deleted(page, url, store, tmp_path):
    page.set_viewport_size({"width": 1440, "height": 900})
    store(*range(1, 5))
    page.goto(f"{url}/?order=name")
    for number in (1, 2):
        page.get_by_label(f"Select Number00{number}, Ann").check()
    chosen = page.get_by_role("region", name="Selected studies")

    chosen.get_by_label("Label").fill("teaching")
    chosen.get_by_role("button", name="Add").click()
    expect(page.locator("#studies .label")).to_have_text(["teaching", "teaching"])
    chosen.get_by_role("button", name="Protect", exact=True).click()
    expect(page.locator("#studies").get_by_text("protected")).to_have_count(2)

    with page.expect_download() as caught:
        chosen.get_by_role("link", name="Download ZIP").click()
    caught.value.save_as(tmp_path / "studies.zip")
    with zipfile.ZipFile(tmp_path / "studies.zip") as package:
        with package.open("DICOMDIR") as file:
            listed = pydicom.dcmread(io.BytesIO(file.read()))
        kinds = [str(each.DirectoryRecordType) for each in listed.DirectoryRecordSequence]
        assert sorted(kinds) == ["IMAGE"] * 2 + ["PATIENT"] * 2 + ["SERIES"] * 2 + ["STUDY"] * 2
        assert len(package.namelist()) == 3
    with page.expect_download() as caught:
        chosen.get_by_role("link", name="Export list").click()
    caught.value.save_as(tmp_path / "studies.csv")
    with (tmp_path / "studies.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["patient_id"] for row in table] == ["ID001", "ID002"]
    assert {(row["labels"], row["calling_ae_titles"]) for row in table} == {("teaching", "SCANNER")}

    chosen.get_by_role("button", name="Remove").click()
    expect(page.locator("#studies .label")).to_have_count(0)
    chosen.get_by_role("button", name="Add").click()
    expect(page.locator("#studies .label")).to_have_count(2)

    chosen.get_by_role("button", name="Delete").click()  # two are protected
    expect(page.locator(".toast.failed")).to_contain_text("2 of these studies are protected")
    chosen.get_by_role("button", name="Unprotect").click()
    expect(page.locator("#studies").get_by_text("protected")).to_have_count(0)
    chosen.get_by_role("button", name="Delete").click()
    expect(rows(page)).to_have_count(2)
    expect(chosen).to_be_hidden()
    expect_names(page, [3, 4])
    page.goto(f"{url}/?label=teaching")
    expect(page.locator("#studies")).to_contain_text("No study matches.")


def test_selected_studies_and_a_series_are_sent(page, url, store, start_node, remote_port):
    remote = start_node("remote", flags=["--aet", "REMOTE", "--port", remote_port])
    store(1, 2)
    store(2, series=2)
    page.goto(url)
    page.get_by_label("Select all studies of this page").check()
    chosen = page.get_by_role("region", name="Selected studies")
    page.get_by_label("Select Number002, Ann").uncheck()
    chosen.get_by_label("Send to").select_option("REMOTE")
    chosen.get_by_role("button", name="Send").click()
    expect(page.locator(".toast")).to_contain_text("Sending 1 study to REMOTE.")
    remote.wait_for("C-STORE")
    assert [each["sop_instance_uid"] for each in remote.events("C-STORE")] == [f"{ROOT}.9.1.1.1"]

    page.goto(f"{url}/studies/{ROOT}.9.2")
    second = page.locator(".card").nth(1)
    second.get_by_text("Download, send, delete").click()
    second.get_by_label("Send series to").select_option("REMOTE")
    second.get_by_role("button", name="Send series").click()
    expect(page.locator(".toast")).to_contain_text("Sending the series to REMOTE.")
    remote.wait_for("C-STORE", sop_instance_uid=f"{ROOT}.9.2.2.1")
    assert len(remote.events("C-STORE")) == 2

    second.get_by_role("button", name="Delete series").click()
    expect(page.locator(".card")).to_have_count(1)


def test_a_study_is_labelled_and_marked_as_protected_on_its_page(page, url, store):
    store(1)
    page.goto(f"{url}/studies/{ROOT}.9.1")
    expect(page.locator(".facts")).to_contain_text("SCANNER")
    page.get_by_label("New label").fill("  to  discuss ")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("group", name="Labels")).to_contain_text("to discuss")
    page.get_by_role("button", name="Protect").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("protected")
    page.get_by_role("button", name="Remove the label to discuss").click()
    expect(page.locator("span.label")).to_have_count(0)


def test_an_empty_list_says_what_to_do_next(page, url, store):
    page.goto(url)
    expect(page.locator("#studies")).to_contain_text("The archive is empty.")
    expect(page.locator("#studies").get_by_role("link", name="Upload files")).to_be_visible()
    store(1)
    page.goto(f"{url}/?modality=US&name=nobody")
    expect(page.locator("#studies")).to_contain_text("No study matches.")
    page.locator("#studies").get_by_role("link", name="Clear all filters").click()
    expect(rows(page)).to_have_count(1)
    expect(page.locator("[name=name]")).to_have_value("")
