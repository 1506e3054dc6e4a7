"""Images for tests of pictures: of any photometric interpretation, bits, sign and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from lfscp.dicom.part10.file_meta import part10_header, read_part10
from tests.support.web_objects import CT_CLASS, new

CHANNELS = ("Red", "Green", "Blue")


def image(pixels: np.ndarray, **values: Any) -> FileDataset:
    """An image of these pixel cells: (rows, columns) grey, (rows, columns, 3) colour, or frames.

    Args:
        pixels: of the type of a cell; floating point becomes (Double) Float Pixel Data.
        values: attributes that differ from what follows from the pixels; None leaves one out.
    """
    dataset = new(CT_CLASS, "1.2.3.4", "1.2", "1.2.3")
    is_colour = pixels.ndim == 4 or (pixels.ndim == 3 and "NumberOfFrames" not in values)
    rows, columns = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
    bits = 8 * pixels.itemsize
    stored = values.get("BitsStored") or bits
    attributes = {
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 3 if is_colour else 1,
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "PlanarConfiguration": 0 if is_colour else None,
        "BitsAllocated": bits,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **values,
    }
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
    content = pixels.tobytes()
    if pixels.dtype.kind == "f":
        keyword = "FloatPixelData" if bits == 32 else "DoubleFloatPixelData"
        setattr(dataset, keyword, content)
        return dataset
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset


def planar(pixels: np.ndarray) -> np.ndarray:
    """The same cells, one plane a sample; the shape stays, for `image`."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(pixels.shape)


def table(entries: Any, first: int = 0, bits: int = 16, *, vr: str = "OW") -> Dataset:
    """An item with a lookup table, one entry a word, or two when the entries are of 8 bits."""
    item = Dataset()
    entries = np.asarray(entries)
    item.add_new(
        "LUTDescriptor", "SS" if first < 0 else "US", [signed(len(entries), first), first, bits]
    )
    content = entries.astype("<u2" if entries.dtype.itemsize > 1 else "u1").tobytes()
    if vr == "US":
        item.add_new("LUTData", "US", np.frombuffer(content, "<u2").tolist())
    else:
        item.add_new("LUTData", "OW", content + bytes(len(content) % 2))
    return item


def signed(count: int, first: int) -> int:
    """The number of entries as the descriptor's VR, which follows the first value, has it."""
    count %= 1 << 16
    return count - (1 << 16) if first < 0 and count >= 1 << 15 else count


def palettes(entries: list[Any], first: int = 0, bits: int = 16) -> dict[str, Any]:
    """The attributes of three palettes."""
    found: dict[str, Any] = {}
    for channel, each in zip(CHANNELS, entries, strict=True):
        each = np.asarray(each)
        found[f"{channel}PaletteColorLookupTableDescriptor"] = [len(each) % 65536, first, bits]
        content = each.astype("<u2" if bits > 8 else "u1").tobytes()
        found[f"{channel}PaletteColorLookupTableData"] = content + bytes(len(content) % 2)
    return found


def save(dataset: FileDataset, path: Path) -> Path:
    """Write it in little endian."""
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_as(dataset: FileDataset, path: Path, syntax: str) -> Path:
    """Write its elements as they are, under a transfer syntax that pydicom does not ask about."""
    is_compressed = dataset.PixelData[:4] == b"\xfe\xff\x00\xe0"
    dataset["PixelData"].is_undefined_length = is_compressed
    dataset.file_meta.TransferSyntaxUID = RLELossless if is_compressed else ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    meta = read_part10(content)
    head = part10_header(meta.sop_class_uid, meta.sop_instance_uid, syntax)
    path.write_bytes(head + content[meta.dataset_offset :])
    return path


def save_big_endian(dataset: FileDataset, path: Path) -> Path:
    """Write it in big endian; words of OW are turned, which pydicom leaves to its caller."""
    for element in dataset.iterall():
        if element.VR == "OW" and element.value:
            element.value = np.frombuffer(element.value, "<u2").byteswap().tobytes()
        elif element.VR in ("OF", "OD"):
            kind = "<u4" if element.VR == "OF" else "<u8"
            element.value = np.frombuffer(element.value, kind).byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    plain = Dataset(dataset)
    plain.file_meta = dataset.file_meta
    plain.set_original_encoding(is_implicit_vr=False, is_little_endian=False)
    plain.save_as(path, enforce_file_format=True)
    return path
