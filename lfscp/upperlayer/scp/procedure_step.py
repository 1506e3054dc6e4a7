"""N-CREATE, N-SET and N-GET of performed procedure steps, by pynetdicom's own service class.

It sends an Attribute List with success only, and encodes it itself. Here a handler may give one
with any status, and encoded: see `StatusWithAttributes`.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, TypeVar

from pynetdicom.service_class_n import ProcedureStepServiceClass

from lfscp.upperlayer.scp.encoded import StatusWithAttributes

_Response = TypeVar("_Response")


class InlineProcedureStep(ProcedureStepServiceClass):
    """Modality Performed Procedure Step (PS3.4 annex F).

    Relied on: pynetdicom's service class asks `validate_status` for each response before it sends
    it, and puts an Attribute List in itself only when the handler gives a second value.
    """

    def validate_status(self, status: Any, rsp: _Response) -> _Response:
        """Fill a response from a handler's status."""
        response: Any = super().validate_status(status, rsp)  # type: ignore[type-var] # a response
        if isinstance(status, StatusWithAttributes) and status.attribute_list is not None:
            response.AttributeList = BytesIO(status.attribute_list.data)
        filled: _Response = response
        return filled
