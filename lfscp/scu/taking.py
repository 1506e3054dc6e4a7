"""Takes the objects that a C-GET asked for, refuses others, and counts those that were stored.

It does not trust the peer: neither that an object is one that was asked for, nor how many the peer
reports as sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset

from lfscp.archive.store.received_objects import Received, read_received, require_identity
from lfscp.errors import OperationError
from lfscp.services import status

if TYPE_CHECKING:
    from lfscp.dicom.reading.header import Header

OnObject = Callable[[Received], int | Dataset]
OnRefused = Callable[[str, str], None]

_MAX_REFUSED: Final = 1000  # then the retrieve ends; so it does with as many that came again
_UNIQUE_KEYS: Final = {  # with the header's attribute, and the word for messages
    "StudyInstanceUID": ("study_instance_uid", "study"),
    "SeriesInstanceUID": ("series_instance_uid", "series"),
    "SOPInstanceUID": ("sop_instance_uid", "instance"),
}


class Taking:
    """Takes the objects of one C-GET.

    Args:
        identifier: of the C-GET.
        on_object: stores an object; gives the C-STORE's status.
        on_refused: called with the SOP Instance UID of each refused object, and why.

    Attributes:
        came: how often an object was stored.
        completed: objects that were stored without a warning; `warning` those with one.
        refused: objects that were not stored.
    """

    def __init__(self, identifier: Dataset, on_object: OnObject, on_refused: OnRefused) -> None:
        self._asked = {
            named: values
            for keyword, named in _UNIQUE_KEYS.items()
            if (values := _values(identifier, keyword))
        }
        self._on_object = on_object
        self._on_refused = on_refused
        self._stored: set[str] = set()
        self.came = 0
        self.completed = 0
        self.warning = 0
        self.refused = 0

    @property
    def is_flooded(self) -> bool:
        """Whether the peer keeps sending what was not asked for, or the same again and again."""
        again = self.came - len(self._stored)
        return self.refused >= _MAX_REFUSED or again >= _MAX_REFUSED + len(self._stored)

    def take(self, received: Received) -> int | Dataset:
        """Store an object, or refuse it; gives the C-STORE's status."""
        try:
            header = read_received(received)
            require_identity(header, received)
        except OperationError as error:
            from lfscp.services.storage.c_store import refusal  # slow to import

            return self._refuse(received.sop_instance_uid, error.reason, refusal(error))
        other = self._other(header)
        if other:
            reason = f"is of {other}, which was not requested"
            answer = status.with_reason(status.DATASET_DOES_NOT_MATCH, "it was not requested")
            return self._refuse(header.sop_instance_uid, reason, answer)
        answered = self._on_object(replace(received, header=header))
        self._count(header.sop_instance_uid, answered)
        return answered

    def refuse(self, name: str, reason: str) -> None:
        """Count an object that cannot be read.

        Args:
            name: what the user knows it by.
        """
        self.refused += 1
        self._on_refused(name, reason)

    def _other(self, header: Header) -> str:
        """What an object belongs to, if it was not asked for."""
        for (attribute, word), values in self._asked.items():
            if (found := getattr(header, attribute)) not in values:
                return f"{word} {found}"
        return ""

    def _refuse(self, sop_instance_uid: str, reason: str, answer: Dataset) -> Dataset:
        self.refuse(sop_instance_uid, reason)
        return answer

    def _count(self, sop_instance_uid: str, answered: int | Dataset) -> None:
        code = answered if isinstance(answered, int) else int(answered.Status)
        if code != status.SUCCESS and not status.is_store_warning(code):
            self.refused += 1
            return
        self.came += 1
        if sop_instance_uid not in self._stored:  # one that comes twice is one
            self._stored.add(sop_instance_uid)
            self.completed += code == status.SUCCESS
            self.warning += code != status.SUCCESS


def _values(identifier: Dataset, name: str) -> frozenset[str]:
    """The values of a unique key; none when it is not a list of single values."""
    value = identifier.get(name)
    if not value:
        return frozenset()
    values = [value] if isinstance(value, str) else list(value)
    texts = {part.strip(" \0") for each in values for part in str(each).split("\\")}
    return frozenset() if any(set("*?") & set(each) for each in texts) else frozenset(texts - {""})
