"""The viewer in a real browser: pictures, measurements, reports, curves, videos."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41

from tests.e2e.test_web_browser import filled, overlaid
from tests.support.images import image
from tests.support.node_process import NodeProcess
from tests.support.web_objects import CT_SERIES, LOOP_SERIES, REPORT_CLASS, new, write_all

__all__ = ["filled"]  # a fixture
ECG = Path(get_testdata_file("waveform_ecg.dcm"))
RAMP = np.arange(64 * 64).reshape(64, 64)
STUDY = "1.2.7"
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 780}
DIFFERENCE = """async ([uid, center, width, how, overlays]) => {
    const path = `/api/instances/${uid}/frames/1`;
    const answer = await fetch(`${path}/values`);
    if (!answer.ok) throw new Error(await answer.text());
    const values = valuesOf(answer.headers, await answer.arrayBuffer());
    const query = new URLSearchParams({ encoding: "png", overlays });
    let window = values.window;
    if (width) {
        window = { center, width, function: how };
        for (const [key, value] of Object.entries(window)) query.set(key, value);
    }
    const mine = document.createElement("canvas");
    drawValues(mine, values, window, overlays);
    const picture = await createImageBitmap(await (await fetch(`${path}?${query}`)).blob());
    const other = document.createElement("canvas");
    other.width = picture.width;
    other.height = picture.height;
    other.getContext("2d").drawImage(picture, 0, 0);
    const [one, two] = [mine, other].map((each) =>
        each.getContext("2d").getImageData(0, 0, each.width, each.height).data);
    if (one.length !== two.length) throw new Error("another size");
    let most = 0;
    for (let at = 0; at < one.length; at += 1) most = Math.max(most, Math.abs(one[at] - two[at]));
    return [most, new Set(one).size];
}"""
IMAGES = {
    "1.2.7.1.1": image(
        RAMP.astype("<u2"),
        RescaleSlope="0.37",
        RescaleIntercept="-1024.3",
        WindowCenter="40",
        WindowWidth="80",
    ),
    "1.2.7.1.2": image(
        (RAMP - 2000).astype("<i2"),
        PhotometricInterpretation="MONOCHROME1",
        BitsStored=13,
        PixelPaddingValue=-2000,
        PixelPaddingRangeLimit=-1500,
    ),
    "1.2.7.1.3": image((RAMP % 256).astype("u1"), WindowCenter=100, WindowWidth=200),
}


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    return write_all(tmp_path / "objects")


@pytest.fixture
def local(start_node: Any) -> Any:
    return start_node("local", flags=["--http-port", "0"])


@pytest.fixture
def url(local: Any) -> str:
    return str(local.wait_for("page")["url"]).rstrip("/")


def upload(page: Page, url: str, *files: Path) -> None:
    for file in files:
        answer = page.request.post(f"{url}/api/instances", data=file.read_bytes())
        assert answer.status == 201, answer.text()


def stored(folder: Path, dataset: FileDataset, uid: str, **values: Any) -> Path:
    """The dataset as a file, with a SOP Instance UID of its own in a series of our study."""
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, uid.rpartition(".")[0]
    dataset.PatientName, dataset.PatientID = "Quick^Look", "Q-1"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    path = folder / f"{uid}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def slices(folder: Path, series: int, count: int, step: float) -> list[Path]:
    """A series in the common frame of reference, from head to feet."""
    return [
        stored(
            folder,
            image(np.full((80, 100), 100 * number, "<u2")),
            f"{STUDY}.{series}.{number}",
            Modality="CT",
            SeriesNumber=series,
            InstanceNumber=number,
            SeriesDescription=f"{step} mm",
            PixelSpacing=[0.5, 0.5],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-25, -20, 100 - step * number],
            FrameOfReferenceUID="1.2.7.99",
            SliceThickness=step,
        )
        for number in range(1, count + 1)
    ]


def opened(page: Page, url: str, series: str) -> Any:
    page.goto(f"{url}/viewer/{series}")
    expect(page.locator("#viewer")).to_have_attribute("data-ready", "true")
    expect(page.locator("#message")).to_be_hidden()
    return page.locator("#screen")


def test_the_browser_windows_values_to_what_the_node_renders(page, url, objects):
    files = [stored(objects, dataset, uid) for uid, dataset in IMAGES.items()]
    overlay = image(RAMP.astype("<u2"))
    overlay.update(dcmread(overlaid(objects / "overlay.dcm")).group_dataset(0x6000))
    upload(page, url, *files, stored(objects, overlay, "1.2.7.1.4"))
    opened(page, url, "1.2.7.1")

    windows = [(0, 0, ""), (100, 300, "LINEAR"), (-3.5, 0.5, "LINEAR"), (10, 1, "LINEAR")]
    for uid in (*IMAGES, "1.2.7.1.4"):
        for center, width, how in (*windows, (50, 20.25, "LINEAR_EXACT")):
            for overlays in (True, False):
                asked = [uid, center, width, how, overlays]
                most, shades = page.evaluate(DIFFERENCE, asked)
                assert most == 0, asked
                assert width or shades > 50, asked  # something to compare
        most, _ = page.evaluate(DIFFERENCE, [uid, 500, 700, "SIGMOID", True])
        assert most <= 1, uid  # the exponential function is another one


def drag(page: Page, box: Any, start: list[float], end: list[float]) -> None:
    page.mouse.move(box["x"] + start[0], box["y"] + start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=3)
    page.mouse.up()


TO_SCREEN = "(point) => toScreen(view, view.place, view.shape, point)"


def test_lengths_angles_sides_and_sizes_are_those_of_the_patient(page, url, objects, shoot):
    upload(page, url, *slices(objects, 1, 4, 5))
    screen = opened(page, url, "1.2.7.1")
    marks = page.locator("#screen .marks")
    expect(marks.locator(".left")).to_have_text("R")
    expect(marks.locator(".bottom")).to_have_text("P")
    expect(page.locator("#screen .slice-position")).to_have_text("H 95.0 mm")
    bar = marks.locator("path.bar")
    factor = page.evaluate("view.place.factor")
    pixels = float(bar.get_attribute("data-pixels") or 0)
    text = marks.locator("text.bar").text_content() or ""
    assert pixels / factor * 0.5 == pytest.approx(10 * float(text.removesuffix(" cm")), rel=0.001)

    box = screen.bounding_box()
    ends = [page.evaluate(TO_SCREEN, each) for each in ([20, 20], [60, 50])]
    page.keyboard.press("l")
    drag(page, box, *ends)
    expect(marks.locator("text.measure")).to_have_text(re.compile(r"(24\.9|25\.[01]) mm$"))
    page.keyboard.press("a")
    for point in ([20, 60], [50, 60], [50, 30]):
        x, y = page.evaluate(TO_SCREEN, point)
        page.mouse.click(box["x"] + x, box["y"] + y)
    expect(marks.locator("text.measure").last).to_have_text(re.compile(r"(89\.\d|90\.\d)°"))
    shoot("viewer-measures")
    page.keyboard.press("t")
    expect(marks.locator(".top")).to_have_text("R")
    expect(marks.locator("text.measure").first).to_have_text(re.compile(r"(24\.9|25\.[01]) mm$"))
    page.keyboard.press("h")
    page.keyboard.press("v")
    expect(marks.locator(".bottom")).to_have_text("R")
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    expect(marks.locator("text.measure")).to_have_count(0)


def test_what_has_no_known_size_is_measured_in_pixels(page, url, objects):
    upload(page, url, stored(objects, image(RAMP.astype("<u2")), "1.2.7.1.1"))
    screen = opened(page, url, "1.2.7.1")
    marks = page.locator("#screen .marks")
    expect(marks.locator("text.bar")).to_have_text("size not known")
    page.keyboard.press("l")
    ends = [page.evaluate(TO_SCREEN, each) for each in ([10, 10], [50, 40])]
    drag(page, screen.bounding_box(), *ends)
    expect(marks.locator("text.measure")).to_have_text(re.compile(r"(49\.9|50\.[01]) px"))
    for name in ("Play", "Scroll"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_hidden()


def test_four_series_scroll_to_the_same_place(page, url, objects, shoot):
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    upload(page, url, *slices(objects, 1, 8, 5), *slices(objects, 2, 20, 2))
    opened(page, url, "1.2.7.1")
    page.get_by_role("button", name=re.compile("^. 2.2$|^2.2$")).click()
    expect(page.locator("#screens .screen")).to_have_count(4)
    other = page.locator("#screens .screen").nth(1).locator(".where")
    expect(other).to_have_text("1 / 20")
    page.get_by_role("button", name="Link").click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#where")).to_have_text("3 / 8")
    expect(other).to_have_text(re.compile("[78] / 20"))  # 15 mm from the first place
    shoot("viewer-four")
    page.locator("#screens .screen").nth(3).click()
    page.locator(".strip .picture").first.click()
    expect(page.locator("#screens .screen").nth(3).locator(".where")).to_have_text("1 / 8")
    page.keyboard.press("g")
    expect(page.locator("#screens .screen")).to_have_count(1)


def code(meaning: str, value: str, scheme: str = "DCM") -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def a_report() -> FileDataset:
    """A report with a measurement, and HTML where a text should be."""
    number, text, measured = Dataset(), Dataset(), Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "12.5", code("mm", "mm", "UCUM")
    number.ValueType, number.RelationshipType = "NUM", "CONTAINS"
    number.ConceptNameCodeSequence = code("Diameter", "M-02550")
    number.MeasuredValueSequence = [measured]
    text.ValueType, text.RelationshipType = "TEXT", "CONTAINS"
    text.ConceptNameCodeSequence = code("<img src=x onerror=alert(1)>", "121071")
    text.TextValue = "<script>alert(1)</script>"
    report = new(REPORT_CLASS, "1.2.3.4", "1.2", "1.2.3", Modality="SR", ValueType="CONTAINER")
    report.CompletionFlag, report.VerificationFlag = "COMPLETE", "UNVERIFIED"
    report.ConceptNameCodeSequence = code("CT report", "126000")
    report.ContentSequence = [number, text]
    return report


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_reports_curves_and_files_are_opened(page, url, objects, shoot, viewport):
    page.set_viewport_size(viewport)
    name = f"viewer-{viewport['width']}"
    pdf = new(
        "1.2.840.10008.5.1.4.1.1.104.1",
        "1",
        "1",
        "1",
        MIMETypeOfEncapsulatedDocument="application/pdf",
    )
    pdf.EncapsulatedDocument = b"%PDF-1.4 none "
    pdf["EncapsulatedDocument"].VR = "OB"
    video = image(np.zeros((8, 8, 3), "u1"))
    video.PixelData = encapsulate([b"\0\0\0\x18ftypmp42 no video at all"])
    video["PixelData"].is_undefined_length = True
    video.file_meta.TransferSyntaxUID = MPEG4HP41
    files = [
        stored(objects, a_report(), f"{STUDY}.1.1"),
        stored(objects, dcmread(ECG), f"{STUDY}.2.1"),
        stored(objects, pdf, f"{STUDY}.3.1"),
        stored(objects, video, f"{STUDY}.4.1"),
    ]
    upload(page, url, *files)

    opened(page, url, f"{STUDY}.1")
    document = page.locator(".document")
    expect(document).to_contain_text("Diameter (M-02550, DCM): 12.5 mm")
    expect(document).to_contain_text("<script>alert(1)</script>")
    expect(document).to_contain_text("complete · unverified")
    for each in ("Invert", "Length", "Window", "Play"):
        expect(page.get_by_role("button", name=each, exact=True)).to_be_hidden()
    shoot(f"{name}-report")

    opened(page, url, f"{STUDY}.2")
    expect(document.get_by_role("heading", name="RHYTHM")).to_be_visible()
    expect(document.locator("svg.curves").first.locator("path.curve")).to_have_count(12)
    expect(document).to_contain_text("Lead I (Einthoven)")
    expect(document).to_contain_text("25 mm/s · 10 mm/mV")
    expect(document).to_contain_text("QRS Duration: 75 ms")
    shoot(f"{name}-ecg")

    opened(page, url, f"{STUDY}.3")
    link = document.get_by_role("link", name="Open the PDF")
    wanted = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    answer = page.request.get(url + str(link.get_attribute("href")), headers=wanted)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.body() == b"%PDF-1.4 none "

    opened(page, url, f"{STUDY}.4")
    expect(document).to_contain_text("This browser cannot play the video")
    expect(document.get_by_role("link", name="Download the video")).to_be_visible()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= viewport["width"]


RECORDED = """async () => {
    const type = "video/mp4";
    if (!MediaRecorder.isTypeSupported(type)) return "";
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 64;
    const context = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: type });
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    const ended = new Promise((resolve) => { recorder.onstop = resolve; });
    recorder.start();
    for (let at = 0; at < 12; at += 1) {
        context.fillStyle = at % 2 ? "#f00" : "#00f";
        context.fillRect(0, 0, 64, 64);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    recorder.stop();
    await ended;
    const octets = new Uint8Array(await new Blob(parts).arrayBuffer());
    return [...octets].map((each) => each.toString(16).padStart(2, "0")).join("");
}"""


def test_a_video_plays_in_the_page(page, url, objects, shoot):
    page.goto(url)
    made = bytes.fromhex(page.evaluate(RECORDED))
    if not made:
        pytest.skip("this browser records no MP4")
    video = image(np.zeros((8, 8, 3), "u1"), Modality="ES")
    video.PixelData = encapsulate([made])
    video["PixelData"].is_undefined_length = True
    video.file_meta.TransferSyntaxUID = MPEG4HP41
    upload(page, url, stored(objects, video, f"{STUDY}.4.1"))

    opened(page, url, f"{STUDY}.4")
    shown = page.locator("video")
    shown.evaluate("(video) => { video.muted = true; return video.play(); }")
    page.wait_for_function("document.querySelector('video').currentTime > 0")
    assert shown.evaluate("(video) => video.videoWidth") == 64
    shoot("viewer-video")


class TestFilledArchive:
    """To look at it changes nothing: one node has it for all."""

    @pytest.fixture
    def local(self, filled: NodeProcess) -> NodeProcess:
        return filled

    def test_a_window_is_set_without_fetching(self, page, url):
        screen = opened(page, url, CT_SERIES)
        page.wait_for_load_state("networkidle")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        before = page.evaluate("document.getElementById('canvas').toDataURL()")
        box = screen.bounding_box()
        page.mouse.move(box["x"] + 300, box["y"] + 300)
        page.mouse.down()
        page.mouse.move(box["x"] + 400, box["y"] + 200, steps=20)
        page.mouse.up()

        expect(page.locator("#how")).to_contain_text(re.compile(r"C -\d+ W [56]\d\d"))
        assert page.evaluate("document.getElementById('canvas').toDataURL()") != before
        assert [each for each in asked if "/frames/" in each] == []

    def test_keys_work_after_a_click_on_the_toolbar_and_a_sheet_tells_them(self, page, url, shoot):
        opened(page, url, CT_SERIES)
        page.get_by_role("button", name="Invert").click()
        page.keyboard.press("End")
        expect(page.locator("#where")).to_have_text("12 / 12")
        page.get_by_role("button", name="Move", exact=True).focus()
        page.keyboard.press("ArrowUp")
        expect(page.locator("#where")).to_have_text("11 / 12")
        page.keyboard.press("3")
        expect(page.locator("#how")).to_contain_text("C -600 W 1500")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("Lung -600/1500")
        shoot("viewer-keys")
        page.keyboard.press("Escape")
        page.keyboard.press("1")
        expect(page.locator("#how")).to_contain_text("C 40 W 400")
        page.keyboard.press("l")
        expect(page.get_by_role("button", name="Length")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".purpose")).to_have_text("For a quick look. Not for diagnosis.")

    def test_colours_have_no_window(self, page, url):
        opened(page, url, LOOP_SERIES)
        expect(page.get_by_role("button", name="Window")).to_be_hidden()
        expect(page.locator("#preset")).to_be_hidden()
        expect(page.get_by_role("button", name="Play")).to_be_visible()

    def test_two_fingers_zoom(self, page, url, shoot):
        page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        screen = opened(page, url, CT_SERIES)
        before = page.evaluate("view.zoom")
        box = screen.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        session = page.context.new_cdp_session(page)

        def touch(kind: str, apart: float | None) -> None:
            sides = () if apart is None else (-1, 1)
            points = [{"x": x + side * (apart or 0), "y": y, "id": side + 1} for side in sides]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 30)
        for apart in (40, 60, 80, 90):
            touch("touchMove", apart)
        touch("touchEnd", None)

        assert page.evaluate("view.zoom") == pytest.approx(3 * before, rel=0.05)
        expect(page.locator("#how")).to_contain_text("C 40 W 400")
        shoot("viewer-390-pinch")
