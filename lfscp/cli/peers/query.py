"""Makes of the options the query of a command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lfscp.cli.errors import OptionError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_UNIQUE_KEYS: Final = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}  # by level (PS3.4 section C.6)
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")


@dataclass(frozen=True, slots=True)
class PeerQuery:
    """The query of a command: keys by keyword, the same as a dataset with the level, the model."""

    keys: dict[str, str]
    identifier: Dataset
    model: str


def query_of(
    keys: list[str] | None,
    level: str | None,
    patient: bool,
    study: bool,
    psonly: bool,
    *,
    asks_unique_key: bool = False,
) -> PeerQuery:
    """The query that the options name.

    Args:
        asks_unique_key: whether matches must have the unique key of their level, given or not.
    Raises:
        OptionError: an unknown key or level, a value that a key cannot have, or several models.
    """
    from lfscp.scu.identifiers import identifier

    if patient + study + psonly > 1:
        raise OptionError("flags --patient, --study, --psonly: expected one of them")
    named = dict(_key(text) for text in keys or [])
    chosen = (named.pop("QueryRetrieveLevel", "") or level or "STUDY").upper()
    if chosen not in _UNIQUE_KEYS:
        raise OptionError(f"flag --level {chosen}: expected one of {', '.join(_UNIQUE_KEYS)}")
    if asks_unique_key:
        named.setdefault(_UNIQUE_KEYS[chosen], "")
    model = "patient" if patient else "patient-study" if psonly else "study"
    try:
        return PeerQuery(named, identifier(named, chosen), model)
    except ValueError as error:
        raise OptionError(f"flag --key {error}") from None


def _key(text: str) -> tuple[str, str]:
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    name, _, value = text.partition("=")
    name = name.strip()
    tag = _TAG.fullmatch(name)
    if tag is not None:
        name = keyword_for_tag(int(tag[1] + tag[2], 16))
    if not name or tag_for_keyword(name) is None:
        raise OptionError(
            f"flag --key {text!r}: expected a keyword or tag of the DICOM dictionary, "
            "for example PatientName=DOE*"
        )
    return name, value
