"""`lfscp echo|find|get|send` with the URL of a DICOMweb server: a node, and Orthanc."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless

from lfscp.archive.store.received_objects import Received
from lfscp.scu.dicomweb.echo import echo
from lfscp.scu.dicomweb.find import find
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.retrieve import get
from lfscp.scu.dicomweb.send import send
from lfscp.scu.identifiers import identifier
from lfscp.scu.send import objects_in
from tests.support import dcmtk
from tests.support.ci import in_ci
from tests.support.node_process import LFSCP, environment, run_lfscp
from tests.support.orthanc import DICOMWEB, orthanc_dicomweb
from tests.support.retrieved_objects import as_file, multi_frame
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice

LOGIN = {"LFSCP_PEER_PASSWORD": "orthanc"}
COMPRESSED = f"{CT_SERIES}.77"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three slices of a CT, and a compressed object of another study."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"{number}.dcm").write_bytes(as_file(ct_slice(number, 3)))
    compressed = multi_frame(COMPRESSED)
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    (folder / "compressed.dcm").write_bytes(as_file(compressed))
    return folder


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not DICOMWEB.exists():
        (pytest.fail if in_ci() else pytest.skip)("install the package orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("orthanc")
    with orthanc_dicomweb(folder, "me", LOGIN["LFSCP_PEER_PASSWORD"]) as url:
        yield url


def ask(*arguments: object) -> str:
    """What a command prints that succeeds."""
    result = run_lfscp(*arguments, env=LOGIN)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_orthanc_takes_finds_and_gives_what_commands_ask_for(
    orthanc: str, files: Path, tmp_path: Path
) -> None:
    at = (orthanc, "--user", "me")
    assert ask("send", *at, files) == "4 sent\n"
    found = ask("find", *at, "-k", f"StudyInstanceUID={CT_STUDY}", "-k", "PatientName", "--json")
    assert json.loads(found)["PatientName"] == "Müller^Johanna^^Dr."
    out = tmp_path / "out"
    uids = [str(dcmread(file).StudyInstanceUID) for file in files.iterdir()]
    studies = "\\".join(set(uids))
    assert "4 objects" in ask("get", *at, "-k", f"StudyInstanceUID={studies}", "-od", out)
    assert dcmtk.contents(out) == dcmtk.contents(files)  # the compressed one as it is


def test_orthanc_answers_at_every_level(orthanc: str, files: Path) -> None:
    peer = DICOMwebPeer(orthanc, user="me", password=LOGIN["LFSCP_PEER_PASSWORD"])
    instances = objects_in([files], on_other=lambda file, why: pytest.fail(f"{file}: {why}"))
    assert send(peer, instances).completed == 4

    def found(level: str, **keys: str) -> list[Dataset]:
        return list(find(peer, identifier(keys, level)))

    assert echo(peer).duration_ms > 0
    assert [each.PatientID for each in found("PATIENT", PatientID="P-0007")] == ["P-0007"]
    (study,) = found("STUDY", PatientName="*JOHANNA*", NumberOfStudyRelatedInstances="")
    assert study.NumberOfStudyRelatedInstances == 3
    (series,) = found("SERIES", StudyInstanceUID=CT_STUDY, Modality="CT", SeriesInstanceUID="")
    assert (series.StudyInstanceUID, series.SeriesInstanceUID) == (CT_STUDY, CT_SERIES)
    of_series = {"StudyInstanceUID": CT_STUDY, "SeriesInstanceUID": CT_SERIES}
    images = found("IMAGE", **of_series, SOPInstanceUID="", InstanceNumber="")
    assert sorted(int(each.InstanceNumber) for each in images) == [1, 2, 3]
    taken: list[str] = []

    def take(received: Received) -> int:
        taken.append(received.sop_instance_uid)
        return 0

    for level, keys in (("PATIENT", {"PatientID": "P-0007"}), ("SERIES", of_series)):
        result = get(peer, identifier(keys, level), on_object=take)
        assert (result.completed, result.failed) == (3, 0)
    nobody = get(peer, identifier({"StudyInstanceUID": "1.2.3"}, "STUDY"), on_object=take)
    assert (nobody.completed, nobody.failed) == (0, 0)
    assert len(taken) == 6


def test_who_is_refused_is_told_so(orthanc: str, files: Path) -> None:
    wrong = run_lfscp("send", orthanc, files, "--user", "me", env={"LFSCP_PEER_PASSWORD": "no"})
    assert wrong.returncode == 1
    assert "does not take our user, password or token (HTTP 401)" in wrong.stderr
    assert wrong.stderr.count("\n") == 1
    elsewhere = run_lfscp("echo", orthanc.replace("dicom-web", "other"), "--user", "me", env=LOGIN)
    assert "has nothing at this URL (HTTP 404)" in elsewhere.stderr
    nobody = run_lfscp("echo", orthanc)
    assert "asks for a login (HTTP 401)" in nobody.stderr
    plain = run_lfscp("echo", orthanc.replace("http:", "https:"))
    assert "cannot be reached: it does not speak TLS at this port" in plain.stderr


def test_a_node_is_asked_the_same_both_ways(start_node: Any, files: Path, tmp_path: Path) -> None:
    node = start_node(flags=["--http-port", "0"])
    url = node.wait_for("page")["url"].rstrip("/") + "/dicom-web"
    at = f"LFSCP@127.0.0.1:{node.port}"
    assert ask("send", url, files) == "4 sent\n"
    query = ("-k", "PatientName", "-k", "StudyInstanceUID", "-k", "ModalitiesInStudy")
    by_dimse, by_web = (
        [json.loads(line) for line in ask("find", each, *query, "--json").splitlines()]
        for each in (at, url)
    )
    for match in by_dimse:
        del match["RetrieveAETitle"]
        assert match in by_web
    assert len(by_dimse) == len(by_web) == 2
    for number, each in enumerate((at, url)):
        out = tmp_path / str(number)
        ask("get", each, "-k", f"StudyInstanceUID={CT_STUDY}", "-od", out)
    assert dcmtk.contents(tmp_path / "0") == dcmtk.contents(tmp_path / "1")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("move", "URL", "-k", "StudyInstanceUID=1.2"), "a DICOMweb server cannot do this"),
        (("commit", "URL", "."), "a DICOMweb server cannot do this"),
        (("echo", "URL?a=b"), "expected nothing behind its path"),
        (("echo", "URL/studies"), "expected all before /studies"),
        (("echo", "http://me:secret@127.0.0.1/"), "no user and no password in it"),
        (("echo", "URL", "--tls"), "expected an https URL"),
        (("echo", "ftp://127.0.0.1/dicom-web"), "expected http:// or https:// of a DICOMweb"),
        (("echo", "URL", "--user", "me"), "a password in LFSCP_PEER_PASSWORD"),
        (("echo", "URL", "--token-file", "/nowhere"), "/nowhere: No such file"),
        (("echo", "PACS@127.0.0.1:1", "--token-file", "x"), "the URL of a DICOMweb server"),
    ],
)
def test_a_wrong_option_is_named(arguments: tuple[str, ...], reason: str) -> None:
    url = "http://127.0.0.1:1/dicom-web"
    result = run_lfscp(*(each.replace("URL", url) for each in arguments))
    assert (result.returncode, result.stdout) == (2, "")
    assert reason in result.stderr
    assert "secret" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_password_is_asked_for_at_a_terminal(orthanc: str) -> None:
    ours, theirs = pty.openpty()
    command = [str(LFSCP), "echo", orthanc, "--user", "me"]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    while b"Password: " not in said:
        said += os.read(ours, 1000)
    os.write(ours, b"orthanc\n")
    while b"answers" not in said:
        said += os.read(ours, 1000)
    assert process.wait(30) == 0
    os.close(ours)
    assert b"orthanc\r\n" not in said.partition(b"Password: ")[2].partition(b"http")[0]
