"""Finds what a study's page says if studies or objects name different patients (PS3.3 C.7.1).

Rules: nothing is decided here; studies and objects stay as they were received.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection

from lfscp.archive.index.browsing import browse
from lfscp.web.pages.templating import date, name

_OBJECTS: Final = "Objects of this study name another patient; see their elements."
_STUDIES: Final = "Studies with this Patient ID name different patients:"
_STUDY_UID: Final = (
    "Another patient has a study with the same Study Instance UID. Send and retrieve take both."
)


@dataclass(frozen=True, slots=True)
class Conflict:
    """One conflict: its text, the names in it, and a link to the other study."""

    text: str
    names: tuple[str, ...] = ()
    href: str = ""
    link: str = ""


def conflicts(connection: Connection, study: Mapping[str, Any]) -> list[Conflict]:
    """The conflicts of a study.

    Args:
        study: a row of `browse.study_row`.
    """
    found: list[Conflict] = []
    if study["patient_has_conflict"]:
        said = browse.names_of_patient(connection, study["patient_id_fk"])
        found.append(Conflict(_STUDIES, tuple(_named(each) for each in said)))
    if study["has_conflict"]:
        found.append(Conflict(_OBJECTS))
    if study["shares_uid"]:
        found += _others(connection, study)
    return found


def _others(connection: Connection, study: Mapping[str, Any]) -> list[Conflict]:
    path = f"/studies/{quote(study['study_instance_uid'])}"
    others = browse.studies_of_uid(connection, study["study_instance_uid"])
    return [
        Conflict(_STUDY_UID, (), f"{path}?key={each['id']}", _named(each))
        for each in others
        if each["id"] != study["id"]
    ]


def _named(said: Mapping[str, Any]) -> str:
    born = date(said["patient_birth_date"])
    parts = [name(said["patient_name"]) or "No name", born and f"born {born}", said["patient_sex"]]
    return ", ".join(part for part in parts if part)
