"""Holds the instances that a retrieve selects, packed so that any number fits in memory.

A million instances take a gigabyte as objects, and some tens of megabytes packed. They are as the
index had them when they were selected; they are unpacked in their order, some at a time.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple, overload

from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance

PACKED: Final = 250  # instances at a time: many retrieves may be under way
_LEVEL: Final = 1  # of compression; rows are much alike


class SelectedRow(NamedTuple):
    """What the index says of an instance that is to be sent."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: str
    dataset_offset: int
    size: int
    study_uid: str
    series_uid: str
    digest: str


class Selection(Sequence[StoredInstance]):
    """Instances in a fixed order; only `append` changes it.

    Args:
        located: the files of rows.
    Attributes:
        kinds: the SOP classes with their transfer syntaxes, in the order of their first instance.
    """

    def __init__(self, located: Callable[[Sequence[SelectedRow]], Sequence[StoredFile]]) -> None:
        self._located = located
        self._packed: list[bytes] = []
        self._last: list[SelectedRow] = []
        self.kinds: dict[tuple[str, str], None] = {}

    def append(self, row: Sequence[Any]) -> None:
        """Add an instance by its row, whose columns are those of SelectedRow."""
        if len(self._last) == PACKED:
            plain = marshal.dumps([tuple(each) for each in self._last])
            self._packed.append(zlib.compress(plain, _LEVEL))
            self._last.clear()
        added = SelectedRow(*row)
        self._last.append(added)
        self.kinds[added.sop_class_uid, added.transfer_syntax_uid] = None

    def of_classes(self, sop_class_uids: Collection[str]) -> Selection:
        """Those of some SOP classes."""
        found = Selection(self._located)
        for number in range(len(self._packed) + 1):
            for row in self._rows(number):
                if row.sop_class_uid in sop_class_uids:
                    found.append(row)
        return found

    def __len__(self) -> int:
        return len(self._packed) * PACKED + len(self._last)

    def __iter__(self) -> Iterator[StoredInstance]:
        for number in range(len(self._packed) + 1):
            yield from self._piece(number)

    @overload
    def __getitem__(self, index: int) -> StoredInstance: ...
    @overload
    def __getitem__(self, index: slice) -> list[StoredInstance]: ...
    def __getitem__(self, index: int | slice) -> StoredInstance | list[StoredInstance]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number, at = divmod(index % len(self), PACKED)
        return self._piece(number)[at]

    def _rows(self, number: int) -> list[SelectedRow]:
        if number == len(self._packed):
            return self._last
        plain = marshal.loads(zlib.decompress(self._packed[number]))  # noqa: S302 - our own
        return [SelectedRow(*each) for each in plain]

    def _piece(self, number: int) -> list[StoredInstance]:
        rows = self._rows(number)
        return [
            StoredInstance(
                *row[:3], file, row.dataset_offset, row.size, row.study_uid, row.series_uid
            )
            for row, file in zip(rows, self._located(rows), strict=True)
        ]
