"""A queue in which sources take turns, so that a busy source delays only itself.

Not for several threads at once; the caller sees to that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of sources; those of one source stay in their order."""

    def __init__(self) -> None:
        self._of_source: dict[str, deque[T]] = {}  # in the order of their turns
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return (each for items in self._of_source.values() for each in items)

    def count_of(self, source: str) -> int:
        """How many items of a source wait."""
        return len(self._of_source.get(source, ()))

    def put(self, source: str, item: T) -> None:
        """Add an item."""
        self._of_source.setdefault(source, deque()).append(item)
        self._count += 1

    def take(self, may: Callable[[str], bool] = lambda _: True) -> T:
        """Take the oldest item of the source whose turn it is.

        Args:
            may: tells of a source whether it may have its turn now.
        Raises:
            LookupError: there is none.
        """
        source = next(filter(may, self._of_source), None)
        if source is None:
            raise LookupError("nothing waits")
        items = self._of_source.pop(source)
        if len(items) > 1:
            self._of_source[source] = items  # behind the others
        self._count -= 1
        return items.popleft()

    def take_of(self, source: str) -> T:
        """Take the oldest item of a source, out of turn.

        Raises:
            LookupError: there is none.
        """
        items = self._of_source[source]
        self._count -= 1
        item = items.popleft()
        if not items:
            del self._of_source[source]
        return item

    def largest(self) -> str:
        """The source that has most items; `LookupError` when there are none."""
        if not self._count:
            raise LookupError("nothing waits")
        return max(self._of_source, key=self.count_of)

    def clear(self) -> None:
        """Drop all."""
        self._of_source.clear()
        self._count = 0
