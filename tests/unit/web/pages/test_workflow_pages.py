"""The pages of the modality workflow: what they show, what their forms do."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.archive.workflow.worklist.item import STATUS, STEPS, STUDY_INSTANCE_UID
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.models.element_tree import Tree
from tests.support.web_objects import CT_CLASS, EVIL_NAME
from tests.support.worklist_items import scheduled_step, worklist_tree

FORM = {
    "PatientID": "P1",
    "PatientName": "Doe, Jane",
    "PatientBirthDate": "1970-01-31",
    "PatientSex": "F",
    "AccessionNumber": "A1",
    "RequestedProcedureID": "",
    "RequestedProcedureDescription": "CT chest",
    "ReferringPhysicianName": "Grey^Meredith",
    "step0.Modality": "ct",
    "step0.ScheduledStationAETitle": "CT1, CT2",
    "step0.ScheduledProcedureStepStartDate": "2026-12-01",
    "step0.ScheduledProcedureStepStartTime": "09:30",
    "step0.ScheduledProcedureStepDescription": "",
}
INPUT = re.compile(r'<input name="([^"]+)" value="([^"]*)"')
HIDDEN = re.compile(r'name="updated_at" value="(\d+)"')


@pytest.fixture
def worklist(client: TestClient) -> Worklist:
    found: Worklist = client.app.state.web.worklist  # type: ignore[attr-defined]
    return found


def text(client: TestClient, path: str) -> str:
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def dataset(worklist: Worklist, item_id: int) -> Tree:
    item = worklist.get(item_id)
    assert item is not None
    return item.dataset


def fields_of(page: str) -> dict[str, str]:
    """What a browser would send of the form of an item."""
    fields = {name: html.unescape(value) for name, value in INPUT.findall(page)}
    return fields | {"updated_at": HIDDEN.findall(page)[0]}


def test_what_a_person_writes_becomes_an_item(client: TestClient, worklist: Worklist) -> None:
    answer = client.post("/worklist", data=FORM)
    item = dataset(worklist, 1)
    (step,) = item.sequence(STEPS)

    assert answer.headers["HX-Redirect"] == "/worklist/items/1"
    assert item.text(0x00100010) == "Doe^Jane"
    assert item.text(0x00100030) == "19700131"
    assert item.text(0x00080090) == "Grey^Meredith"
    assert item.text(0x00401001).startswith("RP")
    assert step.text(0x00080060) == "CT"
    assert step.texts(0x00400001) == ["CT1", "CT2"]
    assert (step.text(0x00400002), step.text(0x00400003)) == ("20261201", "0930")
    assert step.text(STATUS) == "SCHEDULED"
    assert client.get("/api/worklist/1").json()["source"] == "page"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("PatientID", "", "Patient ID is missing"),
        ("PatientName", "", "Patient Name is missing"),
        ("step0.Modality", "", "Modality is missing"),
        ("step0.ScheduledStationAETitle", " , ", "Scheduled Station AE Title"),
        ("PatientBirthDate", "31.1.1970", "Patient Birth Date: expected a date"),
        ("AccessionNumber", "x" * 17, "Accession Number: at most 16 characters"),
        ("step0.Modality", "Röntgen", "Modality: only capitals"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_words(
    client: TestClient, worklist: Worklist, field: str, value: str, says: str
) -> None:
    answer = client.post("/worklist", data=FORM | {field: value}, headers={"HX-Request": "true"})

    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert worklist.items() == []


def test_saving_what_nobody_changed_changes_nothing(client: TestClient, worklist: Worklist) -> None:
    before = worklist_tree(
        1,
        scheduled_step(ScheduledProcedureStepStartTime="093015"),
        scheduled_step(ScheduledProcedureStepID="S2", ScheduledStationAETitle=["A", "B"]),
        PatientName="Doe^Jane=山田^太郎",
        PatientComments="kept",
        RequestedProcedureDescription="Head\x07 and \u202eneck",
    )
    number = worklist.add(before)
    stored = dataset(worklist, number)
    page = text(client, f"/worklist/items/{number}")
    saved = client.post(f"/worklist/items/{number}", data={**fields_of(page), "PatientSex": "F"})

    assert json.loads(saved.headers["HX-Trigger"])["toast"]["text"] == "The item was changed."
    assert "step1.Modality" in saved.text
    assert dataset(worklist, number) == stored


def test_a_change_keeps_what_the_form_does_not_show(client: TestClient, worklist: Worklist) -> None:
    number = worklist.add(worklist_tree(PatientComments="kept"))
    study_uid = dataset(worklist, number).text(STUDY_INSTANCE_UID)
    fields = fields_of(text(client, f"/worklist/items/{number}"))
    changed = {"PatientName": "Doe^Joan", "step0.ScheduledProcedureStepStartTime": "11:45"}
    client.post(f"/worklist/items/{number}", data=fields | changed).raise_for_status()
    item = dataset(worklist, number)

    assert item.text(0x00100010) == "Doe^Joan"
    assert item.text(0x00104000) == "kept"
    assert item.text(STUDY_INSTANCE_UID) == study_uid
    assert item.sequence(STEPS)[0].text(0x00400003) == "1145"
    assert item.sequence(STEPS)[0].text(0x00400009) == "S1"


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(
    client: TestClient, worklist: Worklist
) -> None:
    number = worklist.add(worklist_tree())
    fields = fields_of(text(client, f"/worklist/items/{number}"))
    path = f"/worklist/items/{number}"
    answer = client.post(path, data=fields | {"updated_at": "1", "PatientID": "P9"})

    assert answer.status_code == 409
    assert "changed by somebody else" in answer.json()["detail"]
    assert dataset(worklist, number).text(0x00100020) == "P1"


def test_the_list_shows_items_from_today_on_unless_told_otherwise(
    client: TestClient, worklist: Worklist
) -> None:
    def day(number: int, date: str) -> Tree:
        step = scheduled_step(ScheduledProcedureStepStartDate=date)
        return worklist_tree(number, step, PatientName=f"Doe{number}")

    worklist.add(day(1, "20200101"))
    worklist.add(day(2, "29991231"))
    shown = {
        path: re.findall(r'href="/worklist/items/\d+">(Doe\d)', text(client, path))
        for path in (
            "/worklist",
            "/worklist?from=",
            "/worklist?from=2020-01-01&to=2020-01-01",
            "/worklist/rows?q=doe2",
            "/worklist/rows?status=STARTED",
            "/worklist/rows?station=CT01&modality=CT",
        )
    }

    assert list(shown.values()) == [
        ["Doe2"],
        ["Doe1", "Doe2"],
        ["Doe1"],
        ["Doe2"],
        [],
        ["Doe1", "Doe2"],
    ]


def test_the_list_goes_on_where_a_page_ends(client: TestClient, worklist: Worklist) -> None:
    worklist.put_all("api", [(str(number), worklist_tree(number), "") for number in range(61)])
    first = text(client, "/worklist/rows?modality=CT")
    (following,) = re.findall(r'hx-get="(/worklist/rows\?[^"]+)"', first)
    second = text(client, html.unescape(following))

    assert first.count("<tr ") == 60
    assert second.count("<tr ") == 1
    assert "hx-get" not in second


def test_an_empty_worklist_says_what_to_do(client: TestClient) -> None:
    assert "The worklist is empty." in text(client, "/worklist/rows")
    assert 'href="/worklist/new"' in text(client, "/worklist/rows")
    assert "No item matches." in text(client, "/worklist/rows?q=nobody")
    assert "No device has reported a procedure step." in text(client, "/procedure-steps")
    assert "No device has asked for storage commitment." in text(client, "/commitments")


def test_the_item_of_a_file_is_only_shown(client: TestClient, worklist: Worklist) -> None:
    number = worklist.put("folder:n1", "a.wl", worklist_tree())
    page = text(client, f"/worklist/items/{number}")
    row = text(client, "/worklist/rows")

    assert "comes from the file <code>a.wl</code>" in page
    assert "Save" not in page
    assert "<select name" not in page
    assert "readonly" in page
    assert ">file</span>" in row
    assert "Remove" not in row
    for path in ("", "/remove"):
        updated_at = worklist.items()[0].updated_at
        form = {"updated_at": str(updated_at)}
        assert client.post(f"/worklist/items/{number}{path}", data=form).status_code == 409


def test_an_item_is_removed_from_the_list_or_from_its_page(
    client: TestClient, worklist: Worklist
) -> None:
    one, two = worklist.add(worklist_tree(1)), worklist.add(worklist_tree(2))
    from_list = client.post(f"/worklist/items/{one}/remove")
    from_page = client.post(f"/worklist/items/{two}/remove?then=list")

    assert (from_list.status_code, from_list.text) == (200, "")
    assert from_page.headers["HX-Redirect"] == "/worklist"
    assert worklist.items() == []
    assert client.get(f"/worklist/items/{one}").status_code == 404


def test_html_in_an_item_is_text(client: TestClient, worklist: Worklist) -> None:
    step = scheduled_step(ScheduledProcedureStepDescription=EVIL_NAME)
    number = worklist.add(worklist_tree(1, step, PatientName=EVIL_NAME, PatientID='X"><b>'))
    for path in ("/worklist?from=", f"/worklist/items/{number}"):
        page = text(client, path)
        assert "<script>alert" not in page
        assert '"><b>' not in page


@pytest.mark.parametrize(
    "path",
    [
        "/worklist/rows?after=x",
        "/worklist/rows?q=" + "x" * 300,
        "/procedure-steps/rows?after=x",
        "/procedure-steps/rows?q=" + "x" * 300,
        "/commitments/rows?after=x",
        "/worklist/items/x",
    ],
)
def test_nonsense_is_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 422


def test_commitments_show_who_asked_what_failed_and_why(client: TestClient) -> None:
    index: Any = client.app.state.web.archive.index  # type: ignore[attr-defined]
    node = Commitments(index, "LFSCP")
    references = [Reference(CT_CLASS, f"1.2.{number}") for number in range(3)]
    node.add("1.2.9.1", references, calling_ae_title="CT01", called_ae_title="LFSCP")
    node.verified(1, [Failure(CT_CLASS, "1.2.1", 0x0112)])
    node.put_off(1, "no peer of this title has an address", None)
    page = text(client, "/commitments")
    failures = text(client, "/commitments/1/failures")
    again = client.post("/commitments/1/retry")

    assert "CT01" in page
    assert "2 of 3 committed" in page
    assert "no peer of this title has an address" in page
    assert "Try again" in page
    assert "no such object is stored here" in failures
    assert "1.2.1" in failures
    assert "report waits" in again.text
    assert json.loads(again.headers["HX-Trigger"])["toast"]["text"] == "The node tries again now."
    assert "No commitment is in this state." in text(client, "/commitments?state=failed")
