"""What a coercion does to attributes: copy, map, replace, set, remove.

Rules: pure. All actions of one kind see the object as it was before the first of them. A value that
does not fit its attribute is not set; the attribute stays as it was, and a note says so. Notes hold
no patient data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import regex

from lfscp.rules.coercion.attribute_path import AttributePath
from lfscp.rules.coercion.draft import Draft
from lfscp.rules.coercion.values import fault_of

_MATCH_S: Final = 1.0  # what an expression may take; the longest value takes milliseconds


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value that an attribute is to get; None removes it.

    Args:
        fault: what was expected of the value that is there, if it cannot be changed.
    """

    draft: Draft
    tag: int
    text: str | None
    vr: str = ""
    fault: str = ""

    def carry_out(self) -> str:
        """Change the draft; why not, or an empty text."""
        if self.fault:
            return self.fault
        if self.text is None:
            self.draft.remove(self.tag)
            return ""
        known = self.draft.vr_of(self.tag)
        vr = self.vr if known == "UN" and self.vr else known
        fault = fault_of(self.text, vr)
        if not fault:
            self.draft.set_text(self.tag, self.text, vr)
        return fault


class Action(Protocol):
    """One change of one attribute."""

    @property
    def path(self) -> AttributePath:
        """The attribute that it changes."""
        ...

    @property
    def last(self) -> int:
        """The last tag of a dataset that it reads or changes."""
        ...

    def assignments(self, draft: Draft) -> Iterator[Assignment]:
        """The changes of an object."""
        ...


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies the value of another attribute; none if that is absent or empty."""

    path: AttributePath
    source: AttributePath

    @property
    def last(self) -> int:
        """See `Action`."""
        return max(self.path.top, self.source.top)

    def assignments(self, draft: Draft) -> Iterator[Assignment]:
        """See `Action`."""
        text = first_text(draft, self.source)
        if text:
            for place in places(draft, self.path, makes=True):
                yield Assignment(place, self.path.tag, text)


@dataclass(frozen=True, slots=True)
class Map:
    """Looks a value up in a table.

    Args:
        table: what values become.
        source: the attribute that is looked up; None for the one that changes.
        otherwise: what happens to a value that is not in the table.
    """

    path: AttributePath
    table: Mapping[str, str]
    source: AttributePath | None = None
    otherwise: Literal["keep", "empty"] = "keep"

    @property
    def last(self) -> int:
        """See `Action`."""
        return max(self.path.top, (self.source or self.path).top)

    def assignments(self, draft: Draft) -> Iterator[Assignment]:
        """See `Action`."""
        for place in places(draft, self.path, makes=self.source is not None):
            own = place.text(self.path.tag)
            asked = own if self.source is None else first_text(draft, self.source)
            if not asked and self.source is None:
                continue
            found = self.table.get(asked, "" if self.otherwise == "empty" else None)
            if found is not None:
                yield Assignment(place, self.path.tag, found)


@dataclass(frozen=True, slots=True)
class Replace:
    """Replaces what a regular expression matches, in each value that is there.

    A value on which the expression takes too long stays: for some expressions a sender could make
    one that takes hours. Those that follow in the same object stay as well.

    Args:
        by: may have groups, as "\\1".
    """

    path: AttributePath
    pattern: regex.Pattern[str]
    by: str

    @property
    def last(self) -> int:
        """See `Action`."""
        return self.path.top

    def assignments(self, draft: Draft) -> Iterator[Assignment]:
        """See `Action`."""
        fault = ""
        for place in places(draft, self.path):
            if not (text := place.text(self.path.tag)):
                continue
            if not fault:
                try:
                    # Other threads go on meanwhile.
                    text = self.pattern.sub(self.by, text, concurrent=True, timeout=_MATCH_S)
                except TimeoutError:
                    fault = f"a value for which the pattern takes less than {_MATCH_S:g} s"
            yield Assignment(place, self.path.tag, text, fault=fault)


@dataclass(frozen=True, slots=True)
class Set:
    """Gives an attribute a value, whether it is there or not."""

    path: AttributePath
    text: str
    vr: str = ""

    @property
    def last(self) -> int:
        """See `Action`."""
        return self.path.top

    def assignments(self, draft: Draft) -> Iterator[Assignment]:
        """See `Action`."""
        for place in places(draft, self.path, makes=True):
            yield Assignment(place, self.path.tag, self.text, self.vr)


@dataclass(frozen=True, slots=True)
class Remove:
    """Leaves an attribute out."""

    path: AttributePath

    @property
    def last(self) -> int:
        """See `Action`."""
        return self.path.top

    def assignments(self, draft: Draft) -> Iterator[Assignment]:
        """See `Action`."""
        for place in places(draft, self.path):
            if self.path.tag in place:
                yield Assignment(place, self.path.tag, None)


def places(draft: Draft, path: AttributePath, *, makes: bool = False) -> Iterator[Draft]:
    """The dataset or the items that an attribute is in, or would be.

    Args:
        makes: whether to add the first item of a sequence that lacks it, if a path asks for it.
    """
    found = [draft]
    for step in path.steps:
        inner: list[Draft] = []
        for outer in found:
            items = outer.items(step.tag)
            if step.item is None:
                inner += items
            elif step.item < len(items):
                inner.append(items[step.item])
            elif makes and step.item == len(items):
                inner.append(outer.add_item(step.tag))
        found = inner
    yield from found


def first_text(draft: Draft, path: AttributePath) -> str:
    """The first value of an attribute that is not empty."""
    texts = (place.text(path.tag) for place in places(draft, path))
    return next((text for text in texts if text), "")


def carry_out(actions: Sequence[Action], draft: Draft) -> list[str]:
    """Do what actions of one kind ask for; returns what could not be done."""
    asked = [(action, each) for action in actions for each in action.assignments(draft)]
    notes: list[str] = []
    for action, each in asked:
        if fault := each.carry_out():
            notes.append(f"{action.path} stays as it was: expected {fault}")
    return notes
