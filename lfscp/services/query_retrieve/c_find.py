"""Answers C-FIND: makes a query of the identifier, and responses of the matches (PS3.4 C.4.1).

Matches come from the archive one by one. So a query over everything needs little memory, and can be
cancelled between any two. At IMAGE level, values that the index lacks are read from the objects; if
an object cannot be read, its match has 0xFF01. If `query.max_results` cuts a query, the final
status is 0xA700 with the reason: a final warning (0xB001) exists for the Repository Query class
only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.archive.archive import Archive
from lfscp.archive.index.interruption import Interruption, InterruptionError
from lfscp.archive.query.find import Incomplete
from lfscp.archive.query.query import Query, parse_query
from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.errors import OperationError
from lfscp.observe import audit, metrics
from lfscp.services import status
from lfscp.services.access.permissions import may
from lfscp.services.audit_events import keys_of, peer_of
from lfscp.services.cancellation import Cancellation
from lfscp.services.identifier import RefusedError, read
from lfscp.services.models import QUERY_MODELS, negotiated
from lfscp.services.service_log import (
    Handlers,
    after_answer,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)
from lfscp.upperlayer.scp.encoded import EncodedDataset

Response = tuple[int | Dataset, EncodedDataset | None]

_SERVICE: Final = "C-FIND"


def handlers(archive: Archive, current: CurrentSettings) -> Handlers:
    """The handler of C-FIND requests."""

    def handle_find(event: evt.Event) -> Iterator[Response]:
        return _Find(archive, current.settings, event).responses()

    return [(evt.EVT_C_FIND, handle_find)]


class _Find:
    """One C-FIND request being answered, by the thread that serves the association."""

    def __init__(self, archive: Archive, settings: Settings, event: evt.Event) -> None:
        self._archive = archive
        self._settings = settings
        self._event = event
        request: Any = event.request
        self._sop_class_uid = str(request.AffectedSOPClassUID)
        self._started = time.monotonic()
        self._matches = 0
        self._unread = 0
        self._cancellation = Cancellation(event)

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
            failed_unexpectedly(self._event, _SERVICE, error, status.UNABLE_TO_PROCESS)
            yield status.with_reason(status.UNABLE_TO_PROCESS, "internal error, see the log"), None
        else:
            after_answer(self._event.assoc, lambda: self._record(status.SUCCESS, ""))

    def _pending(self) -> Iterator[Response]:
        query = self._read_request()
        matched = status.PENDING
        if query.unsupported_keys:
            matched = status.PENDING_WITHOUT_OPTIONAL_KEYS
        limit = self._settings.query.max_results
        with closing(self._find(query, limit)) as found:
            for identifier in found:
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

    def _find(self, query: Query, limit: int) -> Any:
        return self._archive.find(
            query,
            transfer_syntax_uid=str(self._event.context.transfer_syntax),
            retrieve_ae_title=self._settings.server.ae_title,
            limit=limit + 1 if limit else 0,  # the extra match shows that there are more
            interruption=Interruption(
                self._cancellation, source=self._event.assoc.requestor.address or ""
            ),
        )

    def _read_request(self) -> Query:
        if not may(self._settings.peers, calling_ae_title(self._event), "query"):
            raise RefusedError(status.NOT_AUTHORISED, "this AE title may not query")
        model = QUERY_MODELS.get(self._sop_class_uid)
        if model is None:
            raise RefusedError(status.SOP_CLASS_NOT_SUPPORTED, "no query model of this node")
        options = negotiated(self._event.assoc, self._sop_class_uid)
        return read(
            self._event,
            lambda identifier: parse_query(
                identifier,
                model,
                relational=options.relational,
                combined_date_time=options.combined_date_time,
            ),
            self._settings.budgets.key_values,
        )

    def _record(self, code: int, reason: str) -> None:
        metrics.MATCHES.add(self._matches)
        fields: dict[str, Any] = {"sop_class_uid": self._sop_class_uid, "matches": self._matches}
        if self._unread:
            fields["unread_objects"] = self._unread
        names_patients = self._settings.logging.patient_identifiers
        if audit.is_on() or names_patients:
            keys = self._record_query(reason)
            if names_patients:
                fields["keys"] = keys
        performed(self._event, _SERVICE, code, self._started, reason=reason, **fields)

    def _record_query(self, reason: str) -> str:
        """Tell the audit trail what was asked; gives the keys as text."""
        request: Any = self._event.request
        identifier = b"" if request.Identifier is None else request.Identifier.getvalue()
        transfer_syntax_uid = str(self._event.context.transfer_syntax)
        keys = keys_of(identifier, transfer_syntax_uid)
        details = {"TransferSyntax": transfer_syntax_uid, "keys": keys, "matches": self._matches}
        peer = peer_of(self._event.assoc)
        audit.queried(peer, self._sop_class_uid, identifier, details, reason)
        return keys
