"""Frames over HTTP: read by offset, in the form that is asked for, and never another."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import (
    BIG_ENDIAN,
    BITS,
    DEFLATED,
    J2K,
    NO_TABLE,
    PDF_UID,
    RLE,
    SERIES,
    VIDEO,
    VIDEO_BYTES,
    bits,
    cells,
    url,
)
from tests.support.web_objects import (
    CT_SERIES,
    CT_STUDY,
    LOOP_INSTANCE,
    LOOP_SERIES,
    LOOP_STUDY,
    colour_loop,
    ct_slice,
)

EXPLICIT = "1.2.840.10008.1.2.1"
OCTETS = f"application/octet-stream; transfer-syntax={EXPLICIT}"
OHIF = 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'
DECODED = 'multipart/related; type="application/octet-stream"'


def frames(node, instance, numbers="1", accept=OHIF, **place):
    return node.get(f"{url(instance, **place)}/frames/{numbers}", headers={"Accept": accept})


def is_compressed(content):
    return content[:4] in (b"\xff\x4f\xff\x51", b"\1\0\0\0", b"\2\0\0\0")


def test_ohif_s_request_gets_a_native_frame_as_it_is(node):
    answer = frames(node, f"{CT_SERIES}.2", series=CT_SERIES, study=CT_STUDY)
    [part] = parts_of(answer)

    assert answer.status_code == 200
    assert part.content_type == OCTETS
    assert part.content == ct_slice(2, 3).PixelData


def test_several_frames_come_in_the_order_that_is_asked_for(node):
    answer = frames(node, LOOP_INSTANCE, "3,1", series=LOOP_SERIES, study=LOOP_STUDY)
    stored = np.frombuffer(colour_loop().PixelData, np.uint8).reshape(8, -1)

    assert [part.content for part in parts_of(answer)] == [
        stored[2].tobytes(),
        stored[0].tobytes(),
    ]


@pytest.mark.parametrize("instance", [RLE, J2K, NO_TABLE])
@pytest.mark.parametrize("accept", [DECODED, f"{DECODED}; transfer-syntax={EXPLICIT}", "*/*"])
def test_a_compressed_frame_is_decoded_unless_it_is_asked_for_as_stored(node, instance, accept):
    parts = parts_of(frames(node, instance, "2,3", accept))

    assert [part.content_type for part in parts] == [OCTETS, OCTETS]
    assert [part.content for part in parts] == [cells()[1].tobytes(), cells()[2].tobytes()]


@pytest.mark.parametrize(
    ("instance", "syntax", "media_type"),
    [
        (J2K, JPEG2000Lossless, "image/jp2"),
        (RLE, RLELossless, "image/dicom-rle"),
        (NO_TABLE, RLELossless, "image/dicom-rle"),
    ],
)
@pytest.mark.parametrize("form", ["{type}", "{type}; transfer-syntax={syntax}", "image/*"])
def test_a_compressed_frame_has_its_own_media_type(node, instance, syntax, media_type, form):
    accept = form.format(type=media_type, syntax=syntax)
    [part] = parts_of(frames(node, instance, "2", f"multipart/related; type={accept}"))
    single = frames(node, instance, "2", accept)

    assert part.content_type == f"{media_type}; transfer-syntax={syntax}"
    assert single.headers["content-type"] == part.content_type
    assert int(single.headers["content-length"]) == len(single.content)
    assert single.content == part.content
    assert is_compressed(part.content)


@pytest.mark.parametrize(("instance", "syntax"), [(J2K, JPEG2000Lossless), (RLE, RLELossless)])
def test_ohif_s_request_gets_a_compressed_frame_with_its_transfer_syntax(node, instance, syntax):
    [part] = parts_of(frames(node, instance))

    assert part.content_type == f"application/octet-stream; transfer-syntax={syntax}"
    assert is_compressed(part.content)


def test_the_frame_as_stored_is_exactly_that_of_the_file(node):
    file = node.get(f"/api/instances/{J2K}/file").content
    [part] = parts_of(frames(node, J2K, "3"))

    assert file.count(part.content) == 1


@pytest.mark.parametrize("instance", [DEFLATED, BIG_ENDIAN])
@pytest.mark.parametrize("accept", [OHIF, DECODED, "*/*"])
def test_deflated_and_big_endian_frames_come_in_little_endian(node, instance, accept):
    [part] = parts_of(frames(node, instance, "2", accept))

    assert (part.content_type, part.content) == (OCTETS, cells()[1].tobytes())


def test_frames_of_one_bit_begin_with_their_own_first_bit(node):
    parts = parts_of(frames(node, BITS, "1,2,3"))

    assert [part.content for part in parts] == [
        np.packbits(each.reshape(-1), bitorder="little").tobytes() for each in bits()
    ]


def test_a_single_part_has_its_length(node):
    answer = frames(node, RLE, "1", "application/octet-stream")

    assert answer.headers["content-type"] == OCTETS
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content == cells()[0].tobytes()


@pytest.mark.parametrize(
    ("instance", "numbers", "accept"),
    [
        (J2K, "1", 'multipart/related; type="image/jpeg"'),
        (J2K, "1", "image/png"),
        (J2K, "1", f'multipart/related; type="image/jp2"; transfer-syntax={RLELossless}'),
        (J2K, "1,2", "image/jp2"),  # two parts are no single one
        (DEFLATED, "1", "image/jp2"),
        (DEFLATED, "1", f"{DECODED}; transfer-syntax={JPEG2000Lossless}"),
        (VIDEO, "1", DECODED),  # never decoded
        (J2K, "1", "image/jp2;q=0"),
    ],
)
def test_what_cannot_be_made_is_not_acceptable(node, instance, numbers, accept):
    answer = frames(node, instance, numbers, accept)

    assert answer.status_code == 406
    assert answer.json()["detail"]


@pytest.mark.parametrize("numbers", ["0", "1,0", "a", "1,", "1;2", "1-2", "9" * 40, "1," * 9 + "x"])
def test_a_list_that_makes_no_sense_is_a_bad_request(node, numbers):
    assert frames(node, J2K, numbers).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        f"{url(J2K)}/frames/4",
        f"{url(J2K)}/frames/1,4",
        f"{url(PDF_UID, f'{SERIES}.9')}/frames/1",
        f"{url('1.2.3')}/frames/1",
        f"{url(J2K, '1.2.3')}/frames/1",
        f"{url(J2K, study='1.2.3')}/frames/1",
    ],
)
def test_what_is_not_there_is_not_found(node, path):
    assert node.get(path).status_code == 404


def test_a_head_says_the_same_without_a_body(node):
    answer = node.head(f"{url(J2K)}/frames/1", headers={"Accept": DECODED})

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("multipart/related")


def test_a_frame_that_the_client_has_is_not_sent_again(node):
    first = frames(node, J2K, "1", "image/jp2")
    headers = {"Accept": "image/jp2", "If-None-Match": first.headers["etag"]}
    again = node.get(f"{url(J2K)}/frames/1", headers=headers)
    other = node.get(f"{url(J2K)}/frames/2", headers=headers)
    decoded = node.get(f"{url(J2K)}/frames/1", headers={**headers, "Accept": DECODED})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (other.status_code, decoded.status_code) == (200, 200)


def test_pixel_data_are_one_part_or_a_part_for_each_compressed_frame(node):
    native = node.get(f"{url(BIG_ENDIAN)}/pixeldata")
    single = node.get(
        f"{url(BIG_ENDIAN)}/pixeldata", headers={"Accept": "application/octet-stream"}
    )
    compressed = node.get(f"{url(J2K)}/pixeldata", headers={"Accept": OHIF})

    assert [part.content for part in parts_of(native)] == [cells().tobytes()]
    assert single.content == cells().tobytes()
    assert [is_compressed(part.content) for part in parts_of(compressed)] == [True] * 3


def test_the_pixel_data_of_a_video_are_the_video(node):
    answer = node.get(f"{url(VIDEO)}/pixeldata", headers={"Accept": "video/mp4"})

    assert answer.headers["content-type"].startswith("video/mp4")
    assert answer.content == VIDEO_BYTES
