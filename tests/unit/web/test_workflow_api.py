"""The API of the modality workflow: worklist, performed procedure steps, commitments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom.dataset import Dataset

from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.dicom.models.json_writer import to_json
from lfscp.observe import audit
from lfscp.web.api.workflow_models import EXAMPLE, SHORT_EXAMPLE
from lfscp.web.security.bodies import MAX_BODY_BYTES
from tests.support.element_trees import tree_of
from tests.support.web_objects import CT_CLASS, CT_SERIES, CT_STUDY
from tests.support.worklist_items import scheduled_step, worklist_dataset, worklist_tree

JSON = {"Content-Type": "application/dicom+json"}


def item(number: int = 1, *steps: Dataset, **values: Any) -> dict[str, Any]:
    return to_json(worklist_tree(number, *steps, **values))


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert "Error" not in body["detail"]
    return body


def added(client: TestClient, document: Any) -> int:
    answer = client.post("/api/worklist", content=json.dumps(document), headers=JSON)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def numbers(client: TestClient, **query: Any) -> list[int]:
    answer = client.get("/api/worklist", params=query)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["rows"]]


def test_an_item_is_added_read_replaced_and_removed(client: TestClient) -> None:
    answer = client.post("/api/worklist", json=item(PatientName="Müller^Jörg=山田^太郎"))
    place = answer.headers["location"]
    read = client.get(place).json()
    changed = client.put(place, json=item(PatientName="Doe^John"))
    removed = client.delete(place)

    assert answer.status_code == 201
    assert answer.json() == {"id": 1}
    assert place == "/api/worklist/1"
    assert (read["id"], read["source"], read["is_read_only"]) == (1, "api", False)
    assert read["created_at"] == read["updated_at"] > 0
    assert read["dataset"]["00100010"]["Value"] == [
        {"Alphabetic": "Müller^Jörg", "Ideographic": "山田^太郎"}
    ]
    step = read["dataset"]["00400100"]["Value"][0]
    assert step["00400020"] == {"vr": "CS", "Value": ["SCHEDULED"]}
    assert changed.status_code == 200
    assert changed.json()["dataset"]["00100010"]["Value"] == [{"Alphabetic": "Doe^John"}]
    assert (removed.status_code, removed.content) == (204, b"")
    assert client.get(place).status_code == 404


@pytest.mark.parametrize("document", [EXAMPLE, [EXAMPLE], SHORT_EXAMPLE])
def test_the_examples_of_the_documentation_are_items(client: TestClient, document: Any) -> None:
    dataset = client.get(f"/api/worklist/{added(client, document)}").json()["dataset"]

    assert dataset["00100010"]["Value"] == [{"Alphabetic": "DOE^JANE"}]
    assert dataset["0020000D"]["Value"][0].startswith("2.25.")
    assert dataset["00400100"]["Value"][0]["00400001"]["Value"] == ["CT1"]


def test_identifiers_and_states_that_a_new_dataset_lacks_stay(client: TestClient) -> None:
    number = added(client, item(1, scheduled_step(ScheduledProcedureStepStatus="ARRIVED")))
    before = client.get(f"/api/worklist/{number}").json()["dataset"]
    changed = client.put(f"/api/worklist/{number}", json=SHORT_EXAMPLE).json()["dataset"]

    assert changed["0020000D"] == before["0020000D"]
    (step,) = changed["00400100"]["Value"]
    assert step["00400009"] == before["00400100"]["Value"][0]["00400009"]
    assert step["00400020"]["Value"] == ["ARRIVED"]


def without(keyword: str) -> dict[str, Any]:
    dataset = worklist_dataset()
    place = dataset.ScheduledProcedureStepSequence[0]
    delattr(place if keyword in place else dataset, keyword)
    return to_json(tree_of(dataset))


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientID",
        "Modality",
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "ScheduledProcedureStepSequence",
    ],
)
def test_what_an_item_lacks_is_named(client: TestClient, keyword: str) -> None:
    body = problem(client.post("/api/worklist", json=without(keyword)), 422)

    assert body["detail"].startswith(f"{keyword} is missing")
    assert body["errors"][0]["keyword"] == keyword
    assert numbers(client) == []


WRONG_DATE = {
    **SHORT_EXAMPLE,
    "ScheduledProcedureStepSequence": [{"ScheduledProcedureStepStartDate": "soon"}],
}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"", 422, "required"),
        (b"\xff\xfe", 400, ""),
        (b"[" * 100_000, 413, "values"),
        (b"[" * 20_000, 400, ""),
        (b'"item"', 422, "expected an object"),
        (b"null", 422, ""),
        (b"[]", 422, "one item at a time"),
        (json.dumps([EXAMPLE, EXAMPLE]).encode(), 422, "the list has 2"),
        (b"{}", 422, "PatientName is missing"),
        (b'{"PatientAge": NaN}', 422, "PatientAge: expected a text"),
        (b'{"PatientWeight": 1e999}', 422, "PatientWeight: the number is too large"),
        (b'{"PatientID": "\\ud800"}', 422, "PatientID: half of a surrogate pair"),
        (b'{"PatientID": {"vr": "LO", "BulkDataURI": "file:///etc/passwd"}}', 422, "BulkDataURI"),
        (json.dumps(WRONG_DATE).encode(), 422, "ScheduledProcedureStepStartDate: expected a date"),
    ],
)
def test_what_is_no_item_is_refused_with_the_reason(
    client: TestClient, body: bytes, status: int, says: str
) -> None:
    answer = problem(client.post("/api/worklist", content=body, headers=JSON), status)

    assert says in answer["detail"]
    assert numbers(client) == []


def test_an_item_that_is_nested_too_deep_is_refused_and_the_others_are_listed(
    client: TestClient,
) -> None:
    kept = added(client, item())
    deep: dict[str, Any] = {}
    for _ in range(51):
        deep = {"RequestedProcedureCodeSequence": [deep]}

    body = problem(client.post("/api/worklist", json=item() | deep), 422)

    assert "nested more than 50 deep" in body["detail"]
    assert numbers(client) == [kept]


def test_half_a_character_in_a_name_is_refused(client: TestClient) -> None:
    answer = client.post("/api/worklist", content=b'{"\\ud800<": 1}', headers=JSON)

    body = problem(answer, 422)
    assert body["detail"] == "?<: no attribute has this keyword or tag"
    assert body["errors"][0]["pointer"] == "/?<"


def test_a_wrong_value_is_named_by_its_place(client: TestClient) -> None:
    body = problem(client.post("/api/worklist", json=WRONG_DATE), 422)

    assert body["errors"] == [
        {
            "pointer": "/ScheduledProcedureStepSequence/0/ScheduledProcedureStepStartDate",
            "detail": "ScheduledProcedureStepStartDate: expected a date YYYYMMDD",
        }
    ]


def test_a_text_that_is_sent_as_no_json_is_refused(client: TestClient) -> None:
    body = json.dumps(EXAMPLE)
    answer = client.post("/api/worklist", content=body, headers={"Content-Type": "text/plain"})

    assert "application/dicom+json" in problem(answer, 415)["detail"]


def test_a_body_of_two_megabytes_is_too_long(client: TestClient) -> None:
    document = {**EXAMPLE, "00104000": {"vr": "LT", "Value": ["x" * (2 << 20)]}}
    answer = client.post("/api/worklist", json=document)

    assert str(MAX_BODY_BYTES) in problem(answer, 413)["detail"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(("number", "status"), [("7", 404), ("x", 422), (str(2**63), 422)])
def test_an_item_that_does_not_exist(
    client: TestClient, method: str, number: str, status: int
) -> None:
    content = {"json": EXAMPLE} if method == "PUT" else {}
    problem(client.request(method, f"/api/worklist/{number}", **content), status)


def test_the_item_of_a_file_is_changed_in_its_file_only(client: TestClient) -> None:
    worklist = client.app.state.web.worklist  # type: ignore[attr-defined]
    number = worklist.put("folder:n1", "a.wl", worklist_tree())

    assert client.get(f"/api/worklist/{number}").json()["is_read_only"] is True
    for answer in (
        client.put(f"/api/worklist/{number}", json=EXAMPLE),
        client.delete(f"/api/worklist/{number}"),
    ):
        assert "the file a.wl" in problem(answer, 409)["detail"]
    assert numbers(client) == [number]


def test_items_are_filtered_and_paged(client: TestClient) -> None:
    for number, station, modality, day in (
        (1, "CT01", "CT", "20261203"),
        (2, "MR01", "MR", "20261201"),
        (3, "CT01", "CT", "20261202"),
    ):
        step = scheduled_step(
            ScheduledStationAETitle=station,
            Modality=modality,
            ScheduledProcedureStepStartDate=day,
        )
        added(client, item(number, step))
    first = client.get("/api/worklist?limit=2").json()

    assert numbers(client) == [2, 3, 1]
    assert [row["id"] for row in first["rows"]] == [2, 3]
    assert numbers(client, limit=2, after=first["next"]) == [1]
    assert numbers(client, station="CT01") == [3, 1]
    assert numbers(client, modality="MR") == [2]
    assert numbers(client, date_from="20261202", date_to="20261202") == [3]
    assert numbers(client, date_from="20261202") == [3, 1]
    assert numbers(client, date_to="20261202") == [2, 3]
    assert numbers(client, q="P2") == [2]
    assert numbers(client, status="STARTED") == []
    assert numbers(client, status=["STARTED", "SCHEDULED"]) == [2, 3, 1]
    assert "`next`" in problem(client.get("/api/worklist?after=x"), 422)["detail"]
    problem(client.get("/api/worklist?status=LATE"), 422)


def test_what_people_do_is_in_the_audit_trail(client: TestClient, tmp_path: Any) -> None:
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        number = added(client, item())
        client.put(f"/api/worklist/{number}", json=item(PatientID="P9"))
        client.delete(f"/api/worklist/{number}")
        client.delete(f"/api/worklist/{number}")
    finally:
        audit.stop()
    records = [json.loads(line) for line in trail.read_text().splitlines()]

    assert [
        (
            each["EventIdentification"]["EventID"]["csd-code"],
            each["EventIdentification"]["EventActionCode"],
            each["ParticipantObjectIdentification"][1]["ParticipantObjectID"],
        )
        for each in records
    ] == [
        ("110111", "C", "P1"),
        ("110111", "U", "P1"),
        ("110111", "U", "P9"),
        ("110111", "D", "P9"),
    ]


def performed(status: str = "IN PROGRESS", uids: tuple[str, ...] = ()) -> Dataset:
    """A step of the CT study of the page's files, after PS3.4 table F.7.2-1."""
    step = Dataset()
    scheduled = Dataset()
    scheduled.StudyInstanceUID = CT_STUDY
    scheduled.ReferencedStudySequence = []
    scheduled.AccessionNumber = "A-10442"
    scheduled.RequestedProcedureID = "R1"
    scheduled.RequestedProcedureDescription = "Thorax"
    scheduled.ScheduledProcedureStepID = "S1"
    scheduled.ScheduledProcedureStepDescription = ""
    scheduled.ScheduledProtocolCodeSequence = []
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName, step.PatientID = "Müller^Johanna^^Dr.", "P-0007"
    step.PatientBirthDate, step.PatientSex = "19610312", "F"
    step.ReferencedPatientSequence = []
    step.PerformedProcedureStepID = "PP1"
    step.PerformedStationAETitle, step.PerformedStationName = "CT01", ""
    step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate = "20240517"
    step.PerformedProcedureStepStartTime = "093000"
    step.PerformedProcedureStepStatus = status
    step.PerformedProcedureStepDescription = "CT Thorax"
    step.PerformedProcedureTypeDescription = ""
    step.ProcedureCodeSequence = []
    step.PerformedProcedureStepEndDate = step.PerformedProcedureStepEndTime = ""
    step.Modality, step.StudyID = "CT", "1"
    step.PerformedProtocolCodeSequence = []
    step.PerformedSeriesSequence = [series(uids)] if uids else []
    return step


def series(uids: tuple[str, ...]) -> Dataset:
    made = Dataset()
    made.PerformingPhysicianName = made.OperatorsName = ""
    made.ProtocolName, made.SeriesInstanceUID = "Thorax", CT_SERIES
    made.SeriesDescription = made.RetrieveAETitle = ""
    made.ReferencedImageSequence = [Dataset() for _ in uids]
    for reference, uid in zip(made.ReferencedImageSequence, uids, strict=True):
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT_CLASS, uid
    made.ReferencedNonImageCompositeSOPInstanceSequence = []
    return made


def test_steps_say_what_has_arrived(filled: TestClient) -> None:
    steps = filled.app.state.web.procedure_steps  # type: ignore[attr-defined]
    uids = tuple(f"{CT_SERIES}.{number}" for number in (1, 2, 77))
    steps.create("1.2.9.1", tree_of(performed(uids=uids)), "CT01")
    steps.create("1.2.9.2", tree_of(performed()), "CT01")
    rows = filled.get("/api/mpps").json()["rows"]
    one = filled.get("/api/mpps/1.2.9.1").json()

    assert [row["sop_instance_uid"] for row in rows] == ["1.2.9.2", "1.2.9.1"]
    assert [(row["arrived"], row["objects"]) for row in rows] == [(0, 0), (2, 3)]
    assert one["missing"] == [f"{CT_SERIES}.77"]
    assert (one["status"], one["study_instance_uid"]) == ("IN PROGRESS", CT_STUDY)
    assert one["dataset"]["00400241"] == {"vr": "AE", "Value": ["CT01"]}
    assert filled.get("/api/mpps?status=COMPLETED").json()["rows"] == []
    assert len(filled.get(f"/api/mpps?study={CT_STUDY}&q=müller").json()["rows"]) == 2
    first = filled.get("/api/mpps?limit=1").json()
    following = filled.get("/api/mpps", params={"limit": 1, "after": first["next"]}).json()
    assert [row["sop_instance_uid"] for row in following["rows"]] == ["1.2.9.1"]
    assert following["next"] is None
    problem(filled.get("/api/mpps/1.2.3"), 404)
    problem(filled.get("/api/mpps?status=LATE"), 422)


def test_commitments_say_how_they_go_and_are_reported_again(client: TestClient) -> None:
    index = client.app.state.web.archive.index  # type: ignore[attr-defined]
    node = Commitments(index, "LFSCP")
    references = [Reference(CT_CLASS, f"1.2.{number}") for number in range(3)]
    for uid in ("1.2.9.1", "1.2.9.2"):
        node.add(
            uid,
            references,
            calling_ae_title="CT01",
            called_ae_title="LFSCP",
            peer_address="10.0.0.7",
        )
    node.verified(1, [Failure(CT_CLASS, "1.2.1", 0x0112)])
    node.put_off(1, "the peer has no address here", None)
    rows = client.get("/api/commitments").json()["rows"]
    one = client.get("/api/commitments/1").json()
    again = client.post("/api/commitments/1/retry")

    assert [(row["id"], row["state"]) for row in rows] == [(2, "received"), (1, "failed")]
    assert (rows[1]["instances"], rows[1]["failed"], rows[1]["attempts"]) == (3, 1, 1)
    assert rows[1]["reason"] == "the peer has no address here"
    assert (rows[1]["calling_ae_title"], rows[1]["peer_address"]) == ("CT01", "10.0.0.7")
    assert rows[1]["next_attempt_at"] is None
    assert rows[0]["next_attempt_at"] > 0
    assert one["failures"] == [
        {
            "sop_class_uid": CT_CLASS,
            "sop_instance_uid": "1.2.1",
            "failure_reason": 0x0112,
            "reason": "no such object is stored here",
        }
    ]
    assert again.json()["state"] == "verified"
    assert again.json()["next_attempt_at"] > 0
    assert [row["id"] for row in client.get("/api/commitments?state=verified").json()["rows"]] == [
        1
    ]
    assert "being verified" in problem(client.post("/api/commitments/2/retry"), 409)["detail"]
    problem(client.post("/api/commitments/9/retry"), 404)
    problem(client.get("/api/commitments/9"), 404)
    problem(client.get("/api/commitments?state=late"), 422)
