"""What is fuzzed: each target takes any bytes, and may raise only what its module documents.

Anything else is a crash: an undocumented exception, a disagreement of two ways to the same
answer, a traceback in the log, an input that takes seconds. `scripts/fuzz` runs a target for long,
`test_fuzz.py` for a moment. Seeds are made by code, so that no binary file has to be kept.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import evt
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.transport import AddressInformation
from sqlalchemy import StaticPool, create_engine, insert

from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.tables import schema
from lfscp.archive.query.find import find
from lfscp.archive.query.keys import wildcard_expression
from lfscp.archive.query.matched_objects import ObjectRow, _elements
from lfscp.archive.query.matching import build
from lfscp.archive.query.object_attributes import empty
from lfscp.archive.query.prepared import PreparedQueries
from lfscp.archive.query.query import InvalidKeyError, Model, Query, parse_query, unique_keys
from lfscp.archive.query.responses import response_encoder
from lfscp.archive.store.missing_vrs import missing_vrs
from lfscp.archive.workflow.worklist.item import InvalidItemError, complete_item
from lfscp.dicom.conversion.converter import convert
from lfscp.dicom.encoding.elements import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, NO_VRS
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import encode_tree, read_tree
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.part10.media import MediaFile, could_be_dicom, identity_of, read_media
from lfscp.dicom.part10.tree_file import read_tree_of_file
from lfscp.dicom.reading.header import _LAYOUTS, read_first, read_header
from lfscp.dicom.reading.identifiers import read_identifier
from lfscp.dicom.values.attributes import ATTRIBUTES, LEVELS, Level
from lfscp.dicom.values.person_names import search_form
from lfscp.upperlayer.acceptor import AcceptorSettings, open_acceptor, serve_acceptor
from lfscp.upperlayer.engine.bindings import Bindings
from lfscp.upperlayer.scp.contexts import SupportedContexts
from lfscp.upperlayer.wire import commands, pdata
from lfscp.upperlayer.wire.associate_pdus import (
    AssociateError,
    AssociateRequest,
    encode_accept,
    forgiven_accept,
)
from tests.fuzz.deidentification import deidentification_seeds, run_deidentification
from tests.fuzz.dicomweb import (
    retrieve_seeds,
    run_retrieve,
    run_search,
    run_stow_metadata,
    run_stow_multipart,
    search_seeds,
    stow_metadata_seeds,
    stow_multipart_seeds,
)
from tests.fuzz.documents import documents_seeds, run_documents
from tests.fuzz.hl7_messages import hl7_seeds, run_hl7
from tests.fuzz.identifiers import identifier_seeds, run_identifier
from tests.fuzz.peer_answers import Tracebacks, answers_seeds, run_answers
from tests.fuzz.web_answers import run_web_answers, web_answers_seeds
from tests.fuzz.workflow_datasets import (
    commitment_seeds,
    dicom_json_seeds,
    procedure_step_seeds,
    run_commitment,
    run_dicom_json,
    run_procedure_step,
    run_worklist_query,
    worklist_query_seeds,
)
from tests.support import archive_datasets
from tests.support import dicom_peer as peer
from tests.support.serving import make_ae
from tests.support.worklist_files import part10
from tests.support.worklist_items import worklist_tree

IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED = SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that is fuzzed.

    Args:
        run: takes the bytes; what it raises is a crash.
        seeds: valid inputs to begin with.
        runs: of the short run in CI, about two seconds.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    runs: int


# --- A-ASSOCIATE-RQ: read, negotiated, answered ---


@cache
def _supported() -> SupportedContexts:
    return SupportedContexts(make_ae().supported_contexts, accept_unknown_storage=True)


def run_request(data: bytes) -> None:
    """An A-ASSOCIATE-RQ from its bytes to the bytes of its answer; then as if it were one."""
    with contextlib.suppress(AssociateError):
        forgiven = forgiven_accept(data)
        assert forgiven_accept(forgiven) == forgiven
    try:
        request = AssociateRequest(data).to_primitive()
    except AssociateError:
        return
    roles: dict[Any, Any] = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in request.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    }
    proposed = request.presentation_context_definition_list
    results, role_items = _supported().negotiate(proposed, roles)
    assert len(results) == len(proposed)
    answer = A_ASSOCIATE()
    answer.application_context_name = peer.APPLICATION_CONTEXT
    answer._calling_ae_title = request.calling_ae_title
    answer._called_ae_title = request.called_ae_title
    answer._presentation_context_definition_results_list = results
    answer.user_information = list(role_items)
    encoded = encode_accept(answer)
    (length,) = struct.unpack_from(">I", encoded, 2)
    assert length == len(encoded) - 6
    assert all(result.result in range(5) for result in results)


def request_seeds() -> Iterator[bytes]:
    yield peer.associate_rq()
    uid = struct.pack(">H", len(peer.CT)) + peer.CT.encode()
    role = peer.item(0x54, uid + b"\1\1")
    common = peer.item(0x57, uid + uid + struct.pack(">H", len(uid)) + uid)
    extended = peer.item(0x56, uid + b"\1\1\1\1")
    window = peer.item(0x53, struct.pack(">HH", 5, 5))
    name, passcode = (struct.pack(">H", len(each)) + each for each in (b"name", b"pw"))
    identity = peer.item(0x58, b"\2\1" + name + passcode)
    version = peer.item(0x55, b"VERSION_1")
    for items in (role, common, extended, window, identity, version, role + window + version):
        yield peer.associate_rq(user_items=items)
    yield peer.associate_rq([(2 * n + 1, f"1.2.{n}", (IMPLICIT, EXPLICIT)) for n in range(20)])


# --- a whole association: the PDU reader, the state machine, the messages ---


class _NoServer:
    """What an association asks of its server."""

    active_associations: list[Any] = []  # noqa: RUF012 - none, ever

    def shutdown(self) -> None: ...


def _found(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    if event.is_cancelled:
        yield 0xFE00, None
        return
    match = Dataset()
    match.QueryRetrieveLevel = "STUDY"
    yield 0xFF00, match


@cache
def _acceptor() -> tuple[AcceptorSettings, Tracebacks]:
    tracebacks = Tracebacks()
    logger = logging.getLogger("lfscp")
    logger.addHandler(tracebacks)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    ae = make_ae(acse_timeout=1, network_timeout=1, dimse_timeout=1)
    handlers = [(evt.EVT_C_STORE, lambda event: 0x0000), (evt.EVT_C_FIND, _found)]
    settings = AcceptorSettings(
        ae=ae,
        ae_title="ANY-SCP",
        local=AddressInformation("127.0.0.1", 104),
        bindings=Bindings(handlers),
        supported=SupportedContexts(ae.supported_contexts),
        admit=None,
        spool_dir=None,
        file_header=None,
        examine=lambda beginning, syntax: read_first(beginning, syntax),
        server=_NoServer(),
    )
    return settings, tracebacks


def run_association(data: bytes) -> None:
    """Bytes of a peer that sends them and closes, served as the server does."""
    settings, tracebacks = _acceptor()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[:60_000])  # fits the socket's buffer
        theirs.shutdown(socket.SHUT_WR)
        association = open_acceptor(settings, ours, ("127.0.0.1", 11112))
        serve_acceptor(association, ("127.0.0.1", 11112), None)
        assert not association.is_alive()
        assert not association.is_established
        assert not str(association.end_reason).startswith("serving a"), association.end_reason
    assert not tracebacks.seen, tracebacks.seen.pop()


def association_seeds() -> Iterator[bytes]:
    opened = peer.associate_rq()
    abort = peer.pdu(peer.ABORT, b"\0\0\0\0")
    key = struct.pack("<HHI", 8, 0x52, 6) + b"STUDY "
    echo = peer.message(1, peer.echo_rq())
    store = peer.message(3, peer.store_rq(), peer.data_set(padding=10))
    query = peer.message(5, peer.find_rq(), key)
    yield from (opened, opened + peer.RELEASE, opened + abort)
    for content in (echo, store, query, query + peer.message(5, peer.cancel_rq())):
        yield opened + content + peer.RELEASE
    yield opened + echo + store + query + echo + peer.RELEASE
    object_ = peer.data_set(padding=40)
    pieces = [peer.pdv(3, 0, object_[:50]), peer.pdv(3, peer.LAST, object_[50:])]
    command = peer.pdv(3, peer.COMMAND | peer.LAST, peer.store_rq())
    yield opened + peer.p_data(command, *pieces) + peer.RELEASE
    yield opened + peer.p_data(command) + b"".join(map(peer.p_data, pieces)) + peer.RELEASE


# --- command sets ---


def run_commands(data: bytes) -> None:
    """A command set, read as every message that the codec knows; written and read again."""
    try:
        elements = commands.split_command(data)
    except commands.CommandSetError:
        return
    assert sum(8 + len(value) for value in elements.values()) <= len(data)
    commands.command_field(elements)
    commands.cancelled_message_id(elements)
    commands.read_echo_request(elements)
    commands.read_query_request(elements)
    with contextlib.suppress(commands.CommandSetError):
        commands.has_data_set(elements)
    request = commands.read_store_request(elements)
    if request is not None and request.sop_class_uid and request.sop_instance_uid:
        encoded = commands.encode_store_request(request)
        assert commands.read_store_request(commands.split_command(encoded)) == request
    response = commands.read_store_response(elements)
    if response is not None:
        encoded = commands.encode_response(
            commands.C_STORE_RSP,
            response.message_id_being_responded_to,
            response.status,
            sop_class_uid=response.sop_class_uid,
            sop_instance_uid=response.sop_instance_uid,
        )
        again = commands.read_store_response(commands.split_command(encoded))
        assert again == response._replace(error_comment=None)
    pieces = pdata.pack(1, data, pdata.COMMAND, 16 + len(data) % 64)
    assert len(b"".join(pieces)) > len(data)


def commands_seeds() -> Iterator[bytes]:
    yield from (peer.echo_rq(), peer.store_rq(), peer.find_rq(), peer.cancel_rq())
    yield commands.encode_store_request(
        commands.StoreRequest(7, peer.CT, "1.2.3", 0, "ORIGINATOR", 9)
    )
    counts = commands.SubOperationCounts(1, 2, 3, 4)
    yield commands.encode_response(
        commands.C_MOVE_RSP, 1, 0xB000, sop_class_uid="1.2.3", sub_operations=counts
    )
    yield commands.encode_response(
        commands.C_STORE_RSP,
        1,
        0xA900,
        sop_instance_uid="1.2",
        error_comment="not so",
        offending_elements=[0x00080018],
    )


# --- the header of a dataset ---


def _walked(dataset: bytes, syntax: str) -> dict[int, str] | None:
    """What is read without the layouts seen before; None when it is refused."""
    known = [layouts._known for layouts in _LAYOUTS.values()]
    for layouts in _LAYOUTS.values():
        layouts._known = ()
    try:
        return dict(read_header(dataset, syntax).values)
    except DatasetError:
        return None
    finally:
        for layouts, before in zip(_LAYOUTS.values(), known, strict=True):
            layouts._known = layouts._known + before[: 16 - len(layouts._known)]


def run_header(data: bytes) -> None:
    """A dataset in one of four transfer syntaxes (the first byte says which)."""
    if not data:
        return
    syntax, dataset = SYNTAXES[data[0] % len(SYNTAXES)], data[1:]
    first = read_first(dataset, syntax)
    expected = _walked(dataset, syntax)
    try:
        header = read_header(dataset, syntax)
    except DatasetError:
        assert expected is None, "a layout seen before refuses what a walk takes"
        return
    assert expected == dict(header.values), "a layout seen before gives other values"
    assert re.fullmatch(r"[0-9.]{1,64}", header.sop_instance_uid)
    values = dict(header.values)
    tags = [attribute.tag for attribute in ATTRIBUTES]
    assert [values.get(tag, "") for tag in tags] == header.texts(tags)
    for attribute in ATTRIBUTES:
        if attribute.vr == "SQ" and values.get(attribute.tag):
            assert isinstance(json.loads(values[attribute.tag]), list)
    json.dumps(values).encode()  # no lone surrogate, nothing that a database would refuse
    "".join(values.values()).encode()
    if first is not None:
        assert dict(first.values) == values, "the first bytes say something else than the whole"


def _rich_dataset() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = ["ISO 2022 IR 6", "ISO 2022 IR 87"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = peer.CT, "1.2.3.4"
    dataset.StudyDate, dataset.StudyTime = "20240102", "101010.5"
    dataset.Modality, dataset.StudyDescription = "CT", "head"
    dataset.PatientName, dataset.PatientID = "Yamada^Tarou", "P1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.InstanceNumber = 7
    step = Dataset()
    step.ScheduledProcedureStepID = "S1"
    step.RequestedProcedureID = "R1"
    dataset.RequestAttributesSequence = [step, Dataset()]
    dataset.Rows = dataset.Columns = 4
    dataset.PixelData = bytes(32)
    dataset["PixelData"].VR = "OW"
    return dataset


def _written(dataset: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax == IMPLICIT
    buffer.is_little_endian = syntax != BIG_ENDIAN
    write_dataset(buffer, dataset)
    encoded = bytes(buffer.getvalue())
    if syntax == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflate.compress(encoded) + deflate.flush()
    return encoded


def header_seeds() -> Iterator[bytes]:
    for number, syntax in enumerate(SYNTAXES):
        yield bytes([number]) + _written(_rich_dataset(), syntax)
        endless = _rich_dataset()
        endless["RequestAttributesSequence"].is_undefined_length = True
        for item in endless.RequestAttributesSequence:
            item.is_undefined_length_sequence_item = True
        yield bytes([number]) + _written(endless, syntax)
    yield b"\1" + archive_datasets.encoded(1)
    large = _rich_dataset()
    large.add_new(0x00091001, "UN", bytes(40_000))
    yield b"\3" + _written(large, DEFLATED) + b"\0\0"  # padded, inflated in several steps
    yield b"\0" + peer.data_set(padding=8)


# --- a file as others write them ---


def _media(content: memoryview) -> tuple[MediaFile | None, str]:
    """How a file is laid out, or why that cannot be said."""
    try:
        return read_media(content), ""
    except DatasetError as error:
        return None, error.reason


def run_media(data: bytes) -> None:
    """A DICOM file in any form."""
    content = memoryview(data)
    media, reason = _media(content)
    assert reason.isprintable()
    if media is None:
        return
    assert could_be_dicom(data[:132])
    assert 0 <= media.dataset_offset < len(data)
    syntax, dataset = media.transfer_syntax_uid, content[media.dataset_offset :]
    uids = identity_of(dataset, syntax)
    assert "".join(media.notes_on(*uids)).isprintable()
    encoding = EXPLICIT_BIG if syntax == BIG_ENDIAN else EXPLICIT_LITTLE
    for place, _ in missing_vrs(content, media.dataset_offset, encoding):
        assert data[place : place + 2] in NO_VRS


def media_seeds() -> Iterator[bytes]:
    for syntax in SYNTAXES:
        head = part10_header(peer.CT, "1.2.3.4", syntax, "SENDER")
        dataset = _written(_rich_dataset(), syntax)
        yield head + dataset
        yield head[:132] + head[144:] + dataset
        if syntax != DEFLATED:
            yield dataset
            yield head[:132] + dataset
    yield part10_header("1.2.840.10008.1.3.10", "1.2", EXPLICIT) + b"\x04\x00\x30\x11CS\0\0"
    blank = _written(_rich_dataset(), EXPLICIT).replace(
        b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00  "
    )
    yield part10_header(peer.CT, "1.2.3.4", EXPLICIT) + blank


# --- a query: read, made into SQL, answered ---


@cache
def _index() -> tuple[Any, Any]:
    """An index in memory with two studies."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    schema.metadata.create_all(engine)
    connection = engine.connect()
    for number in (1, 2):
        parent = None
        for level in LEVELS:
            parent = _add(connection, level, parent, number)
    return connection, PreparedQueries(connection.dialect)


_VALUES = {
    "PN": "Doe^Jane=山田^太郎",
    "DA": "20240102",
    "TM": "101112.5",
    "DT": "20240102101112+0100",
    "SQ": '[{"CodeValue": "A*", "ScheduledProcedureStepID": "S1"}]',
}


def _add(connection: Any, level: Level, parent: int | None, number: int) -> int:
    table = schema.TABLES[level]
    row: dict[str, Any] = {}
    for attribute in ATTRIBUTES:
        if attribute.level is level:
            value = _VALUES.get(attribute.vr, f"{number}")
            row[attribute.column] = value
            if attribute.search_column:
                row[attribute.search_column] = search_form(value)
    for column in table.columns:
        if column.foreign_keys:
            row[column.name] = parent
        elif column.name not in row and not column.primary_key and not column.nullable:
            row[column.name] = column.type.python_type()
    return int(connection.execute(insert(table).values(row)).inserted_primary_key[0])


MODELS = tuple(Model)


def run_query(data: bytes) -> None:
    """An identifier (three bytes before it choose syntax, model and options), answered."""
    if len(data) < 3:
        return
    syntax, model = SYNTAXES[data[0] % 3], MODELS[data[1] % len(MODELS)]
    relational, combined = bool(data[2] & 1), bool(data[2] & 2)
    try:
        identifier = read_identifier(data[3:], syntax)
    except DatasetError:
        return
    try:
        unique_keys(identifier, model, relational=relational)
    except InvalidKeyError as error:
        error.comment.encode("ascii")
    try:
        query = parse_query(identifier, model, relational=relational, combined_date_time=combined)
    except (InvalidKeyError, DatasetError):
        return
    connection, prepared = _index()
    for dialect in ("sqlite", "postgresql"):
        str(build(query, dialect).statement)
    encoding = {"transfer_syntax_uid": syntax, "retrieve_ae_title": "LFSCP"}
    driver = connection.connection.driver_connection
    found = list(find(driver.cursor(), connection.dialect, query, **encoding))
    assert len(found) <= 2
    statement = prepared.statement(query)
    if statement is not None:
        cursor = driver.cursor()
        again = list(find(cursor, connection.dialect, query, prepared=statement, **encoding))
        assert again == found, "prepared and composed statements disagree"


def query_seeds() -> Iterator[bytes]:
    keys: list[dict[str, Any]] = [
        {"PatientName": "Doe*", "StudyDate": "20240101-", "StudyInstanceUID": ""},
        {"PatientID": "P?", "StudyTime": "10-11", "ModalitiesInStudy": "CT\\MR"},
        {"AccessionNumber": "1%_'\"[*", "NumberOfStudyRelatedInstances": ""},
        {"StudyDate": "20240102", "StudyTime": "-1200", "PatientSex": "F"},
        {"InstanceAvailability": "", "PatientWeight": "70.5", "PatientAge": "030Y"},
    ]
    for number, chosen in itertools.product(range(3), keys):
        dataset = Dataset()
        dataset.QueryRetrieveLevel = "STUDY"
        for keyword, value in chosen.items():
            setattr(dataset, keyword, value)
        yield bytes([number, 1, number]) + _written(dataset, SYNTAXES[number])
    series = Dataset()
    series.QueryRetrieveLevel = "SERIES"
    series.StudyInstanceUID = "1.2.3"
    item = Dataset()
    item.ScheduledProcedureStepID = "S*"
    series.RequestAttributesSequence = [item]
    image = Dataset()
    image.QueryRetrieveLevel, image.StudyInstanceUID = "IMAGE", "1.2.3"
    image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.3.1", "1.2.3.4\\1.2.3.5"
    image.InstanceNumber, image.AcquisitionDateTime = "7", "2024-2025"
    item_of_object = Dataset()
    item_of_object.ReferencedSOPInstanceUID = ""
    asking_objects = Dataset()
    asking_objects.QueryRetrieveLevel, asking_objects.StudyInstanceUID = "IMAGE", "1.2.3"
    asking_objects.SeriesInstanceUID, asking_objects.ImageComments = "1.2.3.1", ""
    asking_objects.SourceImageSequence = [item_of_object]
    asking_objects.ConceptNameCodeSequence = []
    for dataset in (series, image, asking_objects):
        for number in range(3):
            yield bytes([number, 1, number]) + _written(dataset, SYNTAXES[number])


# --- attributes that are read from objects ---

_IN_OBJECTS = (
    *("ImageComments", "SliceLocation", "PixelSpacing", "ContentCreatorName"),
    *("SmallestImagePixelValue", "FrameOfReferenceUID", "DiffusionBValue", "ContentSequence"),
    *("SourceImageSequence", "ConceptNameCodeSequence", "RedPaletteColorLookupTableData"),
)


@cache
def _asking_objects() -> Query:
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "IMAGE", "1.2"
    asked.SeriesInstanceUID, asked.SpecificCharacterSet = "1.2.3", "ISO_IR 100"
    for keyword in _IN_OBJECTS:
        setattr(asked, keyword, None)
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.PurposeOfReferenceCodeSequence = "", [Dataset()]
    asked.SourceImageSequence = [item]
    return parse_query(asked, Model.STUDY_ROOT)


def run_objects(data: bytes) -> None:
    """A stored dataset (two bytes before it choose syntax and what is lost) that is asked."""
    if len(data) < 2:
        return
    syntax, lost, dataset = SYNTAXES[data[0] % len(SYNTAXES)], data[1], data[2:]
    query = _asking_objects()
    row = ObjectRow("", syntax, 0, len(dataset) + lost, "")
    try:
        found = _elements(dataset, row, len(dataset), query.object_keys, Interruption())
    except (DatasetError, zlib.error):
        return
    elements = [each or empty(key) for each, key in zip(found, query.object_keys, strict=True)]
    for answered in SYNTAXES[:3]:
        encode = response_encoder(query, transfer_syntax_uid=answered, retrieve_ae_title="LFSCP")
        response = encode((*("" for _ in query.keys), *elements))
        assert len(response) % 2 == 0
        tags = read_identifier(response, answered).values.keys()
        assert {key.tag for key in query.object_keys} <= tags


def objects_seeds() -> Iterator[bytes]:
    dataset = _rich_dataset()
    dataset.ImageComments, dataset.SliceLocation = "a\\b", "-1.5"
    dataset.SmallestImagePixelValue, dataset.PixelRepresentation = -7, 1
    dataset.DiffusionBValue, dataset.ContentCreatorName = 2.5, "Yamada=山田"
    purpose = Dataset()
    purpose.CodeMeaning, purpose.SpecificCharacterSet = "Größe", "ISO_IR 192"
    purpose.add_new(0x00091001, "UN", b"private!")
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.PurposeOfReferenceCodeSequence = "1.2.3", [purpose]
    dataset.SourceImageSequence = [item, Dataset()]
    deeper = Dataset()
    deeper.ContentSequence = [item]
    dataset.ContentSequence = [deeper]
    for undefined, number in itertools.product((False, True), range(4)):
        item.is_undefined_length_sequence_item = undefined
        dataset["SourceImageSequence"].is_undefined_length = undefined
        for lost in (0, 9):
            yield bytes([number, lost]) + _written(dataset, SYNTAXES[number])


# --- wildcards ---


def _fits(pattern: str, text: str) -> bool:
    """Wildcards by a table of what fits up to where: slow, and plainly right."""
    reached = {0}
    for sign in pattern:
        if sign == "*":
            reached = set(range(min(reached), len(text) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if text[at : at + 1] and sign in ("?", text[at])}
    return len(text) in reached


def run_wildcards(data: bytes) -> None:
    """A pattern and a value (separated by a NUL), against a reference."""
    pattern, _, value = data[:200].decode("utf-8", "replace").partition("\0")
    expected = _fits(pattern, value)
    assert (wildcard_expression(pattern).fullmatch(value) is not None) == expected
    search_form(pattern)


def wildcards_seeds() -> Iterator[bytes]:
    yield from (b"a*b\0axxb", b"*a?*b*\0aaab", b"[*]\0[x]", b"***\0x", b"a*a*a*a\0aaaaaaaaaaaaab")


# Conversion


_ENCODINGS = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)


def run_conversion(content: bytes) -> None:
    """First byte: from and to which encoding, and whether it pads; the rest: a dataset."""
    if not content:
        return
    choice, raw = content[0], memoryview(content)[1:]
    pads, ways = divmod(choice, 9)
    source, target = _ENCODINGS[ways % 3], _ENCODINGS[ways // 3]
    with contextlib.suppress(DatasetError):
        converted = b"".join(convert(raw, source, target, pads=pads % 2 == 1))
        again = b"".join(convert(memoryview(converted), target, target))
        # An element of group 0000 may look like zeros behind the last one, which are left out.
        is_same = again.rstrip(b"\0") == converted.rstrip(b"\0")
        assert is_same, "what was written is not read as it was meant"


def conversion_seeds() -> Iterator[bytes]:
    syntaxes = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
    for source, target in itertools.product(range(3), repeat=2):
        for pads in (0, 1):
            written = _written(_rich_dataset(), syntaxes[source])
            yield bytes([9 * pads + 3 * target + source]) + written


def worklist_file_seeds() -> Iterator[bytes]:
    """Worklist files with a head and without, in each transfer syntax."""
    tree = worklist_tree()
    yield part10()
    for syntax in (
        EXPLICIT_VR_LITTLE_ENDIAN,
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    ):
        dataset = encode_tree(tree, syntax)
        yield dataset
        yield part10_header("1.2.840.10008.5.1.4.31", "1.2.3", syntax) + dataset


def run_worklist_file(data: bytes) -> None:
    """A worklist file is an item that can be kept as it is, or is refused with the reason."""
    try:
        item = complete_item(read_tree_of_file(data))
        kept = encode_tree(item)
    except (DatasetError, InvalidItemError):
        return
    assert read_tree(kept, EXPLICIT_VR_LITTLE_ENDIAN).keys() == item.keys()


TARGETS = {
    "answers": Target(run_answers, answers_seeds, 150),
    "request": Target(run_request, request_seeds, 4000),
    "association": Target(run_association, association_seeds, 800),
    "commands": Target(run_commands, commands_seeds, 10000),
    "conversion": Target(run_conversion, conversion_seeds, 3000),
    "header": Target(run_header, header_seeds, 2500),
    "media": Target(run_media, media_seeds, 4000),
    "identifier": Target(run_identifier, identifier_seeds, 700),
    "query": Target(run_query, query_seeds, 1000),
    "documents": Target(run_documents, documents_seeds, 800),
    "objects": Target(run_objects, objects_seeds, 2500),
    "hl7": Target(run_hl7, hl7_seeds, 2000),
    "wildcards": Target(run_wildcards, wildcards_seeds, 10000),
    "worklist-file": Target(run_worklist_file, worklist_file_seeds, 1500),
    "worklist-query": Target(run_worklist_query, worklist_query_seeds, 1000),
    "procedure-step": Target(run_procedure_step, procedure_step_seeds, 600),
    "commitment": Target(run_commitment, commitment_seeds, 2000),
    "deidentification": Target(run_deidentification, deidentification_seeds, 800),
    "dicom-json": Target(run_dicom_json, dicom_json_seeds, 2000),
    "stow-multipart": Target(run_stow_multipart, stow_multipart_seeds, 3000),
    "stow-metadata": Target(run_stow_metadata, stow_metadata_seeds, 2000),
    "retrieve": Target(run_retrieve, retrieve_seeds, 1000),
    "search": Target(run_search, search_seeds, 500),
    "web-answers": Target(run_web_answers, web_answers_seeds, 400),
}
