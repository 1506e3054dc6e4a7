"""Tells by which AE title a requestor called this node; it imports little, for short commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynetdicom.association import Association


def called_ae_title(association: Association) -> str:
    """The AE title by which the requestor called us."""
    request = association.requestor.primitive
    return str(request.called_ae_title).strip() if request is not None else ""
