"""A condition: a test of one attribute or of the sender, or several combined by all, any, not.

Rules: a condition is made once and asked often, from any thread. `holds` is on the path of each
store, so it stops at the first test that decides. `explain` says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lfscp.rules.conditions.comparisons import Comparison, shown
from lfscp.rules.conditions.subject import Subject

_MAX_SHOWN = 3  # values of an attribute in an explanation


class Condition(Protocol):
    """What an object and its sender must meet."""

    @property
    def tags(self) -> frozenset[int]:
        """The attributes of the dataset that it asks for; sequences, not what is in them."""
        ...

    def holds(self, subject: Subject) -> bool:
        """Whether a subject meets it."""
        ...

    def explain(self, subject: Subject) -> str:
        """Why a subject meets it, or does not, in words such as `Modality is "CT"`."""
        ...

    @property
    def words(self) -> str:
        """What it wants, in words such as `Modality is "CT" or "MR"`."""
        ...


@dataclass(frozen=True, slots=True)
class _Compared:
    """What is named passes a comparison."""

    name: str
    comparison: Comparison

    @property
    def words(self) -> str:
        """See `Condition.words`."""
        return f"{self.name} is {self.comparison.words}"

    def _told(self, found: str, *, holds: bool) -> str:
        return found if holds else f"{found}, wanted {self.comparison.words}"


@dataclass(frozen=True, slots=True)
class OfAttribute(_Compared):
    """One value of an attribute, at least, passes a comparison."""

    tag: int
    vr: str

    @property
    def tags(self) -> frozenset[int]:
        """See `Condition.tags`."""
        return frozenset({self.tag})

    def holds(self, subject: Subject) -> bool:
        """See `Condition.holds`."""
        accepts = self.comparison.accepts
        for value in subject.attributes.values(self.tag, self.vr):
            if value and accepts(value):
                return True
        return False

    def explain(self, subject: Subject) -> str:
        """See `Condition.explain`."""
        found = _found(self.name, subject.attributes.values(self.tag, self.vr))
        return self._told(found, holds=self.holds(subject))


@dataclass(frozen=True, slots=True)
class IsPresent:
    """An attribute is there and not empty; or, if not `wanted`, absent or empty."""

    name: str
    tag: int
    vr: str
    wanted: bool

    @property
    def words(self) -> str:
        """See `Condition.words`."""
        return f"{self.name} is {'present' if self.wanted else 'absent or empty'}"

    @property
    def tags(self) -> frozenset[int]:
        """See `Condition.tags`."""
        return frozenset({self.tag})

    def holds(self, subject: Subject) -> bool:
        """See `Condition.holds`."""
        return self._is_there(subject) is self.wanted

    def explain(self, subject: Subject) -> str:
        """See `Condition.explain`."""
        found = f"{self.name} is {'present' if self._is_there(subject) else 'absent or empty'}"
        return found if self.holds(subject) else f"{found}, wanted the opposite"

    def _is_there(self, subject: Subject) -> bool:
        attributes = subject.attributes
        if self.vr == "SQ":
            return bool(attributes.items(self.tag))
        return bool(attributes.values(self.tag, self.vr))


@dataclass(frozen=True, slots=True)
class OfItems:
    """One item of a sequence, at least, meets a condition."""

    name: str
    tag: int
    condition: Condition

    @property
    def words(self) -> str:
        """See `Condition.words`."""
        return f"in an item of {self.name}, {self.condition.words}"

    @property
    def tags(self) -> frozenset[int]:
        """See `Condition.tags`."""
        return frozenset({self.tag})

    def holds(self, subject: Subject) -> bool:
        """See `Condition.holds`."""
        items = subject.attributes.items(self.tag)
        return any(self.condition.holds(subject.of_item(item)) for item in items)

    def explain(self, subject: Subject) -> str:
        """See `Condition.explain`."""
        items = [subject.of_item(item) for item in subject.attributes.items(self.tag)]
        for item in items:
            if self.condition.holds(item):
                return f"{self.name}: {self.condition.explain(item)}"
        if not items:
            return f"{self.name} has no item"
        return f"{self.name}: in no item; in the first, {self.condition.explain(items[0])}"


@dataclass(frozen=True, slots=True)
class OfSender(_Compared):
    """What the association or request says: AE titles, address, transfer syntax."""

    read: Callable[[Subject], str]

    @property
    def tags(self) -> frozenset[int]:
        """See `Condition.tags`."""
        return frozenset()

    def holds(self, subject: Subject) -> bool:
        """See `Condition.holds`."""
        value = self.read(subject)
        return bool(value) and self.comparison.accepts(value)

    def explain(self, subject: Subject) -> str:
        """See `Condition.explain`."""
        value = self.read(subject)
        found = f"{self.name} is {shown(value)}" if value else f"{self.name} is not known"
        return self._told(found, holds=self.holds(subject))


@dataclass(frozen=True, slots=True)
class _Combined:
    """Several conditions."""

    conditions: tuple[Condition, ...]

    @property
    def tags(self) -> frozenset[int]:
        """See `Condition.tags`."""
        return frozenset[int]().union(*(condition.tags for condition in self.conditions))


@dataclass(frozen=True, slots=True)
class All(_Combined):
    """All of some conditions; with none of them, it always holds."""

    @property
    def words(self) -> str:
        """See `Condition.words`."""
        return " and ".join(map(_part, self.conditions)) or "there is no condition"

    def holds(self, subject: Subject) -> bool:
        """See `Condition.holds`."""
        for condition in self.conditions:  # noqa: SIM110 - a generator costs twice as much
            if not condition.holds(subject):
                return False
        return True

    def explain(self, subject: Subject) -> str:
        """See `Condition.explain`: the first that fails, or all."""
        for condition in self.conditions:
            if not condition.holds(subject):
                return condition.explain(subject)
        told = [condition.explain(subject) for condition in self.conditions]
        return ", ".join(told) if told else "there is no condition"


@dataclass(frozen=True, slots=True)
class Any(_Combined):
    """At least one of some conditions."""

    @property
    def words(self) -> str:
        """See `Condition.words`."""
        return " or ".join(map(_part, self.conditions))

    def holds(self, subject: Subject) -> bool:
        """See `Condition.holds`."""
        for condition in self.conditions:  # noqa: SIM110 - as above
            if condition.holds(subject):
                return True
        return False

    def explain(self, subject: Subject) -> str:
        """See `Condition.explain`: the first that holds, or why none does."""
        for condition in self.conditions:
            if condition.holds(subject):
                return condition.explain(subject)
        return "; and ".join(condition.explain(subject) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Not:
    """A condition that must not hold."""

    condition: Condition

    @property
    def words(self) -> str:
        """See `Condition.words`."""
        return f"not ({self.condition.words})"

    @property
    def tags(self) -> frozenset[int]:
        """See `Condition.tags`."""
        return self.condition.tags

    def holds(self, subject: Subject) -> bool:
        """See `Condition.holds`."""
        return not self.condition.holds(subject)

    def explain(self, subject: Subject) -> str:
        """See `Condition.explain`."""
        told = self.condition.explain(subject)
        return told if self.holds(subject) else f"{told}, which is excluded"


def _part(condition: Condition) -> str:
    """What a part of a combined condition wants; in brackets if it is combined itself."""
    is_many = isinstance(condition, _Combined) and len(condition.conditions) > 1
    combined = is_many or isinstance(condition, OfItems)
    return f"({condition.words})" if combined else condition.words


def _found(name: str, values: Sequence[str]) -> str:
    if not values:
        return f"{name} is absent or empty"
    if not values[0]:
        return f"{name} is neither text nor a number"
    told = ", ".join(shown(value) for value in values[:_MAX_SHOWN])
    return f"{name} is {told}" + (" and more" if len(values) > _MAX_SHOWN else "")
