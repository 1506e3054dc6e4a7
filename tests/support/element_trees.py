"""Trees of elements for tests, made of pydicom's datasets."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.models.element_tree import Tree, read_tree


def tree_of(dataset: Dataset) -> Tree:
    """The tree of a pydicom dataset."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, dataset)
    return read_tree(out.getvalue(), EXPLICIT_VR_LITTLE_ENDIAN)
