"""Synthetic CT objects that differ in their UIDs only, made in memory as fast as they are sent."""

from __future__ import annotations

from collections.abc import Iterator

from peers import dul
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

ROOT = "2.25.317459200184655.7"  # made-up: nobody's archive holds these
_COLUMNS = 64
_HEADER_BYTES = 6000


class Objects:
    """CT Image Storage, Explicit VR Little Endian.

    Args:
        size: about so many bytes of data set each.
        number: tells this set's study from that of another one.
    """

    def __init__(self, size: int, number: int) -> None:
        self.study_uid = f"{ROOT}.{number}"
        self._first = f"{self.study_uid}.1.1000000"
        template = dcmread(str(get_testdata_file("CT_small.dcm")))
        template.StudyInstanceUID = self.study_uid
        template.SeriesInstanceUID = f"{self.study_uid}.1"
        template.SOPInstanceUID = self._first
        template.PatientID = f"BENCH{number}"
        template.PatientName = "Bench^Mark"
        rows = max(1, (size - _HEADER_BYTES) // (2 * _COLUMNS))
        template.Rows, template.Columns = rows, _COLUMNS
        template.PixelData = bytes(2 * rows * _COLUMNS)
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, template)
        self._encoded: bytes = buffer.getvalue()
        self._at = self._encoded.index(self._first.encode())
        self._made = 0

    def __len__(self) -> int:
        return len(self._encoded)

    def following(self) -> tuple[str, bytes]:
        """SOP Instance UID and data set of the next one."""
        self._made += 1
        uid = f"{self.study_uid}.1.{1_000_000 + self._made}"
        if len(uid) != len(self._first):
            raise ValueError("more than a million objects")
        end = self._at + len(uid)
        return uid, self._encoded[: self._at] + uid.encode() + self._encoded[end:]

    def requests(self, count: int, pdu_bytes: int = 131072) -> Iterator[bytes]:
        """C-STORE requests of the next ones, in context 1."""
        for _ in range(count):
            uid, data = self.following()
            yield dul.encode_store(1, dul.CT_IMAGE_STORAGE, uid, data, pdu_bytes)
