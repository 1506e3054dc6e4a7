"""C-FIND by names without regard to accents: when it is negotiated, or a setting says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from tests.support.node_process import NodeProcess, StartNode
from tests.support.pynetdicom_client import FIND, association, store

EXPLICIT = str(ExplicitVRLittleEndian)


def stored(folder: Path, name: str) -> Path:
    """A CT of this patient, as a file."""
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = name
    file = folder / "ct.dcm"
    dataset.save_as(file)
    return file


def matches(port: int, name: str, options: bytes = b"") -> list[str]:
    """The names that a query finds, with these options of extended negotiation proposed."""
    negotiation = SOPClassExtendedNegotiation()
    negotiation.sop_class_uid = FIND
    negotiation.service_class_application_information = options
    asked = Dataset()
    asked.SpecificCharacterSet = "ISO_IR 192"
    asked.QueryRetrieveLevel = "STUDY"
    asked.StudyInstanceUID = ""
    asked.PatientName = name
    extended = {"ext_neg": [negotiation]} if options else {}
    with association(port, [(FIND, EXPLICIT)], **extended) as assoc:
        found = [answer for _, answer in assoc.send_c_find(asked, FIND) if answer is not None]
    return [str(each.PatientName) for each in found]


@pytest.mark.second_database
def test_fuzzy_matching_is_used_when_it_is_negotiated_or_set(
    start_node: StartNode, tmp_path: Path, index_url: str
) -> None:
    index = f'[index]\nurl = "{index_url}"\n' if index_url else ""
    node: NodeProcess = start_node(configuration=index, flags=["--workers", 1])
    assert store(node.port, stored(tmp_path, "Müller^Jörg")) == [0]
    for name in ("muller*", "MUELLER^JOERG"):
        assert matches(node.port, name) == []
        assert matches(node.port, name, b"\x00\x00\x00") == []
        assert matches(node.port, name, b"\x00\x00\x01") == ["Müller^Jörg"]
    assert matches(node.port, "Müller*") == ["Müller^Jörg"]
    node.reload(f"{index}[query]\nfuzzy_names = true\n")
    assert matches(node.port, "muller*") == ["Müller^Jörg"]
    assert matches(node.port, "miller*") == []
