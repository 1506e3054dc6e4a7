"""Notes in the audit trail who looked at which study: once for each person, study and way.

A viewer asks for hundreds of frames; one record says that the study was seen. If the same person
comes back later, there is another record.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lfscp.observe import audit
from lfscp.services.audit_events import patients_of

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

AGAIN_AFTER_S: Final = 600.0
_MAX: Final = 4096  # remembered


class Views:
    """The studies that were looked at lately. Any thread may call it.

    Args:
        archive: asked for the patient of a study.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str, int | None, str], float] = OrderedDict()

    def is_noted(self, study_uid: str, how: str, study_key: int | None = None) -> bool:
        """Whether `note` would have nothing to write, and the index not to be asked."""
        key = (audit.actor(), study_uid, study_key, how)
        seen_at = self._seen.get(key) if audit.is_on() else time.monotonic()
        return seen_at is not None and time.monotonic() - seen_at < AGAIN_AFTER_S

    def note(self, study_uid: str, how: str, study_key: int | None = None) -> None:
        """Note that the current caller sees something of a study.

        Args:
            how: the way: "page", "picture", "elements", "report", "waveforms", "file", "ZIP",
                "de-identified ZIP".
            study_key: of its row; None for each study that has the UID.
        """
        if not audit.is_on():
            return
        key = (audit.actor(), study_uid, study_key, how)
        now = time.monotonic()
        with self._lock:
            seen_at = self._seen.get(key)
            if seen_at is not None and now - seen_at < AGAIN_AFTER_S:
                return
            self._seen[key] = now
            self._seen.move_to_end(key)
            while len(self._seen) > _MAX:
                self._seen.popitem(last=False)
        for patient in patients_of(self._archive, study_uid, study_key) or (None,):
            audit.accessed(study_uid, how, patient)
