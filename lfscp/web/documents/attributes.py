"""Reads a few attributes of a dataset in place, and leaves all others alone.

Rules: what is read stands in a table, so that nesting goes no deeper than the table. Steps, items
and characters have limits; no length in a dataset decides how much memory is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from lfscp.archive.store.stored_dataset import read_stored_dataset
from lfscp.dicom.encoding.elements import IMPLICIT_LITTLE, Encoding, each_item, elements
from lfscp.dicom.errors import DatasetError
from lfscp.web.imaging.errors import NoPictureError

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

Wanted = Mapping[str, "Wanted | None"]  # keywords; those of sequences have a table of their own
PLACE: Final[Wanted] = {}  # where a value is, instead of the value
MAX_STEPS: Final = 3_000_000  # elements and items of one object
MAX_TEXT: Final = 20_000  # characters of one value
_MAX_VALUE: Final = 1 << 18  # bytes
_MAX_ITEMS: Final = 256  # of one sequence in a table
_MAX_VALUES: Final = 1000
_CHARACTER_SET: Final = "SpecificCharacterSet"


class TooManyElementsError(NoPictureError):
    """An object has more elements than are looked at."""


class Place(NamedTuple):
    """Where a value is, and how its items are encoded."""

    begin: int
    end: int
    encoding: Encoding


@dataclass(slots=True)
class Content:
    """The bytes of one object, with the steps that reading them may still take."""

    buffer: memoryview
    encoding: Encoding
    left: int = MAX_STEPS  # shared by all that is read of it

    def step(self) -> None:
        """Count one step.

        Raises:
            TooManyElementsError: there were too many.
        """
        self.left -= 1
        if self.left < 0:
            raise TooManyElementsError("this object has too many elements to look at all of them")

    @property
    def whole(self) -> Place:
        """The dataset itself."""
        return Place(0, len(self.buffer), self.encoding)

    def items(self, place: Place) -> Iterator[Place]:
        """The items of a sequence, one at a time."""
        value = self.buffer[place.begin : place.end]
        for begin, end in each_item(value, place.encoding, self.step):
            yield Place(place.begin + begin, place.begin + end, place.encoding)


@dataclass(slots=True)
class Attributes:
    """The attributes that were read of one dataset."""

    values: dict[str, Any] = field(default_factory=dict)
    character_set: RawDataElement | None = None

    def text(self, keyword: str) -> str:
        """A value as one line of text, several with a backslash between them; empty if absent."""
        found = self.values.get(keyword)
        if found is None:
            return ""
        if isinstance(found, MultiValue | list | tuple):
            return "\\".join(str(each) for each in found[:_MAX_VALUES])[:MAX_TEXT].strip()
        return str(found)[:MAX_TEXT].strip()

    def numbers(self, keyword: str) -> list[float]:
        """The values of a numeric attribute, without those that are no number."""
        found = self.values.get(keyword)
        several: Sequence[Any] = found if isinstance(found, MultiValue | list | tuple) else [found]
        numbers = []
        for each in several[:_MAX_VALUES]:
            try:
                number = float(each)
            except (TypeError, ValueError, OverflowError):
                continue
            if abs(number) < float("inf"):
                numbers.append(number)
        return numbers

    def number(self, keyword: str, otherwise: float = 0.0) -> float:
        """The first of them."""
        return next(iter(self.numbers(keyword)), otherwise)

    def count(self, keyword: str, most: int) -> int:
        """The first as a whole number from 0 to `most`."""
        return int(min(max(self.number(keyword), 0), most))

    def items(self, keyword: str) -> list[Attributes]:
        """The items of a sequence in the table."""
        found = self.values.get(keyword)
        return found if isinstance(found, list) else []

    def item(self, keyword: str) -> Attributes:
        """The first of them; an empty one if there is none."""
        return next(iter(self.items(keyword)), Attributes())

    def place(self, keyword: str) -> Place | None:
        """Where a value is that the table asks the place of."""
        found = self.values.get(keyword)
        return found if isinstance(found, Place) else None


@contextmanager
def opened(path: StoredFile) -> Iterator[Content]:
    """Open the dataset of an object.

    Raises:
        NoPictureError: it cannot be read, here or in the block; the text says why.
    """
    try:
        stored = read_stored_dataset(path)
        yield Content(stored.content, stored.encoding)
    except DatasetError as error:
        raise NoPictureError(f"this object cannot be read: {error.reason}") from None


def read(
    content: Content,
    place: Place,
    wanted: Wanted,
    character_set: RawDataElement | None = None,
) -> Attributes:
    """Read the wanted attributes of a dataset or an item.

    Args:
        character_set: Specific Character Set of what is around an item.
    Raises:
        DatasetError: the dataset is broken.
        TooManyElementsError: it has too many elements.
    """
    tags = _tags(wanted)
    last = max(tags)
    found = Attributes(character_set=character_set)
    begin, end, encoding = place
    for tag, start, stop, inner in elements(content.buffer, begin, end, encoding, content.step):
        if tag == tag_for_keyword(_CHARACTER_SET):
            found.character_set = _raw(content, tag, "CS", Place(start, stop, encoding))
        keyword = tags.get(tag)
        if keyword is not None:
            value = Place(start, stop, inner or encoding)
            found.values[keyword] = _value(content, tag, value, wanted[keyword], found, inner)
        if tag >= last:
            break
    return found


def _tags(wanted: Wanted) -> dict[int, str]:
    return {int(tag_for_keyword(keyword) or 0): keyword for keyword in wanted}


def _value(  # noqa: PLR0913, RUF100 - a fact each
    content: Content,
    tag: int,
    place: Place,
    inside: Wanted | None,
    around: Attributes,
    inner: Encoding | None,
) -> Any:
    if inside is not None and not inside:
        return place
    if inside is not None:
        items = content.items(place._replace(encoding=inner or IMPLICIT_LITTLE))
        return [
            read(content, each, inside, around.character_set) for each in islice(items, _MAX_ITEMS)
        ]
    return _decoded(content, tag, place, around.character_set)


def _decoded(content: Content, tag: int, place: Place, character_set: RawDataElement | None) -> Any:
    """A value as pydicom decodes it; a long one is cut off, and one that is broken is None."""
    dataset = Dataset()
    if character_set is not None:
        dataset[character_set.tag] = character_set
    vr = dictionary_VR(tag)
    vr = {"OB or OW": "OW", "US or SS": "US"}.get(vr, vr)
    dataset[BaseTag(tag)] = _raw(content, tag, vr, place)
    return _quietly(lambda: dataset[BaseTag(tag)].value)


def _quietly(value: Callable[[], Any]) -> Any:
    try:
        return value()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - pydicom raises what it likes on broken values
        return None


def _raw(content: Content, tag: int, vr: str, place: Place) -> RawDataElement:
    end = min(place.end, place.begin + _MAX_VALUE)
    value = bytes(content.buffer[place.begin : end])
    little = content.encoding.byteorder == "little"
    return RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, little)
