"""The action `transfer_syntax`: sends objects in another transfer syntax.

Rules: pixels stay the same bit for bit, but for what a lossy syntax has lost before. What cannot be
compressed, such as a report, goes uncompressed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom.uid import UID

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.observe.logging import get_logger
from lfscp.routing.actions.action import (
    ActionError,
    ActionSettingError,
    Means,
    OnTheWay,
    ReadyAction,
)
from lfscp.routing.actions.changed_file import changed_file
from lfscp.services.transcoding.compression.compressing import (
    LOSSLESS,
    EncodingError,
    can_encode,
    compressed,
)
from lfscp.services.transcoding.decoding import DecodingError, converted, needs_codec
from lfscp.upperlayer.scu.sending import FileSlice, Parts

if TYPE_CHECKING:
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.routing")
_PIECE: Final = 1 << 18
UNCOMPRESSED: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


def read(value: Any, _settings: Settings) -> TransferSyntaxAction:
    """The action of `{ transfer_syntax = "..." }`: a keyword or a UID."""
    targets = (*UNCOMPRESSED, *LOSSLESS)
    by_keyword = {UID(uid).keyword: uid for uid in targets}
    uid = by_keyword.get(value, value) if isinstance(value, str) else ""
    if uid in LOSSLESS and not can_encode(uid):
        raise ActionSettingError((), value, "a transfer syntax whose encoder is installed")
    if uid not in targets:
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
                with _in_syntax(instance, wanted, way) as changed:
                    yield changed
            except DecodingError as error:
                raise ActionError(str(error)) from None

        return apply


@contextmanager
def _in_syntax(instance: StoredInstance, wanted: str, way: OnTheWay) -> Iterator[StoredInstance]:
    with ExitStack() as kept:
        try:
            make = _converted if wanted in UNCOMPRESSED else _compressed
            changed = kept.enter_context(make(instance, wanted, way))
        except EncodingError as error:
            LOG.info(
                "sent uncompressed",
                sop_instance_uid=instance.sop_instance_uid,
                reason=str(error),
            )
            changed = instance
            if needs_codec(instance.transfer_syntax_uid):
                changed = kept.enter_context(_converted(instance, UNCOMPRESSED[0], way))
        yield changed


@contextmanager
def _compressed(instance: StoredInstance, wanted: str, way: OnTheWay) -> Iterator[StoredInstance]:
    stored, offset = instance.transfer_syntax_uid, instance.dataset_offset
    uids = instance.study_uid, instance.series_uid, instance.sop_instance_uid
    with (
        compressed(instance.path, stored, wanted, offset, look=way.look) as pieces,
        changed_file(instance, way.folder, uids, wanted, pieces) as changed,
    ):
        yield changed


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
