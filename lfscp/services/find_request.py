"""Answers one C-FIND request, on whichever SOP class: pending responses, then the final one.

Rules: matches are drawn one by one, so a query over everything needs little memory, and can be
cancelled between any two. If `query.max_results` cuts a query, the final status is 0xA700 with the
reason: a final warning (0xB001) exists for the Repository Query class only.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.archive.index.database.interruption import Interruption, InterruptionError
from lfscp.archive.interceptor import AskedQuery
from lfscp.archive.query.find import Incomplete
from lfscp.errors import OperationError
from lfscp.observe import audit, metrics
from lfscp.services import status
from lfscp.services.access.permissions import may
from lfscp.services.audit_events import keys_of, peer_of
from lfscp.services.cancellation import Cancellation
from lfscp.services.refused import RefusedError
from lfscp.services.service_log import (
    after_answer,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)
from lfscp.upperlayer.scp.encoded import EncodedDataset

if TYPE_CHECKING:
    from lfscp.archive.interceptor import Interceptor
    from lfscp.config import Settings
    from lfscp.config.checks import Permission

Response = tuple[int | Dataset, EncodedDataset | None]

_SERVICE: Final = "C-FIND"


class FindRequest(ABC):
    """One C-FIND request being answered, by the thread that serves the association.

    Attributes:
        permission: what the peer has to be allowed, and `not_allowed` the reason when it is not.
        asked: keys of the request that tell nothing about a patient; for the log.
    """

    permission: Permission
    not_allowed: str

    def __init__(
        self, settings: Settings, event: evt.Event, interceptor: Interceptor | None = None
    ) -> None:
        self.settings = settings
        self._interceptor = interceptor
        self.event = event
        request: Any = event.request
        self.sop_class_uid = str(request.AffectedSOPClassUID)
        self.asked: dict[str, str] = {}
        self._started = time.monotonic()
        self._matches = 0
        self._unread = 0
        self._cancellation = Cancellation(event)

    @abstractmethod
    def found(
        self, limit: int, interruption: Interruption
    ) -> tuple[int, Generator[bytes, None, None]]:
        """Read the request; gives the status of its matches, and their identifiers.

        Args:
            limit: the most matches to give; 0 for all.
        Raises:
            RefusedError: the request cannot be performed.
        """

    def responses(self) -> Iterator[Response]:
        """Every match, then the final response; the caller adds it if it is success."""
        try:
            yield from self._pending()
        except RefusedError as refused:
            answer = status.with_reason(refused.code, refused.reason, refused.offending_tags)
            self._record(refused.code, refused.reason)
            yield answer, None
        except InterruptionError:
            reason = self._cancellation.reason
            self._record(status.CANCELLED, reason)
            yield status.with_reason(status.CANCELLED, reason), None
        except OperationError as error:
            self._record(status.OUT_OF_RESOURCES, str(error))
            yield status.with_reason(status.OUT_OF_RESOURCES, "index error, see the log"), None
        except GeneratorExit:
            self._record(status.CANCELLED, "the association ended")
            raise
        except Exception as error:  # noqa: BLE001 - the peer gets a status whatever happened
            failed_unexpectedly(self.event, _SERVICE, error, status.UNABLE_TO_PROCESS)
            yield status.with_reason(status.UNABLE_TO_PROCESS, "internal error, see the log"), None
        else:
            after_answer(self.event.assoc, self._answered)

    def _pending(self) -> Iterator[Response]:
        if not may(self.settings.peers, calling_ae_title(self.event), self.permission):
            raise RefusedError(status.NOT_AUTHORISED, self.not_allowed)
        if self._interceptor is not None:
            refused = self._interceptor.before_query(self._as_asked())
            if refused:
                raise RefusedError(status.NOT_AUTHORISED, refused)
        limit = self.settings.query.max_results
        source = self.event.assoc.requestor.address or ""
        # The extra match shows that there are more.
        matched, identifiers = self.found(
            limit + 1 if limit else 0, Interruption(self._cancellation, source=source)
        )
        with closing(identifiers):
            for identifier in identifiers:
                if self._cancellation():
                    raise InterruptionError
                if limit and self._matches == limit:
                    reason = f"only the first {limit} matches were sent, narrow the query"
                    raise RefusedError(status.OUT_OF_RESOURCES, reason)
                self._matches += 1
                if isinstance(identifier, Incomplete):
                    self._unread += 1
                    yield status.PENDING_WITHOUT_OPTIONAL_KEYS, EncodedDataset(identifier)
                else:
                    yield matched, EncodedDataset(identifier)

    def _as_asked(self) -> AskedQuery:
        request: Any = self.event.request
        return AskedQuery(
            calling_ae_title(self.event),
            self.event.assoc.requestor.address or "",
            self.sop_class_uid,
            b"" if request.Identifier is None else request.Identifier.getvalue(),
            str(self.event.context.transfer_syntax),
        )

    def _answered(self) -> None:
        self._record(status.SUCCESS, "")
        if self._interceptor is not None:
            self._interceptor.after_query(self._as_asked(), self._matches)

    def _record(self, code: int, reason: str) -> None:
        metrics.MATCHES.add(self._matches)
        fields: dict[str, Any] = {"sop_class_uid": self.sop_class_uid, **self.asked}
        fields["matches"] = self._matches
        if self._unread:
            fields["unread_objects"] = self._unread
        names_patients = self.settings.logging.patient_identifiers
        if audit.is_on() or names_patients:
            keys = self._record_query(reason)
            if names_patients:
                fields["keys"] = keys
        performed(self.event, _SERVICE, code, self._started, reason=reason, **fields)

    def _record_query(self, reason: str) -> str:
        """Tell the audit trail what was asked; gives the keys as text."""
        request: Any = self.event.request
        identifier = b"" if request.Identifier is None else request.Identifier.getvalue()
        transfer_syntax_uid = str(self.event.context.transfer_syntax)
        keys = keys_of(identifier, transfer_syntax_uid)
        details = {"TransferSyntax": transfer_syntax_uid, "keys": keys, "matches": self._matches}
        peer = peer_of(self.event.assoc)
        audit.queried(peer, self.sop_class_uid, identifier, details, reason)
        return keys
