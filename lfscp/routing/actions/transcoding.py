"""The action `transfer_syntax`: sends objects in another transfer syntax."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom.uid import UID

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.routing.actions.action import (
    ActionError,
    ActionSettingError,
    Means,
    OnTheWay,
    ReadyAction,
)
from lfscp.routing.actions.changed_file import changed_file
from lfscp.services.transcoding.decoding import DecodingError, converted
from lfscp.upperlayer.scu.sending import FileSlice, Parts

if TYPE_CHECKING:
    from lfscp.config import Settings

_PIECE: Final = 1 << 18
UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
TARGETS: Final = UNCOMPRESSED


def read(value: Any, _settings: Settings) -> TransferSyntaxAction:
    """The action of `{ transfer_syntax = "..." }`: a keyword or a UID."""
    by_keyword = {UID(uid).keyword: uid for uid in TARGETS}
    uid = by_keyword.get(value, value) if isinstance(value, str) else ""
    if uid not in TARGETS:
        raise ActionSettingError((), value, f"one of {', '.join(by_keyword)}")
    return TransferSyntaxAction(uid)


@dataclass(frozen=True, slots=True)
class TransferSyntaxAction:
    """Converts each object that is stored otherwise."""

    uid: str

    @property
    def is_uncompressed(self) -> bool:
        """Whether objects are not compressed afterwards."""
        return self.uid in UNCOMPRESSED

    @property
    def words(self) -> str:
        """See `Action`."""
        return f"send as {UID(self.uid).name}"

    def ready(self, _means: Means) -> ReadyAction:
        """See `Action`."""
        wanted = self.uid

        @contextmanager
        def apply(instance: StoredInstance, way: OnTheWay) -> Iterator[StoredInstance]:
            if instance.transfer_syntax_uid == wanted:
                yield instance
                return
            try:
                with _converted(instance, wanted, way) as changed:
                    yield changed
            except DecodingError as error:
                raise ActionError(str(error)) from None

        return apply


@contextmanager
def _converted(instance: StoredInstance, wanted: str, way: OnTheWay) -> Iterator[StoredInstance]:
    stored, offset = instance.transfer_syntax_uid, instance.dataset_offset
    uids = instance.study_uid, instance.series_uid, instance.sop_instance_uid
    with converted(instance.path, stored, wanted, offset, look=way.look) as made:
        pieces = _pieces(made.body)
        with changed_file(instance, way.folder, uids, wanted, pieces) as changed:
            yield changed


def _pieces(body: bytes | bytearray | FileSlice | Parts) -> Iterator[bytes]:
    """The bytes of a converted dataset, some at a time."""
    if isinstance(body, Parts):
        for part in body.parts:
            yield from _pieces(part)
    elif isinstance(body, FileSlice):
        yield from _slice(body)
    else:
        yield bytes(body)


def _slice(body: FileSlice) -> Iterator[bytes]:
    file, at, left = body.open(), body.offset, body.size
    try:
        while left and (piece := os.pread(file, min(_PIECE, left), at)):
            yield piece
            at += len(piece)
            left -= len(piece)
    finally:
        os.close(file)
