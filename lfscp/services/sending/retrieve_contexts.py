"""Chooses the presentation contexts that a retrieve proposes, and one for each object; pure.

Rules: each stored pair of SOP class and transfer syntax has a context of its own, because an
acceptor takes one syntax per context. Each SOP class also has a context with the uncompressed
syntaxes. An association has at most 128 contexts (PS3.8 section 7.1.1.13: odd IDs from 1 to 255).
More take several associations, one after another, each with whole SOP classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from lfscp.archive.query.selection import Selection
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.services.transcoding.decoding import TARGETS, needs_codec

MAX_CONTEXTS: Final = 128
_TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4  # result of a context (PS3.8 table 9-18)
_FALL_BACK: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

Syntaxes = tuple[str, ...]


@dataclass(slots=True)
class Batch:
    """The proposals of one association, as (SOP class, transfer syntaxes), and its objects."""

    proposals: list[tuple[str, Syntaxes]] = field(default_factory=list)
    instances: Sequence[StoredInstance] = ()

    def contexts(self) -> list[PresentationContext]:
        """The proposals as presentation contexts with their odd IDs."""
        contexts = []
        for position, (sop_class, syntaxes) in enumerate(self.proposals):
            context = build_context(sop_class, list(syntaxes))
            context.context_id = 2 * position + 1
            contexts.append(context)
        return contexts


@dataclass(frozen=True, slots=True)
class Choice:
    """The context to send an object through, and its transfer syntax."""

    context_id: int
    transfer_syntax_uid: str


def batches(instances: Sequence[StoredInstance]) -> list[Batch]:
    """Divide objects among associations; their order stays within each."""
    stored: dict[str, dict[str, None]] = {}
    for sop_class, syntax in _kinds(instances):
        stored.setdefault(sop_class, {})[syntax] = None
    divided: list[Batch] = []
    classes: list[set[str]] = []
    for sop_class, syntaxes in stored.items():
        proposals = [(sop_class, proposal) for proposal in _proposals(syntaxes)]
        if not divided or len(divided[-1].proposals) + len(proposals) > MAX_CONTEXTS:
            divided.append(Batch())
            classes.append(set())
        classes[-1].add(sop_class)
        divided[-1].proposals += proposals
    for batch, own in zip(divided, classes, strict=True):
        batch.instances = instances if len(divided) == 1 else _of_classes(instances, own)
    return divided


def _of_classes(instances: Sequence[StoredInstance], classes: set[str]) -> Sequence[StoredInstance]:
    if isinstance(instances, Selection):
        return instances.of_classes(classes)
    return [each for each in instances if each.sop_class_uid in classes]


def _kinds(instances: Sequence[StoredInstance]) -> Iterable[tuple[str, str]]:
    """The SOP classes with their transfer syntaxes, in the order of their first instance."""
    if isinstance(instances, Selection):
        return instances.kinds
    return dict.fromkeys((each.sop_class_uid, each.transfer_syntax_uid) for each in instances)


def _proposals(stored: Iterable[str]) -> Iterator[Syntaxes]:
    """The contexts for one SOP class: one per stored syntax, and one to fall back to."""
    own = tuple(stored)
    for syntax in own:
        yield (syntax,)
    fall_back = tuple(syntax for syntax in _FALL_BACK if syntax not in own)
    if fall_back:
        yield fall_back


class Accepted:
    """The contexts of an established association through which we may send objects.

    Args:
        contexts: the accepted ones.
        rejected: the others, which say why.
    """

    def __init__(
        self,
        contexts: Iterable[PresentationContext],
        rejected: Iterable[PresentationContext] = (),
    ) -> None:
        self._contexts: dict[tuple[str, str], int] = {}
        self._rejected = rejected
        for context in contexts:
            if context.as_scu and context.context_id is not None:
                pair = (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                self._contexts.setdefault(pair, context.context_id)

    def why_not(self, instance: StoredInstance) -> str:
        """Why no context fits an object."""
        uid = instance.sop_class_uid
        is_taken = any(sop_class == uid for sop_class, _ in self._contexts) or any(
            context.abstract_syntax == uid and context.result == _TRANSFER_SYNTAXES_NOT_SUPPORTED
            for context in self._rejected
        )
        if not is_taken:
            return "the receiver does not take its SOP class"
        wanted = UID(instance.transfer_syntax_uid).name
        return f"the receiver takes neither {wanted} nor uncompressed"

    def choose(self, instance: StoredInstance, *, may_decode: bool) -> Choice | None:
        """The context for one object: as stored if possible, else uncompressed; None if neither.

        Args:
            instance: the object.
            may_decode: whether compressed objects may be decoded.
        """
        sop_class, stored = instance.sop_class_uid, instance.transfer_syntax_uid
        candidates: Syntaxes = (stored,)
        if may_decode or not needs_codec(stored):
            candidates += TARGETS
        for syntax in candidates:
            context_id = self._contexts.get((sop_class, syntax))
            if context_id is not None:
                return Choice(context_id, syntax)
        return None
