"""Waveforms as curves: the values that pydicom reads, peaks kept, lengths not believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset

from lfscp.web.documents.waveforms import curves, groups
from lfscp.web.imaging.errors import NoPictureError
from tests.support.web_objects import new

ECG = Path(get_testdata_file("waveform_ecg.dcm"))
ECG_CLASS = "1.2.840.10008.5.1.4.1.1.9.1.1"


def code(meaning: str, value: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "UCUM", meaning
    return [item]


def channel(label: str = "", **values) -> Dataset:
    item = Dataset()
    if label:
        item.ChannelLabel = label
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def waveform(samples: np.ndarray, kind: str = "SS", **values) -> FileDataset:
    """An object with one group. Shape of the samples: (samples, channels)."""
    group = Dataset()
    group.NumberOfWaveformSamples, group.NumberOfWaveformChannels = samples.shape
    group.SamplingFrequency, group.WaveformOriginality = 100, "ORIGINAL"
    group.ChannelDefinitionSequence = [channel() for _ in range(samples.shape[1])]
    group.WaveformBitsAllocated = 8 * samples.itemsize
    group.WaveformSampleInterpretation = kind
    group.add_new("WaveformData", "OW", samples.tobytes())
    for keyword, value in values.items():
        if isinstance(value, bytes):
            group.add_new(keyword, "OW", value)
        else:
            setattr(group, keyword, value)
    return new(ECG_CLASS, "1.2.3.4", "1.2", "1.2.3", WaveformSequence=[group])


def saved(folder: Path, dataset: FileDataset) -> Path:
    path = folder / "waveform.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_curves_are_the_values_that_pydicom_reads():
    dataset = dcmread(ECG)
    found, noted = groups(ECG)

    assert [each.label for each in found] == ["RHYTHM", "MEDIAN BEAT"]
    assert (found[0].frequency_hz, found[0].samples, found[0].omission) == (1000, 10_000, "")
    assert [each.label for each in found[0].channels][:2] == ["Lead I (Einthoven)", "Lead II"]
    assert {each.units for each in found[0].channels} == {"uV"}
    assert noted[:3] == ["RITMO SINUSALE", "ECG NORMALE", "RR Interval: 982 ms"]
    for number in range(2):
        read = curves(ECG, number, 0, 60, 20_000)
        assert read.step == 1
        assert np.allclose(np.array(read.points).T, dataset.waveform_array(number))


def test_fewer_points_keep_the_peaks():
    whole = dcmread(ECG).waveform_array(0)
    found = curves(ECG, 0, 2, 5, 200)

    assert (found.first, found.samples, found.step) == (2000, 5000, 50)
    points = np.array(found.points).T
    assert points.shape == (200, 12)
    steps = whole[2000:7000].reshape(100, 50, 12)
    assert np.allclose(points[0::2], steps.min(axis=1))
    assert np.allclose(points[1::2], steps.max(axis=1))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("SB", "i1"), ("UB", "u1"), ("SS", "<i2"), ("US", "<u2"), ("SL", "<i4"), ("UL", "<u4")],
)
def test_samples_of_each_kind_are_read(tmp_path, kind, dtype):
    samples = (np.arange(40).reshape(20, 2) * 3).astype(dtype)
    found = curves(saved(tmp_path, waveform(samples, kind)), 0, 0, 1, 100)

    assert np.array_equal(np.array(found.points).T, samples)


def test_a_sample_is_scaled_by_its_channel_and_padding_is_none(tmp_path):
    scaled = channel(
        "aVR",
        ChannelSensitivity="2.5",
        ChannelSensitivityCorrectionFactor="2",
        ChannelBaseline="-10",
        ChannelSensitivityUnitsSequence=code("microvolt", "uV"),
    )
    samples = np.array([[1, 1], [-32768, 4]], "<i2")
    dataset = waveform(samples, ChannelDefinitionSequence=[scaled, channel()])
    dataset.WaveformSequence[0].add_new("WaveformPaddingValue", "OW", b"\x00\x80")
    path = saved(tmp_path, dataset)

    assert [(each.label, each.units) for each in groups(path)[0][0].channels] == [
        ("aVR", "uV"),
        ("Channel 2", ""),
    ]
    assert curves(path, 0, 0, 1, 100).points == ((-5.0, None), (1.0, 4.0))


def test_samples_that_are_not_there_are_not_believed(tmp_path):
    dataset = waveform(np.zeros((20, 2), "<i2"), NumberOfWaveformSamples=4_000_000_000)
    path = saved(tmp_path, dataset)

    (group,), _ = groups(path)
    assert group.samples == 20
    assert group.omission == (
        "The object says it has 4000000000 samples of each channel; 20 are there."
    )
    assert len(curves(path, 0, 0, 1e9, 20_000).points[0]) == 20
    assert curves(path, 0, 1e9, 10, 100).points == ((), ())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"WaveformSampleInterpretation": "MB"}, "mu-law"),
        ({"WaveformSampleInterpretation": "XX"}, "how its samples are stored"),
        ({"NumberOfWaveformChannels": 60_000}, "it has 60000 channels"),
        ({"NumberOfWaveformChannels": 0}, "it has 0 channels"),
        ({"SamplingFrequency": "0"}, "how often"),
        ({"WaveformData": b"\0\0"}, "0 are there"),
        ({"NumberOfWaveformSamples": 0}, "no samples"),
    ],
)
def test_what_cannot_be_shown_says_why(tmp_path, values, reason):
    path = saved(tmp_path, waveform(np.zeros((20, 2), "<i2"), **values))

    (group,), _ = groups(path)
    assert group.samples == 0
    assert reason.lower() in group.omission.lower()
    with pytest.raises(NoPictureError, match=group.omission.split(";")[0]):
        curves(path, 0, 0, 10, 100)


def test_what_has_no_waveforms_says_so(tmp_path):
    path = saved(tmp_path, new(ECG_CLASS, "1.2.3.4", "1.2", "1.2.3"))
    with pytest.raises(NoPictureError, match="this object holds no waveforms"):
        groups(path)


def test_the_api_gives_groups_and_curves(client):
    assert client.post("/api/instances", content=ECG.read_bytes()).status_code == 201
    path = f"/api/instances/{dcmread(ECG).SOPInstanceUID}/waveforms"

    assert [each["label"] for each in client.get(path).json()["groups"]] == [
        "RHYTHM",
        "MEDIAN BEAT",
    ]
    found = client.get(f"{path}/1", params={"start": 1, "seconds": 2, "points": 500}).json()
    assert (found["first"], found["samples"], found["step"]) == (1000, 2000, 8)
    assert [len(each) for each in found["points"]] == [500] * 12
    assert client.get(f"{path}/3").json()["detail"] == "there is no group 3 of waveforms"
    assert client.get(f"{path}/1", params={"start": "nan"}).status_code == 422
