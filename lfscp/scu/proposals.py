"""Chooses the presentation contexts that a C-GET proposes for the objects it expects; pure.

An acceptor takes one transfer syntax per context. If the SOP classes are known, each gets a context
for every single syntax, so that objects come as they are stored; many classes get fewer. Otherwise
the usual classes get one context with the uncompressed syntaxes and one with the compressed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from lfscp.services.contexts import UNCOMPRESSED, storage_sop_classes, transfer_syntaxes

MAX_CONTEXTS: Final = 127  # 128 of an association (PS3.8 section 9.3.2.2) and one for the C-GET
MAX_SYNTAXES: Final = 24  # in one context: DCMTK ends associations that propose more than 50
_IMAGE: Final = "1.2.840.10008.5.1.4.1.1."
# The most frequent first; those get a context for compressed objects too.
_USUAL: Final = tuple(
    _IMAGE + end
    for end in (
        *("2", "4", "1.1", "1", "7", "6.1", "3.1", "12.1", "12.2", "128", "20", "1.2", "1.2.1"),
        *("2.1", "4.1", "4.3", "130", "13.1.3", "13.1.1", "1.3", "1.3.1", "1.1.1", "7.1", "7.2"),
        *("7.3", "7.4", "77.1.1", "77.1.2", "77.1.4", "77.1.1.1", "77.1.4.1", "77.1.5.1", "77.1.6"),
        *("6", "3", "77.1.5.4", "12.1.1", "12.2.1", "6.2", "2.2", "4.4", "128.1"),
        *("88.11", "88.22", "88.33", "88.34", "88.50", "88.59", "88.65", "88.67", "88.71"),
        *("11.1", "11.2", "66", "66.1", "66.2", "66.3", "66.4", "66.5", "66.6", "67"),
        *("481.1", "481.2", "481.3", "481.4", "481.5", "481.6", "481.7", "481.8", "481.9"),
        *("104.1", "104.2", "104.3", "9.1.1", "9.1.2", "9.1.3", "9.2.1", "9.3.1", "9.4.1"),
    )
)
# The usual ways to compress, then the others.
_COMPRESSED: Final = tuple(
    f"1.2.840.10008.1.2.{end}"
    for end in ("4.70", "4.90", "4.80", "5", "4.50", "4.91", "4.81", "4.51", "4.57", "4.202")
)

Proposal = tuple[str, tuple[str, ...]]


def get_proposals(sop_classes: Sequence[str] = ()) -> tuple[Proposal, ...]:
    """The contexts as (SOP class, transfer syntaxes), at most `MAX_CONTEXTS`.

    Args:
        sop_classes: of the objects, if known.
    """
    known = list(dict.fromkeys(uid for uid in sop_classes if uid))
    if not known:
        return _of_usual_classes()
    known = known[:MAX_CONTEXTS]
    each = MAX_CONTEXTS // len(known)
    return tuple(proposal for uid in known for proposal in _of_one_class(uid, each))


def _of_one_class(sop_class: str, most: int) -> list[Proposal]:
    """Single syntaxes as far as there is room; the rest together in the last context."""
    every = (*UNCOMPRESSED, *_rest())
    singles: list[Proposal] = [(sop_class, (uid,)) for uid in every[: most - 1]]
    together = every[most - 1 :][:MAX_SYNTAXES]
    return [*singles, (sop_class, together)] if together else singles


@cache
def _rest() -> tuple[str, ...]:
    others = (uid for uid in transfer_syntaxes() if uid not in (*UNCOMPRESSED, *_COMPRESSED))
    return (*_COMPRESSED, *others)


@cache
def _of_usual_classes() -> tuple[Proposal, ...]:
    every = (*_USUAL, *(uid for uid in storage_sop_classes() if uid not in _USUAL))
    twice = 42
    found: list[Proposal] = []
    for position, uid in enumerate(every[: MAX_CONTEXTS - twice]):
        found.append((uid, UNCOMPRESSED))
        if position < twice:
            found.append((uid, _rest()[:MAX_SYNTAXES]))
    return tuple(found)
