"""QIDO-RS: what is asked for in each way that the standard has, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient
from pydicom.dataset import Dataset

from lfscp.observe import audit
from tests.support.served_archive import Node, image
from tests.support.web_app import serving

REQUESTS = [{"ScheduledProcedureStepID": "S1", "RequestedProcedureID": "R1"}]


def dataset(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Study 1.1 of a CT and a secondary capture; 1.2 of an MR, whose patient has three names."""
    with serving(tmp_path_factory.mktemp("node")) as found:
        node = Node(found.app.state.web.archive, 0)  # type: ignore[attr-defined]
        for number in (1, 2):
            made = image(
                study="1.1",
                series="1.1.1",
                SOPInstanceUID=f"1.1.1.{number}",
                SpecificCharacterSet="ISO_IR 192",
                PatientName="Müller^Anna",
                PatientID="P1",
                StudyDate="20240102",
                StudyDescription="CT, with contrast",
                AccessionNumber="A1",
                Modality="CT",
                InstanceNumber=number,
                ImageType=["ORIGINAL", "PRIMARY"],
                Rows=16,
                RescaleSlope="2",
                PatientPosition="HFS",
                RequestAttributesSequence=[dataset(**each) for each in REQUESTS],
            )
            made.private_block(0x0009, "OURS", create=True).add_new(1, "LO", f"own {number}")
            node.store(made)
        other = image(study="1.1", series="1.1.2", StudyDate="20240102", Modality="OT", Rows=8)
        node.store(other)
        node.store(
            image(
                study="1.2",
                series="1.2.1",
                SpecificCharacterSet="ISO_IR 192",
                PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
                PatientID="P2",
                StudyDate="20240301",
                Modality="MR",
            )
        )
        yield found


def ask(client: TestClient, path: str, **headers: str) -> Any:
    answer = client.get(f"/dicom-web{path}", headers=headers)
    assert answer.status_code == 200, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/dicom+json"
    return answer.json()


def uids(matches: Any, tag: str = "0020000D") -> list[str]:
    return [match[tag]["Value"][0] for match in matches]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", ["1.2", "1.1"]),
        ("PatientID=P1", ["1.1"]),
        ("00100020=P1", ["1.1"]),
        ("0020000d=1.1", ["1.1"]),
        ("PatientName=m%C3%BCller*", ["1.1"]),
        ("PatientName=*%E5%B1%B1*", ["1.2"]),
        ("PatientID=P?", ["1.2", "1.1"]),
        ("StudyInstanceUID=1.1,1.2", ["1.2", "1.1"]),
        ("StudyInstanceUID=1.1%5C1.2", ["1.2", "1.1"]),
        ("StudyInstanceUID=1.1&StudyInstanceUID=1.2", ["1.2", "1.1"]),
        ("PatientID=P1%5CP2", ["1.2", "1.1"]),
        ("StudyDescription=CT,%20with%20contrast", ["1.1"]),
        ("ModalitiesInStudy=OT%2CUS", ["1.1"]),
        ("StudyDate=20240201-", ["1.2"]),
        ("StudyDate=20240101-20240131", ["1.1"]),
        ("PatientID=", ["1.2", "1.1"]),
        ("PatientID=*", ["1.2", "1.1"]),
        ("NumberOfStudyRelatedSeries=2", ["1.1"]),
    ],
)
def test_studies_are_found_by_each_kind_of_matching(client, parameters, expected):
    assert uids(ask(client, f"/studies?{parameters}")) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/studies/1.1/series", ["1.1.1", "1.1.2"]),
        ("/series", ["1.1.1", "1.1.2", "1.2.1"]),
        ("/series?PatientID=P2", ["1.2.1"]),
        ("/studies/1.1/series?Modality=CT,MR", ["1.1.1"]),
        ("/studies/1.1/series?StudyInstanceUID=1.1,1.2&Modality=OT", ["1.1.2"]),
        ("/series?RequestAttributesSequence.ScheduledProcedureStepID=S1", ["1.1.1"]),
        ("/series?00400275.00401001=R1", ["1.1.1"]),
    ],
)
def test_series_are_found_in_all_studies_or_in_one(client, path, expected):
    assert uids(ask(client, path), "0020000E") == expected


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("/instances", 4),
        ("/instances?Modality=CT", 2),
        ("/studies/1.1/instances", 3),
        ("/studies/1.1/series/1.1.1/instances", 2),
        ("/studies/1.1/series/1.1.1/instances?InstanceNumber=2", 1),
        ("/studies/1.1/series/1.1.1/instances?InstanceNumber=1,2", 2),
        ("/studies/1.1/instances?Rows=16", 2),
    ],
)
def test_instances_are_found_anywhere_or_in_a_study_or_series(client, path, count):
    assert len(ask(client, path)) == count


@pytest.mark.parametrize(
    "path",
    [
        "/studies?PatientID=nobody",
        "/studies/1.9/series",
        "/studies/1.1/series/1.2.1/instances",
        "/studies/1.1/series?StudyInstanceUID=1.2",
        "/studies?offset=2",
        "/studies?limit=0",
    ],
)
def test_nothing_found_is_an_answer_without_content(client, path):
    answer = client.get(f"/dicom-web{path}")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/studies?limit=-1", "limit"),
        ("/studies?limit=x", "limit"),
        ("/studies?limit=99999999999999999999999", "limit"),
        (f"/studies?limit={'0' * 20}99999999999999999999", "limit"),
        (f"/studies?offset={'9' * 5000}", "offset"),
        ("/studies?offset=1.5", "offset"),
        ("/studies?fuzzymatching=maybe", "fuzzymatching"),
        ("/studies?StudyDate=yesterday", "StudyDate"),
        ("/studies?StudyInstanceUID=1.*", "StudyInstanceUID"),
        ("/instances?Rows=many", "Rows"),
        ("/series?RequestAttributesSequence=S1", "RequestAttributesSequence"),
        ("/studies?PatientName=a%3Db%3Dc%3Dd", "PatientName"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(client, path, parameter):
    answer = client.get(f"/dicom-web{path}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize(
    "path",
    [
        f"/studies?PatientID={'%5C'.join(['a*'] * 300)}",
        "/studies?"
        + ".".join(["RequestAttributesSequence"] * 40)
        + ".PatientID=1&PatientID="
        + "x" * 9999,
        "/studies/1..%5C/series",
        "/studies/" + "1" * 65 + "/series",
        "/studies/1%00/series",
    ],
)
def test_a_request_that_asks_too_much_or_names_no_uid_is_refused(client, path):
    assert client.get(f"/dicom-web{path}").status_code == 400


def test_a_study_has_the_attributes_that_the_standard_wants(client):
    (match,) = ask(client, "/studies?PatientID=P1", Host="localhost:8042")
    read = Dataset.from_json(json.dumps(match))

    assert match["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert match["00080030"] == {"vr": "TM"}, "what has no value has its VR"
    assert match["00201206"] == {"vr": "IS", "Value": [2]}
    assert read.NumberOfStudyRelatedInstances == 3
    assert list(read.ModalitiesInStudy) == ["CT", "OT"]
    assert read.InstanceAvailability == "ONLINE"
    assert read.RetrieveURL == "http://localhost:8042/dicom-web/studies/1.1"
    assert read.PatientName == "Müller^Anna"
    assert list(match) == sorted(match)


def test_all_groups_of_a_name_are_there(client):
    (match,) = ask(client, "/studies?PatientID=P2")
    (name,) = match["00100010"]["Value"]
    assert name == {
        "Alphabetic": "Yamada^Tarou",
        "Ideographic": "山田^太郎",
        "Phonetic": "やまだ^たろう",
    }


def test_series_and_instances_have_theirs_and_those_above_that_the_path_does_not_name(client):
    series = ask(client, "/series?Modality=CT")[0]
    in_study = ask(client, "/studies/1.1/series?Modality=CT")[0]
    instance = ask(client, "/instances?InstanceNumber=2")[0]
    in_series = ask(client, "/studies/1.1/series/1.1.1/instances")[0]

    assert series["00201209"]["Value"] == in_study["00201209"]["Value"] == [2]
    step = {"vr": "SH", "Value": ["S1"]}
    assert in_study["00400275"]["Value"][0]["00400009"] == step
    assert "00100020" in series
    assert "00100020" not in in_study
    assert instance["00080060"]["Value"] == ["CT"]
    assert "00080060" not in in_series
    assert in_series["00280010"] == {"vr": "US", "Value": [16]}
    assert "00280008" not in in_series, "it has no Number of Frames, which is optional"
    assert in_series["00081190"]["Value"][0].endswith("/studies/1.1/series/1.1.1/instances/1.1.1.1")


def test_what_the_index_lacks_is_read_from_objects(client):
    (series,) = ask(client, "/studies/1.1/series?Modality=CT&includefield=PatientPosition")
    found = ask(
        client,
        "/studies/1.1/series/1.1.1/instances?includefield=RescaleSlope,00080008"
        "&includefield=00091001",
    )

    assert series["00185100"] == {"vr": "CS", "Value": ["HFS"]}
    assert [each["00281053"] for each in found] == [{"vr": "DS", "Value": [2]}] * 2
    assert found[0]["00080008"]["Value"] == ["ORIGINAL", "PRIMARY"]
    assert found[1]["00090010"]["Value"] == ["OURS"]
    assert found[1]["00091001"] == {"vr": "LO", "Value": ["own 2"]}


def test_all_fields_are_those_of_the_index(client):
    (match,) = ask(client, "/studies?PatientID=P1&includefield=all")
    assert match["00104000"] == {"vr": "LT"}
    assert match["00080062"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    instance = ask(client, "/instances?includefield=all")[0]
    assert instance["00080008"]["Value"] == ["ORIGINAL", "PRIMARY"]


@pytest.mark.parametrize(
    ("path", "warning"),
    [
        ("/instances?RescaleSlope=7", "RescaleSlope is not matched."),
        ("/instances?00091001=x", "(0009,1001) is not matched."),
        ("/studies?Modality=XX", "Modality is not matched."),
        ("/studies?PatientNmae=x", "PatientNmae is no attribute and does not count."),
        ("/studies?includefield=Nothing", "includefield Nothing is no attribute."),
        ("/studies?includefield=Rows", "Rows is not returned here"),
        ("/studies?limit=1", "There are more matches than are returned"),
    ],
)
def test_what_is_not_done_is_said_in_a_warning(client, path, warning):
    answer = client.get(f"/dicom-web{path}")
    assert answer.status_code == 200
    assert answer.headers["warning"].startswith("299 lfscp")
    assert warning in answer.headers["warning"]


def test_an_ordinary_search_has_no_warning(client):
    paths = ("/studies?fuzzymatching=false&limit=2", "/studies?fuzzymatching=true&PatientID=P1")
    for path in (*paths, "/series", "/instances"):
        assert "warning" not in client.get(f"/dicom-web{path}").headers, path


def test_fuzzy_matching_finds_kana_of_either_kind(client):
    for name, literally in (("やまだ*", 1), ("ヤマダ*", 0)):
        path = f"/dicom-web/studies?PatientName={name}"
        found = [client.get(f"{path}&fuzzymatching={fuzzy}") for fuzzy in ("false", "true")]
        assert [len(each.json()) if each.content else 0 for each in found] == [literally, 1]


def test_the_node_s_own_limit_is_said(tmp_path):
    with serving(tmp_path, query={"max_results": 1}) as client:
        node = Node(client.app.state.web.archive, 0)
        for study in ("1.1", "1.2"):
            node.store(image(study=study, series=f"{study}.1"))
        answer = client.get("/dicom-web/studies?limit=50")
        following = client.get("/dicom-web/studies?limit=50&offset=1")

    assert len(answer.json()) == 1
    assert "more matches" in answer.headers["warning"]
    assert uids(answer.json() + following.json()) == ["1.2", "1.1"]
    assert "warning" not in following.headers


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/dicom+json, */*;q=0.1", "application/dicom+json"),
        ("application/*", "application/dicom+json"),
        ('multipart/related; type="application/dicom+xml"', "multipart/related"),
        ("multipart/related; type=application/dicom+xml, */*;q=0", "multipart/related"),
        ("image/png", "application/problem+json"),
        ('multipart/related; type="application/dicom"', "application/problem+json"),
        ("application/dicom+json;q=0", "application/problem+json"),
    ],
)
def test_the_form_is_the_one_that_is_accepted(client, accept, content_type):
    answer = client.get("/dicom-web/studies", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == content_type
    assert answer.status_code == (406 if "problem" in content_type else 200)


def test_xml_says_what_json_says(client):
    accept = 'multipart/related; type="application/dicom+xml"'
    answer = client.get("/dicom-web/series", headers={"Accept": accept})
    boundary = answer.headers["content-type"].partition("boundary=")[2]
    parts = answer.content.split(f"--{boundary}".encode())[1:-1]
    said = ask(client, "/series")

    assert len(parts) == len(said) == 3
    for part, match in zip(parts, said, strict=True):
        head, _, body = part.strip().partition(b"\r\n\r\n")
        assert head == b"Content-Type: application/dicom+xml"
        root = ElementTree.fromstring(body)  # noqa: S314 - our own
        assert [each.attrib["tag"] for each in root] == list(match)
        by_tag = {each.attrib["tag"]: each for each in root}
        name = by_tag["0020000E"]
        assert (name.attrib["keyword"], name[0].text) == (
            "SeriesInstanceUID",
            match["0020000E"]["Value"][0],
        )
    japanese = parts[2].decode()
    assert "<Ideographic><FamilyName>山田</FamilyName><GivenName>太郎</GivenName>" in japanese


def test_long_answers_are_sent_in_pieces_and_are_whole(client, monkeypatch):
    from lfscp.web.dicomweb.searching import search

    monkeypatch.setattr(search, "_ROWS_AT_ONCE", 1)
    assert uids(ask(client, "/series"), "0020000E") == ["1.1.1", "1.1.2", "1.2.1"]
    accept = 'multipart/related; type="application/dicom+xml"'
    answer = client.get("/dicom-web/instances", headers={"Accept": accept})
    assert answer.content.count(b"</NativeDicomModel>") == 4


def test_a_search_is_a_record_in_the_audit_trail(client, tmp_path):
    trail = tmp_path / "audit.log"
    audit.start(trail, "LFSCP")
    try:
        ask(client, "/studies?PatientID=P1")
    finally:
        audit.stop()
    (record,) = trail.read_text().splitlines()

    assert "Query" in record
    assert "PatientID" in record
    assert "P1" in record


def test_two_hundred_at_once_are_answered(client):
    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(lambda _: client.get("/dicom-web/instances"), range(200)))
    assert {answer.status_code for answer in found} <= {200, 429}
    assert len({answer.content for answer in found if answer.status_code == 200}) == 1
