"""Whatever SOP class a node stores goes in and comes out again: standard, retired, private."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless
from pynetdicom import AE, evt

from lfscp.archive.errors import ClassNotStoredError
from lfscp.archive.store.received_objects import Received
from lfscp.config import Settings
from lfscp.jobs.model import State
from lfscp.scu.identifiers import FIND_MODELS, identifier
from lfscp.scu.parts import RetrieveProgress
from lfscp.scu.peer import Peer
from lfscp.scu.proposals import MAX_CONTEXTS
from lfscp.scu.retrieve import get
from lfscp.scu.send import objects_in, send
from lfscp.scu.sop_classes import sop_classes_of
from lfscp.services.contexts import require_stored_class, storage_sop_classes
from tests.e2e.test_jobs_retrieve import dataset_bytes, jobs_of, retrieve
from tests.support.node_process import NodeProcess, run_lfscp
from tests.support.sample_objects import made
from tests.support.served_archive import CT, EXPLICIT, Node, image, served

STUDY = "1.2.826.0.1.3680043.8.498.1"
RETIRED = "1.2.840.10008.5.1.4.1.1.6"  # Ultrasound Image Storage
PRIVATE = "1.3.6.1.4.1.9999.1.1"


def peer_of(node: Node) -> Peer:
    return Peer("LFSCP", "127.0.0.1", node.port)


def got(node: Node, keys: dict[str, str], level: str = "STUDY") -> dict[str, bytes]:
    """What `lfscp get` does: ask which SOP classes there are, then get them."""
    objects: dict[str, bytes] = {}

    def keep(received: Received) -> int:
        assert received.dataset is not None
        objects[received.sop_instance_uid] = bytes(received.dataset)
        return 0x0000

    model = "patient" if level == "PATIENT" else "study"
    found = sop_classes_of(peer_of(node), keys, model)
    asked = identifier(keys, level)
    result = get(peer_of(node), asked, on_object=keep, model=model, sop_classes=found)
    assert result.failed == 0
    return objects


@pytest.mark.parametrize("count", [1, 60, 120])
def test_every_standard_class_comes_out_again(tmp_path: Path, count: int) -> None:
    """However many of them are in one study; the retired ones as well."""
    classes = storage_sop_classes() if count > 1 else (RETIRED,)
    with served(tmp_path) as node:
        for start in range(0, len(classes), count):
            study = f"{STUDY}.{start + 1}"
            stored = {}
            for sop_class in classes[start : start + count]:
                dataset = image(study=study, series=f"{study}.1", sop_class=sop_class)
                stored[str(dataset.SOPInstanceUID)] = node.store(dataset)
            assert got(node, {"StudyInstanceUID": study}) == stored


@pytest.mark.parametrize("sop_class", [RETIRED, PRIVATE])
@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_unusual_classes_come_at_every_level(tmp_path: Path, sop_class: str, level: str) -> None:
    with served(tmp_path) as node:
        dataset = image(study=STUDY, series=f"{STUDY}.1", sop_class=sop_class)
        data = node.store(dataset)
        keys = {
            "PATIENT": {"PatientID": "P1"},
            "STUDY": {"StudyInstanceUID": STUDY},
            "SERIES": {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"},
            "IMAGE": {
                "StudyInstanceUID": STUDY,
                "SeriesInstanceUID": f"{STUDY}.1",
                "SOPInstanceUID": str(dataset.SOPInstanceUID),
            },
        }
        assert got(node, keys[level], level) == {str(dataset.SOPInstanceUID): data}


@pytest.mark.parametrize("sop_class", [RETIRED, PRIVATE])
def test_the_commands_send_and_get_it(node: NodeProcess, tmp_path: Path, sop_class: str) -> None:
    file = made(tmp_path / "in", SOPClassUID=sop_class, StudyInstanceUID=STUDY)
    target = f"LFSCP@127.0.0.1:{node.port}"
    sent = run_lfscp("send", target, file)
    assert (sent.returncode, sent.stdout) == (0, "1 sent\n"), sent.stderr
    key = f"StudyInstanceUID={STUDY}"
    result = run_lfscp("get", target, "-k", key, "-od", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    (stored,) = node.objects.rglob("*.dcm")
    assert (tmp_path / "out" / file.name).read_bytes()[-500:] == stored.read_bytes()[-500:]


@pytest.mark.parametrize("sop_class", [RETIRED, PRIVATE])
@pytest.mark.parametrize("level", ["STUDY", "SERIES"])
def test_a_retrieve_job_brings_it(tmp_path: Path, sop_class: str, level: str) -> None:
    with served(tmp_path / "theirs") as theirs, jobs_of(tmp_path / "mine") as (service, archive):
        dataset = image(study=STUDY, series=f"{STUDY}.1", sop_class=sop_class)
        data = theirs.store(dataset)
        keys = {"StudyInstanceUID": STUDY}
        if level == "SERIES":
            keys["SeriesInstanceUID"] = f"{STUDY}.1"
        ended = retrieve(service, peer_of(theirs), keys=keys, level=level)
        assert (ended.state, ended.reason) == (State.DONE, "")
        assert dataset_bytes(archive, STUDY) == {str(dataset.SOPInstanceUID): (EXPLICIT, data)}


def test_a_job_stores_no_class_that_the_node_does_not(tmp_path: Path) -> None:
    strict = {"accept_unknown_sop_classes": False}
    with (
        served(tmp_path / "theirs") as theirs,
        jobs_of(tmp_path / "mine", storage=strict) as (service, archive),
    ):
        theirs.store(image(study=STUDY, series=f"{STUDY}.1", sop_class=PRIVATE))
        ended = retrieve(service, peer_of(theirs), method="get")
        assert ended.state is State.FAILED
        assert f"SOP class {PRIVATE} is not accepted" in ended.reason
        assert archive.statistics().instances == 0


# One rule for what is taken


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.3.1.2.1.1",  # Detached Patient Management, retired
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol: of no study
        "1.2.840.10008.1.3.10",  # a DICOMDIR
        "1.2.840.10008.1.2.1",  # a transfer syntax
    ],
)
def test_what_the_standard_knows_as_something_else_is_no_storage(tmp_path: Path, uid: str) -> None:
    ae = AE()
    ae.add_requested_context(uid)
    ae.add_requested_context(PRIVATE)
    with served(tmp_path) as node:
        association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
        assert [str(cx.abstract_syntax) for cx in association.accepted_contexts] == [PRIVATE]
        association.release()


NAMELESS = "1.2.840.10008.5.1.4.1.1.12.77"  # retired, with its name


@pytest.mark.parametrize("uid", [RETIRED, PRIVATE, NAMELESS, "1.2.840.10008.5.1.4.1.1.999"])
def test_files_and_contexts_go_by_the_same_rule(tmp_path: Path, uid: str) -> None:
    require_stored_class(Settings(data_dir=tmp_path), uid)
    ae = AE()
    ae.add_requested_context(uid)
    with served(tmp_path) as node:
        association = ae.associate("127.0.0.1", node.port, ae_title="LFSCP")
        assert association.is_established
        association.release()


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.5.1.4.38.1", "1.2.840.10008.1.1", "1.2.840.10008.3.1.2.1.1"]
)
def test_files_of_other_classes_are_refused_as_their_contexts_are(uid: str) -> None:
    with pytest.raises(ClassNotStoredError, match="is no SOP class of objects in a study"):
        require_stored_class(Settings(), uid)


def test_a_class_that_is_not_taken_is_said_as_such(tmp_path: Path) -> None:
    made(tmp_path / "in", SOPClassUID=PRIVATE)
    made(tmp_path / "in")
    objects = objects_in([tmp_path / "in"], on_other=lambda *_: None)
    with served(tmp_path / "node", storage={"accept_unknown_sop_classes": False}) as node:
        for sent in (objects, [each for each in objects if each.sop_class_uid == PRIVATE]):
            failed = send(peer_of(node), sent).failed
            assert [reason for _, reason in failed] == ["the receiver does not take its SOP class"]


def test_a_transfer_syntax_that_is_not_taken_is_said_as_such(tmp_path: Path) -> None:
    file = made(tmp_path / "in")
    file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.3.9999.70000000.1\0"))
    objects = objects_in([tmp_path / "in"], on_other=lambda *_: None)
    ae = AE("DEST")
    ae.add_supported_context(CT, JPEG2000Lossless)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        peer = Peer("DEST", "127.0.0.1", server.server_address[1])
        failed = send(peer, objects).failed
    finally:
        server.shutdown()
    assert [reason.partition(" ")[2] for _, reason in failed] == [
        "receiver takes neither 1.3.9999.70000000.1 nor uncompressed"
    ]


# Peers that do not tell which SOP classes a study has


@contextmanager
def silent_peer(
    instances: dict[str, list[str]], told: str = ""
) -> Iterator[tuple[Peer, list[Any]]]:
    """A query SCP with one study: SOP classes by Series UID. It tells with the study if it may."""
    asked: list[Any] = []

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        keys = event.identifier
        asked.append(keys)
        level = keys.QueryRetrieveLevel
        series = [uid for uid in instances if keys.get("SeriesInstanceUID") in (None, "", uid)]
        for uid in series[:1] if level == "STUDY" else series:
            for sop_class in instances[uid] if level == "IMAGE" else [""]:
                match = Dataset()
                match.QueryRetrieveLevel, match.StudyInstanceUID = level, STUDY
                if level == "STUDY" and told:
                    match.SOPClassesInStudy = told
                if level != "STUDY":
                    match.SeriesInstanceUID = uid
                if level == "IMAGE":
                    match.SOPClassUID = sop_class
                yield 0xFF00, match
        yield 0x0000, None

    ae = AE("SILENT")
    ae.add_supported_context(FIND_MODELS["study"])
    handlers: list[Any] = [(evt.EVT_C_FIND, find)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield Peer("SILENT", "127.0.0.1", server.server_address[1]), asked
    finally:
        server.shutdown()


def test_the_objects_tell_where_the_study_does_not() -> None:
    instances = {"1.1": [CT, CT, RETIRED], "1.2": [PRIVATE]}
    with silent_peer(instances) as (peer, asked):
        assert sop_classes_of(peer, {"StudyInstanceUID": STUDY}, "study") == [CT, RETIRED, PRIVATE]
        assert [keys.QueryRetrieveLevel for keys in asked] == ["STUDY", "SERIES", "IMAGE", "IMAGE"]
        one = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": "1.2"}
        assert sop_classes_of(peer, one, "study") == [PRIVATE]


def test_a_study_that_tells_is_asked_once() -> None:
    with silent_peer({"1.1": [CT]}, told=PRIVATE) as (peer, asked):
        assert sop_classes_of(peer, {"StudyInstanceUID": STUDY}, "study") == [PRIVATE]
        assert len(asked) == 1


def test_without_a_study_or_patient_nothing_is_asked() -> None:
    nobody = Peer("NOBODY", "127.0.0.1", 9)
    assert sop_classes_of(nobody, {"AccessionNumber": "1"}, "study") == []


def test_a_study_of_more_classes_than_an_association_proposes_comes_whole(tmp_path: Path) -> None:
    classes = storage_sop_classes()
    assert len(classes) > MAX_CONTEXTS
    told: list[RetrieveProgress] = []
    with served(tmp_path) as node:
        stored = {}
        for sop_class in classes:
            dataset = image(study=STUDY, series=f"{STUDY}.1", sop_class=sop_class)
            stored[str(dataset.SOPInstanceUID)] = node.store(dataset)
        kept: dict[str, bytes] = {}

        def keep(received: Received) -> int:
            assert received.dataset is not None
            kept[received.sop_instance_uid] = bytes(received.dataset)
            return 0x0000

        asked = identifier({"StudyInstanceUID": STUDY}, "STUDY")
        found = sop_classes_of(peer_of(node), {"StudyInstanceUID": STUDY}, "study")
        result = get(peer_of(node), asked, on_object=keep, sop_classes=found, progress=told.append)
    assert kept == stored
    assert (result.status, result.completed, result.failed) == (0x0000, len(classes), 0)
    assert [each.completed for each in told] == sorted(each.completed for each in told)
