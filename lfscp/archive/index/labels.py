"""Labels of studies: short texts that people give them, to find them again.

A label belongs to the Study Instance UID. It goes when the last study with that UID is deleted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, delete, select

from lfscp.archive.index.removal import named, pieces_of
from lfscp.archive.index.tables.dialects import among, insert_if_absent
from lfscp.archive.index.tables.schema import study
from lfscp.archive.index.tables.study_tables import study_label
from lfscp.dicom.values.attributes import Level

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

MAX_LABEL: Final = 64  # characters
MAX_LABELS: Final = 50  # of one study
_NOT_IN_ONE: Final = frozenset("/\\")  # would end it in an address


class LabelError(ValueError):
    """A text cannot be a label, or a study has too many; the message says why."""


def checked_label(text: str) -> str:
    """A text as a label: without spaces around it, composed (Unicode NFC).

    Raises:
        LabelError: it is empty or too long, or has a character that no label has.
    """
    label = " ".join(unicodedata.normalize("NFC", text).split())
    if not 0 < len(label) <= MAX_LABEL:
        raise LabelError(f"a label has 1 to {MAX_LABEL} characters")
    if any(sign in _NOT_IN_ONE or not sign.isprintable() for sign in label):
        raise LabelError("a label has no slash, backslash or control character")
    return label


def add_label(index: Index, study_uids: Iterable[str], label: str) -> list[str]:
    """Give studies a label; one that has it keeps it.

    Args:
        label: from `checked_label`.
    Returns:
        The UIDs of the studies that are there, and have the label now.
    Raises:
        LabelError: a study has too many; none gets the label.
    """
    there: list[str] = []
    with index.writing() as connection:
        for uid in dict.fromkeys(study_uids):
            # Held, so that it is not deleted before its label is there.
            held = select(study.c.id).where(named(Level.STUDY, uid)).with_for_update()
            if connection.execute(held).first() is None:
                continue
            of_study = labels_among(connection, [uid]).get(uid, [])
            if len(of_study) >= MAX_LABELS and label not in of_study:
                raise LabelError(f"a study has at most {MAX_LABELS} labels")
            row = {"study_instance_uid": uid, "label": label}
            connection.execute(insert_if_absent(study_label, connection.dialect).values(row))
            there.append(uid)
    return there


def remove_label(index: Index, study_uids: Iterable[str], label: str) -> int:
    """Take a label from studies; returns how many had it."""
    taken = 0
    with index.writing() as connection:
        for piece in pieces_of(study_uids):
            gone = delete(study_label).where(
                study_label.c.label == label, study_label.c.study_instance_uid.in_(piece)
            )
            taken += connection.execute(gone).rowcount
    return taken


def labels_among(connection: Connection, study_uids: list[str]) -> dict[str, list[str]]:
    """The labels of some studies, in order, by UID; for a page of them."""
    wanted = (
        select(study_label.c.study_instance_uid, study_label.c.label)
        .where(among(study_label.c.study_instance_uid, study_uids))
        .order_by(study_label.c.label)
    )
    found: dict[str, list[str]] = {}
    for uid, label in connection.execute(wanted):
        found.setdefault(uid, []).append(label)
    return found
