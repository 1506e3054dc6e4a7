"""A coercion: a rule that changes the attributes of the objects that it is for.

Rules: pure. Conditions look at the object as it came, actions at what the coercions before have
made of it. Bulk data is not copied: the result has a slice of what was given. An object that no
coercion changes stays as it is, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lfscp.dicom.encoding.deflate import deflate, inflate, pieces_of
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED, encoding_of
from lfscp.rules.coercion.actions import Action, carry_out
from lfscp.rules.coercion.draft import Draft
from lfscp.rules.coercion.element_bytes import Piece
from lfscp.rules.coercion.original_attributes import (
    ORIGINAL_ATTRIBUTES,
    Modification,
    keep_originals,
)
from lfscp.rules.conditions.condition import Condition
from lfscp.rules.conditions.subject import Subject

_MAX_INFLATED = 256 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Coercion:
    """One rule.

    Args:
        steps: what it does, in order; all actions of one step see the object as it was before it.
        when: which objects it is for; None for all.
        on_arrival: whether each object that comes in is asked.
        keeps_original: whether the object is also kept as it came.
    """

    name: str
    steps: Sequence[Sequence[Action]]
    when: Condition | None = None
    on_arrival: bool = True
    keeps_original: bool = False

    def is_for(self, subject: Subject) -> bool:
        """Whether it changes such an object."""
        return self.when is None or self.when.holds(subject)

    @property
    def last(self) -> int:
        """The last tag of a dataset that it may read or change."""
        actions = [action for step in self.steps for action in step]
        return max((action.last for action in actions), default=0)

    def change(self, draft: Draft) -> list[str]:
        """Change an object; returns what could not be done, without patient data."""
        return [note for step in self.steps for note in carry_out(step, draft)]


@dataclass(frozen=True, slots=True)
class Coerced:
    """What has become of an object.

    Args:
        pieces: of its dataset, in order; slices of what was given where that did not change.
        notes: what could not be done, fit for the log.
    """

    pieces: Sequence[Piece]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the dataset."""
        return sum(len(piece) for piece in self.pieces)


def coerce(
    dataset: memoryview,
    transfer_syntax_uid: str,
    coercions: Iterable[Coercion],
    modification: Modification | None,
) -> Coerced:
    """Apply coercions to an object, whether or not it is one that they are for.

    Args:
        dataset: its encoded dataset.
        modification: what the object says of its change; None: it says nothing.
    Returns:
        The object; one that does not change is one piece, `dataset` itself.
    Raises:
        DatasetError: the dataset is broken, or a value is too long for it.
    """
    if transfer_syntax_uid in DEFLATED:
        inflated = memoryview(_inflated(dataset))
        found = coerce(inflated, _EXPLICIT, coercions, modification)
        if found.pieces[0] is inflated:
            return Coerced((dataset,), found.notes)
        return Coerced((deflate(b"".join(found.pieces)),), found.notes)
    coercions = list(coercions)
    last = max([ORIGINAL_ATTRIBUTES, *(each.last for each in coercions)])
    draft = Draft(dataset, encoding_of(transfer_syntax_uid), last=last)
    notes = tuple(f"{each.name}: {note}" for each in coercions for note in each.change(draft))
    try:
        draft.settle()
        if not draft.changed:
            return Coerced((dataset,), notes)
        if modification is not None:
            keep_originals(draft, modification)
    except ValueError as error:
        raise DatasetError(f"a new value does not fit: expected {error}") from None
    return Coerced(draft.pieces(), notes)


_EXPLICIT = "1.2.840.10008.1.2.1"


def _inflated(dataset: memoryview) -> bytes:
    inflated = bytearray()
    for piece in inflate(pieces_of(dataset)):
        inflated += piece
        if len(inflated) > _MAX_INFLATED:
            limit = _MAX_INFLATED >> 20
            raise DatasetError(f"a deflated dataset of more than {limit} MB is not changed")
    return bytes(inflated)
