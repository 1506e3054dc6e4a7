"""Answers C-ECHO (PS3.4 annex A)."""

from __future__ import annotations

import time

from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.config.current import CurrentSettings
from lfscp.services import status
from lfscp.services.access.permissions import may
from lfscp.services.service_log import Handlers, after_answer, calling_ae_title, performed


def handlers(current: CurrentSettings) -> Handlers:
    """The handler of C-ECHO requests."""

    def handle_echo(event: evt.Event) -> int | Dataset:
        started = time.monotonic()
        caller = calling_ae_title(event)
        if may(current.settings.peers, caller, "echo"):
            after_answer(event.assoc, lambda: performed(event, "C-ECHO", status.SUCCESS, started))
            return status.SUCCESS
        reason = "this AE title may not echo"
        performed(event, "C-ECHO", status.NOT_AUTHORISED, started, reason=reason)
        return status.with_reason(status.NOT_AUTHORISED, reason)

    return [(evt.EVT_C_ECHO, handle_echo)]
