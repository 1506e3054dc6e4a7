"""Writes the DICOM conformance statement of a node as configured, ordered like PS3.2 annex N.

The text is in conformance.md. What fills it is what the node itself uses: the presentation contexts
it accepts, the attributes it indexes, the statuses it answers, the settings in effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import jinja2
from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.uid import UID
from pynetdicom import (
    PYNETDICOM_IMPLEMENTATION_UID,
    PYNETDICOM_IMPLEMENTATION_VERSION,
    sop_class,
)
from pynetdicom.presentation import PresentationContext

from lfscp import __version__
from lfscp.archive.query.query import Model
from lfscp.archive.workflow.procedure_steps.table import NOT_ALLOWED, TABLE, Requirement
from lfscp.archive.workflow.worklist import keys as worklist_keys
from lfscp.archive.workflow.worklist.item import STEPS
from lfscp.config import Settings
from lfscp.deidentification import options as deidentification
from lfscp.deidentification.table import EDITION
from lfscp.dicom.errors import named as named_tag
from lfscp.dicom.values.attributes import COMPUTED, LEVELS, at_level
from lfscp.services import models, status
from lfscp.services.commitment.request import MAX_REFERENCES
from lfscp.services.contexts import (
    MODALITY_WORKLIST,
    PROCEDURE_STEP,
    PROCEDURE_STEP_RETRIEVE,
    STORAGE_COMMITMENT,
    VERIFICATION,
    contexts,
)
from lfscp.web.dicomweb import conformance as dicomweb

_TEXT: Final = Path(__file__).with_suffix(".md")
_RETRIEVES: Final = "C-MOVE, C-GET"
_QUERIES: Final = f"C-FIND, {_RETRIEVES}"
_STEPS: Final = "N-CREATE, N-SET"  # of performed procedure steps
_WORKFLOW: Final = (PROCEDURE_STEP, PROCEDURE_STEP_RETRIEVE, STORAGE_COMMITMENT)
_STATUSES: Final = (
    ("C-STORE", status.SUCCESS, "stored; after a power cut it is still there (durability full)"),
    (
        "C-STORE",
        status.OUT_OF_RESOURCES,
        "out of resources, nothing kept; also: duplicate rejected",
    ),
    (
        "C-STORE",
        status.DATASET_DOES_NOT_MATCH,
        "the dataset's SOP class or instance UID is not the command's",
    ),
    (
        "C-STORE",
        status.CANNOT_UNDERSTAND,
        "cannot understand: broken encoding, or a UID is missing",
    ),
    ("C-STORE", status.PROCESSING_FAILURE, "processing failure, nothing acknowledged"),
    ("C-FIND", status.PENDING, "pending, a match"),
    (
        "C-FIND",
        status.PENDING_WITHOUT_OPTIONAL_KEYS,
        "pending, a match; an optional key was not matched",
    ),
    (
        "C-FIND",
        status.OUT_OF_RESOURCES,
        "out of resources; also: max_results reached, or the index failed",
    ),
    (
        _QUERIES,
        status.IDENTIFIER_DOES_NOT_MATCH,
        "level or unique key missing or wrong; a value that its key cannot have",
    ),
    (_QUERIES, status.UNABLE_TO_PROCESS, "unable to process"),
    (_QUERIES, status.CANCELLED, "cancelled by the requestor"),
    (_RETRIEVES, status.PENDING, "sub-operations continue"),
    (_RETRIEVES, status.CANNOT_COUNT_MATCHES, "the matches cannot be counted"),
    (
        _RETRIEVES,
        status.CANNOT_PERFORM_SUB_OPERATIONS,
        "no sub-operation succeeded, or the destination cannot be reached",
    ),
    (
        _RETRIEVES,
        status.SUB_OPERATIONS_COMPLETE_WITH_FAILURES,
        "complete, some sub-operations failed; their list is sent",
    ),
    (
        "C-MOVE",
        status.MOVE_DESTINATION_UNKNOWN,
        "the destination is not configured, may not receive, or is no AE title",
    ),
    *(
        ("N-ACTION", code, text)
        for code, text in (
            (status.SUCCESS, "the request is kept; a report follows"),
            (status.NO_SUCH_SOP_INSTANCE, "not the well-known SOP instance"),
            (status.NO_SUCH_ACTION, "unknown Action Type ID"),
            (status.MISSING_ATTRIBUTE, "the Transaction UID or references are missing"),
            (
                status.INVALID_ARGUMENT_VALUE,
                "they are empty, no UIDs, or cannot be read; or the Transaction UID is in use",
            ),
            (status.MISTYPED_ARGUMENT, "an element is of another type"),
            (
                status.RESOURCE_LIMITATION,
                f"more than {MAX_REFERENCES} instances, or the index failed",
            ),
        )
    ),
    *(
        (_STEPS, code, text)
        for code, text in (
            (status.INVALID_ATTRIBUTE_VALUE, "a wrong value, or one that does not change"),
            (status.MISSING_ATTRIBUTE, "an attribute of type 1 or 2 is missing"),
            (status.MISSING_ATTRIBUTE_VALUE, "an attribute of type 1 has no value"),
            (status.PROCESSING_FAILURE, "the dataset cannot be read; nothing of it is taken"),
            (status.RESOURCE_LIMITATION, "the index failed; try again later"),
        )
    ),
    ("N-CREATE", status.DUPLICATE_SOP_INSTANCE, "there is a step with this UID"),
    ("N-CREATE", status.INVALID_SOP_INSTANCE, "the SOP Instance UID is no UID"),
    ("N-SET, N-GET", status.NO_SUCH_SOP_INSTANCE, "there is no step with this UID"),
    (
        "N-SET",
        status.PROCESSING_FAILURE,
        "with Error ID A710: the step has ended and may no longer be updated",
    ),
    (
        "N-GET",
        status.OPTIONAL_ATTRIBUTES_NOT_SUPPORTED,
        "warning: the step does not have all attributes that were asked for",
    ),
    (
        "N-GET",
        status.ATTRIBUTE_LIST_ERROR,
        "warning: one of them is in no part of the standard",
    ),
    (
        "all",
        status.NOT_AUTHORISED,
        "not authorised: the peer's `may` does not allow the service, or a plug-in refuses",
    ),
    (
        "all",
        status.SOP_CLASS_NOT_SUPPORTED,
        "SOP class not supported, or not the one of the presentation context",
    ),
    ("all", status.UNRECOGNISED_OPERATION, "the SOP class has no such operation"),
)


def statement(settings: Settings) -> str:
    """The whole statement, as Markdown."""
    environment = jinja2.Environment(  # noqa: S701 - Markdown, not HTML
        trim_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    template = environment.from_string(_TEXT.read_text(encoding="utf-8"))
    server = settings.server
    seconds = (server.acse_timeout_s, server.dimse_timeout_s, server.network_timeout_s)
    named = {VERIFICATION, *models.QUERY_MODELS, *models.RETRIEVE_MODELS, MODALITY_WORKLIST}
    every = [(str(each.abstract_syntax), each) for each in contexts(settings)]
    query = [each for uid, each in every if uid in named]
    workflow = [each for uid, each in every if uid in _WORKFLOW]
    storage = [each for uid, each in every if uid not in {*named, *_WORKFLOW}]
    return template.render(
        settings=settings,
        version=__version__,
        implementation_class_uid=PYNETDICOM_IMPLEMENTATION_UID,
        implementation_version_name=PYNETDICOM_IMPLEMENTATION_VERSION,
        timeouts=", ".join(f"{each:g} s" for each in seconds),
        query_classes=map(_sop_class, query),
        query_syntaxes=_syntaxes(query),
        workflow_classes=map(_sop_class, workflow),
        workflow_syntaxes=_syntaxes(workflow),
        step_attributes=list(_step_attributes(TABLE.values())),
        storage_classes=map(_sop_class, storage),
        storage_syntaxes=_syntaxes(storage),
        information_models=[
            (model.name.replace("_", " ").title(), ", ".join(level.value for level in model.levels))
            for model in Model
        ],
        query_keys=_query_keys(),
        worklist_keys=list(_worklist_keys()),
        statuses=[(service, f"{code:04X}", text) for service, code, text in _STATUSES],
        web_resources=dicomweb.resources(),
        web_frame_types=dicomweb.frame_types(),
        web_returned=dicomweb.returned_attributes(),
        web_limits=dicomweb.LIMITS,
        web_failures=[(f"{code:04X}", text) for code, text in dicomweb.FAILURE_REASONS],
        peers=[
            (
                title,
                peer.url or f"{peer.host}:{peer.port}",
                "yes" if peer.tls or peer.url.startswith("https:") else "no",
                "nothing" if peer.is_dicomweb else ", ".join(peer.may) or "nothing",
            )
            for title, peer in settings.peers.items()
        ],
        routes=list(_routes(settings)),
        deidentification_edition=EDITION,
        deidentification_options=", ".join(
            name
            for _, name in (deidentification.CLEAN_PIXEL_DATA, *deidentification.CODES.values())
        ),
    )


def _routes(settings: Settings) -> Iterator[tuple[str, ...]]:
    """The routes that are on: name, what they send and when, actions, destinations, commitment."""
    when = {"instance": "each instance", "series": "complete series", "study": "complete studies"}
    for each in settings.route:
        if each.enabled:
            commitment = "asked for" if each.commit else "not asked for"
            actions = ", ".join(name for action in each.actions for name in action)
            peers = ", ".join(each.send_to)
            yield each.name, when[each.on], actions or "none", peers, commitment


def _syntaxes(supported: Iterable[PresentationContext]) -> list[tuple[str, str]]:
    known = dict.fromkeys(UID(uid) for context in supported for uid in context.transfer_syntax)
    return [(uid.name, str(uid)) for uid in known]


def _sop_class(context: PresentationContext) -> tuple[str, str, str]:
    uid = UID(str(context.abstract_syntax))
    name = uid.name if uid.name != uid else _keywords().get(str(uid), "(private)")
    return name, str(uid), "SCP, SCU" if context.scu_role else "SCP"


@cache
def _keywords() -> dict[str, str]:
    """SOP classes by UID as pynetdicom calls them; some are not in pydicom's dictionary yet."""
    return {str(uid): name for name, uid in vars(sop_class).items() if isinstance(uid, UID)}


def _query_keys() -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each level with its attributes: name, tag, VR."""
    return [
        (
            level.value,
            [
                (_name(each.keyword), f"({each.tag >> 16:04X},{each.tag & 0xFFFF:04X})", each.vr)
                for each in (*at_level(level), *(each for each in COMPUTED if each.level is level))
            ],
        )
        for level in LEVELS
    ]


def _step_attributes(lines: Iterable[Requirement], depth: int = 0) -> Iterator[tuple[str, ...]]:
    """Table F.7.2-1 as it is checked: name, tag, types at N-CREATE, N-SET and in the final state.

    A condition makes 1C of a type 1.
    """
    for line in lines:
        conditional = "C" if line.if_any or line.if_none else ""
        types = (
            each + conditional if each == "1" else each.replace(NOT_ALLOWED, "not allowed")
            for each in (line.creation, line.setting, line.final)
        )
        yield (">" * depth + dictionary_description(line.tag), named_tag(line.tag), *types)
        yield from _step_attributes(line.items, depth + 1)


def _name(keyword: str) -> str:
    """The name of an attribute, e.g. "Patient's Name" for PatientName."""
    tag = tag_for_keyword(keyword)
    return dictionary_description(tag) if tag is not None else keyword


def _worklist_keys() -> Iterator[tuple[str, str, str, str]]:
    """The matching keys of the worklist: name, tag, VR, and whether they are required."""
    steps = dictionary_description(STEPS)
    for keywords, sequence, kind in (
        (worklist_keys.REQUIRED_OF_STEP, steps, "required"),
        (worklist_keys.OPTIONAL_OF_STEP, steps, "optional"),
        (worklist_keys.REQUIRED, "", "required"),
        (worklist_keys.OPTIONAL, "", "optional"),
    ):
        for keyword in keywords:
            tag = tag_for_keyword(keyword) or 0
            name = dictionary_description(tag)
            shown = f"{sequence} > {name}" if sequence else name
            yield shown, named_tag(tag), dictionary_VR(tag), kind
