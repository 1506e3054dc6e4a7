"""The processes that render: bounded in memory and time, replaced when they die, none left."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.observe import metrics
from lfscp.services.transcoding.codecs.codestream import read_codestream
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.room import UNLIMITED
from lfscp.web.imaging.scaled_frames import scaled_frame, scales_of
from lfscp.web.rendering import pool as pools
from lfscp.web.rendering.pool import PictureRefusedError, Task
from lfscp.web.rendering.renderer import Renderer, Wanted
from lfscp.web.rendering.tasks import Memory
from tests.support.lossless_jpeg import lossless_jpeg
from tests.support.web_objects import CT_CLASS, new, set_pixels

MB = 1 << 20


@pytest.fixture
def renderer(tmp_path):
    with contextlib.closing(Renderer(tmp_path / "cache", 0, 64 * MB)) as made:
        yield made


def saved(path, pixels=None, **values):
    pixels = np.arange(256, dtype="<u2").reshape(16, 16) if pixels is None else pixels
    dataset = set_pixels(new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), pixels, **values)
    dataset.save_as(path, enforce_file_format=True)
    return path


def jpeg(path, edge, mode="L", **options):
    """An object whose JPEG is some thousand times smaller than its pixels."""
    out = io.BytesIO()
    picture = Image.new(mode, (edge, edge), 77 if mode == "L" else (200, 40, 90))
    picture.save(out, "JPEG", quality=10, **options)
    dataset = set_pixels(new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), np.zeros((1, 1), "u1"))
    dataset.Rows = dataset.Columns = edge
    if mode == "RGB":
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = "YBR_FULL_422"
    return encapsulated(path, dataset, out.getvalue(), JPEGBaseline8Bit)


def encapsulated(path, dataset, frame, syntax):
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def opened(renderer, path, wanted=Wanted()):  # noqa: B008 - it is frozen
    return Image.open(io.BytesIO(renderer.render(path, "1.2.3.4", wanted).read()))


def descendants(pid):
    """All processes below one, with their peak of private memory in bytes."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if int(lines["PPid"]) == pid:
                child = int(status.parent.name)
                found |= {
                    child: int(lines.get("VmHWM", "0 kB").split()[0]) << 10,
                    **descendants(child),
                }
    return found


def drawing(renderer):
    """The process IDs of those that render: children of the first."""
    return list(descendants(renderer.pool._server.pid))


def all_of(renderer):
    """The process IDs of the first one and of those that render."""
    return [renderer.pool._server.pid, *drawing(renderer)]


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count(counter, *labels):
    sums = metrics.BOARD.sums()
    return dict(counter.samples(sums))[labels]


def test_a_small_picture_of_a_huge_jpeg_is_decoded_small(renderer, tmp_path):
    path = jpeg(tmp_path / "object.dcm", 7000)  # 49 MB of pixels, and several copies
    thumbnail = opened(renderer, path, Wanted(None, edge=192))

    assert thumbnail.size == (192, 192)
    assert abs(thumbnail.getpixel((96, 96)) - 128) <= 1  # all alike: the middle of its own window
    assert max(descendants(renderer.pool._server.pid).values()) < 120 * MB


def test_colours_of_a_frame_decoded_small_are_those_of_the_whole(renderer, tmp_path):
    small = opened(renderer, jpeg(tmp_path / "small.dcm", 64, "RGB"), Wanted(encoding="png"))
    huge = opened(renderer, jpeg(tmp_path / "huge.dcm", 5000, "RGB"), Wanted(encoding="png"))

    assert huge.size[0] < 5000
    difference = np.asarray(small)[9, 9].astype(int) - np.asarray(huge)[9, 9]
    assert abs(difference).max() <= 2


def test_uncompressed_rows_are_left_out_when_all_of_them_do_not_fit(renderer, tmp_path, capfd):
    pixels = np.zeros((5000, 5000), "<u2")
    pixels[::2] = 1000
    picture = opened(
        renderer, saved(tmp_path / "object.dcm", pixels, WindowCenter=500, WindowWidth=2)
    )

    assert picture.size[0] < 2600
    assert "picture shown without its full size" in capfd.readouterr().err


def test_what_cannot_be_decoded_small_is_refused_before_it_is_decoded(renderer, tmp_path, capfd):
    dataset = set_pixels(new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), np.zeros((1, 1), "<u2"))
    dataset.Rows = dataset.Columns = 9000
    path = encapsulated(tmp_path / "object.dcm", dataset, bytes(4096), RLELossless)
    refused = count(metrics.REFUSED_PICTURES, "memory")

    with pytest.raises(
        PictureRefusedError,
        match=r"needs about \d+ MB of memory, and \d+ MB of budgets.rendering_mb are",
    ):
        renderer.render(path, "1.2.3.4", Wanted())
    assert count(metrics.REFUSED_PICTURES, "memory") == refused + 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "picture refused" in line
    assert "sop_instance_uid=1.2.3.4" in line
    assert opened(renderer, saved(tmp_path / "other.dcm")).size == (16, 16)


def noisy(*shape):
    """Pixels of 12 bits as a detector gives them: smooth, with noise."""
    noise = np.random.default_rng(1).integers(0, 32, shape, "u2")
    return noise + np.arange(shape[-1], dtype="u2")


def compressed(path, name, pixels):
    """An object that is compressed without loss."""
    dataset = dcmread(saved(path, pixels, WindowCenter=1000, WindowWidth=3000))
    if name == "JPEG":
        encapsulated(path, dataset, lossless_jpeg(pixels, 16), JPEGLosslessSV1)
    elif name == "JPEG-LS":
        encoded = pytest.importorskip("jpeg_ls").encode_array(pixels)
        encapsulated(path, dataset, bytes(encoded), JPEGLSLossless)
    elif name == "JPEG 2000":
        encode = pytest.importorskip("openjpeg.utils").encode_array
        encoded = encode(pixels, bits_stored=16, photometric_interpretation=2)
        encapsulated(path, dataset, encoded, JPEG2000Lossless)
    elif name == "RLE":
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
    return path


def give_room(renderer, path, size):
    """Have a renderer start, and leave it so many bytes for one picture."""
    with contextlib.suppress(NoPictureError):
        renderer.describe(path, "1.2.3.4")
    pool = renderer.pool
    pool._memory.limit_bytes = pool._server.resident_bytes + size + pools._OWN_BYTES


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [("uncompressed", 30), ("RLE", 30), ("JPEG", 48), ("JPEG-LS", 30), ("JPEG 2000", 38)],
)
def test_a_large_frame_is_shown_whole_in_little_more_memory_than_its_codec_takes(
    renderer, tmp_path, name, megabytes
):
    """Four million pixels; as many times larger, a mammogram in the default budget."""
    pixels = noisy(2048, 2048)
    path = compressed(tmp_path / "object.dcm", name, pixels)
    give_room(renderer, path, megabytes * MB)
    thumbnail = opened(renderer, path, Wanted(None, edge=192))
    shown = opened(renderer, path, Wanted(encoding="png"))

    assert thumbnail.size == (192, 192)
    expected = np.clip((pixels - 999.5) / 2999 + 0.5, 0, 1) * 255
    assert shown.size == (2048, 2048)
    assert (abs(np.asarray(shown) - expected) <= 0.51).all()


def test_lossless_jpeg_in_colour_that_its_codec_has_no_room_for_is_shown_whole(renderer, tmp_path):
    pixels = np.stack([(noisy(1500, 1500) >> shift).astype("u1") for shift in (3, 4, 5)], -1)
    dataset = set_pixels(new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), np.zeros((1, 1), "u1"))
    dataset.Rows = dataset.Columns = 1500
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    frame = lossless_jpeg(pixels, 8)
    path = encapsulated(tmp_path / "object.dcm", dataset, frame, JPEGLosslessSV1)
    give_room(renderer, path, 33 * MB)  # 30 are the least, with its codec it is 37

    shown = opened(renderer, path, Wanted(encoding="png"))
    assert (np.asarray(shown) == pixels).all()


def test_a_progressive_jpeg_is_decoded_small_when_its_frequencies_fit(renderer, tmp_path):
    path = jpeg(tmp_path / "object.dcm", 3000, progressive=True)
    give_room(renderer, path, 40 * MB)  # 18 are for the frequencies
    assert opened(renderer, path, Wanted(None, edge=192)).size == (192, 192)

    give_room(renderer, path, 15 * MB)
    with pytest.raises(PictureRefusedError, match=r"MB of budgets\.rendering_mb are left"):
        renderer.render(path, "1.2.3.4", Wanted(None, edge=64))


def test_a_frame_that_is_looked_at_stays_in_memory_longer_than_others(tmp_path):
    """Frames of 2 MB, and room for two of them: the first one is asked for again and again."""
    paths = [saved(tmp_path / f"{number}.dcm", noisy(1000, 1000)) for number in range(4)]
    memory = Memory(most_frames=5_000_000)
    kept, _ = memory.frame(paths[0], "0", 0, 0, UNLIMITED)
    for number, path in enumerate(paths):
        memory.frame(path, str(number), 0, 0, UNLIMITED)
        assert memory.frame(paths[0], "0", 0, 0, UNLIMITED)[0] is kept


def test_the_frame_of_a_kept_picture_leaves_with_the_next_unless_it_is_asked_for_again(tmp_path):
    paths = [saved(tmp_path / f"{number}.dcm", noisy(100, 100)) for number in range(4)]
    memory = Memory(most_frames=5_000_000)

    def frame(number, passes):
        return memory.frame(paths[number], str(number), 0, 0, UNLIMITED, passes=passes)[0]

    first, second = frame(0, passes=True), frame(1, passes=True)
    assert frame(1, passes=False) is second
    frame(2, passes=True)
    frame(3, passes=True)

    assert frame(1, passes=False) is second
    assert frame(0, passes=False) is not first
    assert memory._held == sum(each.size for each in memory._frames.values())


def test_a_process_uses_its_free_memory_again():
    program = (
        "import resource, numpy as np\n"
        "from lfscp.processes.memory import keep_free_memory\n"
        "keep_free_memory(4 << 20)\n"
        "def pages():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    [np.ones(600_000, 'u1') for _ in range(4)]\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "assert pages() > 300\n"
        "print(min(pages() for _ in range(5)))\n"
    )
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": str(MB)}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert int(found.stdout) < 100


def test_memory_that_nobody_foresaw_is_refused_too(renderer, tmp_path):
    """Values of the header are in memory before anything can be counted."""
    path = saved(tmp_path / "object.dcm", ICCProfile=bytes(80 * MB))

    with pytest.raises(PictureRefusedError, match="it needs too much memory"):
        renderer.render(path, "1.2.3.4", Wanted())
    assert opened(renderer, saved(tmp_path / "other.dcm")).size == (16, 16)


def test_a_process_that_dies_in_the_middle_of_a_picture_takes_only_that_along(renderer, tmp_path):
    path = saved(tmp_path / "object.dcm")
    opened(renderer, path)
    (pid,) = drawing(renderer)
    os.kill(pid, signal.SIGSTOP)  # so that the picture is under way
    failures = count(metrics.RENDERING_PROCESS_FAILURES)
    errors = []

    def ask():
        with pytest.raises(PictureRefusedError) as caught:
            renderer.render(path, "1.2.3.4", Wanted(edge=8))
        errors.append(str(caught.value))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: renderer.pool._memory.in_use)
    os.kill(pid, signal.SIGKILL)
    asking.join()

    assert "the process that rendered it ended" in errors[0]
    assert count(metrics.RENDERING_PROCESS_FAILURES) == failures + 1
    assert opened(renderer, path).size == (16, 16)
    assert drawing(renderer) != [pid]


def test_a_picture_that_takes_too_long_is_given_up(tmp_path):
    renderer = Renderer(tmp_path / "cache", 0, 64 * MB)
    renderer.pool._seconds = 0.001
    with contextlib.closing(renderer):
        path = saved(tmp_path / "object.dcm", np.zeros((1000, 1000), "<u2"))
        with pytest.raises(PictureRefusedError, match="it takes longer than"):
            renderer.render(path, "1.2.3.4", Wanted(encoding="png"))
        renderer.pool._seconds = 30
        assert opened(renderer, path).size == (1000, 1000)


def test_the_first_process_is_replaced_when_it_was_killed(renderer, tmp_path):
    path = saved(tmp_path / "object.dcm")
    opened(renderer, path)
    (pid,) = drawing(renderer)
    first = renderer.pool._server.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())  # which it took along

    assert opened(renderer, path).size == (16, 16)
    assert renderer.pool._server.pid != first


def test_a_process_that_begins_while_the_node_stops_is_no_failure(tmp_path, monkeypatch):
    renderer = Renderer(tmp_path / "cache", 0, 64 * MB)
    ask = renderer.pool._server._ask

    def ask_and_stop():
        asked = ask()
        renderer.close()
        return asked

    monkeypatch.setattr(renderer.pool._server, "_ask", ask_and_stop)
    before = count(metrics.RENDERING_PROCESS_FAILURES)
    with pytest.raises(PictureRefusedError, match="the node is stopping"):
        renderer.render(saved(tmp_path / "object.dcm"), "1.2.3.4", Wanted(encoding="png"))
    assert count(metrics.RENDERING_PROCESS_FAILURES) == before


_PARENT = """
import sys, time
from pathlib import Path
from lfscp.web.imaging.scaled_frames import scaled_frame, scales_of
from lfscp.web.rendering.pool import PictureRefusedError
from lfscp.web.rendering.renderer import Renderer, Wanted
renderer = Renderer(Path(sys.argv[1]) / "cache", 0)
renderer.render(Path(sys.argv[1]) / "object.dcm", "1.2.3.4", Wanted())
print("drawn", flush=True)
time.sleep(600)
"""


def test_no_process_is_left_when_the_node_is_killed(tmp_path):
    saved(tmp_path / "object.dcm")
    command = [sys.executable, "-c", _PARENT, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout.readline() == "drawn\n"
        found = descendants(node.pid)
        node.kill()
    assert len(found) == 2  # the first, and one that renders
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))


def test_processes_that_render_hold_no_file_of_the_node(renderer, tmp_path):
    with (tmp_path / "secret").open("w") as secret, contextlib.ExitStack() as stack:
        os.set_inheritable(secret.fileno(), True)
        stack.callback(os.set_inheritable, secret.fileno(), False)
        opened(renderer, saved(tmp_path / "object.dcm"))
        held = {
            str(each.readlink())
            for pid in all_of(renderer)
            for each in Path(f"/proc/{pid}/fd").iterdir()
        }
    assert {each for each in held if not each.startswith("socket:")} == {"/dev/null"}


def test_signals_for_the_node_s_group_leave_its_pictures_alone(renderer, tmp_path):
    path = saved(tmp_path / "object.dcm")
    opened(renderer, path)
    for pid in all_of(renderer):
        assert os.getsid(pid) != os.getsid(0)
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(pid, each)
    (pid,) = drawing(renderer)

    assert opened(renderer, path, Wanted(edge=8)).size == (8, 8)
    assert drawing(renderer) == [pid]


def test_few_pictures_wait_and_the_others_are_told_to_ask_again(
    renderer, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(pools, "MAX_WAITING", 1)
    path = saved(tmp_path / "object.dcm")
    opened(renderer, path)
    (pid,) = drawing(renderer)
    os.kill(pid, signal.SIGSTOP)
    asking = [
        threading.Thread(target=renderer.render, args=(path, "1.2.3.4", Wanted(edge=edge)))
        for edge in (4, 5)
    ]
    asking[0].start()
    wait_until(lambda: renderer.pool._memory.in_use)
    asking[1].start()
    wait_until(lambda: renderer.pool._memory.waiting)

    for _ in range(20):
        with pytest.raises(PictureRefusedError, match="try again"):
            renderer.render(path, "1.2.3.4", Wanted(edge=6))
    assert capfd.readouterr().err.count("picture refused") == 1  # a flood makes no flood of lines
    os.kill(pid, signal.SIGCONT)
    for each in asking:
        each.join()
    assert opened(renderer, path, Wanted(edge=6)).size == (6, 6)


def written(renderer, path, output):
    """What comes of a picture that a process may write into a file."""
    with path.open("rb") as file:
        task = Task(Wanted().task(), file.fileno(), "state", io.BytesIO, output.fileno())
        return renderer.pool.run(task)


def test_a_process_writes_a_picture_into_the_file_that_it_is_given(renderer, tmp_path):
    path = saved(tmp_path / "object.dcm")
    with (tmp_path / "picture").open("w+b") as output:
        answer = written(renderer, path, output)

    assert (answer.is_written, answer.content) == (True, b"")
    content = (tmp_path / "picture").read_bytes()
    assert Image.open(io.BytesIO(content)).size == (16, 16)


def test_a_picture_that_cannot_be_written_comes_through_the_node(renderer, tmp_path):
    path = saved(tmp_path / "object.dcm")
    with path.open("rb") as output:  # takes nothing
        answer = written(renderer, path, output)

    assert not answer.is_written
    assert Image.open(io.BytesIO(answer.content)).size == (16, 16)


def test_a_picture_that_is_shorter_than_its_process_says_is_refused(
    renderer, tmp_path, monkeypatch, capfd
):
    path = saved(tmp_path / "object.dcm")
    require_size = pools._require_size
    monkeypatch.setattr(pools, "_require_size", lambda to, size: require_size(to, size + 1))
    refused = pytest.raises(PictureRefusedError, match="ended")
    with (tmp_path / "picture").open("w+b") as output, refused:
        written(renderer, path, output)


def test_no_half_picture_is_left_when_one_is_refused(tmp_path):
    path = saved(tmp_path / "object.dcm")
    path.write_bytes(path.read_bytes()[:-300])  # the pixels end early
    made = contextlib.closing(Renderer(tmp_path / "cache", 1 << 24))
    with made as renderer, pytest.raises(NoPictureError):
        renderer.render(path, "1.2.3.4", Wanted())
    assert not [each for each in (tmp_path / "cache").rglob("*.*") if each.is_file()]


def test_large_pictures_come_from_a_file_and_are_whole(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (700, 700), "u1")
    path = saved(tmp_path / "object.dcm", noise, WindowCenter=128, WindowWidth=256)
    with contextlib.closing(Renderer(tmp_path / "cache", 1 << 24)) as renderer:
        for _ in range(2):  # rendered, and from disk
            rendered = renderer.render(path, "1.2.3.4", Wanted(encoding="png"))
            assert not rendered.is_small
            content = rendered.read()
            assert len(content) == rendered.size
            assert (np.asarray(Image.open(io.BytesIO(content))) == noise).all()


def test_large_pictures_are_shown_when_their_folder_cannot_be_written_to(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (700, 700), "u1")
    path = saved(tmp_path / "object.dcm", noise, WindowCenter=128, WindowWidth=256)
    (tmp_path / "file").touch()
    with contextlib.closing(Renderer(tmp_path / "file" / "cache", 1 << 24)) as renderer:
        rendered = renderer.render(path, "1.2.3.4", Wanted(encoding="png"))
        assert not rendered.is_small
        assert (np.asarray(Image.open(io.BytesIO(rendered.read()))) == noise).all()


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, True)])
def test_a_jpeg_2000_decoded_small_has_the_values_that_are_stored(bits, signed):
    """Smooth pixels, so that those of a lower resolution are near those of the whole."""
    encoders = pytest.importorskip("openjpeg.utils")
    y, x = np.mgrid[0:301, 0:211]
    values = (np.sin(x / 40) + np.cos(y / 50) + 2) / 4 * ((1 << bits) - 1)
    lowest = -(1 << bits - 1) if signed else 0
    pixels = np.clip(values + lowest, lowest, lowest + (1 << bits) - 1).astype(
        f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    )
    frame = encoders.encode_array(pixels, bits_stored=bits, photometric_interpretation=2)
    size = pixels.dtype.itemsize
    described = ImagePixel(301, 211, 1, 8 * size, bits, bits - 1, signed, "MONOCHROME2", 0, 1)
    stream = read_codestream(frame)
    assert scales_of(JPEG2000Lossless, stream, described)[:2] == (2, 4)

    for scale in (2, 4):
        cells = scaled_frame(frame, JPEG2000Lossless, stream, described, scale)
        found = cells.view(f"{'i' if signed else 'u'}{size}").astype(int)
        differences = abs(found - pixels[::scale, ::scale])
        assert differences.max() <= max(4, (1 << bits) // 500)


def deflated(path):
    """An object that inflates to 4 MB, which is more than is inflated in memory."""
    dataset = set_pixels(new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3"), np.zeros((1024, 2048), "<u2"))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_deflated_object_is_inflated_in_the_data_folder(renderer, tmp_path):
    """The system's folder for temporary files may be in memory, or small."""
    found, _ = renderer.elements(deflated(tmp_path / "object.dcm"), "1.2.3.4", 0, 100)

    assert b"1.2.3.4" in found.read()
    (pid,) = drawing(renderer)
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    files = [line.split(maxsplit=5)[5] for line in maps if line.endswith("(deleted)")]
    assert [file for file in files if file.startswith(f"{tmp_path}/cache/")]


def test_a_deflated_object_that_the_disk_has_no_room_for_is_refused(tmp_path):
    path = deflated(tmp_path / "object.dcm")
    renderer = Renderer(tmp_path / "cache", 0, reserve_mb=1 << 40)
    with (
        contextlib.closing(renderer),
        pytest.raises(PictureRefusedError, match="the disk has no room to inflate it"),
    ):
        renderer.elements(path, "1.2.3.4", 0, 100)
