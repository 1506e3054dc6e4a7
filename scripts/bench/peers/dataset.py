"""Synthetic CT instances, written once and reused by every run with the same sizes."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID, generate_uid


@dataclass(frozen=True)
class Instance:
    path: str
    size: int
    study: str
    series: str
    sop: str


@dataclass(frozen=True)
class Dataset:
    large: tuple[Instance, ...]  # 512 KB of pixels each, in two studies
    small: tuple[Instance, ...]  # 8 KB files
    index: tuple[Instance, ...]  # two tiny instances per study

    @property
    def index_quarter(self) -> tuple[Instance, ...]:
        return self.index[: len(self.index) // 8 * 2]

    @property
    def first_large_study(self) -> tuple[Instance, ...]:
        return tuple(i for i in self.large if i.study == self.large[0].study)


@dataclass(frozen=True)
class _SetSpec:
    name: str
    count: int
    per_study: int
    per_series: int
    rows: int


def _uid(*parts: object) -> UID:
    """A full-length UID, the same for the same parts; unrelated digits, as real ones have.

    (dcmqrscp derives file names from a hash of the UID.)
    """
    return generate_uid(entropy_srcs=["/".join(["peerbench", *map(str, parts)])])


def _write_set(spec: _SetSpec, root: Path) -> list[Instance]:
    folder = root / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    template = dcmread(str(get_testdata_file("CT_small.dcm")))
    template.Rows = template.Columns = spec.rows
    noise = bytearray(random.Random(spec.name).randbytes(spec.rows * spec.rows * 2))  # noqa: S311 - pixels
    for high_byte in range(1, len(noise), 2):
        noise[high_byte] &= 0x0F  # 12-bit values, like a CT
    made: list[Instance] = []
    for number in range(spec.count):
        study_number, in_study = divmod(number, spec.per_study)
        series_number, in_series = divmod(in_study, spec.per_series)
        shift = 2 * number % len(noise)
        template.PixelData = bytes(noise[shift:] + noise[:shift])
        template.StudyInstanceUID = _uid(spec.name, study_number)
        template.SeriesInstanceUID = _uid(spec.name, study_number, series_number)
        template.SOPInstanceUID = _uid(spec.name, study_number, series_number, in_series)
        template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
        template.PatientID = f"{spec.name[0].upper()}{study_number:06d}"
        template.PatientName = f"Bench^Patient{study_number:06d}"
        template.AccessionNumber = f"ACC{spec.name[0]}{study_number:06d}"
        template.StudyID = str(study_number + 1)
        template.StudyDate = f"2024{1 + study_number % 12:02d}{1 + study_number % 28:02d}"
        template.SeriesNumber = series_number + 1
        template.InstanceNumber = in_series + 1
        path = folder / f"{number:05d}.dcm"
        template.save_as(path)
        made.append(
            Instance(
                str(path),
                path.stat().st_size,
                str(template.StudyInstanceUID),
                str(template.SeriesInstanceUID),
                str(template.SOPInstanceUID),
            )
        )
    return made


def prepare(root: Path, large: int, small: int, studies: int) -> Dataset:
    """Generate (or reuse) `large` and `small` instances, and `studies` studies for an index."""
    home = root / f"files-{large}-{small}-{studies}"
    manifest = home / "manifest.json"
    specs = (
        _SetSpec("large", large, large // 2, max(1, large // 8), 512),
        _SetSpec("small", small, 100, 50, 32),
        _SetSpec("index", studies * 2, 2, 1, 8),
    )
    if not manifest.exists():
        sets = {spec.name: [asdict(i) for i in _write_set(spec, home)] for spec in specs}
        uids = [instance["sop"] for instances in sets.values() for instance in instances]
        if len(set(uids)) != len(uids):
            raise ValueError("generated SOP Instance UIDs are not unique")
        manifest.write_text(json.dumps(sets))
    loaded = json.loads(manifest.read_text())
    return Dataset(*(tuple(Instance(**i) for i in loaded[spec.name]) for spec in specs))


def data_set_bytes(instance: Instance) -> bytes:
    """The file without its preamble and file meta group, as it travels in a C-STORE."""
    raw = Path(instance.path).read_bytes()
    (meta_length,) = struct.unpack_from("<I", raw, 140)
    return raw[144 + meta_length :]


def total_bytes(instances: Sequence[Instance]) -> int:
    return sum(instance.size for instance in instances)
