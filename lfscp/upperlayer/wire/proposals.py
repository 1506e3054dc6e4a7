"""Remembers what peers propose: a device sends the same A-ASSOCIATE-RQ again and again.

All of it but the AE titles is decoded once. Each association gets objects of its own, which it may
change; copies cost a quarter of decoding. What names a user is never remembered, nor is anything
else that holds a list, and the memory has a limit. Bytes only, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom.pdu_primitives import (
    _UI,
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import PresentationContext

_MOST_BYTES: Final = 1 << 15  # 128 contexts of the usual transfer syntaxes have half of this
_MOST: Final = 64
_PLAIN: Final = frozenset(
    {
        ImplementationClassUIDNotification,
        ImplementationVersionNameNotification,
        MaximumLengthNotification,
        SCP_SCU_RoleSelectionNegotiation,
        SOPClassExtendedNegotiation,
    }
)


@dataclass(frozen=True, slots=True)
class _Proposal:
    """What was decoded, never given out itself."""

    application_context_name: UID | None
    contexts: tuple[PresentationContext, ...]
    user_information: tuple[_UI, ...]


def _copied_context(context: PresentationContext) -> PresentationContext:
    copied: Any = PresentationContext.__new__(PresentationContext)
    copied.__dict__ = {
        **context.__dict__,
        "_transfer_syntax": list(context._transfer_syntax),
    }
    return copied  # type: ignore[no-any-return]


def _copied_item(item: _UI) -> _UI:
    copied: Any = item.__class__.__new__(item.__class__)
    copied.__dict__ = dict(item.__dict__)
    return copied  # type: ignore[no-any-return]


class Proposals:
    """What was decoded before, by its bytes. Any thread may call any method."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Proposal] = {}

    def __len__(self) -> int:
        return len(self._known)

    def put_into(self, primitive: A_ASSOCIATE, proposal: bytes) -> bool:
        """Fill in what these bytes have become before; whether that is known.

        Args:
            primitive: without contexts and user information.
            proposal: the variable items of an A-ASSOCIATE-RQ (PS3.8 table 9-11).
        """
        known = self._known.get(proposal)
        if known is None:
            return False
        primitive._application_context_name = known.application_context_name
        primitive._presentation_context_definition_list = list(map(_copied_context, known.contexts))
        primitive._user_information = list(map(_copied_item, known.user_information))
        return True

    def keep(self, proposal: bytes, primitive: A_ASSOCIATE) -> None:
        """Remember what bytes were decoded to, unless they name a user or are long."""
        items = primitive._user_information
        if len(proposal) > _MOST_BYTES or not all(type(item) in _PLAIN for item in items):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[proposal] = _Proposal(
            primitive._application_context_name,
            tuple(map(_copied_context, primitive._presentation_context_definition_list)),
            tuple(map(_copied_item, items)),
        )


PROPOSALS: Final = Proposals()
