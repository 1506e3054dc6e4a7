"""Coercions of a node: objects are stored as the rules make them, by every way in."""

from __future__ import annotations

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.support.node_process import NodeProcess, StartNode, run_lfscp

RULES = """
[[coercion]]
name = "our numbers"
when = {{ Modality = "CT" }}
keep_original = {keep}
[coercion.map.PatientID]
table = "{table}"
[coercion.set]
InstitutionName = "Clinic"
"RequestAttributesSequence[0].ScheduledProcedureStepID" = "STEP"
[coercion.replace.StudyDescription]
pattern = "^CT "
by = ""

[[coercion]]
name = "from the scanner"
when = {{ calling_ae_title = "SCANNER" }}
set = {{ StationName = "ROOM1" }}
"""
"""The table maps P1 to N1."""


def ask(url: str, body: bytes | None = None, *, method: str | None = None, kind: str = "") -> bytes:
    headers = {"Content-Type": kind} if kind else {}
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - our own node
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return bytes(answer.read())


def configuration(folder: Path, *, keep: bool = False) -> str:
    table = folder / "ids.csv"
    table.write_text("old,new\nP1,N1\n")
    return RULES.format(table=table, keep=str(keep).lower())


def ct(path: Path, number: int = 1, *, size: int = 64, modality: str = "CT") -> Path:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"1.2.3.1.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.PatientID, dataset.PatientName = "P1", "Doe^Jane"
    dataset.StudyDescription = "CT Head"
    dataset.Modality, dataset.InstanceNumber = modality, number
    dataset.PixelData = bytes(range(64)) * (size // 64)
    dataset["PixelData"].VR = "OW"
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def stored(node: NodeProcess, number: int = 1) -> Dataset:
    (found,) = node.objects.glob(f"*/*/1.2.3.1.{number}.dcm")
    return dcmread(found)


@pytest.mark.parametrize("size", [64, 6 << 20], ids=["in memory", "spooled"])
def test_what_storescu_sends_is_found_as_the_rules_made_it(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, size: int
) -> None:
    node = start_node(configuration=configuration(tmp_path))
    source = ct(tmp_path / "ct.dcm", size=size)
    dcmtk.done(dcmtk.store(node.port, source, options=("-aet", "SCANNER")))
    found = stored(node)
    assert found.PatientID == "N1"
    assert found.InstitutionName == "Clinic"
    assert found.StudyDescription == "Head"
    assert found.StationName == "ROOM1"
    assert found.RequestAttributesSequence[0].ScheduledProcedureStepID == "STEP"
    assert found.PixelData == dcmread(source).PixelData
    (item,) = found.OriginalAttributesSequence
    assert item.SourceOfPreviousValues == "SCANNER"
    assert item.ModifyingSystem == "LFSCP"
    (kept,) = item.ModifiedAttributesSequence
    assert (kept.PatientID, kept.StudyDescription) == ("P1", "CT Head")
    keys = {"PatientID": "", "StudyDescription": "", "StudyInstanceUID": "1.2.3"}
    (match,) = dcmtk.find(node.port, "STUDY", keys)
    assert (match.PatientID, match.StudyDescription) == ("N1", "Head")
    assert not list((node.objects / ".incoming").iterdir())
    line = node.wait_for("C-STORE")
    assert line["notes"] == "changed by our numbers, from the scanner"
    node.stop()
    done = run_lfscp("check", "--data-dir", node.data_dir)
    assert done.returncode == 0, done.stdout


def test_another_object_stays_as_it_came(dcmtk: Any, start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(configuration=configuration(tmp_path))
    source = ct(tmp_path / "mr.dcm", modality="MR")
    dcmtk.done(dcmtk.store(node.port, source))
    (file,) = node.objects.glob("*/*/*.dcm")
    assert dcmtk.dataset_bytes(file) == dcmtk.dataset_bytes(source)


@pytest.mark.parametrize("duplicates", ["keep", "replace", "reject"])
def test_an_object_that_is_sent_again_is_the_same_one(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, duplicates: str
) -> None:
    rules = configuration(tmp_path, keep=True)
    node = start_node(configuration=f'duplicates = "{duplicates}"\n{rules}')
    source = ct(tmp_path / "ct.dcm")
    for _ in range(3):
        dcmtk.done(dcmtk.store(node.port, source))
    outcomes = [each.get("outcome") for each in node.events("C-STORE")]
    assert outcomes == [None, "identical", "identical"]
    assert len(list(node.objects.glob("*/*/*.dcm"))) == 2  # with the original


def test_the_original_is_kept_when_asked_and_goes_with_its_study(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    flags = ["--http-port", "0"]
    node = start_node(configuration=configuration(tmp_path, keep=True), flags=flags)
    source = ct(tmp_path / "ct.dcm")
    dcmtk.done(dcmtk.store(node.port, source))
    files = {dcmread(file).PatientID: file for file in node.objects.glob("*/*/*.dcm")}
    assert set(files) == {"P1", "N1"}
    assert dcmtk.dataset_bytes(files["P1"]) == dcmtk.dataset_bytes(source)
    node.stop()
    done = run_lfscp("check", "--data-dir", node.data_dir)
    assert done.returncode == 0, done.stdout
    since = len(node.lines)
    node.start()
    assert files["P1"].exists()
    url = node.wait_for("page", since=since)["url"]
    used = json.loads(ask(url + "api/statistics"))["size"]
    assert used == sum(file.stat().st_size for file in files.values())
    assert json.loads(ask(url + "api/studies/1.2.3", method="DELETE")) == {"deleted": 1}
    assert not list(node.objects.glob("*/*/*.dcm"))


def test_an_upload_and_a_stow_are_changed_as_well(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(configuration=configuration(tmp_path), flags=["--http-port", "0"])
    url = node.wait_for("page")["url"]
    content = ct(tmp_path / "1.dcm", 1).read_bytes()
    ask(url + "api/instances", content, kind="application/dicom")
    part = ct(tmp_path / "2.dcm", 2).read_bytes()
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    ask(url + "dicom-web/studies", body, kind=kind)
    assert [stored(node, number).PatientID for number in (1, 2)] == ["N1", "N1"]


def test_files_that_are_imported_are_changed_as_well(tmp_path: Path) -> None:
    ct(tmp_path / "files" / "ct.dcm")
    settings = tmp_path / "lfscp.toml"
    settings.write_text(configuration(tmp_path))
    data = tmp_path / "data"
    arguments = ("import", "--config", settings, "--data-dir", data, tmp_path / "files")
    assert run_lfscp(*arguments).returncode == 0
    (found,) = (data / "objects").glob("*/*/*.dcm")
    assert dcmread(found).PatientID == "N1"


def test_a_coercion_that_cannot_be_is_refused_at_the_start(tmp_path: Path) -> None:
    settings = tmp_path / "lfscp.toml"
    settings.write_text('[[coercion]]\nname = "a"\nset = { PatientBirthDate = "soon" }\n')
    result = run_lfscp("serve", "--config", settings, "--data-dir", tmp_path / "data")
    assert result.returncode == 2
    assert result.stderr.strip().endswith(
        f'{settings}: coercion.0.set.PatientBirthDate = "soon": expected a value of VR DA'
    )
    settings.write_text('[[coercion]]\nname = "a"\nfoo = 1\nset = { StudyID = "1" }\n')
    result = run_lfscp("serve", "--config", settings, "--data-dir", tmp_path / "data")
    assert result.returncode == 2
    assert "coercion.0.foo: unknown key" in result.stderr


def test_a_reload_takes_new_rules_and_keeps_the_old_ones_when_they_are_wrong(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(configuration=configuration(tmp_path), errors_expected=True)
    (tmp_path / "ids.csv").write_text("old,new\nP1,N2\n")
    node.reload(configuration(tmp_path).replace("Clinic", "Hospital"))
    (tmp_path / "ids.csv").write_text("old,new\nP1,N2\n")
    node.signal(signal.SIGHUP)
    node.wait_for("configuration reloaded", count=2)
    node.reload("[[coercion]]\nname = 'x'\n", says="configuration not reloaded, the old one stays")
    dcmtk.done(dcmtk.store(node.port, ct(tmp_path / "ct.dcm")))
    found = stored(node)
    assert (found.InstitutionName, found.PatientID) == ("Hospital", "N2")
