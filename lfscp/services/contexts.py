"""Lists what the node supports: SOP classes, transfer syntaxes and roles, prepared once.

Rules:
- every standard composite storage SOP class, current and retired, that has a study and a series
  (objects without a patient, such as hanging protocols, have no place in the index);
- other SOP classes if the standard does not know them (private and future ones), unless the
  configuration allows only those that it names;
- the same SOP classes for C-STORE, our own C-GET, upload and import;
- every transfer syntax whose datasets can travel in a C-STORE, because bytes are kept as received;
- uncompressed first: of several syntaxes in one context we accept our first one, and a receiver's
  context with an uncompressed syntax can carry every object (C-GET).
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Final

from pydicom.uid import UID, UID_dictionary  # type: ignore[attr-defined]  # not re-exported
from pynetdicom import build_context
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext

from lfscp.archive.errors import ClassNotStoredError
from lfscp.dicom.encoding.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.services.models import QUERY_MODELS, RETRIEVE_MODELS
from lfscp.upperlayer.scp.contexts import may_be_storage

if TYPE_CHECKING:
    from lfscp.config import Settings

VERIFICATION: Final = "1.2.840.10008.1.1"
MODALITY_WORKLIST: Final = "1.2.840.10008.5.1.4.31"
PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"  # modality performed procedure step
PROCEDURE_STEP_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"  # the push model

# For identifiers, which have no pixel data, and for Verification.
UNCOMPRESSED: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)

_NO_DATASET_TO_STORE: Final = frozenset(
    {
        "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME encapsulation: for PS3.10 media in mail
        "1.2.840.10008.1.2.6.2",  # XML encoding: never defined for the network
        "1.2.840.10008.1.2.7.1",  # SMPTE ST 2110: real-time video, PS3.22
        "1.2.840.10008.1.2.7.2",
        "1.2.840.10008.1.2.7.3",
        "1.2.840.10008.1.20",  # Papyrus 3: a file format
    }
)

_NOT_IN_A_STUDY: Final = frozenset(
    {
        "1.2.840.10008.1.3.10",  # Media Storage Directory: never sent by C-STORE
        "1.2.840.10008.5.1.4.1.1.200.1",  # Defined Procedure Protocols and their approval
        "1.2.840.10008.5.1.4.1.1.200.3",
        "1.2.840.10008.5.1.4.1.1.200.7",
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # implant templates
        "1.2.840.10008.5.1.4.44.1",
        "1.2.840.10008.5.1.4.45.1",
    }
)


def transfer_syntaxes() -> tuple[str, ...]:
    """Every transfer syntax of pydicom's dictionary that a C-STORE can carry, preferred first."""
    known = [
        uid
        for uid, (_, kind, *_) in UID_dictionary.items()
        if kind == "Transfer Syntax" and uid not in _NO_DATASET_TO_STORE
    ]
    last = (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
    first = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    return (*first, *(uid for uid in known if uid not in (*first, *last)), *last)


def storage_sop_classes() -> tuple[str, ...]:
    """Every standard storage SOP class whose instances belong to a series, in order of UID."""
    named = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not name.startswith("Storage Commitment")
    }
    listed = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    return tuple(sorted((named | listed) - _NOT_IN_A_STUDY))


def storage_classes(settings: Settings) -> tuple[str, ...]:
    """The storage SOP classes of a node as configured: standard and private ones."""
    return tuple(dict.fromkeys((*storage_sop_classes(), *settings.storage.private_sop_classes)))


def require_stored_class(settings: Settings, sop_class_uid: str) -> None:
    """Refuse objects of a SOP class that is not stored, however they come in.

    Raises:
        ClassNotStoredError: it is not stored; the reason says what to do.
    """
    if sop_class_uid in _standard() or sop_class_uid in settings.storage.private_sop_classes:
        return
    if not may_be_storage(UID(sop_class_uid)):
        name = UID(sop_class_uid).name
        raise ClassNotStoredError(f"{name} ({sop_class_uid}) is no SOP class of objects in a study")
    if not settings.storage.accept_unknown_sop_classes:
        raise ClassNotStoredError(
            f"SOP class {sop_class_uid} is not accepted; name it in storage.private_sop_classes, "
            "or set storage.accept_unknown_sop_classes = true"
        )


@cache
def _standard() -> frozenset[str]:
    return frozenset(storage_sop_classes())


def contexts(settings: Settings) -> list[PresentationContext]:
    """All presentation contexts of a node; all associations share them.

    Storage contexts accept both roles: a requestor may be their SCP for C-GET, and one that
    proposes no role stores as usual. So does Storage Commitment: a requestor is its SCP when it
    reports what we have asked it for.

    Source: PS3.4 annexes A, B, C, F, J and K; PS3.7 section D.3.3.4 for the roles.
    """
    workflow = (MODALITY_WORKLIST, PROCEDURE_STEP, PROCEDURE_STEP_RETRIEVE)
    others = (VERIFICATION, *QUERY_MODELS, *RETRIEVE_MODELS, *workflow)
    found = [build_context(uid, list(UNCOMPRESSED)) for uid in others]
    commitment = build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED))
    commitment.scu_role = commitment.scp_role = True
    return [*found, commitment, *_storage_contexts(storage_classes(settings))]


def _storage_contexts(sop_classes: Iterable[str]) -> Iterable[PresentationContext]:
    # Adding a syntax checks it, which takes 0.15 s for all of them. So the list is shared.
    prepared = build_context(VERIFICATION, list(transfer_syntaxes()))
    prepared.scu_role = True
    prepared.scp_role = True
    for uid in sop_classes:
        context = copy(prepared)
        context.abstract_syntax = UID(uid)
        yield context
