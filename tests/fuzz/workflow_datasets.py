"""Fuzzes the datasets of the modality workflow: requests of devices, keys of queries, DICOM JSON.

Each is refused with its reason, or what is kept of it can be read again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

from lfscp.archive.query.query import InvalidKeyError
from lfscp.archive.workflow.commitment.references import (
    Reference,
    references_in,
    tree_of_references,
)
from lfscp.archive.workflow.procedure_steps.errors import AttributesError
from lfscp.archive.workflow.procedure_steps.rules import changed, check_creation, fault_of
from lfscp.archive.workflow.worklist.item import InvalidItemError, complete_item
from lfscp.archive.workflow.worklist.query import parse_worklist_query
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Tree, encode_tree, read_own, read_tree
from lfscp.dicom.models.json_reader import JSONModelError, from_json
from lfscp.dicom.models.json_writer import to_json
from lfscp.dicom.reading.identifiers import read_identifier
from lfscp.services.commitment.request import read_request
from lfscp.services.procedure_step.answers import asked_for, refusal
from lfscp.services.refused import RefusedError
from tests.support.element_trees import tree_of
from tests.support.procedure_steps import code, ended, performed_series, scheduled, started
from tests.support.worklist_items import scheduled_step, worklist_dataset, worklist_tree

IMPLICIT, EXPLICIT, BIG_ENDIAN = SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
)
CHARACTER_SETS = (
    *("", "ISO_IR 192", "ISO_IR 100", "ISO_IR 126", "GB18030"),
    *("\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "ISO_IR 999"),
)
STEP = tree_of(started())
ITEMS = (
    worklist_tree(1),
    worklist_tree(2, scheduled_step(Modality="MR"), scheduled_step(ScheduledProcedureStepID="S2")),
    worklist_tree(3, PatientName="Müller^Jörg=山田^太郎=やまだ^たろう"),
)


def run_procedure_step(data: bytes) -> None:
    """What a device reports of a step (the first byte chooses the syntax), made and changed."""
    if not data:
        return
    syntax = SYNTAXES[data[0] % 3]
    try:
        tree = read_tree(data[1:], syntax)
    except DatasetError:
        return
    kept = encode_tree(tree)
    assert read_own(kept) == tree
    json.dumps(to_json(tree), allow_nan=False)
    try:
        check_creation(tree)
    except AttributesError as error:
        refusal(error, tree, syntax, names_attributes=False)
    fault = fault_of(tree)
    if fault is None:
        with suppress(AttributesError):
            encode_tree(changed(STEP, tree))
    else:
        refusal(fault, tree, syntax, names_attributes=True)
    asked_for(tree, [0x00100010, *tree][:20], syntax)


def procedure_step_seeds() -> Iterator[bytes]:
    """Steps that begin and end, in each syntax."""
    reason = [code(meaning="Gerät defekt")]
    datasets = (
        started(scheduled(), scheduled(AccessionNumber="A2"), PatientName="Müller^Jörg"),
        ended(performed_series(["1.2.3", "1.2.4"], ["1.2.5"])),
        ended(
            status="DISCONTINUED",
            PerformedProcedureStepDiscontinuationReasonCodeSequence=reason,
        ),
    )
    for dataset in datasets:
        for number, syntax in enumerate(SYNTAXES):
            yield bytes([number]) + encode_tree(tree_of(dataset), syntax, "ISO_IR 100")


def run_commitment(data: bytes) -> None:
    """What asks for commitment (the first byte chooses the syntax), as it is kept."""
    if not data:
        return
    try:
        transaction_uid, references = read_request(data[1:], SYNTAXES[data[0] % 3])
    except RefusedError:
        return
    assert 0 < len(transaction_uid) <= 64
    kept = read_own(encode_tree(tree_of_references(transaction_uid, references)))
    assert references_in(kept) == references


def commitment_seeds() -> Iterator[bytes]:
    """Requests for one, two and many instances, in each syntax."""
    for count in (1, 2, 50):
        asked = [Reference("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{at}") for at in range(count)]
        for number, syntax in enumerate(SYNTAXES):
            yield bytes([number]) + encode_tree(tree_of_references("1.2.9", asked), syntax)


def run_worklist_query(data: bytes) -> None:
    """Keys (three bytes before choose syntax, character set and answer), and what they find."""
    if len(data) < 3:
        return
    syntax, answered = SYNTAXES[data[0] % 3], SYNTAXES[data[2] % 3]
    try:
        query = parse_worklist_query(read_identifier(data[3:], syntax))
    except InvalidKeyError as error:
        error.comment.encode("ascii")
        return
    except DatasetError:
        return
    character_set = CHARACTER_SETS[data[1] % len(CHARACTER_SETS)]
    for item in ITEMS:
        answer = query.answer(item)
        if answer is not None:
            assert read_tree(encode_tree(answer, answered, character_set), answered).keys() == {
                tag for tag in answer if tag & 0xFFFF
            }


def worklist_query_seeds() -> Iterator[bytes]:
    """Keys of each kind, in each syntax and character set."""
    keys = (
        worklist_dataset(1, scheduled_step()),
        worklist_dataset(
            1,
            scheduled_step(
                ScheduledProcedureStepStartDate="20261201-20261202",
                ScheduledProcedureStepStartTime="0900-1700",
                ScheduledStationAETitle="CT01\\CT02",
            ),
            PatientName="M?ller*=*",
        ),
        worklist_dataset(1, RequestedProcedureCodeSequence=[code()], PatientID="*"),
    )
    for at, key in enumerate(keys):
        for number, syntax in enumerate(SYNTAXES):
            chosen = bytes([number, 3 * at + number, number + at])
            yield chosen + encode_tree(tree_of(key), syntax)


def run_dicom_json(data: bytes) -> None:
    """A document that is refused with its place, or an item that can be kept and shown."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        tree = from_json(document)
    except JSONModelError:
        return
    shown = to_json(tree)
    json.dumps(shown, allow_nan=False)
    _keep(tree)
    with suppress(InvalidItemError):
        _keep(complete_item(tree))


def _keep(tree: Tree) -> None:
    try:
        kept = encode_tree(tree)
    except DatasetError:  # too long
        return
    assert read_own(kept).keys() == tree.keys()


def dicom_json_seeds() -> Iterator[bytes]:
    """Items in DICOM JSON, and in the short form."""
    for item in ITEMS:
        yield json.dumps(to_json(item)).encode()
    yield json.dumps(to_json(STEP)).encode()
    yield b'{"PatientName": "DOE^JANE", "PatientSize": 1.75, "OtherPatientIDs": ["1", "2"]}'
    yield b'{"00091001": {"vr": "UN", "InlineBinary": "AAA="}}'
    yield b'{"00186060": {"vr": "FL", "Value": [1]}, "00080005": {"vr": "CS"}}'
