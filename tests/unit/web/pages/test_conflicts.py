"""Studies and objects that disagree about a patient: each is shown as it came, with a mark."""

from __future__ import annotations

import io
import re

from tests.support.web_objects import CT_CLASS, new

NUMBERS = iter(range(1, 1000))


def upload(client, study, series="", instance="", **values):
    """Store an object of a study; the answer."""
    series = series or f"{study}.1"
    dataset = new(CT_CLASS, instance or f"1.9.{next(NUMBERS)}", study, series, **values)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return client.post("/api/instances", content=content.getvalue())


def rows(client):
    return {row["study_instance_uid"]: row for row in client.get("/api/studies").json()["rows"]}


def marks(client):
    """The studies that the list marks."""
    page = client.get("/").text
    return re.findall(
        r'data-href="/studies/([\d.]+)[^"]*"(?:(?!</tr>).)*patient\?', page, re.DOTALL
    )


def test_studies_without_patient_id_are_shown_and_found_by_their_own_names(client):
    upload(client, "1.1", PatientID="", PatientName="Alpha^A")
    upload(client, "1.2", PatientID="", PatientName="Beta^B")

    assert {uid: row["patient_name"] for uid, row in rows(client).items()} == {
        "1.1": "Alpha^A",
        "1.2": "Beta^B",
    }
    found = client.get("/api/studies", params={"q": "beta"}).json()["rows"]
    assert [row["study_instance_uid"] for row in found] == ["1.2"]
    assert "Beta, B" in client.get("/studies/1.2").text
    assert marks(client) == []


def test_other_names_under_one_patient_id_are_marked_and_named(client):
    upload(client, "1.1", PatientID="P1", PatientName="Doe^Jane", PatientBirthDate="19700101")
    upload(client, "1.2", PatientID="P1", PatientName="<b>Roe</b>^Richard")

    assert sorted(marks(client)) == ["1.1", "1.2"]
    page = client.get("/studies/1.2").text
    assert "name different patients" in page
    assert "Doe, Jane, born 1970-01-01" in page
    assert "&lt;b&gt;Roe" in page
    (patient,) = client.get("/api/patients", params={"q": "richard"}).json()["rows"]
    assert (patient["number_of_studies"], patient["has_conflict"]) == (2, True)


def test_another_name_inside_a_study_is_marked(client):
    upload(client, "1.1", PatientID="P1", PatientName="Doe^Jane")
    upload(client, "1.1", PatientID="P1", PatientName="Roe^Richard")

    assert marks(client) == ["1.1"]
    assert "Objects of this study name another patient" in client.get("/studies/1.1").text


def test_a_study_uid_of_two_patients_leads_to_each(client):
    upload(client, "1.1", PatientID="P1", PatientName="Doe^Jane")
    upload(client, "1.1", PatientID="P2", PatientName="Roe^Richard")

    paths = re.findall(r'data-href="(/studies/1\.1\?key=\d+)"', client.get("/").text)
    pages = [client.get(path).text for path in paths]
    assert sorted(re.search(r"<h1>(.*?)</h1>", page)[1] for page in pages) == [
        "Doe, Jane",
        "Roe, Richard",
    ]
    for page, other in zip(pages, reversed(paths), strict=True):
        assert f'href="{other}"' in page
    assert client.post(f"{paths[0].replace('?', '/delete?')}").status_code in (200, 204)
    (left,) = client.get("/api/studies").json()["rows"]
    assert left["shares_uid"] is False


def test_a_series_uid_of_two_studies_leads_to_each(client):
    upload(client, "1.1", "1.9", PatientID="P1", Modality="CT")
    upload(client, "1.2", "1.9", PatientID="P2", Modality="MR")

    for study in ("1.1", "1.2"):
        (series,) = client.get(f"/api/studies/{study}/series").json()
        assert series["shares_uid"] is True
        path = f"/viewer/1.9?key={series['key']}"
        assert path in client.get(f"/studies/{study}").text
        assert f'href="/studies/{study}"' in client.get(path).text
        listed = client.get("/api/series/1.9/instances", params={"key": series["key"]}).json()
        assert len(listed["rows"]) == 1


def test_an_instance_uid_in_use_elsewhere_is_a_conflict(client):
    upload(client, "1.1", instance="1.8", PatientID="P1")
    answer = upload(client, "1.2", instance="1.8", PatientID="P1")

    assert answer.status_code == 409
    assert "in use in series 1.1.1 of study 1.1" in answer.json()["detail"]
