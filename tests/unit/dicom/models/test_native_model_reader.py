"""XML as the Native DICOM Model becomes a dataset; hostile and wrong XML is refused."""

from __future__ import annotations

import pytest

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Element
from lfscp.dicom.models.json_reader import from_json
from lfscp.dicom.models.native_model_reader import document_of_xml

PLAIN = '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">{}</NativeDicomModel>'


def model(inner: str) -> bytes:
    return PLAIN.format(inner).encode()


def test_every_kind_of_value_is_read():
    tree = from_json(
        document_of_xml(
            b'<?xml version="1.0" encoding="UTF-8"?>\n'
            + model(
                """
  <DicomAttribute tag="00080008" vr="CS" keyword="ImageType">
    <Value number="1">ORIGINAL</Value><Value number="3">AXIAL</Value>
  </DicomAttribute>
  <DicomAttribute tag="00100010" vr="PN" keyword="PatientName">
    <PersonName number="1">
      <Alphabetic><FamilyName>Müller</FamilyName><GivenName>Eva</GivenName>
        <NamePrefix>Dr</NamePrefix></Alphabetic>
      <Ideographic><FamilyName>山田</FamilyName></Ideographic>
    </PersonName>
  </DicomAttribute>
  <DicomAttribute tag="00280010" vr="US"><Value number="1">512</Value></DicomAttribute>
  <DicomAttribute tag="00189087" vr="FD"><Value number="1">-1.5e3</Value></DicomAttribute>
  <DicomAttribute tag="00080020" vr="DA"/>
  <DicomAttribute tag="00081140" vr="SQ">
    <Item number="1"><DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2</Value>
    </DicomAttribute></Item>
  </DicomAttribute>
  <DicomAttribute tag="00420011" vr="OB"><InlineBinary> AAEC
     Aw== </InlineBinary></DicomAttribute>
  <DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="here/1"/></DicomAttribute>"""
            )
        ),
        is_object=True,
    )
    assert tree.text(0x00080008) == "ORIGINAL\\\\AXIAL"
    assert tree.text(0x00100010) == "Müller^Eva^^Dr=山田"
    assert tree[0x00280010] == Element(b"US", b"\0\2")
    assert tree[0x00189087] == Element(b"FD", b"\0\0\0\0\0\x70\x97\xc0")
    assert tree[0x00080020] == Element(b"DA", "")
    assert tree.sequence(0x00081140)[0].text(0x00081155) == "1.2"
    assert tree[0x00420011] == Element(b"OB", b"\0\1\2\3")
    assert tree[0x7FE00010].value == b"here/1"


def test_private_elements_get_the_block_of_their_creator():
    private = (
        '<DicomAttribute tag="{}" vr="LO" privateCreator="{}"><Value>{}</Value></DicomAttribute>'
    )
    document = document_of_xml(
        model(
            '<DicomAttribute tag="00090011" vr="LO"><Value number="1">ACME</Value></DicomAttribute>'
            + private.format("00090001", "ACME", "a")
            + private.format("0009xx02", "OTHER", "b")
            + private.format("00091105", "ACME", "c")
        )
    )
    assert {tag: each["Value"] for tag, each in document.items()} == {
        "00090011": ["ACME"],
        "00091101": ["a"],
        "00090012": ["OTHER"],
        "00091202": ["b"],
        "00091105": ["c"],
    }


BOMB = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + model("&b;")
FILE = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + model(
    '<DicomAttribute tag="00100020" vr="LO"><Value>&a;</Value></DicomAttribute>'
)
DEEP = '<DicomAttribute tag="00081140" vr="SQ"><Item>' * 10_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "document type"),
        (FILE, "document type"),
        (b'<!DOCTYPE x SYSTEM "http://example.org/x.dtd">' + model(""), "document type"),
        (model(DEEP), "deep"),
        (model('<DicomAttribute tag="1"/>' * 200_001), "more than"),
        (model("<DicomAttribute>"), "not XML"),
        (b"", "not XML"),
        (b"{}", "not XML"),
        (b"\xff\xfe\xff", "not XML"),
        (b'<?xml version="1.0" encoding="no-such"?>' + model(""), "not XML"),
        (b"<html/>", "<html>"),
        (model("<Value>x</Value>"), "<Value>"),
        (
            model('<DicomAttribute tag="00189087" vr="FD"><Value>x</Value></DicomAttribute>'),
            "number",
        ),
        (
            model('<DicomAttribute tag="1" vr="LO"><Value number="999">x</Value></DicomAttribute>'),
            "order",
        ),
        (model('<DicomAttribute tag="00100020" vr="LO"/>' * 2), "twice"),
    ],
)
def test_what_is_no_dataset_is_refused(text: bytes, reason: str):
    with pytest.raises(DatasetError, match=reason):
        document_of_xml(text)
