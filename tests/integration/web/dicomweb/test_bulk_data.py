"""Bulk data over HTTP: any value by its path, whole or a range, and documents as themselves."""

from __future__ import annotations

import pytest

from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import (
    BIG_ENDIAN,
    BIG_VALUE,
    DEFLATED,
    J2K,
    PDF_BYTES,
    PDF_UID,
    RLE,
    SERIES,
    cells,
    url,
)

PDF = f"{url(PDF_UID, f'{SERIES}.9')}/bulkdata/00420011"
LUT = "bulkdata/00283000/2/00283006"
OCTETS = "application/octet-stream"


def get(node, path, accept="*/*", **headers):
    return node.get(path, headers={"Accept": accept, **headers})


def test_ohif_s_request_for_a_pdf_gets_one(node):
    forms = ("application/pdf", "application/octet-stream")
    accept = ", ".join(f'multipart/related; type="{each}"' for each in forms)
    [part] = parts_of(get(node, PDF, accept))

    assert (part.content_type, part.content) == ("application/pdf", PDF_BYTES)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "application/pdf"), ("application/pdf", "application/pdf"), (OCTETS, OCTETS)],
)
def test_a_document_is_a_single_part_too_without_its_padding(node, accept, media_type):
    answer = get(node, PDF, accept)

    assert answer.headers["content-type"] == media_type
    assert int(answer.headers["content-length"]) == len(PDF_BYTES)
    assert answer.content == PDF_BYTES


@pytest.mark.parametrize("instance", [RLE, DEFLATED, BIG_ENDIAN])
def test_a_value_in_a_sequence_comes_in_little_endian(node, instance):
    whole = get(node, f"{url(instance)}/{LUT}", OCTETS)
    part = get(node, f"{url(instance)}/{LUT}", OCTETS, Range="bytes=1001-2000")

    assert whole.content == BIG_VALUE
    assert part.status_code == 206
    assert part.headers["content-range"] == f"bytes 1001-2000/{len(BIG_VALUE)}"
    assert part.content == BIG_VALUE[1001:2001]


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [("0-0", 0, 1), ("5-", 5, None), ("-3", -3, None), ("0-99999", 0, None)],
)
def test_one_range_is_sent(node, asked, begin, end):
    answer = get(node, PDF, Range=f"bytes={asked}")

    assert (answer.status_code, answer.content) == (206, PDF_BYTES[begin:end])


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(node, asked):
    answer = get(node, PDF, Range=asked)

    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(PDF_BYTES)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=5-2", "pages=1-2", "bytes=-"])
def test_what_is_no_single_range_is_ignored(node, asked):
    answer = get(node, PDF, Range=asked)

    assert (answer.status_code, answer.content) == (200, PDF_BYTES)


def test_a_range_of_another_version_is_ignored(node):
    answer = get(node, PDF, Range="bytes=0-1", **{"If-Range": '"other"'})

    assert (answer.status_code, answer.content) == (200, PDF_BYTES)


def test_pixel_data_are_bulk_data_too(node):
    native = get(node, f"{url(BIG_ENDIAN)}/bulkdata/7FE00010", OCTETS)
    decoded = parts_of(get(node, f"{url(J2K)}/bulkdata/7fe00010"))

    assert native.content == cells().tobytes()
    assert b"".join(part.content for part in decoded) == cells().tobytes()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("00420011", 404),
        ("00283000", 404),  # a sequence
        ("00283000/3/00283006", 404),
        ("00283000/0/00283006", 400),
        ("00283000/1", 400),
        ("x", 400),
        ("%2e%2e/%2e%2e/etc/passwd", 400),
        ("/".join(["00283000/1"] * 100 + ["00283006"]), 400),
    ],
)
def test_what_is_not_there_is_not_found(node, path, status):
    assert node.get(f"{url(RLE)}/bulkdata/{path}").status_code == status


def test_a_type_that_it_has_not_is_not_acceptable(node):
    assert get(node, PDF, "image/png").status_code == 406
    assert get(node, f"{url(RLE)}/{LUT}", "application/pdf").status_code == 406


def uris(model):
    """All BulkDataURIs of an instance's metadata, by the end of their paths."""
    for element in model.values():
        if "BulkDataURI" in element:
            yield element["BulkDataURI"]
        for item in element.get("Value", ()):
            if isinstance(item, dict) and element["vr"] == "SQ":
                yield from uris(item)


@pytest.mark.parametrize("instance", [RLE, J2K, DEFLATED, BIG_ENDIAN])
def test_every_bulk_data_uri_of_the_metadata_leads_to_its_value(node, instance):
    [model] = node.get(f"{url(instance)}/metadata").json()
    found = {uri.partition("/bulkdata/")[2]: get(node, uri, OCTETS) for uri in uris(model)}

    lut = found.pop("00283000/2/00283006")
    assert lut.content == BIG_VALUE
    assert list(found) == ["7FE00010"]
    [pixels] = found.values()
    # Several compressed frames are no single part.
    assert pixels.status_code == (406 if instance in (RLE, J2K) else 200)
