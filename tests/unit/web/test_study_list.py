"""The list of studies by API and page: parameters, labels, ZIPs, the table, selections."""

from __future__ import annotations

import csv
import io
import zipfile
from urllib.parse import quote

import pydicom
import pytest

from lfscp.archive.index.browsing.study_pages import ORDERS
from lfscp.web.actions import cursors
from tests.support.web_objects import CT_SERIES, CT_STUDY, LOOP_INSTANCE, LOOP_SERIES, LOOP_STUDY


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code >= 400
    return answer.json()["detail"]


def uids(answer):
    return [row["study_instance_uid"] for row in answer.json()["rows"]]


def keys(client):
    rows = client.get("/api/studies?order=date").json()["rows"]
    return {row["study_instance_uid"]: row["key"] for row in rows}


@pytest.mark.parametrize("order", ORDERS)
def test_pages_lead_to_each_other_in_every_order(filled, order):
    first = filled.get(f"/api/studies?limit=1&order={order}").json()
    second = filled.get(f"/api/studies?limit=1&order={order}&after={first['next']}").json()
    back = filled.get(f"/api/studies?limit=1&order={order}&before={second['previous']}").json()

    assert (first["previous"], second["next"]) == (None, None)
    assert first["rows"] == back["rows"]
    assert {row["study_instance_uid"] for page in (first, second) for row in page["rows"]} == {
        CT_STUDY,
        LOOP_STUDY,
    }


def test_matches_are_counted_if_one_asks(filled):
    assert filled.get("/api/studies").json()["count"] is None
    assert filled.get("/api/studies?count=true").json()["count"] == 2
    assert filled.get("/api/studies?count=true&modality=CT").json()["count"] == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("order=size", "expected one of date, name"),
        ("order=name&after=bm9uZQ", "after: take `next`"),
        ("date_from=2024-1-1", "date_from"),
        ("birth_date=January", "birth_date"),
        ("when=yesterday", "when"),
        ("select=1.x", "select"),
        ("page=0", "page"),
    ],
)
def test_a_wrong_parameter_is_named(filled, query, said):
    answer = filled.get(f"/api/studies?{query}")
    assert answer.status_code == 422
    assert said in answer.text
    assert filled.get(f"/?{query}").status_code == 422


def test_a_cursor_of_another_order_is_refused(filled):
    following = filled.get("/api/studies?limit=1&order=date").json()["next"]

    assert "after: take" in problem(filled.get(f"/api/studies?order=name&after={following}"))


def test_a_study_is_found_by_its_label_until_it_goes(filled):
    path = f"/api/studies/{CT_STUDY}/labels"
    assert filled.get(path).json() == {"labels": []}
    assert filled.put(f"{path}/{quote('à  revoir ')}").json()["labels"] == ["à revoir"]
    assert filled.put(f"{path}/teaching").json()["labels"] == ["teaching", "à revoir"]
    assert filled.put(f"{path}/teaching").status_code == 200

    assert filled.get("/api/labels").json() == {"labels": ["teaching", "à revoir"]}
    assert uids(filled.get(f"/api/studies?label={quote('à revoir')}")) == [CT_STUDY]
    assert uids(filled.get("/api/studies?label=teach")) == []
    page = filled.get("/").text
    assert page.count(">teaching</a>") == 1

    assert filled.delete(f"{path}/teaching").json()["labels"] == ["à revoir"]
    assert filled.delete(f"{path}/teaching").status_code == 200
    filled.delete(f"/api/studies/{CT_STUDY}")
    assert filled.get("/api/labels").json() == {"labels": []}


@pytest.mark.parametrize("label", ["%20", "a%09b%00", "x" * 65, "back%5Cslash"])
def test_what_is_no_label_is_refused(filled, label):
    answer = filled.put(f"/api/studies/{CT_STUDY}/labels/{label}")

    assert "a label has" in problem(answer)
    assert answer.status_code == 422
    assert filled.get("/api/labels").json() == {"labels": []}


def test_a_study_has_a_limited_number_of_labels(filled):
    for number in range(50):
        path = f"/api/studies/{CT_STUDY}/labels/{number}"
        assert filled.put(path).status_code == 200
    answer = filled.put(f"/api/studies/{CT_STUDY}/labels/one more")
    assert "at most 50 labels" in problem(answer)
    assert filled.put(f"/api/studies/{CT_STUDY}/labels/7").status_code == 200


def test_nobody_labels_what_is_not_there(filled):
    assert filled.put("/api/studies/1.2.3/labels/x").status_code == 404
    assert filled.get("/api/studies/1.2.3/labels").status_code == 404


def test_html_in_a_label_is_text(filled):
    label = "<b>'\"&"
    filled.post(f"/studies/{CT_STUDY}/label", data={"label": label})

    for path in ("/", f"/studies/{CT_STUDY}"):
        text = filled.get(path).text
        assert "<b>'" not in text
        assert "&lt;b&gt;&#39;&#34;&amp;" in text
    filled.post(f"/studies/{CT_STUDY}/unlabel", data={"label": label})
    assert filled.get("/api/labels").json() == {"labels": []}


@pytest.mark.parametrize(
    ("path", "name", "objects"),
    [
        (f"/api/series/{CT_SERIES}/zip", f"series-{CT_SERIES}", 4),
        (f"/api/series/{LOOP_SERIES}/zip", f"series-{LOOP_SERIES}", 1),
        (f"/api/instances/{LOOP_INSTANCE}/zip", f"instance-{LOOP_INSTANCE}", 1),
        (
            f"/api/zip?study={CT_STUDY}&study={LOOP_STUDY}&study={CT_STUDY}",
            "studies",
            5,
        ),  # the report is too odd for a record
    ],
)
def test_each_level_comes_as_a_zip_with_a_dicomdir(filled, path, name, objects):
    answer = filled.get(path)

    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.zip"'
    packed = zipfile.ZipFile(io.BytesIO(answer.content))
    listed = pydicom.dcmread(io.BytesIO(packed.read("DICOMDIR"))).DirectoryRecordSequence
    files = [
        "/".join(
            [each.ReferencedFileID]
            if isinstance(each.ReferencedFileID, str)
            else each.ReferencedFileID
        )
        for each in listed
        if "ReferencedFileID" in each
    ]
    assert len(files) == objects
    for file, record in zip(
        files, [each for each in listed if "ReferencedFileID" in each], strict=True
    ):
        dataset = pydicom.dcmread(io.BytesIO(packed.read(file)))
        assert dataset.SOPInstanceUID == record.ReferencedSOPInstanceUIDInFile


def test_what_is_not_there_becomes_no_zip(filled):
    for path in ("/api/series/1.2/zip", "/api/instances/1.2/zip", "/api/zip?study=1.2"):
        assert filled.get(path).status_code == 404, path
    assert problem(filled.get("/api/zip")) == "select studies first"
    assert "are not in the archive any more" in problem(filled.get("/api/zip?select=999999"))


def table(answer):
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_the_table_has_what_the_list_has_in_its_order(filled):
    filled.put(f"/api/studies/{CT_STUDY}/labels/=1+1")
    rows = filled.get("/api/studies?order=name").json()["rows"]

    found = table(filled.get("/api/studies.csv?order=name"))

    same = ("patient_name", "patient_id", "study_date", "accession_number", "study_instance_uid")
    assert [[row[name] for name in same] for row in found] == [
        [row[name] for name in same] for row in rows
    ]
    assert {row["labels"] for row in found} == {"", "'=1+1"}
    assert [
        row["study_instance_uid"] for row in table(filled.get("/api/studies.csv?modality=CT"))
    ] == [CT_STUDY]
    assert table(filled.get("/api/studies.csv?q=nobody")) == []
    selected = filled.get(f"/api/studies.csv?select={keys(filled)[LOOP_STUDY]}")
    assert [row["study_instance_uid"] for row in table(selected)] == [LOOP_STUDY]


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("a;=1+1", "a;'=1+1"),  # where a semicolon parts cells
        ('a; "=1+1', "a; \"'=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),  # a wide =
        ("a; b", "a; b"),
        ("a=b-c", "a=b-c"),
    ],
)
def test_no_text_of_the_table_is_a_formula_anywhere(filled, label, written):
    filled.put(f"/api/studies/{CT_STUDY}/labels/{quote(label, safe='')}")
    assert written in {row["labels"] for row in table(filled.get("/api/studies.csv"))}


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
@pytest.mark.parametrize("path", ["/api/studies", "/archive/rows", "/api/patients"])
def test_a_cursor_with_a_text_that_no_database_holds_is_refused(filled, path, text):
    cursors_ = [(text, 1)] if "patients" in path else [(text, "1", 1), ("1", text, 1), (text, 1)]
    answers = [filled.get(f"{path}?order=name&after={cursors.to_text(each)}") for each in cursors_]
    assert {answer.status_code for answer in answers} == {422}


def test_selected_studies_are_protected_together_and_deleted_only_together(filled):
    of = keys(filled)
    both = {"select": f"{of[CT_STUDY]}.{of[LOOP_STUDY]}"}
    filled.post("/archive/protect", data={"select": str(of[CT_STUDY])})

    assert "1 of these studies are protected" in problem(filled.post("/archive/delete", data=both))
    assert filled.get("/api/statistics").json()["studies"] == 2
    assert (
        "no longer protected" in filled.post("/archive/unprotect", data=both).headers["hx-trigger"]
    )
    answer = filled.post("/archive/delete", data=both)
    assert "2 studies deleted with 6 objects" in answer.headers["hx-trigger"]
    assert filled.get("/api/studies").json()["rows"] == []


@pytest.mark.parametrize("act", ["send", "label", "unlabel", "protect", "unprotect", "delete"])
@pytest.mark.parametrize(
    ("select", "status"),
    [("", 422), ("1..2", 422), ("1.a", 422), ("9" * 19, 422), ("999999", 404), ("1." * 600, 422)],
)
def test_a_wrong_selection_changes_nothing(filled, act, select, status):
    form = {"select": select, "peer": "PACS", "label": "x"}

    assert filled.post(f"/archive/{act}", data=form).status_code == status
    assert filled.get("/api/jobs").json() == []
    assert filled.get("/api/statistics").json()["studies"] == 2


def test_a_series_is_handed_to_a_job_that_sends_it(filled):
    job = filled.post("/api/send", json={"peer": "PACS", "series": [CT_SERIES]})

    assert job.status_code == 202
    assert job.json()["parameters"]["series"] == [CT_SERIES]
    assert CT_SERIES in job.json()["description"]
    answer = filled.post(f"/series/{CT_SERIES}/send", data={"peer": "nobody"})
    assert "choose a peer first" in problem(answer)


def test_the_page_goes_to_the_archive_when_the_last_series_is_deleted(filled):
    series = [
        row["series_instance_uid"] for row in filled.get(f"/api/studies/{LOOP_STUDY}/series").json()
    ]
    answers = [filled.post(f"/series/{each}/delete") for each in series]

    assert [answer.headers.get("hx-refresh") for answer in answers] == ["true", None]
    assert answers[-1].headers["hx-redirect"] == "/"
    assert filled.post(f"/series/{LOOP_SERIES}/delete").status_code == 404
