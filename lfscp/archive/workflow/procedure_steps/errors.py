"""The errors of performed procedure steps: why one is not made, changed or given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from pydicom.datadict import keyword_for_tag

from lfscp.dicom.errors import named
from lfscp.errors import OperationError


class ProcedureStepError(OperationError):
    """A performed procedure step is not made or changed as asked."""

    def __init__(self, reason: str) -> None:
        super().__init__("keep the performed procedure step", reason)


class DuplicateStepError(ProcedureStepError):
    """There is one with this SOP Instance UID (0x0111)."""

    def __init__(self) -> None:
        super().__init__("there is a step with this SOP Instance UID")


class UnknownStepError(ProcedureStepError):
    """There is none with this SOP Instance UID (0x0112)."""

    def __init__(self) -> None:
        super().__init__("there is no step with this SOP Instance UID")


class StepEndedError(ProcedureStepError):
    """It is completed or discontinued, and is not changed any more (0x0110, Error ID 0xA710)."""

    def __init__(self) -> None:
        super().__init__("Performed Procedure Step Object may no longer be updated")


class Place(NamedTuple):
    """Where an attribute is, or should be, in a dataset.

    Args:
        tag: of the attribute.
        path: the sequences around it, from the outside in, with the number of the item from 1.
    """

    tag: int
    path: tuple[tuple[int, int], ...] = ()

    @property
    def top(self) -> int:
        """The tag of the dataset's own element that it is in, or that it is."""
        return self.path[0][0] if self.path else self.tag

    def __str__(self) -> str:
        inside = "".join(f" of item {item} of {named(tag)}" for tag, item in reversed(self.path))
        return named(self.tag) + inside


class AttributesError(ProcedureStepError):
    """Attributes are not as the standard wants them.

    Args:
        places: of all that are wrong in this way.
    """

    fault: ClassVar[str] = ""

    def __init__(self, places: Sequence[Place]) -> None:
        first = places[0]
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        keyword = keyword_for_tag(first.tag)
        name = f": {keyword}" if keyword else ""
        super().__init__(f"{first}{more} {self.fault}{name}")
        self.places = tuple(places)


class MissingAttributeError(AttributesError):
    """An attribute that must be there is not (0x0120)."""

    fault = "missing"


class EmptyAttributeError(AttributesError):
    """An attribute that must have a value has none (0x0121)."""

    fault = "without a value"


class InvalidValueError(AttributesError):
    """A value is none that the attribute may have (0x0106)."""

    fault = "with a wrong value"


class NotChangeableError(InvalidValueError):
    """An attribute that does not change after the creation is set to another value (0x0106)."""

    fault = "not to be changed"
