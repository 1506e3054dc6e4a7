"""Fuzzes HL7 messages: from their bytes to the items that would be kept, and to the answer."""

from __future__ import annotations

from collections.abc import Iterator

from lfscp.archive.workflow.worklist.worklist import InvalidItemError, complete_item
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import encode_tree
from lfscp.hl7.acknowledgement import acknowledge
from lfscp.hl7.errors import MessageError
from lfscp.hl7.message import Message, read_message
from lfscp.hl7.orders import groups_of, items_of
from lfscp.hl7.patients import changes
from lfscp.hl7.stations import Stations
from tests.support.hl7_messages import PID, adt, header, message, omi, orm

_STATIONS = Stations(["X=CT"], ["*=ROOM1"])


def run_hl7(data: bytes) -> None:
    """A message is refused with a place, or its items can be kept; either has an answer."""
    read: Message | None = None
    error: MessageError | None = None
    try:
        read = read_message(data)
        changes({each.name: [each] for each in reversed(read.segments)})
        for item in items_of(groups_of(read), _STATIONS):
            encode_tree(complete_item(item.dataset, item.given))
            assert type(item.numbers).of_key(item.numbers.key) == item.numbers
    except MessageError as refused:
        error = refused
    except (InvalidItemError, DatasetError, UnicodeEncodeError):
        pass
    answer = acknowledge(read, "LFSCP", error)
    assert not set(b"\x0b\x1c") & set(answer)
    assert answer.count(b"\r") == (2 if error is None else 3)


def hl7_seeds() -> Iterator[bytes]:
    """Messages of each kind, character set and version."""
    yield from (orm(), omi(), adt("A08"), adt("A40", "MRG|4711^^^HOSP"), orm(study="", filler=""))
    for charset, codec in (("8859/1", "latin-1"), ("~ISO IR87", "iso2022_jp")):
        yield message(
            header("ORM^O01", charset=charset),
            PID.replace("ö", "o").replace("ü", "u"),
            charset=codec,
        )
    yield b"MSH#*+!%#RIS#HOSP#LF#PACS#20260101##ORM*O01#ID!E!7#P#2.5.1######8859/1\rZZZ#1\r"
