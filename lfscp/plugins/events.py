"""What hooks are given, and what deciding hooks answer."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a deciding hook that refuses.

    Args:
        reason: why, in a few words. The peer and the log get it, so it names no patient.
        is_temporary: the sender may try again later: 0xA700 instead of 0x0124 (PS3.7 annex C).
    """

    reason: str
    is_temporary: bool = False


@dataclass
class Arrival:
    """An object that has come and is not stored yet. It can be read until its hook returns.

    Args:
        calling_ae_title: of its sender; "STOW-RS" or the like if it did not come by C-STORE.
        open_file: opens it as a DICOM file (PS3.10).
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    open_file: Callable[[], io.BufferedIOBase] = field(repr=False)
    _is_over: bool = field(default=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def dataset(self) -> Dataset:
        """The attributes of the object without its pixel data.

        Raises:
            RuntimeError: the time for the decision is over.
            InvalidDicomError: the object cannot be read.
        """
        from pydicom import dcmread

        with self._lock:  # the bytes are the receiver's again when the decision is made
            if self._is_over:
                raise RuntimeError("the time for the decision about this object is over")
            with self.open_file() as file:
                return dcmread(file, stop_before_pixels=True)

    def end(self) -> None:
        """Let nobody read the object any more."""
        with self._lock:
            self._is_over = True


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the archive.

    Args:
        size: bytes of the dataset.
        is_new: False if it took the place of another with the same UID.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str = ""
    calling_ae_title: str = ""
    size: int = 0
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class CompleteStudy:
    """A study to which no object has come for the quiet time."""

    study_uid: str


@dataclass(frozen=True, slots=True)
class Sending:
    """An object of the archive that is about to be sent.

    Args:
        destination: AE title of the receiver, or the name of a DICOMweb peer.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    destination: str


@dataclass
class PluginQuery:
    """A C-FIND, or a search of QIDO-RS, that is not answered yet.

    Args:
        calling_ae_title: of the peer that asks; for QIDO-RS the name of the login.
        address: of that peer.
        sop_class_uid: the information model, as Study Root or Modality Worklist.
        identifier: the keys, encoded in `transfer_syntax_uid`.
    """

    calling_ae_title: str
    address: str
    sop_class_uid: str
    identifier: bytes = field(repr=False)
    transfer_syntax_uid: str

    @cached_property
    def keys(self) -> Dataset:
        """The keys of the query."""
        from pydicom.uid import UID
        from pynetdicom.dsutils import decode

        syntax = UID(self.transfer_syntax_uid)
        return decode(
            io.BytesIO(self.identifier),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            syntax.is_deflated,
        )


@dataclass(frozen=True, slots=True)
class AnsweredQuery:
    """A query that was answered, and with how many matches."""

    query: PluginQuery
    matches: int


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended.

    Args:
        kind: "echo", "find", "retrieve", "send" or "collect".
        state: "done", "failed" or "cancelled".
        peers: by AE title or name.
        done: objects done; `failed` those that failed.
        reason: why it failed, in words for the user.
    """

    id: str
    kind: str
    state: str
    peers: tuple[str, ...]
    done: int
    failed: int
    reason: str
