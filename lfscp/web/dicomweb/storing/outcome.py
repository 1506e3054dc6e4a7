"""What became of the parts of a STOW-RS request: the answer, the log and the audit trail.

Rules: an object that was stored, or was not, is named by its UIDs; a part in which none can be read
counts among the other failures. The answer has a maximum of objects; what comes after them is not
stored, so that nothing is stored without the answer saying so.
Source: PS3.18 section 10.5.3 and annex I.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from lfscp.archive.errors import OtherStudyError, OutOfResourcesError
from lfscp.archive.store.received_objects import StoreOutcome
from lfscp.archive.store_file import StoredObject
from lfscp.dicom.models.element_tree import Element, Tree
from lfscp.dicom.reading.header import is_uid
from lfscp.errors import OperationError
from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.services.audit_events import Patients, ReceivedObjects
from lfscp.services.storage.c_store import refusal
from lfscp.web.actions.storing import STOW
from lfscp.web.context import Web
from lfscp.web.dicomweb.addresses import retrieve_url

LOG: Final = get_logger("lfscp.web")
MAX_OBJECTS: Final = 50_000  # that one answer names
MAX_LOGGED: Final = 20  # failures of one request
OTHER_STUDY: Final = 0xC409  # our own: no code of PS3.18 table I.2-2 says it

_REFERENCED_SOP_CLASS_UID: Final = 0x00081150
_REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
_RETRIEVE_URL: Final = 0x00081190
_FAILURE_REASON: Final = 0x00081197
_FAILED_SOP_SEQUENCE: Final = 0x00081198
_REFERENCED_SOP_SEQUENCE: Final = 0x00081199
_OTHER_FAILURES_SEQUENCE: Final = 0x0008119A


class Outcome:
    """The outcomes of one request.

    Args:
        base_url: of /dicom-web, for the URLs in the answer.
        address: of the client.
    """

    def __init__(self, web: Web, base_url: str, address: str) -> None:
        self._base_url = base_url
        self._address = address
        self._stored: list[Tree] = []
        self._failed: list[Tree] = []
        self._others: list[Tree] = []
        self._studies: set[str] = set()
        self._kept = 0
        peer = audit.AuditedPeer("", address)
        self._trail = ReceivedObjects(peer, Patients(web.archive)) if audit.is_on() else None

    @property
    def is_full(self) -> bool:
        """Whether no more parts may be looked at."""
        return len(self._stored) + self.failures >= MAX_OBJECTS

    @property
    def is_nearly_full(self) -> bool:
        """Whether it is full with one more."""
        return len(self._stored) + self.failures >= MAX_OBJECTS - 1

    @property
    def failures(self) -> int:
        """How many objects and parts were not stored."""
        return len(self._failed) + len(self._others)

    @property
    def stored(self) -> int:
        """How many objects were stored."""
        return len(self._stored)

    def store(self, found: StoredObject) -> None:
        """Note an object that is safe."""
        stored = found.stored
        url = retrieve_url(
            self._base_url, stored.study_uid, stored.series_uid, found.sop_instance_uid
        )
        item = _reference(found.sop_class_uid, found.sop_instance_uid)
        item[_RETRIEVE_URL] = Element(b"UR", url)
        self._stored.append(item)
        self._studies.add(stored.study_uid)
        self._kept += stored.outcome is StoreOutcome.KEPT
        if self._trail is not None:
            self._trail.stored(stored, found.sop_class_uid)

    def fail(
        self, error: OperationError, sop_class_uid: str = "", sop_instance_uid: str = ""
    ) -> None:
        """Note an object that was not stored, or a part in which none can be found.

        Args:
            sop_instance_uid: as `sop_class_uid` empty where it cannot be read.
        """
        reason = reason_of(error)
        if not is_uid(sop_instance_uid):
            sop_instance_uid = ""
        number = Element(b"US", reason.to_bytes(2, "little"))
        if sop_instance_uid:
            item = _reference(sop_class_uid if is_uid(sop_class_uid) else "", sop_instance_uid)
            self._failed.append(Tree({**item, _FAILURE_REASON: number}))
        else:
            self._others.append(Tree({_FAILURE_REASON: number}))
        if self._trail is not None:
            self._trail.refused(f"0x{reason:04X}")
        if self.failures <= MAX_LOGGED:
            LOG.warning(
                "not stored",
                service=STOW,
                peer=self._address,
                status=f"0x{reason:04X}",
                reason=str(error),
                **({"sop_instance_uid": sop_instance_uid} if sop_instance_uid else {}),
            )

    def fail_rest(self) -> None:
        """Note that the parts from here on are not looked at."""
        reason = f"the request has more than {MAX_OBJECTS} objects; split it"
        self.fail(OutOfResourcesError("store the instance", reason))

    def record(self) -> None:
        """Write the audit trail, and the number of failures that the log does not have."""
        if self._trail is not None:
            self._trail.write()
        if self.failures > MAX_LOGGED:
            LOG.warning("more objects not stored", peer=self._address, failed=self.failures)

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status."""
        if not self._stored:
            return HTTPStatus.CONFLICT
        return HTTPStatus.ACCEPTED if self.failures else HTTPStatus.OK

    @property
    def warnings(self) -> list[str]:
        """What the client should know although it is no failure."""
        if not self._kept:
            return []
        return [f"{self._kept} instances were there already with other content, which stays"]

    def module(self) -> Tree:
        """The Store Instances Response Module."""
        study = next(iter(self._studies)) if len(self._studies) == 1 else ""
        url = retrieve_url(self._base_url, study) if study else ""
        answer = Tree({_RETRIEVE_URL: Element(b"UR", url)})
        for tag, items in (
            (_FAILED_SOP_SEQUENCE, self._failed),
            (_REFERENCED_SOP_SEQUENCE, self._stored),
            (_OTHER_FAILURES_SEQUENCE, self._others),
        ):
            if items:
                answer[tag] = Element(b"SQ", items)
        return answer


def reason_of(error: OperationError) -> int:
    """The Failure Reason of an error: a C-STORE's status, but for an object of another study.

    Source: PS3.18 table I.2-2, which allows for further values.
    """
    if isinstance(error, OtherStudyError):
        return OTHER_STUDY
    return int(refusal(error).Status)


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Tree:
    return Tree(
        {
            _REFERENCED_SOP_CLASS_UID: Element(b"UI", sop_class_uid),
            _REFERENCED_SOP_INSTANCE_UID: Element(b"UI", sop_instance_uid),
        }
    )
