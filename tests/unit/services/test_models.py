"""Query/retrieve SOP classes and extended negotiation (PS3.4 section C.5)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lfscp.archive.query.query import Model
from lfscp.services.models import (
    GET_MODELS,
    MOVE_MODELS,
    QUERY_MODELS,
    Negotiated,
    answer,
    negotiated,
)

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"


def test_three_models_for_each_service() -> None:
    for models in (QUERY_MODELS, MOVE_MODELS, GET_MODELS):
        assert set(models.values()) == set(Model)


@pytest.mark.parametrize(
    ("uid", "proposed", "expected"),
    [
        (STUDY_FIND, b"\x01", b"\x01"),
        (STUDY_FIND, b"\x00\x01", b"\x00\x01"),
        (STUDY_FIND, b"\x01\x01\x01\x01", b"\x01\x01\x01\x00"),  # no time zones
        (STUDY_FIND, b"\x02", b"\x00"),  # not a value the standard knows
        (STUDY_FIND, b"", b""),
        (STUDY_MOVE, b"\x01\x01", b"\x01\x00"),
        ("1.2.840.10008.5.1.4.1.1.2", b"\x01", None),
    ],
)
def test_answer_grants_what_both_sides_have(
    uid: str, proposed: bytes, expected: bytes | None
) -> None:
    assert answer(uid, proposed) == expected


def association(agreed: dict[str, bytes]) -> SimpleNamespace:
    return SimpleNamespace(acceptor=SimpleNamespace(sop_class_extended=agreed))


def test_nothing_negotiated_means_hierarchical() -> None:
    assert negotiated(association({}), STUDY_FIND) == Negotiated()


def test_what_was_agreed_counts_for_its_sop_class_only() -> None:
    agreed = association({STUDY_FIND: b"\x01\x01"})

    assert negotiated(agreed, STUDY_FIND) == Negotiated(relational=True, combined_date_time=True)
    assert negotiated(agreed, STUDY_MOVE) == Negotiated()
