"""The objects of the DICOMweb workloads: a series of CT slices, and a long multi-frame image."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from openjpeg.utils import encode
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, MultiFrameGrayscaleWordSecondaryCaptureImageStorage

from .dataset import Instance, SetSpec, unique_uid, write_set

FRAMES = 88
_SIDE = 800  # of a frame of noise: 1 MB as JPEG 2000
_DIFFERENT = 4  # frames that are encoded; the others repeat them


@dataclass(frozen=True)
class WebDataset:
    series: tuple[Instance, ...]  # CT of 512 KB, all of one series
    study: tuple[Instance, ...]  # the same, 200 in another study
    long: tuple[Instance, ...]  # one image of 88 frames in JPEG 2000


def prepare_web(root: Path, scale: float) -> WebDataset:
    """Generate (or reuse) the objects, fewer if the scale is below 1."""
    series, study = int(1000 * scale), int(200 * scale)
    home = root / f"files-web-{series}-{study}"
    manifest = home / "manifest.json"
    if not manifest.exists():
        sets = {
            "series": write_set(SetSpec("series", series, series, series, 512), home),
            "study": write_set(SetSpec("study", study, study, study, 512), home),
            "long": [_write_long(home)],
        }
        shown = {name: [asdict(each) for each in made] for name, made in sets.items()}
        manifest.write_text(json.dumps(shown))
    loaded = json.loads(manifest.read_text())
    return WebDataset(**{name: tuple(Instance(**i) for i in made) for name, made in loaded.items()})


def _write_long(home: Path) -> Instance:
    dataset = _multi_frame(dcmread(str(get_testdata_file("CT_small.dcm"))))
    noise = random.Random("long")
    frames = [
        encode(
            np.random.default_rng(noise.randrange(1 << 30)).integers(
                0, 4096, (_SIDE, _SIDE), dtype=np.uint16
            ),
            bits_stored=12,
        )
        for _ in range(_DIFFERENT)
    ]
    dataset.PixelData = encapsulate([frames[number % _DIFFERENT] for number in range(FRAMES)])
    dataset["PixelData"].is_undefined_length = True
    path = home / "long.dcm"
    dataset.save_as(path)
    study, series, sop = (
        str(dataset[name].value)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    return Instance(str(path), path.stat().st_size, study, series, sop)


def _multi_frame(dataset: Dataset) -> Dataset:
    dataset.Rows = dataset.Columns = _SIDE
    dataset.NumberOfFrames = FRAMES
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    dataset.StudyInstanceUID = unique_uid("long", "study")
    dataset.SeriesInstanceUID = unique_uid("long", "series")
    dataset.SOPInstanceUID = unique_uid("long", "instance")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return dataset
