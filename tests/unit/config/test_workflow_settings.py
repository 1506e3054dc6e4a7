"""The settings of HL7 orders: what is wrong is said with what was expected."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from lfscp.config.workflow import Worklist


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("hl7_stations", ["CT"], "MODALITY=AE_TITLE"),
        ("hl7_stations", ["CT="], "MODALITY=AE_TITLE"),
        ("hl7_stations", ["ct=A"], "MODALITY=AE_TITLE"),
        ("hl7_stations", ["CT=" + "A" * 17], "MODALITY=AE_TITLE"),
        ("hl7_modalities", ["=CT"], "TEXT=MODALITY"),
        ("hl7_modalities", ["RAD=*"], "TEXT=MODALITY"),
        ("hl7_addresses", ["10.0.0.0/40"], "an address or a network"),
        ("hl7_character_set", "KLINGON", "8859/1"),
        ("hl7_port", -1, "greater than or equal to 0"),
        ("hl7_host", "", "the name or address of a host"),
    ],
)
def test_wrong_values(key: str, value: object, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Worklist.model_validate({key: value})


def test_stations_are_kept_without_the_spaces_around_them() -> None:
    settings = Worklist.model_validate({"hl7_stations": ["MR=MR01, MR02", "*=ROOM 1"]})
    assert settings.hl7_stations == ("MR=MR01,MR02", "*=ROOM 1")
