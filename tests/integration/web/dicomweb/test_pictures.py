"""Rendered pictures and thumbnails over HTTP, at every level, and WADO-URI."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from lfscp.web.dicomweb.retrieving.animation import animation
from lfscp.web.imaging.errors import NoPictureError
from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import (
    J2K,
    PDF_BYTES,
    PDF_UID,
    SERIES,
    STUDY,
    VIDEO,
    VIDEO_BYTES,
    cells,
    url,
)
from tests.support.web_objects import (
    CT_SERIES,
    CT_STUDY,
    LOOP_INSTANCE,
    LOOP_SERIES,
    LOOP_STUDY,
    REPORT_INSTANCE,
)

CT_URL = f"/dicom-web/studies/{CT_STUDY}"
LOOP_URL = url(LOOP_INSTANCE, LOOP_SERIES, LOOP_STUDY)
CT_INSTANCE = url(f"{CT_SERIES}.2", CT_SERIES, CT_STUDY)
REPORT_URL = url(REPORT_INSTANCE, f"{LOOP_STUDY}.2", LOOP_STUDY)
PDF_URL = url(PDF_UID, f"{SERIES}.9")


def get(node, path, accept="image/*"):
    return node.get(path, headers={"Accept": accept})


def picture(answer):
    assert answer.status_code == 200, answer.text
    return Image.open(BytesIO(getattr(answer, "content", answer)))


@pytest.mark.parametrize("accept", ["*/*", "image/jpeg", "image/*", "image/jp2, image/*;q=0.1"])
@pytest.mark.parametrize(
    "path", [CT_URL, f"{CT_URL}/series/{CT_SERIES}", CT_INSTANCE, f"{CT_INSTANCE}/frames/1"]
)
def test_there_is_a_picture_at_every_level(node, path, accept):
    shown = picture(get(node, f"{path}/rendered", accept))
    small = picture(get(node, f"{path}/thumbnail", accept))

    assert (shown.format, shown.size) == ("JPEG", (192, 192))
    assert small.format == "JPEG"
    assert max(small.size) <= 192


def test_a_png_has_the_very_pixels(node):
    answer = get(node, f"{CT_INSTANCE}/rendered?window=40,400,linear", "image/png")
    api = node.get(f"/api/instances/{CT_SERIES}.2/frames/1?center=40&width=400&encoding=png")

    assert np.array_equal(np.asarray(picture(answer)), np.asarray(picture(api)))


def red_column(shown: Image.Image) -> int:
    """Where the red of a frame of the loop begins."""
    return int(np.argmax(np.asarray(shown.convert("RGB"))[25, :, 0] > 200))


def test_a_gif_of_several_frames_moves(node):
    answer = get(node, f"{LOOP_URL}/rendered", "image/gif")
    moving = picture(answer)

    assert answer.headers["content-type"] == "image/gif"
    assert (moving.format, moving.size) == ("GIF", (80, 60))
    assert (moving.n_frames, moving.info["loop"]) == (8, 0)
    for number in range(8):
        moving.seek(number)
        assert moving.info["duration"] == 50
        assert red_column(moving) == 10 + 5 * number


def test_a_moving_picture_takes_the_parameters_of_others(node):
    moving = picture(get(node, f"{LOOP_URL}/rendered?viewport=40,40", "image/gif"))
    tag = get(node, f"{LOOP_URL}/rendered", "image/gif").headers["etag"]
    headers = {"Accept": "image/gif", "If-None-Match": tag}

    assert (moving.n_frames, moving.size) == (8, (40, 30))
    assert node.get(f"{LOOP_URL}/rendered", headers=headers).status_code == 304


@pytest.mark.parametrize(
    "path", [f"{CT_INSTANCE}/rendered", f"{LOOP_URL}/frames/3/rendered", f"{LOOP_URL}/thumbnail"]
)
def test_a_gif_of_one_frame_does_not_move(node, path):
    shown = picture(get(node, path, "image/gif"))

    assert (shown.format, shown.n_frames) == ("GIF", 1)


@pytest.mark.parametrize("broken", [b"", b"GIF89a", b"\x89PNG" + bytes(40), bytes(3000)])
def test_what_is_no_picture_does_not_move(node, broken):
    whole = get(node, f"{LOOP_URL}/frames/1/rendered", "image/gif").content

    with pytest.raises(NoPictureError):
        list(animation([whole, broken], [100, 100]))
    for end in range(len(whole) - 2):
        with pytest.raises(NoPictureError):
            list(animation([whole[:end]], [100]))


def test_the_frames_of_a_list_are_a_part_each(node):
    parts = parts_of(get(node, f"{LOOP_URL}/frames/1,8/rendered", "*/*"))

    assert [part.content_type for part in parts] == ["image/jpeg"] * 2
    red = [np.asarray(Image.open(BytesIO(part.content)))[25, :, 0] for part in parts]
    assert [int(np.argmax(line > 200)) for line in red] == pytest.approx([10, 45], abs=2)


def test_a_study_in_multipart_is_a_picture_of_each_object(node):
    accept = 'multipart/related; type="image/jpeg"'

    assert len(parts_of(get(node, f"{CT_URL}/rendered", accept))) == 3
    assert len(parts_of(get(node, f"/dicom-web/studies/{LOOP_STUDY}/rendered", accept))) == 1


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        ("64,64", (64, 48)),
        ("160,400", (160, 120)),
        ("40,40,40,0,40,60", (27, 40)),
        ("80,60,,,,", (80, 60)),
        ("4096,1", (1, 1)),
    ],
)
def test_a_viewport_is_filled_as_far_as_the_shape_allows(node, viewport, size):
    assert picture(get(node, f"{LOOP_URL}/rendered?viewport={viewport}")).size == size


def test_a_negative_width_mirrors_the_region(node):
    plain, mirrored = (
        np.asarray(
            picture(get(node, f"{LOOP_URL}/rendered?viewport=80,60,0,0,{width},60", "image/png"))
        )
        for width in (80, -80)
    )

    assert np.array_equal(plain[:, ::-1], mirrored)
    assert not np.array_equal(plain, mirrored)


def test_quality_changes_the_size_of_a_jpeg(node):
    sizes = [
        len(get(node, f"{CT_INSTANCE}/rendered?quality={quality}").content)
        for quality in (10, 60, 100)
    ]

    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


@pytest.mark.parametrize(
    "query",
    [
        "viewport=99999,99999",
        "viewport=0,10",
        "viewport=10",
        "viewport=10,10,-1,0,5,5",
        "viewport=10,10,nan,0,5,5",
        "window=1",
        "window=1,0",
        "window=1e400,2",
        "window=1,2,cubic",
        "quality=0",
        "quality=101",
        "quality=01000",
        f"quality={'0' * 9}101",
        "viewport=00000010000000,10",
        f"viewport=10,{'9' * 5000}",
        "quality=x",
    ],
)
def test_a_wrong_value_is_a_bad_request(node, query):
    answer = get(node, f"{CT_INSTANCE}/rendered?{query}")

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(query.partition("=")[0])


def test_what_is_not_supported_is_said(node):
    answer = get(node, f"{CT_INSTANCE}/rendered?annotation=patient&unknown=1")

    assert answer.status_code == 200
    assert "annotation" in answer.headers["warning"]
    assert "unknown" not in answer.headers["warning"]


def test_a_document_and_a_video_are_rendered_as_themselves(node):
    pdf, video = get(node, f"{PDF_URL}/rendered", "*/*"), get(node, f"{url(VIDEO)}/rendered", "*/*")

    assert (pdf.headers["content-type"], pdf.content) == ("application/pdf", PDF_BYTES)
    assert (video.headers["content-type"], video.content) == ("video/mp4", VIDEO_BYTES)


def test_ohif_s_request_for_a_video_names_its_type_in_the_query(node):
    answer = get(node, f"{url(VIDEO)}/rendered?accept=video/mp4", "*/*")

    assert (answer.headers["content-type"], answer.content) == ("video/mp4", VIDEO_BYTES)


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (f"{PDF_URL}/rendered", "image/jpeg", 406),
        (f"{REPORT_URL}/rendered", "image/jpeg", 406),
        (f"{REPORT_URL}/thumbnail", "image/jpeg", 406),
        (f"{CT_INSTANCE}/rendered", "image/jp2", 406),
        (f"{LOOP_URL}/frames/1,2/rendered", "image/jpeg", 406),
        (f"{LOOP_URL}/frames/9/rendered", "image/jpeg", 404),
        (f"{LOOP_URL}/frames/0/rendered", "image/jpeg", 400),
        ("/dicom-web/studies/1.2.3/thumbnail", "image/jpeg", 404),
    ],
)
def test_what_cannot_be_rendered_is_refused(node, path, accept, status):
    assert get(node, path, accept).status_code == status


def test_a_study_with_a_report_has_the_thumbnail_of_its_pictures(node):
    assert picture(get(node, f"/dicom-web/studies/{LOOP_STUDY}/thumbnail")).size == (80, 60)


def test_a_picture_that_the_client_has_is_not_sent_again(node):
    first = get(node, f"{CT_INSTANCE}/rendered")
    headers = {"Accept": "image/*", "If-None-Match": first.headers["etag"]}

    assert node.get(f"{CT_INSTANCE}/rendered", headers=headers).status_code == 304
    assert node.get(f"{CT_INSTANCE}/rendered?quality=5", headers=headers).status_code == 200


# WADO-URI


def wado(node, study, series, instance, **parameters):
    query = {"requestType": "WADO", "studyUID": study, "seriesUID": series, "objectUID": instance}
    return node.get("/wado", params={**query, **parameters})


def test_an_image_is_a_jpeg_of_its_first_frame(node):
    shown = picture(wado(node, LOOP_STUDY, LOOP_SERIES, LOOP_INSTANCE))
    third = picture(wado(node, LOOP_STUDY, LOOP_SERIES, LOOP_INSTANCE, frameNumber="3"))

    assert (shown.format, shown.size) == ("JPEG", (80, 60))
    assert int(np.argmax(np.asarray(third)[25, :, 0] > 200)) == pytest.approx(20, abs=2)


def test_a_picture_has_the_size_region_window_and_type_that_are_asked_for(node):
    answer = wado(
        node,
        *(CT_STUDY, CT_SERIES, f"{CT_SERIES}.1"),
        contentType="image/png",
        region="0,0,0.5,1",
        rows="100",
        windowCenter="40",
        windowWidth="400",
    )

    assert (picture(answer).format, picture(answer).size) == ("PNG", (50, 100))


def test_an_object_is_sent_as_a_file(node):
    plain = wado(node, STUDY, SERIES, J2K, contentType="application/dicom")
    stored = wado(
        node, STUDY, SERIES, J2K, contentType="application/dicom", transferSyntax=JPEG2000Lossless
    )

    assert plain.headers["content-type"].startswith("application/dicom")
    assert dcmread(BytesIO(plain.content)).PixelData == cells().tobytes()
    assert dcmread(BytesIO(plain.content)).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert stored.content == node.get(f"/api/instances/{J2K}/file").content


def test_without_a_type_each_object_is_what_it_is(node):
    pdf = wado(node, STUDY, f"{SERIES}.9", PDF_UID)
    video = wado(node, STUDY, SERIES, VIDEO)
    report = wado(node, LOOP_STUDY, f"{LOOP_STUDY}.2", REPORT_INSTANCE)

    assert (pdf.headers["content-type"], pdf.content) == ("application/pdf", PDF_BYTES)
    assert video.content == VIDEO_BYTES
    assert dcmread(BytesIO(report.content)).SOPInstanceUID == REPORT_INSTANCE


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"requestType": "WADA"}, 400),
        ({"studyUID": ""}, 400),
        ({"objectUID": "../../etc"}, 400),
        ({"objectUID": "1.2.3"}, 404),
        ({"seriesUID": "1.2.3"}, 404),
        ({"frameNumber": "0"}, 400),
        ({"frameNumber": "2"}, 404),
        ({"rows": "99999"}, 400),
        ({"region": "0,0,2,2"}, 400),
        ({"imageQuality": "0"}, 400),
        ({"windowCenter": "1"}, 400),
        ({"contentType": "text/html"}, 406),
        ({"contentType": "application/dicom", "transferSyntax": "1.2.3"}, 406),
        ({"anonymize": "yes"}, 501),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(node, parameters, status):
    answer = wado(node, CT_STUDY, CT_SERIES, f"{CT_SERIES}.1", **parameters)

    assert answer.status_code == status
    assert answer.json()["detail"]
