"""Identifiers of queries and retrieves that mean harm, answered by the services themselves.

The bytes choose keys, values and how they are laid out; each value may be repeated ten thousand
times. Both databases are asked when LFSCP_FUZZ_POSTGRESQL names an empty one of PostgreSQL.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import islice, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from lfscp.archive.archive import Archive, Received
from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.services import status
from lfscp.services.query_retrieve import c_move_c_get
from lfscp.services.query_retrieve.c_find import ArchiveFind
from tests.support import archive_datasets

SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
FIND = "1.2.840.10008.5.1.4.1.2.%d.1"
GET = "1.2.840.10008.5.1.4.1.2.%d.3"
LEVEL = 0x00080052
LEVELS = (b"PATIENT ", b"STUDY ", b"SERIES", b"IMAGE ", b"IMAGE ", b"NONE")
INSTANCES = 3
# Every kind of matching, of an attribute with several values, in sequences and in objects.
TAGS = (
    *(0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080030, 0x00080050, 0x00080060),
    *(0x00080061, 0x00080062, 0x00081030, 0x00081032, 0x0008002A, 0x00100010, 0x00100020),
    *(0x00100030, 0x00101000, 0x00101001, 0x00101030, 0x00104000, 0x0020000D, 0x0020000E),
    *(0x00200010, 0x00200011, 0x00200013, 0x00201208, 0x00280010, 0x00400275, 0x0040A043),
    *(0x00081110, 0x00082112, 0x00204000, 0x00080104, 0x00080100, 0x00280030, 0x00091001),
    *(0x00080008, 0x52009230, 0x7FE00010, 0xFFFCFFFC, 0x00080000),
)
SEQUENCES = frozenset({0x00081032, 0x00400275, 0x0040A043, 0x00081110, 0x00082112, 0x52009230})
PIECES = (
    *(b"*", b"?", b"a", b"A=", b"^", b"=", b"\\", b"[", b"%", b"_", b" ", b"\0", b"-", b"1.2"),
    *(b"20240101", b"1E99999", b"NaN", b"sNaN", b"0E-9999999", b"+007", b"\x1b$B", b"\x1b(B"),
    *(b"\x1b$)C", b"\xff\xfe", "ß".encode(), "ﷺ".encode(), b"ISO 2022 IR 87", b"ISO_IR 192"),
    *(b"101010.123456", b"9" * 400, b"*a" * 40, b"A=" * 40, b"1.2.3\\" * 30, b"1.2.3.1", b"P1"),
)
MAX_VALUE = 200_000
COUNTS = (1, 1, 1, 2, 3, 17, 40, 300, 3_000, 12_000)
STATUSES = frozenset(
    {
        *(status.SUCCESS, status.PENDING, status.PENDING_WITHOUT_OPTIONAL_KEYS),
        *(status.IDENTIFIER_DOES_NOT_MATCH, status.UNABLE_TO_PROCESS),
        *(status.CANNOT_PERFORM_SUB_OPERATIONS, status.SUB_OPERATIONS_COMPLETE_WITH_FAILURES),
    }
)


class _Bytes:
    """The fuzzer's bytes, as choices; zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)

    def number(self, below: int) -> int:
        byte = 0 if self.is_over else self._data[self._at]
        self._at += 1
        return byte % below

    def some(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]


def _value(chosen: _Bytes) -> bytes:
    """Some pieces, each several times, and all of them several times."""
    parts = []
    for _ in range(1 + chosen.number(4)):
        kind = chosen.number(len(PIECES) + 8)
        piece = PIECES[kind] if kind < len(PIECES) else chosen.some(kind - len(PIECES))
        parts.append(_repeated(piece, chosen))
    return _repeated(b"".join(parts), chosen)


def _repeated(value: bytes, chosen: _Bytes) -> bytes:
    times = COUNTS[chosen.number(len(COUNTS))]
    return (value * min(times, MAX_VALUE // max(1, len(value)) + 1))[:MAX_VALUE]


def _keys(chosen: _Bytes, order: str, depth: int, most: int) -> bytes:
    tags = [TAGS[chosen.number(len(TAGS))] for _ in range(1 + chosen.number(most))]
    if depth == 1:
        tags.append(LEVEL)
    is_in_order = chosen.number(16) > 0
    return b"".join(
        _element(chosen, tag, order, depth) for tag in (sorted(set(tags)) if is_in_order else tags)
    )


def _element(chosen: _Bytes, tag: int, order: str, depth: int) -> bytes:
    if tag == LEVEL:
        level = LEVELS[chosen.number(len(LEVELS))]
        return _head(LEVEL, len(level), order, b"LO") + level
    if tag in SEQUENCES and depth < 40 and chosen.number(8):
        item = _keys(chosen, order, depth + 1, 3) if chosen.number(4) else b""
        is_defined = chosen.number(2)
        value = (
            _head(0xFFFEE000, len(item), order) + item
            if is_defined
            else _head(0xFFFEE000, 0xFFFFFFFF, order) + item + _head(0xFFFEE00D, 0, order)
        ) * COUNTS[chosen.number(len(COUNTS)) if len(item) < 100 else 0]
        vr = b"SQ"
    else:
        value, vr = _value(chosen), b"UT" if chosen.number(8) else b"LO"
        value += b" " * (len(value) % 2)
        if len(value) > 0xFFFE:
            vr = b"UT"
    length = len(value) + (chosen.number(256) == 255)  # which lies, then
    return _head(tag, length, order, vr) + value


def _head(tag: int, length: int, order: str, vr: bytes = b"") -> bytes:
    if order == "implicit" or not vr:
        sign = "<" if order != "big" else ">"
        return struct.pack(f"{sign}HHL", tag >> 16, tag & 0xFFFF, length)
    sign = "<" if order == "explicit" else ">"
    if vr == b"LO":
        return struct.pack(f"{sign}HH2sH", tag >> 16, tag & 0xFFFF, vr, length & 0xFFFF)
    return struct.pack(f"{sign}HH2sxxL", tag >> 16, tag & 0xFFFF, vr, length)


class _Association:
    """What the services ask of an association."""

    name = "fuzz"
    requestor = SimpleNamespace(ae_title="FUZZ", address="127.0.0.1", port=1, primitive=None)
    acse = SimpleNamespace(is_aborted=lambda: False)
    is_established = True
    accepted_contexts: tuple[Any, ...] = ()
    rejected_contexts: tuple[Any, ...] = ()

    def __init__(self, sop_class_uid: str, *, relational: bool, combined: bool) -> None:
        options = bytes([relational, combined, 0])
        self.acceptor = SimpleNamespace(sop_class_extended={sop_class_uid: options})


class _Event:
    """The event of a request, whose identifier pydicom decodes where the archive gives up."""

    is_cancelled = False
    move_destination = "NONE"

    def __init__(self, identifier: bytes, sop_class_uid: str, syntax: str, assoc: Any) -> None:
        self.request = SimpleNamespace(
            Identifier=BytesIO(identifier),
            AffectedSOPClassUID=sop_class_uid,
            MessageID=1,
            Priority=0,
        )
        self.context = SimpleNamespace(transfer_syntax=syntax, context_id=1)
        self.assoc = assoc

    @property
    def identifier(self) -> Dataset:
        syntax = self.context.transfer_syntax
        return decode(self.request.Identifier, syntax == SYNTAXES[0], syntax != SYNTAXES[2])


@cache
def _archives() -> list[tuple[Any, Any]]:
    """The handlers of C-FIND and C-GET over each archive, which has a few objects."""
    found = []
    for url in (None, os.environ.get("LFSCP_FUZZ_POSTGRESQL")):
        if url is None and found:
            continue
        folder = Path(tempfile.mkdtemp(prefix="lfscp-fuzz-"))
        archive = Archive.open(folder, durability="os", index_url=url)
        for number in range(1, INSTANCES + 1):
            values: dict[str, Any] = {"PatientName": "a" * 200 * number, "PatientComments": "a=b"}
            values |= {
                "OtherPatientIDs": ["P1", "P2"],
                "SeriesNumber": "7",
                "StudyDate": "20240101",
            }
            data = archive_datasets.encoded(number, **values)
            archive.store(
                Received(
                    archive_datasets.CT_IMAGE,
                    f"1.2.3.1.{number}",
                    SYNTAXES[1],
                    dataset=memoryview(data),
                )
            )
        settings = Settings.model_validate({"data_dir": folder, "logging": {"level": "critical"}})
        current = CurrentSettings(settings)
        find = _find_of(archive, current)
        _, (_, get) = c_move_c_get.handlers(archive, current)
        found.append((find, get))
    return found


def _find_of(archive: Archive, current: CurrentSettings) -> Any:
    return lambda event: ArchiveFind(archive, current.settings, event).responses()


def run_identifier(data: bytes) -> None:
    """One identifier, asked for with C-FIND and with C-GET."""
    chosen = _Bytes(data)
    number, root, options = chosen.number(3), 1 + chosen.number(3), chosen.number(4)
    identifier = _keys(chosen, ("implicit", "explicit", "big")[number], 1, 12)
    for find, get in _archives():
        _find(find, identifier, FIND % root, SYNTAXES[number], options)
        _get(get, identifier, GET % root, SYNTAXES[number], options)


def _find(find: Any, identifier: bytes, sop_class_uid: str, syntax: str, options: int) -> None:
    association = _Association(
        sop_class_uid, relational=bool(options & 1), combined=bool(options & 2)
    )
    event = _Event(identifier, sop_class_uid, syntax, association)
    responses = list(islice(find(event), INSTANCES + 2))
    assert len(responses) <= INSTANCES + 1
    for answered, match in responses:
        code = answered if isinstance(answered, int) else int(answered.Status)
        assert code in STATUSES, hex(code)
        assert match is None or len(match.data) < 10_000_000
        if not isinstance(answered, int):
            assert 0 < len(answered.ErrorComment) <= status.ERROR_COMMENT_LENGTH
            assert "internal" not in answered.ErrorComment
            if code == status.IDENTIFIER_DOES_NOT_MATCH:
                assert answered.OffendingElement


def _get(get: Any, identifier: bytes, sop_class_uid: str, syntax: str, options: int) -> None:
    association = _Association(sop_class_uid, relational=bool(options & 1), combined=False)
    operations = get(_Event(identifier, sop_class_uid, syntax, association))
    responses = list(islice(operations.responses, INSTANCES + 2))
    assert len(responses) <= INSTANCES + 1
    for response in responses:
        assert response.status in STATUSES, hex(response.status)
        assert "internal" not in (response.error_comment or "")


def identifier_seeds() -> Iterator[bytes]:
    """Choices of every kind of key, level and piece."""
    for number in range(40):
        yield bytes((number, number // 3, number, number % 12, *range(number, number + 60)))
    for piece, tag, count in product(range(len(PIECES)), (9, 12, 14, 17, 22), (0, 5, 8)):
        yield bytes((piece, 1, 1, 1, tag, 12, 1, 1, 1, 1, 2, piece, 0, 6, 0, count, 1))
