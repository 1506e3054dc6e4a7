"""Values of a search's parameters, as they would stand in the identifier of a C-FIND."""

from __future__ import annotations

import pytest

from lfscp.web.dicomweb.searching.attribute_values import element_of


# Little endian, in as many bytes as table 6.2-1 of PS3.5 gives each VR.
@pytest.mark.parametrize(
    ("tag", "vr", "text", "value"),
    [
        (0x00280010, b"US", "513,2", b"\x01\x02\x02\x00"),
        (0x00720082, b"SV", "-2", b"\xfe" + b"\xff" * 7),
        (0x00720083, b"UV", "18446744073709551615", b"\xff" * 8),
        (0x00720074, b"FD", "1.5", b"\x00" * 6 + b"\xf8\x3f"),
    ],
)
def test_numbers_are_packed_as_their_vr_says(tag, vr, text, value):
    element = element_of(tag, text)
    assert (element.vr, element.value) == (vr, value)


def test_what_is_no_number_of_the_vr_is_refused():
    for tag, text in ((0x00720083, "-1"), (0x00720082, "many"), (0x00280010, "65536")):
        with pytest.raises(ValueError, match="expected a number"):
            element_of(tag, text)
