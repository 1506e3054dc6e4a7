"""Reads waveforms, such as an ECG, as curves in the units of their channels (PS3.3 C.10.9).

Rules: samples are read in place, and only those of the seconds that are asked for. If these are
more than fit, each point stands for several samples, by the lowest and the highest of them, so that
no peak is lost. The number of samples is what is there, not what the object says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lfscp.services.transcoding.decoded import Array
from lfscp.web.documents.attributes import PLACE, Attributes, Content, Wanted, opened, read
from lfscp.web.imaging.errors import NoPictureError

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

MAX_GROUPS: Final = 64
MAX_CHANNELS: Final = 256
MAX_POINTS: Final = 20_000  # of a curve
MAX_ANNOTATIONS: Final = 500
_ALL_POINTS: Final = 400_000  # of the curves of one answer
_AT_ONCE: Final = 1 << 20  # samples
_MOST: Final = 0xFFFFFFFF
_CODE: Final[Wanted] = {
    "CodeValue": None,
    "CodingSchemeDesignator": None,
    "CodeMeaning": None,
}
_CHANNEL: Final[Wanted] = {
    "ChannelLabel": None,
    "ChannelSourceSequence": _CODE,
    "ChannelSensitivity": None,
    "ChannelSensitivityUnitsSequence": _CODE,
    "ChannelSensitivityCorrectionFactor": None,
    "ChannelBaseline": None,
    "ChannelTimeSkew": None,
    "WaveformBitsStored": None,
}
_GROUP: Final[Wanted] = {
    "MultiplexGroupTimeOffset": None,
    "WaveformOriginality": None,
    "NumberOfWaveformChannels": None,
    "NumberOfWaveformSamples": None,
    "SamplingFrequency": None,
    "MultiplexGroupLabel": None,
    "ChannelDefinitionSequence": _CHANNEL,
    "WaveformBitsAllocated": None,
    "WaveformSampleInterpretation": None,
    "WaveformPaddingValue": None,
    "WaveformData": PLACE,
}
_ANNOTATION: Final[Wanted] = {
    "MeasurementUnitsCodeSequence": _CODE,
    "ConceptNameCodeSequence": _CODE,
    "ConceptCodeSequence": _CODE,
    "NumericValue": None,
    "UnformattedTextValue": None,
}
_ROOT: Final[Wanted] = {"WaveformAnnotationSequence": PLACE, "WaveformSequence": PLACE}
_TYPES: Final = {  # Waveform Sample Interpretation (PS3.3 section C.10.9.1.5)
    "SB": "i1",
    "UB": "u1",
    "SS": "i2",
    "US": "u2",
    "SL": "i4",
    "UL": "u4",
    "SV": "i8",
    "UV": "u8",
}
_COMPANDED: Final = ("MB", "AB")


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel.

    Args:
        label: such as "Lead I".
        units: symbol in UCUM, such as mV or uV; empty if it is not known.
        factor, baseline: a sample times the factor plus the baseline is in these units.
    """

    label: str
    units: str
    factor: float
    baseline: float


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that were sampled together.

    Args:
        samples: of each channel, that are there.
        omission: what it lacks, and why; empty if nothing.
    """

    label: str
    originality: str
    frequency_hz: float
    samples: int
    channels: tuple[Channel, ...]
    omission: str = ""


@dataclass(frozen=True, slots=True)
class Curves:
    """Some seconds of a group.

    Args:
        first: number of the first sample, counted from 0.
        step: samples that a pair of points stands for; 1: a point is a sample.
        points: of each channel, in its units; None where there is no measurement. With a step above
            1, they come in pairs: the lowest and the highest of the samples.
    """

    first: int
    samples: int
    step: int
    points: tuple[tuple[float | None, ...], ...]


def groups(path: StoredFile) -> tuple[list[Group], list[str]]:
    """The groups of an object, and what is noted on them, a line each.

    Raises:
        NoPictureError: it has no waveforms, or it cannot be read.
    """
    with opened(path) as content:
        root = read(content, content.whole, _ROOT)
        found = [_group(each) for each in _each(content, root)]
        noted = root.place("WaveformAnnotationSequence")
        items = islice(content.items(noted), MAX_ANNOTATIONS) if noted else ()
        lines = [_noted(read(content, each, _ANNOTATION, root.character_set)) for each in items]
    return found, [each for each in lines if each]


def curves(path: StoredFile, number: int, start_s: float, seconds: float, points: int) -> Curves:
    """Some seconds of a group.

    Args:
        number: of the group, counted from 0.
        points: at most, of each channel.
    Raises:
        NoPictureError: there is no such group, or it cannot be read.
    """
    with opened(path) as content:
        root = read(content, content.whole, _ROOT)
        item = next(islice(_each(content, root), number, None), None)
        if item is None:
            raise NoPictureError(f"there is no group {number + 1} of waveforms")
        group = _group(item)
        if not group.samples:
            raise NoPictureError(group.omission)
        first = int(min(max(start_s, 0) * group.frequency_hz, group.samples))
        wanted = min(group.samples - first, math.ceil(seconds * group.frequency_hz))
        most = max(2, min(points, MAX_POINTS, _ALL_POINTS // len(group.channels)))
        step = 1 if wanted <= most else math.ceil(wanted / (most // 2))
        pieces = _pieces(content, item, group, first, wanted, step)
        found = np.concatenate(list(pieces) or [np.empty((0, len(group.channels)))])
        return Curves(first, wanted, step, tuple(map(_numbers, found.T)))


def _each(content: Content, root: Attributes) -> Iterator[Attributes]:
    place = root.place("WaveformSequence")
    if place is None:
        raise NoPictureError("this object holds no waveforms")
    for each in islice(content.items(place), MAX_GROUPS):
        yield read(content, each, _GROUP, root.character_set)


def _group(item: Attributes) -> Group:
    samples, omission = _samples(item)
    count = _channels(item)
    defined = item.items("ChannelDefinitionSequence")[:count]
    defined += [Attributes()] * (count - len(defined))
    return Group(
        label=item.text("MultiplexGroupLabel"),
        originality=item.text("WaveformOriginality"),
        frequency_hz=item.number("SamplingFrequency"),
        samples=samples,
        channels=tuple(_channel(each, at) for at, each in enumerate(defined, 1)),
        omission=omission,
    )


def _channels(item: Attributes) -> int:
    return item.count("NumberOfWaveformChannels", _MOST)


def _samples(item: Attributes) -> tuple[int, str]:
    """How many samples of each channel are there, and why not all or none of them."""
    count, kind = _channels(item), item.text("WaveformSampleInterpretation").upper()
    if kind in _COMPANDED:
        return 0, "Samples in mu-law or A-law are not shown."
    if kind not in _TYPES:
        return 0, "The object does not say how its samples are stored."
    if not 1 <= count <= MAX_CHANNELS:
        return 0, f"It has {count} channels; 1 to {MAX_CHANNELS} are shown."
    if not 0 < item.number("SamplingFrequency") <= 1e9:
        return 0, "The object does not say how often it was sampled."
    place = item.place("WaveformData")
    size = 0 if place is None else place.end - place.begin
    there = size // (count * np.dtype(_TYPES[kind]).itemsize)
    said = item.count("NumberOfWaveformSamples", _MOST)
    if there < said:
        return there, f"The object says it has {said} samples of each channel; {there} are there."
    return min(said, there), "" if said else "It has no samples."


def _channel(item: Attributes, number: int) -> Channel:
    label = item.text("ChannelLabel") or item.item("ChannelSourceSequence").text("CodeMeaning")
    units = item.item("ChannelSensitivityUnitsSequence")
    sensitivity = item.number("ChannelSensitivity")
    factor = sensitivity * (item.number("ChannelSensitivityCorrectionFactor") or 1.0)
    is_known = bool(sensitivity) and math.isfinite(factor)
    return Channel(
        label=label or f"Channel {number}",
        units=(units.text("CodeValue") or units.text("CodeMeaning")) if is_known else "",
        factor=factor if is_known else 1.0,
        baseline=item.number("ChannelBaseline") if is_known else 0.0,
    )


def _pieces(
    content: Content, item: Attributes, group: Group, first: int, wanted: int, step: int
) -> Iterator[Array]:
    """The points of all channels, some samples at a time. Shape: (points, channels), float64."""
    place = item.place("WaveformData")
    assert place is not None  # noqa: S101 - there are samples
    kind = _TYPES[item.text("WaveformSampleInterpretation").upper()]
    order = "<" if place.encoding.byteorder == "little" else ">"
    stored = np.frombuffer(
        content.buffer[place.begin : place.end],
        order + kind,
        count=group.samples * len(group.channels),
    ).reshape(group.samples, len(group.channels))
    factors = np.array([each.factor for each in group.channels])
    baselines = np.array([each.baseline for each in group.channels])
    padding = _padding(content, item, kind)
    at_once = max(1, _AT_ONCE // len(group.channels) // step) * step
    for begin in range(first, first + wanted, at_once):
        samples = stored[begin : min(begin + at_once, first + wanted)]
        values = samples.astype(np.float64) * factors + baselines
        if padding is not None:
            values[samples == padding] = np.nan
        yield values if step == 1 else _extremes(values, step)


def _extremes(values: Array, step: int) -> Array:
    """The lowest and the highest value of each step, one after the other."""
    missing = -len(values) % step
    filled = np.concatenate([values, np.full((missing, values.shape[1]), np.nan)])
    steps = filled.reshape(-1, step, values.shape[1])
    either: tuple[Any, Any] = (np.fmin, np.fmax)  # numpy's versions have different types of reduce
    low, high = (each.reduce(steps, axis=1) for each in either)
    return np.stack([low, high], axis=1).reshape(-1, values.shape[1])


def _padding(content: Content, item: Attributes, kind: str) -> Any:
    found = item.values.get("WaveformPaddingValue")
    if isinstance(found, bytes):
        size = np.dtype(kind).itemsize
        order = "<" if content.encoding.byteorder == "little" else ">"
        return np.frombuffer(found[:size], order + kind)[0] if len(found) >= size else None
    numbers = item.numbers("WaveformPaddingValue")
    return numbers[0] if numbers else None


def _numbers(values: Array) -> tuple[float | None, ...]:
    rounded = [float(f"{each:.6g}") for each in values.tolist()]
    return tuple(each if math.isfinite(each) else None for each in rounded)


def _noted(item: Attributes) -> str:
    """One annotation: a text, or a name with a code or a measurement; a name alone says nothing."""
    name = item.item("ConceptNameCodeSequence").text("CodeMeaning")
    coded = item.item("ConceptCodeSequence").text("CodeMeaning")
    units = item.item("MeasurementUnitsCodeSequence")
    value = item.text("NumericValue")
    if value:
        value = f"{value} {units.text('CodeValue') or units.text('CodeMeaning')}".strip()
    text = item.text("UnformattedTextValue") or coded or value
    return f"{name}: {text}" if name and text else text
