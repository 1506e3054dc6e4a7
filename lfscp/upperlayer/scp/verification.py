"""C-ECHO, answered with what the handler says (PS3.7 section 9.1.5)."""

from __future__ import annotations

from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import VerificationServiceClass

from lfscp.upperlayer.scp.service import InlineService, log_raised
from lfscp.upperlayer.wire import commands

_SUCCESS: Final = 0x0000
_RAISED: Final = (
    "Exception in the handler bound to 'evt.EVT_C_ECHO', "
    "responding with a default 'Status' value of 0x0000 (Success)"
)


class InlineVerification(InlineService, VerificationServiceClass):
    """C-ECHO."""

    def SCP(self, req: C_ECHO, context: PresentationContext) -> None:  # noqa: N802
        """Answer one C-ECHO."""
        status: Any = _SUCCESS
        try:
            status = self._required(self.ask(evt.EVT_C_ECHO, req, context))
        except Exception as problem:  # noqa: BLE001 - a handler raises what it likes
            log_raised(_RAISED, problem)
        if self.assoc.is_established:
            self.answer(commands.C_ECHO_RSP, req, context, status)

    @staticmethod
    def _required(status: Any) -> Any:
        """The status, which must be one: of any other pynetdicom makes a success."""
        if isinstance(status, int) or (isinstance(status, Dataset) and "Status" in status):
            return status
        raise TypeError("Invalid 'status' returned by the handler bound to 'evt.EVT_C_ECHO'")
