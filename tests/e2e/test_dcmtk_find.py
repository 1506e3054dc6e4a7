"""DCMTK's findscu against a node with known studies: levels, models, keys and character sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.support.node_process import NodeProcess, proper_end
from tests.support.sample_objects import made

ROOT = "1.2.826.0.1.3680043.8.498.7"
JANE, JOHN, UMLAUT, YAMADA = (f"{ROOT}.{number}" for number in (1, 2, 3, 4))


def referred_to(uid: str) -> Dataset:
    """An item that refers to an image."""
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    item.ReferencedFrameNumber = "1"
    return item


def objects(folder: Path) -> Iterator[Path]:
    """Four studies: two series of three and one CT, then one object each."""
    for series, modality, count in ((1, "CT", 3), (2, "MR", 1)):
        for number in range(1, count + 1):
            yield made(
                folder,
                PatientName="Doe^Jane",
                PatientID="P1",
                StudyInstanceUID=JANE,
                SeriesInstanceUID=f"{JANE}.{series}",
                SOPInstanceUID=f"{JANE}.{series}.{number}",
                StudyDate="20240110",
                StudyTime="093000",
                AccessionNumber="A1",
                StudyDescription="Head",
                Modality=modality,
                SeriesNumber=series,
                InstanceNumber=number,
                SpecificCharacterSet="ISO_IR 100",
                ImageComments="Größe\\Form",
                SliceLocation=f"{number}.5",
                ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
                FrameOfReferenceUID=f"{JANE}.99",
                SourceImageSequence=[referred_to(f"{JANE}.9.{n}") for n in (1, 2)],
            )
    others: list[dict[str, Any]] = [
        {
            "StudyInstanceUID": JOHN,
            "PatientName": "Doe^John",
            "PatientID": "P2",
            "StudyDate": "20240220",
        },
        {
            "StudyInstanceUID": UMLAUT,
            "PatientName": "Müller^Jürgen",
            "PatientID": "P3",
            "StudyDate": "20240330",
            "SpecificCharacterSet": "ISO_IR 100",
        },
        {
            "StudyInstanceUID": YAMADA,
            "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
            "PatientID": "P4",
            "StudyDate": None,
            "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        },
    ]
    for attributes in others:
        study = attributes["StudyInstanceUID"]
        attributes.update(SeriesInstanceUID=f"{study}.1", SOPInstanceUID=f"{study}.1.1")
        if attributes["StudyDate"] is None:
            del attributes["StudyDate"]
        yield made(folder, **attributes)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, dcmtk: Any) -> Iterator[NodeProcess]:
    """A node with the four studies."""
    with proper_end(NodeProcess(tmp_path_factory.mktemp("found"))) as node:
        node.start()
        dcmtk.done(dcmtk.store(node.port, *objects(tmp_path_factory.mktemp("objects"))))
        yield node


def studies(dcmtk: Any, node: NodeProcess, *options: str, **keys: str) -> set[str]:
    """The studies that a Study Root query finds."""
    found = dcmtk.find(node.port, "STUDY", {"StudyInstanceUID": "", **keys}, options=options)
    return {each.StudyInstanceUID for each in found}


def values(found: list[Dataset], keyword: str) -> list[str]:
    """One attribute of all matches."""
    return sorted(str(each[keyword].value) for each in found)


@pytest.mark.parametrize("model", ["patient", "patient-study"])
def test_patients_are_found_where_the_model_has_them(
    dcmtk: Any, node: NodeProcess, model: str
) -> None:
    keys = {"PatientID": "", "PatientName": "Doe*", "NumberOfPatientRelatedInstances": ""}
    found = dcmtk.find(node.port, "PATIENT", keys, model=model)
    assert values(found, "PatientID") == ["P1", "P2"]
    assert values(found, "NumberOfPatientRelatedInstances") == ["1", "4"]


@pytest.mark.parametrize("model", ["patient", "patient-study", "study"])
def test_studies_are_found_in_every_model(dcmtk: Any, node: NodeProcess, model: str) -> None:
    keys = {"PatientID": "P1", "StudyInstanceUID": "", "ModalitiesInStudy": ""}
    (found,) = dcmtk.find(node.port, "STUDY", keys, model=model)
    assert found.StudyInstanceUID == JANE
    assert sorted(found.ModalitiesInStudy) == ["CT", "MR"]
    assert found.QueryRetrieveLevel == "STUDY"
    assert found.RetrieveAETitle == "LFSCP"


@pytest.mark.parametrize("model", ["patient", "study"])
def test_series_and_instances_are_found_below_their_study(
    dcmtk: Any, node: NodeProcess, model: str
) -> None:
    above = {"StudyInstanceUID": JANE} | ({"PatientID": "P1"} if model == "patient" else {})
    keys = {**above, "SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": ""}
    series = dcmtk.find(node.port, "SERIES", keys, model=model)
    assert values(series, "Modality") == ["CT", "MR"]
    assert values(series, "NumberOfSeriesRelatedInstances") == ["1", "3"]
    keys = {**above, "SeriesInstanceUID": f"{JANE}.1", "SOPInstanceUID": "", "InstanceNumber": ""}
    images = dcmtk.find(node.port, "IMAGE", keys, model=model)
    assert values(images, "SOPInstanceUID") == [f"{JANE}.1.{number}" for number in (1, 2, 3)]
    assert values(images, "InstanceNumber") == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {JANE, JOHN, UMLAUT, YAMADA}),
        ({"PatientName": "Doe^Jane"}, {JANE}),
        ({"PatientName": "DOE^J*"}, {JANE, JOHN}),  # without regard to case
        ({"PatientName": "doe^jan?"}, {JANE}),
        ({"PatientName": "*"}, {JANE, JOHN, UMLAUT, YAMADA}),
        ({"PatientName": "yamada*"}, {YAMADA}),
        ({"PatientID": "P?"}, {JANE, JOHN, UMLAUT, YAMADA}),
        ({"PatientID": "p1"}, set()),  # not a name: case matters
        ({"AccessionNumber": "A1"}, {JANE}),
        ({"StudyDate": "20240110"}, {JANE}),
        ({"StudyDate": "20240110-20240220"}, {JANE, JOHN}),
        ({"StudyDate": "20240201-"}, {JOHN, UMLAUT}),  # an absent date is in no range
        ({"StudyDate": "-20240220"}, {JANE, JOHN}),
        ({"StudyTime": "0900-1000", "StudyDate": "20240110"}, {JANE}),
        ({"StudyInstanceUID": f"{JOHN}\\{YAMADA}\\1.2.3"}, {JOHN, YAMADA}),
        ({"ModalitiesInStudy": "MR"}, {JANE}),
        ({"StudyDescription": "H*d"}, {JANE}),
        ({"PatientName": "Nobody"}, set()),
        ({"PatientName": "100%"}, set()),  # what SQL takes for a wildcard is none
        ({"PatientName": "Doe_Jane"}, set()),
    ],
)
def test_keys_match_as_the_standard_says(
    dcmtk: Any, node: NodeProcess, keys: dict[str, str], expected: set[str]
) -> None:
    assert studies(dcmtk, node, **keys) == expected


@pytest.mark.parametrize("syntax", ["-xe", "-xb", "-xi", "-xd"])
def test_answers_are_right_in_every_transfer_syntax(
    dcmtk: Any, node: NodeProcess, syntax: str
) -> None:
    assert studies(dcmtk, node, syntax, PatientName="Doe*") == {JANE, JOHN}


@pytest.mark.parametrize(
    ("character_set", "codec", "name", "expected"),
    [
        ("ISO_IR 100", "latin-1", "MÜLLER*", UMLAUT),
        ("ISO_IR 192", "utf-8", "Müller^Jürgen", UMLAUT),
        ("ISO_IR 192", "utf-8", "*=山田*", YAMADA),
        ("\\ISO 2022 IR 87", "iso2022_jp", "*=山田^太郎", YAMADA),
    ],
)
def test_names_are_asked_for_in_the_character_set_of_the_client(
    dcmtk: Any,
    node: NodeProcess,
    tmp_path: Path,
    character_set: str,
    codec: str,
    name: str,
    expected: str,
) -> None:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = ""
    query.SpecificCharacterSet = character_set.split("\\")
    query.PatientName = name
    file = tmp_path / "query.dcm"
    query.save_as(file, implicit_vr=False, little_endian=True)
    assert name.encode(codec) in file.read_bytes()
    answers = tmp_path / "answers"
    answers.mkdir()
    arguments = ("-S", "-X", "-od", answers, "127.0.0.1", node.port, file)
    dcmtk.done(dcmtk.run("findscu", *arguments))
    (found,) = dcmtk.read_all(answers)
    assert found.StudyInstanceUID == expected


@pytest.mark.parametrize(
    ("study", "name"),
    [(UMLAUT, "Müller^Jürgen"), (YAMADA, "Yamada^Tarou=山田^太郎=やまだ^たろう")],
)
def test_names_come_back_whole_with_their_character_set(
    dcmtk: Any, node: NodeProcess, study: str, name: str
) -> None:
    keys = {"StudyInstanceUID": study, "PatientName": ""}
    (found,) = dcmtk.find(node.port, "STUDY", keys)
    found.decode()
    assert str(found.PatientName) == name
    assert found.SpecificCharacterSet


def test_attributes_the_node_does_not_have_come_back_empty(dcmtk: Any, node: NodeProcess) -> None:
    keys = {"StudyInstanceUID": JOHN, "StudyDescription": "", "ReferringPhysicianName": ""}
    (found,) = dcmtk.find(node.port, "STUDY", keys)
    assert found.StudyDescription == ""
    assert str(found.ReferringPhysicianName) == ""


@pytest.mark.parametrize("syntax", ["-xe", "-xb", "-xi", "-xd"])
def test_what_the_index_lacks_comes_from_the_object_of_each_image(
    dcmtk: Any, node: NodeProcess, syntax: str
) -> None:
    keys = {
        "StudyInstanceUID": JANE,
        "SeriesInstanceUID": f"{JANE}.1",
        "InstanceNumber": "2",
        "ImageComments": "",
        "SliceLocation": "",
        "ImageOrientationPatient": "",
        "SamplesPerPixel": "",
        "PhotometricInterpretation": "",
        "FrameOfReferenceUID": "",
        "SourceImageSequence[0].ReferencedSOPInstanceUID": "",
        "WindowCenter": "",
    }
    (found,) = dcmtk.find(node.port, "IMAGE", keys, options=(syntax,))
    found.decode()
    assert found.ImageComments == "Größe\\Form"
    assert found.SliceLocation == 2.5
    assert found.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert found.SamplesPerPixel == 1
    assert found.PhotometricInterpretation == "MONOCHROME2"
    assert found.FrameOfReferenceUID == f"{JANE}.99"
    items = found.SourceImageSequence
    assert [item.ReferencedSOPInstanceUID for item in items] == [f"{JANE}.9.{n}" for n in (1, 2)]
    assert not any("ReferencedFrameNumber" in item for item in items)
    assert found["WindowCenter"].value is None  # it has none
    assert "0xff01" not in dcmtk.find_raw(node.port, "IMAGE", keys).output


def test_a_key_that_is_not_supported_is_left_out_of_matching_and_said_so(
    dcmtk: Any, node: NodeProcess
) -> None:
    keys = {"StudyInstanceUID": JOHN, "PatientReligiousPreference": "none"}
    result = dcmtk.find_raw(node.port, "STUDY", keys)
    assert "0xff01" in result.output
    assert result.status == 0x0000


@pytest.mark.parametrize(
    ("model", "level", "keys"),
    [
        ("study", "PATIENT", {"PatientID": ""}),  # not a level of Study Root
        ("patient-study", "SERIES", {"PatientID": "P1", "StudyInstanceUID": JANE}),
        ("study", "NONSENSE", {"StudyInstanceUID": ""}),
        ("study", "SERIES", {"SeriesInstanceUID": ""}),  # of which study?
        ("patient", "STUDY", {"StudyInstanceUID": ""}),  # of which patient?
        ("study", "STUDY", {"StudyDate": "yesterday"}),
    ],
)
def test_a_wrong_identifier_is_refused(
    dcmtk: Any, node: NodeProcess, model: str, level: str, keys: dict[str, str]
) -> None:
    result = dcmtk.find_raw(node.port, level, keys, model=model)
    assert result.status == 0xA900, result.output[-2000:]


def test_a_query_is_cancelled(dcmtk: Any, node: NodeProcess) -> None:
    """findscu sends C-CANCEL after its first answer; the last of few may be on its way by then."""
    since = len(node.lines)
    result = dcmtk.find_raw(node.port, "STUDY", {"PatientName": ""}, options=("--cancel", 1))
    assert result.status in (0xFE00, 0x0000)
    assert node.wait_for("C-FIND", since=since)["status"] in ("0xFE00", "0x0000")
    assert dcmtk.echo(node.port).code == 0
