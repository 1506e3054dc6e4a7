"""Whole objects over HTTP: in the transfer syntax that is asked for, one after another."""

from __future__ import annotations

import zipfile
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import (
    BIG_ENDIAN,
    DEFLATED,
    J2K,
    NO_TABLE,
    RLE,
    SERIES,
    STUDY,
    VIDEO,
    cells,
    url,
)
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice

DICOM = 'multipart/related; type="application/dicom"'
AS_STORED = f"{DICOM}; transfer-syntax=*"
STUDY_URL = f"/dicom-web/studies/{STUDY}"
CT_URL = f"/dicom-web/studies/{CT_STUDY}"


def get(node, path, accept):
    return node.get(path, headers={"Accept": accept})


def read(content):
    return dcmread(BytesIO(content))


@pytest.mark.parametrize("path", [CT_URL, f"{CT_URL}/series/{CT_SERIES}"])
@pytest.mark.parametrize("accept", [DICOM, AS_STORED, "*/*", "multipart/related"])
def test_a_study_comes_object_by_object(node, path, accept):
    answer = get(node, path, accept)
    parts = parts_of(answer)

    assert answer.status_code == 200
    assert [part.content_type for part in parts] == [
        f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    ] * 3
    assert [read(part.content).PixelData for part in parts] == [
        ct_slice(number, 3).PixelData for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("instance", [RLE, J2K, NO_TABLE, DEFLATED, BIG_ENDIAN])
def test_an_object_is_decoded_into_explicit_vr_little_endian(node, instance):
    [part] = parts_of(get(node, url(instance), DICOM))
    made = read(part.content)

    assert part.content_type == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    assert made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID == instance
    assert made.PixelData == cells().tobytes()


@pytest.mark.parametrize("instance", [RLE, J2K, DEFLATED, VIDEO])
def test_as_stored_is_the_file_itself(node, instance):
    [part] = parts_of(get(node, url(instance), AS_STORED))

    assert part.content == node.get(f"/api/instances/{instance}/file").content


def test_a_single_object_may_be_a_single_part(node):
    answer = get(node, url(J2K), f"application/dicom; transfer-syntax={JPEG2000Lossless}")

    assert (
        answer.headers["content-type"] == f"application/dicom; transfer-syntax={JPEG2000Lossless}"
    )
    assert read(answer.content).file_meta.TransferSyntaxUID == JPEG2000Lossless


def test_another_uncompressed_syntax_is_made(node):
    answer = get(
        node, url(J2K), f"application/dicom;transfer-syntax={DeflatedExplicitVRLittleEndian}"
    )
    made = read(answer.content)

    assert made.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert np.array_equal(made.pixel_array, cells())


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (url(J2K), "image/jpeg"),
        (url(J2K), "application/dicom+json"),
        (url(J2K), f"{DICOM}; transfer-syntax={MPEG4HP41}"),
        (url(VIDEO), DICOM),  # a video is never decoded
        (url(VIDEO), "*/*"),
        (CT_URL, "application/dicom"),  # several objects are no single part
    ],
)
def test_what_cannot_be_made_is_not_acceptable(node, path, accept):
    answer = get(node, path, accept)

    assert answer.status_code == 406
    assert "transfer-syntax=" in answer.json()["detail"]


def test_what_can_be_made_of_a_study_comes_with_a_warning(node):
    answer = get(node, f"{STUDY_URL}/series/{SERIES}", DICOM)

    assert answer.status_code == 206
    assert "1 of 7 objects" in answer.headers["warning"]
    assert len(parts_of(answer)) == 6


def test_a_zip_has_a_file_for_each_object(node):
    answer = get(node, CT_URL, "application/zip")
    packed = zipfile.ZipFile(BytesIO(answer.content))

    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{CT_STUDY}.zip"'
    assert packed.testzip() is None
    assert sorted(packed.namelist()) == [
        f"{CT_SERIES}/{CT_SERIES}.{number}.dcm" for number in (1, 2, 3)
    ]
    assert read(packed.read(packed.namelist()[0])).PixelData == ct_slice(1, 3).PixelData


@pytest.mark.parametrize(
    "path",
    [
        "/dicom-web/studies/1.2.3",
        f"{CT_URL}/series/1.2.3",
        f"{STUDY_URL}/series/{CT_SERIES}",
        url("1.2.3"),
        url(J2K, CT_SERIES),
    ],
)
def test_what_is_not_there_is_not_found(node, path):
    assert node.get(path).status_code == 404


@pytest.mark.parametrize("uid", ["..", "%2e%2e", "1.2.3%00", "1" * 65, "a b"])
def test_what_is_no_uid_is_refused(node, uid):
    assert node.get(f"/dicom-web/studies/{uid}").status_code in (400, 404, 405)


def test_a_study_that_the_client_has_is_not_sent_again_until_it_changes(node):
    path = f"{CT_URL}/series/{CT_SERIES}"
    first = get(node, path, DICOM)
    known = {"Accept": DICOM, "If-None-Match": f'"x", {first.headers["etag"]}'}
    again = node.get(path, headers=known)
    other = node.get(path, headers={**known, "Accept": AS_STORED})

    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


def test_a_head_has_no_body(node):
    answer = node.head(CT_URL, headers={"Accept": DICOM})

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("multipart/related")
