"""C-STORE: gives the object to the handler, and its answer to the peer (PS3.7 section 9.1.1)."""

from __future__ import annotations

import errno
import logging
from typing import Any, Final, cast

from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass

from lfscp.upperlayer.receiving.received import ReceivedStore
from lfscp.upperlayer.scp.operations import log_refusal
from lfscp.upperlayer.scp.service import InlineService, log_raised
from lfscp.upperlayer.wire import commands

_OUT_OF_RESOURCES: Final = 0xA700
_HANDLER_RAISED: Final = 0xC211  # pynetdicom's own code
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InlineStorage(InlineService, StorageServiceClass):
    """C-STORE."""

    def SCP(self, req: C_STORE, context: PresentationContext) -> None:  # noqa: N802
        """Answer one C-STORE."""
        error = cast(ReceivedStore, req).received.error
        if error is not None:
            self._refuse(req, context, error)
            return
        try:
            status: Any = self.ask(evt.EVT_C_STORE, req, context)
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised("Exception in handler bound to 'evt.EVT_C_STORE'", problem)
            status = _HANDLER_RAISED
        if self.assoc.is_established:
            self.answer(commands.C_STORE_RSP, req, context, status)

    def _refuse(self, req: C_STORE, context: PresentationContext, problem: OSError) -> None:
        """Answer for an object that could not be kept as it arrived; no handler sees it."""
        reason = problem.strerror or str(problem)
        level = logging.WARNING if problem.errno in _NO_SPACE else logging.ERROR
        log_refusal(self.assoc, req, _OUT_OF_RESOURCES, reason, level)
        self.assoc.dimse.send_response(
            commands.C_STORE_RSP,
            req,
            cast(int, context.context_id),
            _OUT_OF_RESOURCES,
            error_comment=f"out of resources: {reason}",
        )
