"""Keeps where the frames of objects are, for the next request, in bounded memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Final

from lfscp.archive.store.partial_dataset import PartialDataset
from lfscp.dicom.encoding.encapsulated import FrameSpans, OffsetTable
from lfscp.dicom.encoding.image_pixel import ImagePixel, PixelElement

_MAX_KEPT: Final = 256  # objects
_MAX_NUMBERS: Final = 2_000_000  # of offsets and spans of all kept objects, 8 bytes each


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the frames of an object are; positions count from the beginning of the dataset."""

    image: ImagePixel
    element: PixelElement
    table: OffsetTable | None = None
    spans: FrameSpans | None = None

    @property
    def numbers(self) -> int:
        """How many numbers it keeps."""
        in_table = len(self.table.offsets) if self.table is not None else 0
        in_spans = 2 * self.spans.fragments + len(self.spans) if self.spans is not None else 0
        return len(self.element.extended_offsets) + in_table + in_spans


class Layouts:
    """The layouts that were used last. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], Layout] = OrderedDict()
        self._numbers = 0

    def get(self, key: tuple[object, ...]) -> Layout | None:
        """The layout of an object; None if it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def keep(self, key: tuple[object, ...], layout: Layout) -> None:
        """Keep the layout of an object."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._numbers += layout.numbers - (before.numbers if before is not None else 0)
            self._kept[key] = layout
            while self._kept and (len(self._kept) > _MAX_KEPT or self._numbers > _MAX_NUMBERS):
                self._numbers -= self._kept.popitem(last=False)[1].numbers


LAYOUTS: Final = Layouts()


def key_of(file: IO[bytes] | PartialDataset, dataset_offset: int) -> tuple[object, ...]:
    """What names a file and its content."""
    if isinstance(file, PartialDataset):
        return (*file.identity, dataset_offset)
    state = os.fstat(file.fileno())
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, dataset_offset)
