"""Checks that an A-ASSOCIATE-AC answers what was proposed. No I/O.

A context that was not proposed is passed over, as is a role. One that is accepted otherwise than it
was proposed cannot be used: it counts as rejected, and when none is left there is no association.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pynetdicom.pdu_primitives import A_ASSOCIATE
    from pynetdicom.presentation import PresentationContext

_ACCEPTED: Final = 0
_TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4


def fault_of_acceptance(proposed: Sequence[PresentationContext], answer: A_ASSOCIATE) -> str:
    """Why no association can be held with an acceptance; empty when one can.

    Args:
        proposed: the contexts of the A-ASSOCIATE-RQ.
        answer: the A-ASSOCIATE-AC.
    Source: PS3.8 sections 7.1.1.14 and 9.3.3.2.
    """
    syntaxes = {context.context_id: context.transfer_syntax for context in proposed}
    seen: set[int | None] = set()
    usable, fault = 0, ""
    for context in answer.presentation_context_definition_results_list:
        context_id = context.context_id
        if context_id not in syntaxes:
            continue
        if context_id in seen:
            return f"presentation context {context_id} is answered twice"
        seen.add(context_id)
        if context.result != _ACCEPTED:
            continue
        found = context.transfer_syntax
        if len(found) == 1 and found[0] in syntaxes[context_id]:
            usable += 1
            continue
        context.result = _TRANSFER_SYNTAXES_NOT_SUPPORTED
        named = ", ".join(found) or "none"
        fault = (
            f"presentation context {context_id} is accepted with the transfer syntax {named}, "
            "which was not proposed"
        )
    return "" if usable else fault
