"""What people see and do at the page is in the audit trail, with their name, once each."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from lfscp.config.passwords import hash_password
from tests.support.web_app import serving
from tests.support.web_objects import CT_CLASS, CT_STUDY, new

pytestmark = pytest.mark.usefixtures("quick_passwords")


def told(trail: Path) -> list[tuple[str, str, str]]:
    """(EventID, who, how or why) of each record."""
    found = []
    for line in trail.read_text().splitlines():
        message: dict[str, Any] = json.loads(line)
        event = message["EventIdentification"]
        details = [
            detail["value"]
            for part in message["ParticipantObjectIdentification"]
            for detail in part.get("ParticipantObjectDetail", ())
            if detail["type"] == "access"
        ]
        who = message["ActiveParticipant"][0]["UserID"]
        found.append((event["EventID"]["csd-code"], who, "".join(details)))
    return found


def test_each_way_of_looking_is_one_record_per_person(
    trail: Path, tmp_path: Path, files: Path
) -> None:
    web = {"users": [f"jane:{hash_password('secret')}"]}
    with serving(tmp_path / "data", web=web) as client:
        ct = sorted(files.glob("ct*.dcm"))[0]
        client.auth = ("jane", "secret")
        uid = client.post("/api/instances", content=ct.read_bytes()).json()["sop_instance_uid"]
        for _ in range(2):
            assert client.get(f"/studies/{CT_STUDY}").status_code == 200
            for part in ("frames/1", "thumbnail", "file", "elements"):
                assert client.get(f"/api/instances/{uid}/{part}").status_code == 200
        assert client.delete(f"/api/studies/{CT_STUDY}").status_code == 200
        client.auth = ("jane", "wrong")
        assert client.get("/api/studies").status_code == 401
    assert told(trail) == [
        ("110104", "jane", ""),
        ("110103", "jane", "page"),
        ("110103", "jane", "picture"),
        ("110103", "jane", "file"),
        ("110103", "jane", "elements"),
        ("110105", "jane", ""),
        ("110114", "jane", ""),
    ]


def patients_told(trail: Path, event: str) -> list[tuple[str, str]]:
    """The Patient IDs and names in the records of an event, in their order."""
    messages = map(json.loads, trail.read_text().splitlines())
    return [
        (part["ParticipantObjectID"], part["ParticipantObjectName"])
        for message in messages
        if message["EventIdentification"]["EventID"]["csd-code"] == event
        for part in message["ParticipantObjectIdentification"]
        if part["ParticipantObjectTypeCode"] == "1"
    ]


def test_each_record_names_the_patient_concerned_where_two_share_a_study_uid(
    trail: Path, tmp_path: Path
) -> None:
    doe, roe = ("P1", "Doe^Jane"), ("P2", "Roe^Richard")
    with serving(tmp_path / "data") as client:
        for number, (patient_id, name) in enumerate((doe, roe, doe), 1):
            named = {"PatientID": patient_id, "PatientName": name}
            content = BytesIO()
            dataset = new(CT_CLASS, f"1.1.1.{number}", "1.1", "1.1.1", **named)
            dataset.save_as(content, enforce_file_format=True)
            client.post("/api/instances", content=content.getvalue())
        rows = client.get("/api/studies").json()["rows"]
        keys = {row["patient_id"]: row["key"] for row in rows}
        for patient_id in ("P2", "P1"):
            assert client.get(f"/studies/1.1?key={keys[patient_id]}").status_code == 200
        client.get("/instances/1.1.1.2")
        client.get("/api/instances/1.1.1.1/file")
        client.get("/api/instances/1.1.1.2/file")
    assert patients_told(trail, "110104") == [doe, roe, doe]
    assert patients_told(trail, "110103") == [roe, doe, roe, doe, roe]


def test_logins_and_logouts_are_told(trail: Path, tmp_path: Path) -> None:
    web = {"users": [f"jane:{hash_password('secret')}"]}
    with serving(tmp_path / "data", web=web) as client:
        client.post("/login", data={"name": "jane", "password": "guess"})
        client.post("/login", data={"name": "jane", "password": "secret"})
        page = client.get("/").text
        token = page.split('data-csrf="')[1].split('"')[0]
        client.post("/logout", headers={"X-CSRF-Token": token})
    outcomes = [json.loads(line)["EventIdentification"] for line in trail.read_text().splitlines()]
    assert [
        (each["EventTypeCode"][0]["originalText"], each["EventOutcomeIndicator"])
        for each in outcomes
    ] == [("Login", 4), ("Login", 0), ("Logout", 0)]
