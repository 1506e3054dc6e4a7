"""Reads the identifier of a C-FIND, C-MOVE or C-GET request, or says why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pynetdicom.events import Event

from lfscp.archive.query.key_limits import ExcessiveKeyError, require_within_limits
from lfscp.archive.query.query import InvalidKeyError
from lfscp.archive.store.deflated import MAX_INFLATED_IDENTIFIER_BYTES, inflated
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED
from lfscp.dicom.reading.identifiers import ExcessiveIdentifierError, Identifier, read_identifier
from lfscp.observe import metrics
from lfscp.services import status
from lfscp.services.refused import RefusedError

Parsed = TypeVar("Parsed")

_MAX_FORGIVEN_BYTES: Final = 1 << 16
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF


def read(event: Event, parse: Callable[[Identifier], Parsed], max_values: int) -> Parsed:
    """Decode the identifier of a request and make something of it.

    Args:
        event: of a C-FIND, C-MOVE or C-GET request.
        parse: gets the identifier; raises InvalidKeyError when it does not match its SOP class.
        max_values: see key_limits.require_within_limits.
    Raises:
        RefusedError: no identifier, a broken encoding, one that asks for too much, or not valid.
    """
    try:
        identifier = _identifier(event)
        require_within_limits(identifier, max_values)
        return parse(identifier)
    except InvalidKeyError as error:
        if isinstance(error, ExcessiveKeyError):
            metrics.EXCESSIVE_IDENTIFIERS.add()
        tags: tuple[int, ...] = (error.tag,)
        raise RefusedError(status.IDENTIFIER_DOES_NOT_MATCH, error.comment, tags) from error
    except ExcessiveIdentifierError as error:
        metrics.EXCESSIVE_IDENTIFIERS.add()
        tags = () if error.tag is None else (error.tag,)
        raise RefusedError(status.IDENTIFIER_DOES_NOT_MATCH, error.reason, tags) from error
    except DatasetError as error:
        reason = f"the identifier cannot be decoded: {error.reason}"
        raise RefusedError(status.UNABLE_TO_PROCESS, reason) from error
    except Exception as error:  # pydicom raises what it likes on bytes it cannot read
        raise RefusedError(status.UNABLE_TO_PROCESS, "the identifier cannot be decoded") from error


def _identifier(event: Event) -> Identifier:
    """Decode the identifier; with pydicom only if our own reader fails."""
    request: Any = event.request
    if request.Identifier is not None:
        syntax = str(event.context.transfer_syntax)
        data = request.Identifier.getvalue()
        if syntax in DEFLATED:
            data = bytes(inflated(data, MAX_INFLATED_IDENTIFIER_BYTES))
            syntax = EXPLICIT_VR_LITTLE_ENDIAN
        try:
            return read_identifier(data, syntax)
        except ExcessiveIdentifierError:
            raise
        except DatasetError:  # pydicom forgives more, but takes a hundred bytes for one
            if len(data) > _MAX_FORGIVEN_BYTES:
                raise
    identifier = event.identifier
    _require_whole(identifier)
    return identifier


def _require_whole(identifier: Dataset) -> None:
    """Refuse a value that was cut short, which pydicom accepts: it could name another object."""
    for element in identifier.values():
        if not isinstance(element, RawDataElement) or element.value is None:
            continue
        if element.length not in (len(element.value), _UNDEFINED_LENGTH):
            raise ValueError("an element is longer than the identifier")
