"""A person at the workflow's pages, while a modality asks, performs and wants a commitment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.support.web_objects import CT_CLASS, CT_SERIES, CT_STUDY, write_all
from tests.support.worklist_items import scheduled_step, worklist_dataset

WORKLIST = "1.2.840.10008.5.1.4.31"
PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
WIDE = "document.documentElement.scrollWidth"
# Each field has a name that a screen reader says; each page one main heading.
UNNAMED = """() => [...document.querySelectorAll("input:not([type=hidden]), select, button")]
    .filter(each => !(each.labels?.length || each.getAttribute("aria-label") ||
                      each.textContent.trim()))
    .map(each => each.outerHTML)"""


@pytest.fixture
def local(start_node: Any, tmp_path: Any) -> Any:
    folder = tmp_path / "worklist"
    folder.mkdir()
    return start_node(
        "local",
        configuration=f'worklist.folder = "{folder}"\n',
        flags=["--http-port", "0", "--peer", "CT1=127.0.0.1:9"],
        errors_expected=True,  # nobody takes the report of the commitment
    )


@pytest.fixture
def url(local: Any) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


def write_file(dataset: Dataset, path: Path) -> None:
    """Write a worklist file, in one step for the node that watches the folder."""
    dataset.save_as(path.with_suffix(".part"), implicit_vr=False, little_endian=True)
    path.with_suffix(".part").rename(path)


def associate(node: Any, sop_class_uid: str) -> Any:
    ae = AE("CT1")
    ae.add_requested_context(sop_class_uid)
    association = ae.associate("127.0.0.1", node.port)
    assert association.is_established
    return association


def add_item(page: Page, url: str, **values: str) -> None:
    page.goto(f"{url}/worklist/new")
    fields = {
        "Patient ID": "P-0007",
        "Patient name": "Müller, Johanna",
        "Born": "1961-03-12",
        "Accession number": "A-10442",
        "Requested procedure": "CT chest",
        "Modality": "ct",
        "Station AE title": "CT1",
        "Date": "2099-03-01",
        "Time": "09:30",
        **values,
    }
    for label, value in fields.items():
        page.get_by_label(re.compile(rf"^\s*{label}[\s*]*$")).fill(value)
    page.get_by_label("Sex").select_option("F")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("button", name="Save")).to_be_visible()
    page.wait_for_load_state("load")  # before it, nothing listens to the button


def test_an_item_is_added_changed_found_by_the_device_and_removed(page, url, local, shoot):
    page.goto(f"{url}/worklist")
    expect(page.locator("#items")).to_contain_text("No item matches.")
    shoot("worklist-empty")
    page.get_by_role("link", name="Add item", exact=True).click()
    page.get_by_role(
        "button", name="Add", exact=True
    ).click()  # the browser asks for what is needed
    expect(page).to_have_url(f"{url}/worklist/new")
    add_item(page, url)
    expect(page.get_by_role("heading", name="Müller, Johanna")).to_be_visible()
    shoot("worklist-item")
    page.get_by_label("Time").fill("10:15")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".toast")).to_have_text("The item was changed.")

    query = Dataset()
    query.PatientName = "M*"
    query.SpecificCharacterSet = "ISO_IR 192"
    query.ScheduledProcedureStepSequence = [Dataset()]
    query.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime = ""
    query.ScheduledProcedureStepSequence[0].Modality = "CT"
    association = associate(local, WORKLIST)
    found = [match for _, match in association.send_c_find(query, WORKLIST) if match]
    association.release()
    assert [
        str(match.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime)
        for match in found
    ] == ["1015"]

    add_item(page, url, **{"Patient name": "Doe, Jane", "Patient ID": "P2", "Modality": "MR"})
    page.get_by_role("link", name="Worklist").first.click()
    rows = page.locator("#items tr")
    expect(rows).to_have_count(2)
    shoot("worklist")
    page.wait_for_load_state("load")  # before it, nothing listens to keys
    page.keyboard.press("/")
    page.keyboard.type("müll")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("10:15")
    page.fill("#q", "")
    expect(rows).to_have_count(2)
    page.get_by_label("Modality").select_option("MR")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Remove the item of Doe, Jane").click()
    expect(page.locator(".toast")).to_contain_text("removed from the worklist")
    expect(rows).to_have_count(0)
    page.get_by_role("link", name="Today").click()
    expect(page.locator("#items")).to_contain_text("No item matches.")
    page.get_by_role("link", name="All", exact=True).click()
    expect(rows).to_have_count(1)
    rows.get_by_role("link").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Müller, Johanna")).to_be_visible()
    page.wait_for_load_state("load")  # likewise
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#items")).to_contain_text("No item matches.")


def test_an_item_that_was_changed_meanwhile_is_not_overwritten(page, url):
    add_item(page, url)
    item = page.request.get(f"{url}/api/worklist/1").json()
    changed = {**item["dataset"], "00100020": {"vr": "LO", "Value": ["P-9"]}}
    assert page.request.put(f"{url}/api/worklist/1", data=changed).ok
    page.get_by_label("Time").fill("10:15")
    heard: list[str] = []
    page.on("response", lambda answer: heard.append(answer.status))
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".toast.failed")).to_contain_text("changed by somebody else")
    assert 409 in heard


def performed(uids: list[str]) -> Dataset:
    """What a CT says of a step when it begins it (PS3.4 table F.7.2-1)."""
    step, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID, scheduled.AccessionNumber = CT_STUDY, "A-10442"
    for keyword in ("ReferencedStudySequence", "ScheduledProtocolCodeSequence"):
        setattr(scheduled, keyword, [])
    for keyword in (
        "RequestedProcedureID",
        "RequestedProcedureDescription",
        "ScheduledProcedureStepID",
        "ScheduledProcedureStepDescription",
    ):
        setattr(scheduled, keyword, "")
    step.SpecificCharacterSet = "ISO_IR 192"
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName, step.PatientID = "Müller^Johanna^^Dr.", "P-0007"
    step.PatientBirthDate, step.PatientSex = "19610312", "F"
    step.PerformedProcedureStepID, step.PerformedStationAETitle = "PP1", "CT1"
    step.PerformedProcedureStepStartDate = "20240517"
    step.PerformedProcedureStepStartTime = "093000"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.Modality, step.StudyID = "CT", "1"
    for keyword in (
        "PerformedStationName",
        "PerformedLocation",
        "PerformedProcedureStepDescription",
        "PerformedProcedureTypeDescription",
        "PerformedProcedureStepEndDate",
        "PerformedProcedureStepEndTime",
    ):
        setattr(step, keyword, "")
    for keyword in (
        "ReferencedPatientSequence",
        "ProcedureCodeSequence",
        "PerformedProtocolCodeSequence",
    ):
        setattr(step, keyword, [])
    step.PerformedSeriesSequence = [series(uids)]
    return step


def series(uids: list[str]) -> Dataset:
    made = Dataset()
    made.ProtocolName, made.SeriesInstanceUID = "Thorax", CT_SERIES
    for keyword in (
        "PerformingPhysicianName",
        "OperatorsName",
        "SeriesDescription",
        "RetrieveAETitle",
    ):
        setattr(made, keyword, "")
    made.ReferencedImageSequence = [reference(uid) for uid in uids]
    made.ReferencedNonImageCompositeSOPInstanceSequence = []
    return made


def reference(uid: str) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = CT_CLASS, uid
    return made


def perform(node: Any, uids: list[str]) -> None:
    """Report a step as a CT does, and ask for a commitment to its objects."""
    association = associate(node, PROCEDURE_STEP)
    status, _ = association.send_n_create(performed(uids), PROCEDURE_STEP, "1.2.9.1")
    assert status.Status == 0, status
    association.release()
    action = Dataset()
    action.TransactionUID = "1.2.9.2"
    action.ReferencedSOPSequence = [reference(uid) for uid in uids]
    association = associate(node, COMMITMENT)
    status, _ = association.send_n_action(action, 1, COMMITMENT, COMMITMENT_INSTANCE)
    assert status.Status == 0, status
    association.abort()  # so that the report needs an association of its own


def test_a_step_says_what_has_arrived_and_a_commitment_how_it_goes(
    page, url, local, tmp_path, shoot
):
    for file in sorted(write_all(tmp_path / "objects").glob("ct*.dcm")):
        assert page.request.post(f"{url}/api/instances", data=file.read_bytes()).ok
    page.goto(f"{url}/procedure-steps")
    expect(page.locator("#steps")).to_contain_text("No device has reported")
    perform(local, [f"{CT_SERIES}.{number}" for number in range(1, 15)])

    page.reload()
    row = page.locator("#steps tr")
    expect(row).to_contain_text("in progress")
    expect(row).to_contain_text("12 of 14")
    shoot("steps")
    row.get_by_role("link", name="Müller").click()
    expect(page.locator("main")).to_contain_text("12 of 14 objects of this step are here.")
    expect(page.locator(".list li")).to_have_text([f"{CT_SERIES}.13", f"{CT_SERIES}.14"])
    shoot("step")
    page.get_by_role("link", name="Show the study").click()
    expect(page.get_by_role("heading", name="Müller, Johanna Dr.")).to_be_visible()

    page.goto(f"{url}/commitments")
    row = page.locator("#commitments tr")
    while "report waits" not in row.inner_text() or "cannot" not in row.inner_text():
        page.wait_for_timeout(100)  # no event tells of it
        page.reload()
    expect(row).to_contain_text("CT1")
    expect(row).to_contain_text("12 of 14 committed")
    row.get_by_text("2 not committed").click()
    expect(row.locator("details")).to_contain_text("no such object is stored here")
    expect(row.locator("details")).to_contain_text(f"{CT_SERIES}.13")
    shoot("commitments")
    row.get_by_role("button", name="Try again").click()
    expect(page.locator(".toast")).to_have_text("The node tries again now.")


def test_the_pages_are_whole_on_a_phone_and_their_fields_have_names(
    page, url, local, tmp_path, shoot
):
    add_item(page, url)
    add_item(page, url, **{"Patient name": "X" * 60, "Patient ID": "9" * 60, "Modality": "MR"})
    step = scheduled_step(ScheduledProcedureStepStartDate="20990302")
    write_file(worklist_dataset(3, step), tmp_path / "worklist" / "one.wl")
    perform(local, [f"{CT_SERIES}.{number}" for number in range(1, 15)])
    page.goto(f"{url}/worklist")
    while not page.locator(".tag", has_text="file").count():
        page.wait_for_timeout(100)  # no event tells of it
        page.reload()
    pages = {
        "worklist": "/worklist",
        "item": "/worklist/items/1",
        "file": "/worklist/items/3",
        "new": "/worklist/new",
        "steps": "/procedure-steps",
        "step": "/procedure-steps/1.2.9.1",
        "commitments": "/commitments",
    }
    for name, path in pages.items():
        page.goto(f"{url}{path}")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(WIDE) <= width, path
            assert page.evaluate(UNNAMED) == [], path
            assert page.locator("h1").count() == 1, path
            for scheme in ("dark", "light"):
                page.emulate_media(color_scheme=scheme)
                shoot(f"{name}-{scheme}-{width}")
