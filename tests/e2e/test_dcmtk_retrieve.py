"""DCMTK's movescu and getscu against a node: what was stored comes back byte for byte."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, UncompressedTransferSyntaxes

from tests.support import pynetdicom_client
from tests.support.dcmtk import contents, free_port
from tests.support.node_process import NodeProcess, proper_end
from tests.support.sample_objects import KINDS, Kind, document, made, sample, video

ROOT = "1.2.826.0.1.3680043.8.498.9"
ALL, VIDEO, TWO_SERIES, OTHER = (f"{ROOT}.{number}" for number in (1, 2, 3, 4))
UNKNOWN_DESTINATION, FAILED_ALL, CANCELLED = 0xA801, 0xA702, 0xFE00


class Loaded(NodeProcess):
    """A node with an object of every kind in study ALL, and its destinations' ports."""

    kinds: dict[Kind, str]
    destination: int
    closed: int


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, dcmtk: Any) -> Iterator[Loaded]:
    """The node, its objects stored by storescu; each destination is started by who needs it."""
    destination, closed = free_port(), free_port()
    flags = [f"--peer=DST=127.0.0.1:{destination}", f"--peer=CLOSED=127.0.0.1:{closed}"]
    loaded = Loaded(tmp_path_factory.mktemp("retrieved"), flags=flags)
    loaded.destination, loaded.closed, loaded.kinds = destination, closed, {}
    with proper_end(loaded) as node:
        node.start()
        folder = tmp_path_factory.mktemp("objects")
        files = []
        for kind in KINDS:
            file = sample(kind.file, folder, PatientID="ALL", StudyInstanceUID=ALL)
            loaded.kinds[kind] = file.stem
            options = ("-R",)
            dcmtk.done(dcmtk.store(node.port, file, propose=kind.propose, options=options))
        files.append(document(folder, PatientID="ALL", StudyInstanceUID=ALL))
        files.append(video(folder, PatientID="VIDEO", StudyInstanceUID=VIDEO))
        files.extend(small_studies(folder))
        send = ("--decompress-never", "127.0.0.1", node.port, *files)
        dcmtk.done(dcmtk.run("dcmsend", *send))
        yield loaded


def small_studies(folder: Path) -> Iterator[Path]:
    """Study TWO_SERIES of patient P1, with two objects in each series; study OTHER with one."""
    for series in (1, 2):
        for number in (1, 2):
            yield made(
                folder,
                StudyInstanceUID=TWO_SERIES,
                SeriesInstanceUID=f"{TWO_SERIES}.{series}",
                SOPInstanceUID=f"{TWO_SERIES}.{series}.{number}",
            )
    yield made(
        folder,
        PatientID="P2",
        StudyInstanceUID=OTHER,
        SeriesInstanceUID=f"{OTHER}.1",
        SOPInstanceUID=f"{OTHER}.1.1",
    )


def stored(node: NodeProcess, *studies: str) -> dict[str, tuple[str, bytes]]:
    """What the node keeps of these studies: by UID, transfer syntax and bytes."""
    found = {}
    for study in studies:
        found.update(contents(node.objects / study))
    return found


def instance_keys(node: NodeProcess, uid: str) -> dict[str, str]:
    """The keys that name one stored instance at the IMAGE level."""
    (path,) = node.objects.glob(f"*/*/{uid}.dcm")
    return {
        "StudyInstanceUID": path.parent.parent.name,
        "SeriesInstanceUID": path.parent.name,
        "SOPInstanceUID": uid,
    }


# C-GET


NATIVE = [kind for kind in KINDS if kind.syntax == "="]


@pytest.mark.parametrize("kind", NATIVE, ids=lambda kind: Path(kind.file).stem)
def test_getscu_gets_what_it_takes_as_stored_byte_for_byte(
    dcmtk: Any, node: Loaded, tmp_path: Path, kind: Kind
) -> None:
    uid = node.kinds[kind]
    keys = instance_keys(node, uid)
    result = dcmtk.get(node.port, "IMAGE", keys, tmp_path / "got", options=(kind.prefer,))
    assert result.status == 0x0000, result.output[-2000:]
    assert contents(tmp_path / "got") == {uid: stored(node, ALL)[uid]}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in NATIVE], ids=lambda kind: Path(kind.file).stem
)
def test_getscu_gets_the_rest_in_a_syntax_that_fits_every_object(
    dcmtk: Any, node: Loaded, tmp_path: Path, kind: Kind
) -> None:
    """getscu offers several syntaxes in one context; explicit little endian always fits.

    Where it offers nothing but the stored one (`+xi` since DCMTK 3.6.9), nothing is converted.
    """
    uid = node.kinds[kind]
    keys = instance_keys(node, uid)
    result = dcmtk.get(node.port, "IMAGE", keys, tmp_path / "got", options=(kind.prefer,))
    assert result.status == 0x0000, result.output[-2000:]
    (path,) = (tmp_path / "got").iterdir()
    (original,) = node.objects.glob(f"*/*/{uid}.dcm")
    meta = dcmread(original, stop_before_pixels=True).file_meta
    offered = dcmtk.offered(result, meta.MediaStorageSOPClassUID)
    if kind.syntax == "i" and offered == ["LittleEndianImplicit"]:
        assert contents(tmp_path / "got") == {uid: stored(node, ALL)[uid]}
        return
    assert "LittleEndianExplicit" in offered
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    if kind.syntax == "b":  # words of 16 bits are swapped, as DCMTK does; pydicom reads 32
        dcmtk.done(dcmtk.run("dcmconv", "+te", original, tmp_path / "converted.dcm"))
        original = tmp_path / "converted.dcm"
    if "PixelData" in dcmread(original):
        assert_same_pixels(path, original)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: Path(kind.file).stem)
def test_whoever_takes_the_stored_syntax_gets_each_kind_byte_for_byte(
    node: Loaded, kind: Kind
) -> None:
    uid = node.kinds[kind]
    (path,) = node.objects.glob(f"*/*/{uid}.dcm")
    meta = dcmread(path, stop_before_pixels=True).file_meta
    offered = [(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)]
    status, got = pynetdicom_client.get(node.port, instance_keys(node, uid), "IMAGE", offered)
    assert status == 0x0000
    assert got == {uid: stored(node, ALL)[uid]}


def test_getscu_gets_a_whole_patient(dcmtk: Any, node: Loaded, tmp_path: Path) -> None:
    keys = {"PatientID": "P1"}
    result = dcmtk.get(node.port, "PATIENT", keys, tmp_path / "got", model="patient")
    assert result.status == 0x0000, result.output[-2000:]
    assert result.counters == ("none", "4", "0", "0")
    assert contents(tmp_path / "got") == stored(node, TWO_SERIES)


# C-MOVE


def test_movescu_moves_every_kind_byte_for_byte(dcmtk: Any, node: Loaded, tmp_path: Path) -> None:
    with dcmtk.storescp(tmp_path / "got", "+xa", "-aet", "DST", port=node.destination):
        result = dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": ALL}, to="DST")
    assert result.status == 0x0000, result.output[-2000:]
    assert result.counters == ("none", str(len(KINDS) + 1), "0", "0")
    assert contents(tmp_path / "got") == stored(node, ALL)


@pytest.mark.parametrize(
    ("model", "level", "keys", "expected"),
    [
        ("patient", "PATIENT", {"PatientID": "P1"}, "3."),
        ("patient", "STUDY", {"PatientID": "P1", "StudyInstanceUID": TWO_SERIES}, "3."),
        ("patient-study", "STUDY", {"PatientID": "P2", "StudyInstanceUID": OTHER}, "4."),
        ("study", "STUDY", {"StudyInstanceUID": f"{TWO_SERIES}\\{OTHER}"}, ""),
        (
            "study",
            "SERIES",
            {"StudyInstanceUID": TWO_SERIES, "SeriesInstanceUID": f"{TWO_SERIES}.2"},
            "3.2.",
        ),
        (
            "study",
            "IMAGE",
            {
                "StudyInstanceUID": TWO_SERIES,
                "SeriesInstanceUID": f"{TWO_SERIES}.1",
                "SOPInstanceUID": f"{TWO_SERIES}.1.1\\{TWO_SERIES}.1.2",
            },
            "3.1.",
        ),
    ],
)
def test_movescu_moves_what_its_level_names(
    dcmtk: Any,
    node: Loaded,
    tmp_path: Path,
    model: str,
    level: str,
    keys: dict[str, str],
    expected: str,
) -> None:
    with dcmtk.storescp(tmp_path / "got", port=node.destination):
        result = dcmtk.move(node.port, level, keys, to="DST", model=model)
    assert result.status == 0x0000, result.output[-2000:]
    everything = stored(node, TWO_SERIES, OTHER)
    wanted = {uid for uid in everything if uid.startswith(f"{ROOT}.{expected}")}
    assert contents(tmp_path / "got") == {uid: everything[uid] for uid in wanted}


def test_a_destination_that_takes_only_uncompressed_gets_the_objects_decoded(
    dcmtk: Any, node: Loaded, tmp_path: Path
) -> None:
    with dcmtk.storescp(tmp_path / "got", "+x=", port=node.destination):
        result = dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": ALL}, to="DST")
    assert result.status == 0x0000, result.output[-2000:]
    got = {dcmread(path).SOPInstanceUID: path for path in (tmp_path / "got").iterdir()}
    assert len(got) == len(KINDS) + 1
    for uid, path in got.items():
        assert dcmread(path).file_meta.TransferSyntaxUID in UncompressedTransferSyntaxes
        (original,) = node.objects.glob(f"*/*/{uid}.dcm")
        if dcmread(original).file_meta.TransferSyntaxUID.is_encapsulated:
            assert_same_pixels(path, original)


def test_what_cannot_be_decoded_fails_and_the_rest_is_moved(
    dcmtk: Any, node: Loaded, tmp_path: Path
) -> None:
    keys = {"StudyInstanceUID": f"{VIDEO}\\{OTHER}"}
    with dcmtk.storescp(tmp_path / "got", "+x=", port=node.destination):
        result = dcmtk.move(node.port, "STUDY", keys, to="DST")
    assert result.status == 0xB000, result.output[-2000:]
    assert result.counters == ("none", "1", "1", "0")
    assert "FailedSOPInstanceUIDList" in result.output
    assert contents(tmp_path / "got") == stored(node, OTHER)


def test_an_unknown_destination_is_refused(dcmtk: Any, node: Loaded) -> None:
    result = dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": OTHER}, to="NOWHERE")
    assert result.status == UNKNOWN_DESTINATION


def test_a_destination_that_does_not_listen_fails_every_object(dcmtk: Any, node: Loaded) -> None:
    result = dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": TWO_SERIES}, to="CLOSED")
    assert result.status == FAILED_ALL
    assert result.counters == ("none", "0", "4", "0")
    assert "FailedSOPInstanceUIDList" in result.output
    assert dcmtk.echo(node.port).code == 0


@pytest.mark.parametrize("misbehaviour", ["--refuse", "--abort-after", "--abort-during"])
def test_a_destination_that_refuses_or_aborts_fails_its_objects_only(
    dcmtk: Any, node: Loaded, tmp_path: Path, misbehaviour: str
) -> None:
    answers_echo = misbehaviour != "--refuse"
    with dcmtk.storescp(
        tmp_path / "got", misbehaviour, port=node.destination, answers_echo=answers_echo
    ):
        result = dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": TWO_SERIES}, to="DST")
    assert result.status == FAILED_ALL, result.output[-2000:]
    assert dcmtk.echo(node.port).code == 0


def test_nothing_found_is_a_success_without_sub_operations(dcmtk: Any, node: Loaded) -> None:
    result = dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": "1.2.3"}, to="DST")
    assert result.status == 0x0000
    assert result.counters == ("none", "0", "0", "0")


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("STUDY", {"StudyInstanceUID": ""}),  # never "everything"
        ("STUDY", {"PatientID": "P1"}),
        ("SERIES", {"SeriesInstanceUID": f"{TWO_SERIES}.1"}),
        ("PATIENT", {"PatientID": "P1"}),  # not a level of Study Root
        ("STUDY", {"StudyInstanceUID": "*"}),
    ],
)
def test_a_retrieve_that_names_nothing_is_refused(
    dcmtk: Any, node: Loaded, tmp_path: Path, level: str, keys: dict[str, str]
) -> None:
    assert dcmtk.move(node.port, level, keys, to="DST").status == 0xA900
    assert dcmtk.get(node.port, level, keys, tmp_path / "got").status == 0xA900


def test_movescu_cancels(dcmtk: Any, node: Loaded, tmp_path: Path) -> None:
    keys = {"StudyInstanceUID": TWO_SERIES}
    since = len(node.lines)
    slow = ("--sleep-after", 1)
    with dcmtk.storescp(tmp_path / "got", *slow, port=node.destination):
        result = dcmtk.move(node.port, "STUDY", keys, to="DST", options=("--cancel", 1))
    said = node.wait_for("C-MOVE", since=since)
    assert said["status"] == "0xFE00"
    assert result.status == CANCELLED
    assert 1 <= said["completed"] < 4
    assert said["remaining"] == 4 - said["completed"]
    assert len(contents(tmp_path / "got")) == said["completed"]


def assert_same_pixels(path: Path, original: Path) -> None:
    """Both files have the same image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about how some files are encoded
        assert numpy.array_equal(dcmread(path).pixel_array, dcmread(original).pixel_array)
