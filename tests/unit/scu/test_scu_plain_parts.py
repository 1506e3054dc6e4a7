"""The parts of the client that need no network: peers, identifiers, proposals, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from lfscp.config.access import PeerSettings as ConfiguredPeer
from lfscp.config.server import ServerSection
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.scu.echo import echo
from lfscp.scu.errors import PeerError
from lfscp.scu.files import NoObjectError, files_below, read_instance
from lfscp.scu.identifiers import identifier, plain
from lfscp.scu.peer import Peer
from lfscp.scu.proposals import MAX_CONTEXTS, MAX_SYNTAXES, get_proposals

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"


def test_a_peer_survives_json() -> None:
    peer = Peer("PACS", "::1", 104, calling_ae_title="ME", tls=True, tls_ca_file="/ca.pem")
    assert Peer.from_json(peer.to_json()) == peer
    assert str(peer) == "PACS@[::1]:104"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"ae_title": "A", "host": "h"}, "the field 'port' is missing"),
        ({"ae_title": "A", "host": "h", "port": 1, "colour": "red"}, "unknown field 'colour'"),
        ({"ae_title": "A", "host": "h", "port": "104"}, "port '104': expected a number"),
        ({"ae_title": "A", "host": "h", "port": True}, "port True: expected a number"),
        ({"ae_title": "A", "host": "h", "port": 70000}, "port 70000: expected a number"),
        ({"ae_title": "A", "host": " ", "port": 1}, "host ' ': expected a name"),
        ({"ae_title": "A" * 17, "host": "h", "port": 1}, "expected an AE title of 1 to 16"),
        ({"ae_title": "A", "host": "h", "port": 1, "dimse_timeout_s": 0}, "dimse_timeout_s 0"),
    ],
)
def test_a_peer_that_cannot_be_is_refused_with_its_field(
    values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        Peer.from_json(values)


@pytest.mark.parametrize("host", ["....", "a" * 70 + ".example"])
def test_a_name_that_no_host_can_have_is_said_and_not_tried_again(host: str) -> None:
    with pytest.raises(PeerError, match="its name is no host name") as raised:
        echo(Peer("PACS", host, 104))
    assert not raised.value.passing


def test_a_configured_peer_is_called_by_this_node() -> None:
    configured = ConfiguredPeer(host="pacs", port=104, tls=True)
    peer = Peer.configured("PACS", configured, ServerSection(ae_title="ME"))
    assert (peer.ae_title, peer.calling_ae_title, peer.host, peer.port, peer.tls) == (
        *("PACS", "ME", "pacs", 104),
        True,
    )


def test_an_identifier_takes_wildcards_ranges_and_lists() -> None:
    keys = {
        "PatientName": "Mü*",
        "StudyDate": "20200101-",
        "ModalitiesInStudy": ["CT", "MR"],
        "AccessionNumber": None,
        "NumberOfStudyRelatedInstances": "",
    }
    made = identifier(keys, "STUDY")
    assert made.QueryRetrieveLevel == "STUDY"
    assert made.SpecificCharacterSet == "ISO_IR 192"
    assert plain(made) == {
        "QueryRetrieveLevel": "STUDY",
        "StudyDate": "20200101-",
        "AccessionNumber": "",
        "ModalitiesInStudy": ["CT", "MR"],
        "PatientName": "Mü*",
        "NumberOfStudyRelatedInstances": "",
    }


def test_an_identifier_of_plain_letters_names_no_character_set() -> None:
    assert "SpecificCharacterSet" not in identifier({"PatientName": "Doe*"}, "STUDY")


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(ValueError, match="PatientNam"):
        identifier({"PatientNam": "x"}, "STUDY")


def test_sequences_and_private_elements_become_plain() -> None:
    item = Dataset()
    item.CodeValue = "T-D1100"
    dataset = Dataset()
    dataset.ProcedureCodeSequence = [item]
    dataset.add_new(0x00091001, "LO", "private")
    assert plain(dataset) == {"ProcedureCodeSequence": [{"CodeValue": "T-D1100"}]}


@pytest.mark.parametrize("classes", [[], [CT], [CT, MR], [f"1.2.3.{n}" for n in range(100)]])
def test_proposals_fit_an_association(classes: list[str]) -> None:
    proposals = get_proposals(classes)
    assert 0 < len(proposals) <= MAX_CONTEXTS
    assert all(0 < len(syntaxes) <= MAX_SYNTAXES for _, syntaxes in proposals)
    assert len(set(proposals)) == len(proposals)


def test_known_classes_get_a_context_for_every_usual_syntax_alone() -> None:
    proposals = get_proposals([CT, MR])
    assert {uid for uid, _ in proposals} == {CT, MR}
    for end in ("1", "1.99", "4.50", "4.70", "4.80", "4.90", "5"):
        assert (MR, (f"1.2.840.10008.1.2.{end}",)) in proposals


def test_a_file_is_read_from_its_head() -> None:
    found = read_instance(Path(str(get_testdata_file("CT_small.dcm"))))
    assert (found.sop_class_uid, found.transfer_syntax_uid) == (CT, EXPLICIT)
    assert found.dataset_offset + found.size == found.path.stat().st_size


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no DICOM file"),
        (b"hello", "no DICOM file"),
        (part10_header(CT, "1.2.3", EXPLICIT), "the dataset is empty"),
        (part10_header("1.2.840.10008.1.3.10", "1.2.3", EXPLICIT) + b"x", "a DICOMDIR"),
        (part10_header(CT, "1.2.3", EXPLICIT)[:200], "longer than the file"),
    ],
)
def test_what_is_no_object_is_said(content: bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(NoObjectError, match=expected):
        read_instance(file)


def test_folders_are_walked_in_order_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    for name in ("in/c", "in/b/a", "secret/s"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "away").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "file").symlink_to(tmp_path / "secret" / "s")
    found = [file.relative_to(tmp_path / "in") for file in files_below(tmp_path / "in")]
    assert found == [Path("c"), Path("b/a")]
