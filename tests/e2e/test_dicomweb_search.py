"""A node asked by DICOMweb: by dicomweb-client, and in the exact forms of OHIF's requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from tests.support.web_objects import (
    CT_CLASS,
    CT_SERIES,
    CT_STUDY,
    LOOP_CLASS,
    LOOP_STUDY,
    REPORT_CLASS,
    write_all,
)

SLICES = 4
JSON = {"Accept": "application/dicom+json"}
LIST = "fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030"


@pytest.fixture
def node(start_node: Any, tmp_path: Any) -> Any:
    """A node that has a CT, a colour loop and a report."""
    found = start_node(flags=["--http-port", "0"])
    ae = AE("DEVICE")
    for sop_class in (CT_CLASS, LOOP_CLASS, REPORT_CLASS):
        ae.add_requested_context(sop_class)
    association = ae.associate("127.0.0.1", found.port)
    assert association.is_established
    for file in sorted(write_all(tmp_path / "objects", slices=SLICES).glob("*.dcm")):
        assert association.send_c_store(dcmread(file)).Status == 0x0000
    association.release()
    return found


@pytest.fixture
def root(node: Any) -> str:
    return str(node.wait_for("page")["url"]).rstrip("/") + "/dicom-web"


def test_dicomweb_client_finds_pages_and_reads_metadata(root):
    client = DICOMwebClient(root)
    studies = [Dataset.from_json(each) for each in client.search_for_studies()]
    first = client.search_for_studies(limit=1)
    second = client.search_for_studies(limit=1, offset=1)
    series = client.search_for_series(CT_STUDY, search_filters={"Modality": "CT"})
    instances = client.search_for_instances(
        CT_STUDY, CT_SERIES, fields=["RescaleSlope"], search_filters={"InstanceNumber": 2}
    )
    metadata = client.retrieve_series_metadata(CT_STUDY, CT_SERIES)
    of_study = client.retrieve_study_metadata(LOOP_STUDY)

    assert [each.StudyInstanceUID for each in studies] == [LOOP_STUDY, CT_STUDY], "newest first"
    assert studies[1].PatientName == "Müller^Johanna^^Dr."
    assert studies[0].NumberOfStudyRelatedInstances == 2
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert [*first, *second] == client.search_for_studies()
    assert [each["0020000E"]["Value"] for each in series] == [[CT_SERIES]]
    assert [each["00281053"]["Value"] for each in instances] == [[1]]
    assert [each["00200013"]["Value"] for each in metadata] == [[1], [2], [3], [4]]
    assert len(of_study) == 2
    bulk = client.retrieve_bulkdata(metadata[0]["7FE00010"]["BulkDataURI"])
    assert len(b"".join(bulk)) == 192 * 192 * 2


def test_the_requests_of_ohif_are_answered(root):
    with requests.Session() as session:
        session.headers.update(JSON)

        def ask(path: str) -> Any:
            answer = session.get(f"{root}{path}", timeout=30)
            assert answer.status_code in (200, 204), answer.text
            assert "fuzzy" not in answer.headers.get("Warning", "")
            return answer.json() if answer.status_code == 200 else []

        def studies(filters: str) -> list[str]:
            found = ask(f"/studies?limit=101&offset=0&{LIST}{filters}")
            return [each["0020000D"]["Value"][0] for each in found]

        listed = ask(f"/studies?limit=101&offset=0&{LIST}")[1]
        priors = ask(f"/studies?00100020=P-0007&limit=101&offset=0&{LIST}")
        row = ask(f"/studies/{CT_STUDY}/series?includefield=0008103E%2C00080021")
        both = quote(f"{CT_STUDY}\\{LOOP_STUDY}")
        viewer = ask(f"/studies?limit=101&offset=0&{LIST}&StudyInstanceUID={both}")
        fields = "00080021%2C00080031%2C0008103E%2C00200011"
        panel = ask(f"/studies/{CT_STUDY}/series?includefield={fields}")
        metadata = ask(f"/studies/{CT_STUDY}/series/{CT_SERIES}/metadata")

        assert listed["00081030"]["Value"] == ["CT Thorax with contrast"]
        assert listed["00080090"]["Value"] == [{"Alphabetic": "Weber^Klaus"}]
        assert studies("&PatientName=*" + quote("müller") + "*") == [CT_STUDY]
        assert studies("&00100020=*0007*") == [CT_STUDY]
        assert studies("&AccessionNumber=*104*") == [CT_STUDY]
        assert studies("&StudyDescription=*Doppler*") == [LOOP_STUDY]
        assert studies("&ModalitiesInStudy=CT%2CMR") == [CT_STUDY]
        assert studies("&StudyDate=20240501-20240531") == [CT_STUDY]
        assert studies("&PatientName=*nobody*") == []
        assert len(priors) == len(row) == len(panel) == 1
        assert len(viewer) == 2
        assert panel[0]["00200011"]["Value"] == [2]
        assert panel[0]["00080021"] == {"vr": "DA"}
        assert len(metadata) == SLICES


def test_a_search_finds_what_c_find_finds(node, root):
    ae = AE("WORKSTATION")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = ae.associate("127.0.0.1", node.port)
    assert association.is_established
    for keyword, value in (
        ("PatientName", "m?ller*"),
        ("StudyDate", "20240101-20240520"),
        ("ModalitiesInStudy", "SR\\CT"),
        ("StudyDescription", "*o*"),
        ("PatientID", 'X<>&"1'),
        ("AccessionNumber", "nothing"),
    ):
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", ""
        query.add_new(keyword, query_vr(keyword), value)
        responses = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
        by_dimse = sorted(str(each.StudyInstanceUID) for _, each in responses if each)
        answer = requests.get(f"{root}/studies", params={keyword: value}, headers=JSON, timeout=30)
        found = answer.json() if answer.status_code == 200 else []
        assert sorted(each["0020000D"]["Value"][0] for each in found) == by_dimse, keyword
    association.release()


def query_vr(keyword: str) -> str:
    return {"PatientName": "PN", "StudyDate": "DA", "ModalitiesInStudy": "CS"}.get(
        keyword, "LO" if keyword in ("StudyDescription", "PatientID") else "SH"
    )
