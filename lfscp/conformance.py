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
from lfscp.archive.workflow import worklist_keys
from lfscp.archive.workflow.worklist_item import STEPS
from lfscp.config import Settings
from lfscp.dicom.attributes import COMPUTED, LEVELS, at_level
from lfscp.dicom.errors import named
from lfscp.services import models, status
from lfscp.services.contexts import MODALITY_WORKLIST, VERIFICATION, contexts

_TEXT: Final = Path(__file__).with_suffix(".md")
_RETRIEVES: Final = "C-MOVE, C-GET"
_QUERIES: Final = f"C-FIND, {_RETRIEVES}"
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
    ("all", status.NOT_AUTHORISED, "not authorised: the peer's `may` does not allow the service"),
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
    no_storage = {VERIFICATION, *models.QUERY_MODELS, *models.RETRIEVE_MODELS, MODALITY_WORKLIST}
    query = [each for each in contexts(settings) if str(each.abstract_syntax) in no_storage]
    storage = [each for each in contexts(settings) if str(each.abstract_syntax) not in no_storage]
    return template.render(
        settings=settings,
        version=__version__,
        implementation_class_uid=PYNETDICOM_IMPLEMENTATION_UID,
        implementation_version_name=PYNETDICOM_IMPLEMENTATION_VERSION,
        timeouts=", ".join(f"{each:g} s" for each in seconds),
        query_classes=map(_sop_class, query),
        query_syntaxes=_syntaxes(query),
        storage_classes=map(_sop_class, storage),
        storage_syntaxes=_syntaxes(storage),
        information_models=[
            (model.name.replace("_", " ").title(), ", ".join(level.value for level in model.levels))
            for model in Model
        ],
        query_keys=_query_keys(),
        worklist_keys=list(_worklist_keys()),
        statuses=[(service, f"{code:04X}", text) for service, code, text in _STATUSES],
        peers=[
            (
                title,
                f"{peer.host}:{peer.port}",
                "yes" if peer.tls else "no",
                ", ".join(peer.may) or "nothing",
            )
            for title, peer in settings.peers.items()
        ],
    )


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
            yield shown, named(tag), dictionary_VR(tag), kind
