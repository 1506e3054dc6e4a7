"""What the node supports: everything standard, uncompressed first, both roles for storage."""

from __future__ import annotations

import pytest
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    UID_dictionary,  # type: ignore[attr-defined]  # not re-exported
)
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext

from lfscp.archive.errors import ClassNotStoredError
from lfscp.config import Settings
from lfscp.services.contexts import (
    STORAGE_COMMITMENT,
    contexts,
    require_stored_class,
    storage_sop_classes,
    transfer_syntaxes,
)
from lfscp.upperlayer.scp.contexts import may_be_storage

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
REAL_TIME_VIDEO = {f"1.2.840.10008.1.2.7.{number}" for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def supported() -> dict[str, PresentationContext]:
    settings = Settings.model_validate({"storage": {"private_sop_classes": ["1.3.9999.1"]}})
    found = contexts(settings)
    by_uid = {str(context.abstract_syntax): context for context in found}
    assert len(by_uid) == len(found), "an abstract syntax stands there twice"
    return by_uid


def test_every_storage_class_of_pynetdicom_is_there(
    supported: dict[str, PresentationContext],
) -> None:
    missing = {str(cx.abstract_syntax) for cx in AllStoragePresentationContexts} - set(supported)
    assert missing == set()


@pytest.mark.parametrize(
    "retired",
    ["1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.12.3", "1.2.840.10008.5.1.1.27"],
)
def test_retired_storage_classes_are_there(
    supported: dict[str, PresentationContext], retired: str
) -> None:
    assert retired in supported


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
    ],
)
def test_classes_without_a_study_are_not_there(
    supported: dict[str, PresentationContext], uid: str
) -> None:
    assert uid not in supported


def test_storage_takes_every_transfer_syntax_pydicom_can_carry(
    supported: dict[str, PresentationContext],
) -> None:
    accepted = {str(uid) for uid in supported[CT_IMAGE].transfer_syntax}
    assert {str(uid) for uid in AllTransferSyntaxes} - accepted == REAL_TIME_VIDEO


def test_uncompressed_comes_first() -> None:
    assert transfer_syntaxes()[:2] == ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


def test_both_roles_are_granted_for_storage_and_its_commitment_only(
    supported: dict[str, PresentationContext],
) -> None:
    both = {uid for uid, cx in supported.items() if cx.scu_role and cx.scp_role}
    assert both == {*storage_sop_classes(), "1.3.9999.1", STORAGE_COMMITMENT}


def test_private_classes_come_by_configuration(
    supported: dict[str, PresentationContext],
) -> None:
    assert len(supported["1.3.9999.1"].transfer_syntax) == len(transfer_syntaxes())


def test_of_what_the_standard_knows_nothing_but_storage_is_stored() -> None:
    stored = set()
    for uid, (name, *_) in UID_dictionary.items():
        try:
            require_stored_class(Settings(), uid)
        except ClassNotStoredError:
            continue
        if name:  # a few retired SOP classes have lost theirs
            stored.add(uid)
    assert stored == set(storage_sop_classes()) & UID_dictionary.keys()


@pytest.mark.parametrize("uid", ["1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.9999"])
def test_what_the_standard_does_not_know_is_stored(uid: str) -> None:
    require_stored_class(Settings(), uid)


@pytest.mark.parametrize("text", ["", "1.2.abc", "1.2.3 4", "1.2\\1.3"])
def test_what_is_no_uid_is_no_sop_class(text: str) -> None:
    assert not may_be_storage(UID(text, validation_mode=0))
