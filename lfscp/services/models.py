"""The query/retrieve SOP classes with their information models, and their extended negotiation.

A requestor sends one byte for each option. We answer with the options that both sides have; the
others are not in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pynetdicom import evt

from lfscp.archive.query.query import Model

if TYPE_CHECKING:
    from pynetdicom.association import Association

_MODELS: Final = (Model.PATIENT_ROOT, Model.STUDY_ROOT, Model.PATIENT_STUDY_ONLY)
QUERY_MODELS, MOVE_MODELS, GET_MODELS = (
    {f"1.2.840.10008.5.1.4.1.2.{number}.{end}": model for number, model in enumerate(_MODELS, 1)}
    for end in (1, 2, 3)
)  # information models by SOP class
RETRIEVE_MODELS: Final[Mapping[str, Model]] = {**MOVE_MODELS, **GET_MODELS}

# How many of the options this node has; it has none of the later ones.
_FIND_OPTIONS: Final = 3  # relational queries, combined date-time matching, fuzzy names
_RETRIEVE_OPTIONS: Final = 1  # relational retrieval


@dataclass(frozen=True, slots=True)
class Negotiated:
    """Options in use for one SOP class on one association."""

    relational: bool = False
    combined_date_time: bool = False
    fuzzy_names: bool = False


def answer(sop_class_uid: str, proposed: bytes) -> bytes | None:
    """Answer one SOP Class Extended Negotiation item; None for an unknown SOP class.

    Args:
        sop_class_uid: the SOP class the item is for.
        proposed: the Service-class-application-information, one byte 0 or 1 per option.
    Returns:
        As many bytes, 1 where both sides have the option.
    Source: PS3.4 tables C.5-1 to C.5-6.
    """
    if sop_class_uid in QUERY_MODELS:
        ours = _FIND_OPTIONS
    elif sop_class_uid in RETRIEVE_MODELS:
        ours = _RETRIEVE_OPTIONS
    else:
        return None
    return bytes(position < ours and byte == 1 for position, byte in enumerate(proposed))


def negotiated(association: Association, sop_class_uid: str) -> Negotiated:
    """The options that were agreed on for a SOP class."""
    agreed = association.acceptor.sop_class_extended
    options = next((info for uid, info in agreed.items() if uid == sop_class_uid), b"")
    is_query = sop_class_uid in QUERY_MODELS
    return Negotiated(
        relational=options[:1] == b"\x01",
        combined_date_time=is_query and options[1:2] == b"\x01",
        fuzzy_names=is_query and options[2:3] == b"\x01",
    )


def _negotiate(event: evt.Event) -> dict[str, bytes]:
    proposed: Mapping[str, bytes] = event.app_info  # type: ignore[attr-defined]  # set by the event
    answers = {str(uid): answer(str(uid), info) for uid, info in proposed.items()}
    return {uid: info for uid, info in answers.items() if info is not None}


def handlers() -> list[tuple[Any, Any]]:
    """The handler that answers extended negotiation."""
    return [(evt.EVT_SOP_EXTENDED, _negotiate)]
