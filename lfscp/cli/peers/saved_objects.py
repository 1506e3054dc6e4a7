"""Writes the objects that `lfscp get` retrieves into a folder, one file each.

An object is on disk before the peer is told that it is stored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.durability import sync_file, sync_folder, whole_file
from lfscp.cli.terminal import warn
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.services import status

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.archive.store.received_objects import Received

_MAX_REMARKS: Final = 20  # on objects that are not taken
_UID: Final = re.compile(r"[0-9][0-9.]{0,63}")


class SavedObjects:
    """Objects written into a folder, each as a DICOM file with its UID as name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refused = 0
        self.bytes = 0
        self.count = 0

    def save(self, received: Received) -> int | Dataset:
        """Write one; an error becomes the status that the peer gets."""
        uid = received.sop_instance_uid
        if not _UID.fullmatch(uid):
            return status.with_reason(status.CANNOT_UNDERSTAND, "no valid SOP Instance UID")
        if received.dataset is None and received.spooled_path is None:
            return status.with_reason(status.CANNOT_UNDERSTAND, "there is no dataset")
        target = self._folder / f"{uid}.dcm"
        try:
            self.bytes += self._write(received, target)
            sync_folder(self._folder)
        except OSError as error:
            reason = error.strerror or str(error)
            warn(f"lfscp: {target}: {reason}")
            return status.with_reason(status.OUT_OF_RESOURCES, reason)
        self.count += 1
        return status.SUCCESS

    def _write(self, received: Received, target: Path) -> int:
        """Write one file; gives the length of its dataset."""
        if received.dataset is None:
            spooled = Path(received.spooled_path or "")
            size = spooled.stat().st_size - received.dataset_offset
            sync_file(spooled)
            spooled.replace(target)
            return size
        header = part10_header(
            received.sop_class_uid,
            received.sop_instance_uid,
            received.transfer_syntax_uid,
            received.calling_ae_title,
        )
        with whole_file(target) as file:
            file.write(header)
            file.write(received.dataset)
        return len(received.dataset)

    def warn_of_refused(self, sop_instance_uid: str, reason: str) -> None:
        """Say why an object was not taken; only of the first ones."""
        self._refused += 1
        if self._refused <= _MAX_REMARKS:
            warn(f"lfscp: {sop_instance_uid}: not stored, {reason}")
        if self._refused == _MAX_REMARKS:
            warn("lfscp: further objects are not listed")
