"""DCMTK's echoscu, storescu and dcmsend against a node: what is acknowledged is stored whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.support.node_process import NodeProcess, StartNode, proper_end
from tests.support.sample_objects import KINDS, Kind, document, made, sample, video

PRIVATE = "1.2.276.0.7230010.3.1.0.1"  # DCMTK's private SOP class of its own
REQUIRED = ("-R",)  # offers what the files need; storescu else knows some SOP classes only


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node for tests that store objects of their own."""
    with proper_end(NodeProcess(tmp_path_factory.mktemp("shared"))) as node:
        yield node.start()


def stored_file(node: NodeProcess, source: Path) -> Path:
    """Where the node keeps the object of a file."""
    (found,) = node.objects.glob(f"*/*/{source.stem}.dcm")
    return found


def test_a_node_answers_echoscu(dcmtk: Any, shared_node: NodeProcess) -> None:
    result = dcmtk.echo(shared_node.port, "-aet", "DCMTK", "-aec", "LFSCP", "--repeat", 3)
    assert result.code == 0, result.output
    assert result.output.count("Received Echo Response (Success)") == 3
    shared_node.wait_for("C-ECHO", calling_ae_title="DCMTK", status="0x0000", count=3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: Path(kind.file).stem)
def test_an_object_is_kept_exactly_as_storescu_sends_it(
    dcmtk: Any, shared_node: NodeProcess, tmp_path: Path, kind: Kind
) -> None:
    file = sample(kind.file, tmp_path / "source")
    with dcmtk.storescp(tmp_path / "reference", "+xa", "-pm") as port:
        dcmtk.done(dcmtk.store(port, file, propose=kind.propose, options=REQUIRED))
    result = dcmtk.done(dcmtk.store(shared_node.port, file, propose=kind.propose, options=REQUIRED))
    assert "Received Store Response (Success)" in result.output
    stored = stored_file(shared_node, file)
    (reference,) = (tmp_path / "reference").iterdir()
    assert dcmtk.dataset_bytes(stored) == dcmtk.dataset_bytes(reference)
    source = dcmread(file, stop_before_pixels=True)
    assert dcmread(stored).file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID


def test_objects_without_pixels_and_with_a_video_are_stored(
    dcmtk: Any, shared_node: NodeProcess, tmp_path: Path
) -> None:
    for file, propose in ((document(tmp_path), "-x="), (video(tmp_path), "-xm")):
        dcmtk.done(dcmtk.store(shared_node.port, file, propose=propose, options=REQUIRED))
        assert stored_file(shared_node, file).is_file()


def test_dcmsend_stores_objects_of_all_kinds_in_one_run(
    dcmtk: Any, shared_node: NodeProcess, tmp_path: Path
) -> None:
    files = [sample(kind.file, tmp_path) for kind in KINDS]
    report = tmp_path / "report.txt"
    options = ("--decompress-never", "--create-report-file", report)
    result = dcmtk.run("dcmsend", *options, "127.0.0.1", shared_node.port, *files)
    assert result.code == 0, result.output
    assert all(stored_file(shared_node, file).is_file() for file in files)


@pytest.mark.parametrize("max_pdu", [4096, 131072])
def test_any_pdu_size_of_a_client_will_do(
    dcmtk: Any, shared_node: NodeProcess, tmp_path: Path, max_pdu: int
) -> None:
    file = sample("examples_palette.dcm", tmp_path)
    options = ("-pdu", max_pdu, "--max-send-pdu", max_pdu)
    dcmtk.done(dcmtk.store(shared_node.port, file, options=options))
    assert stored_file(shared_node, file).stat().st_size > 283_000


def test_an_object_of_several_megabytes_is_kept_whole(
    dcmtk: Any, shared_node: NodeProcess, tmp_path: Path
) -> None:
    pixels = bytes(range(256)) * 40_000  # 10 MB: more than is kept in memory
    file = made(tmp_path, PixelData=pixels)
    dcmtk.done(dcmtk.store(shared_node.port, file))
    assert dcmread(stored_file(shared_node, file)).PixelData == pixels
    assert list((shared_node.objects / ".incoming").iterdir()) == []


def test_the_same_object_again_is_a_success_and_kept_once(
    dcmtk: Any, shared_node: NodeProcess, tmp_path: Path
) -> None:
    file = made(tmp_path)
    for _ in range(2):
        dcmtk.done(dcmtk.store(shared_node.port, file))
    shared_node.wait_for("C-STORE", sop_instance_uid=file.stem, outcome="identical")
    assert stored_file(shared_node, file).is_file()


@pytest.mark.parametrize(
    ("policy", "status", "kept"),
    [("keep", "0x0000", "first"), ("replace", "0x0000", "second"), ("reject", "0xA700", "first")],
)
def test_other_content_under_the_same_uid_follows_the_policy(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, policy: str, status: str, kept: str
) -> None:
    node = start_node(configuration=f'duplicates = "{policy}"')
    uid = generate_uid()
    first = made(tmp_path / "a", SOPInstanceUID=uid, ImageComments="first")
    second = made(
        tmp_path / "b",
        SOPInstanceUID=uid,
        ImageComments="second",
        StudyInstanceUID=dcmread(first).StudyInstanceUID,
        SeriesInstanceUID=dcmread(first).SeriesInstanceUID,
    )
    dcmtk.done(dcmtk.store(node.port, first))
    dcmtk.store(node.port, second)
    assert node.wait_for("C-STORE", count=2)["status"] == status
    (stored,) = (path for path in node.objects.rglob("*.dcm"))
    assert dcmread(stored).ImageComments == kept


def send_unchecked(dcmtk: Any, node: NodeProcess, file: Path) -> Any:
    """Send an object of a SOP class that DCMTK does not know."""
    return dcmtk.run("dcmsend", "-v", "--no-uid-checks", "127.0.0.1", node.port, file)


STRICT = "storage.accept_unknown_sop_classes = false"


def test_a_strict_node_stores_a_private_sop_class_only_where_configured(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    file = made(tmp_path, SOPClassUID=PRIVATE)
    strict = start_node("strict", configuration=STRICT)
    assert "No Acceptable Presentation Contexts" in send_unchecked(dcmtk, strict, file).output
    assert list(strict.objects.rglob("*.dcm")) == []
    private = f'storage.private_sop_classes = ["{PRIVATE}"]'
    named = start_node("named", configuration=f"{STRICT}\n{private}")
    dcmtk.done(send_unchecked(dcmtk, named, file))
    assert stored_file(named, file).is_file()


def test_unknown_sop_classes_are_stored(dcmtk: Any, node: NodeProcess, tmp_path: Path) -> None:
    file = made(tmp_path, SOPClassUID="1.2.826.0.1.3680043.9.7433.99.1")
    dcmtk.done(send_unchecked(dcmtk, node, file))
    assert stored_file(node, file).is_file()


def test_an_object_without_its_study_is_refused_and_leaves_nothing(
    dcmtk: Any, node: NodeProcess, tmp_path: Path
) -> None:
    dcmtk.store(node.port, made(tmp_path, StudyInstanceUID=None))
    assert node.wait_for("C-STORE")["status"] == "0xC000"
    assert [path for path in node.objects.rglob("*") if path.is_file()] == []


def test_a_wrong_called_ae_title_is_rejected_where_required(
    dcmtk: Any, start_node: StartNode
) -> None:
    node = start_node(configuration="server.require_called_ae_title = true")
    assert dcmtk.echo(node.port, "-aec", "LFSCP").code == 0
    rejected = dcmtk.echo(node.port, "-aec", "OTHER")
    assert rejected.code != 0
    assert "Called AE Title Not Recognized" in rejected.output


def test_only_known_peers_come_in_and_do_what_they_may(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(
        configuration="""
            server.require_known_peers = true
            [peers.VERIFIER]
            host = "127.0.0.1"
            port = 104
            may = ["echo"]
        """
    )
    assert "Calling AE Title Not Recognized" in dcmtk.echo(node.port, "-aet", "STRANGER").output
    assert dcmtk.echo(node.port, "-aet", "VERIFIER").code == 0
    file = made(tmp_path)
    refused = dcmtk.store(node.port, file, options=("-aet", "VERIFIER"))
    assert refused.code != 0 or "Success" not in refused.output
    assert node.wait_for("C-STORE")["status"] == "0x0124"
    assert list(node.objects.rglob("*.dcm")) == []
