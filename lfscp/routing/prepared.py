"""Makes the form in which an object is sent, if a route changes it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.part10.media import read_media
from lfscp.errors import OperationError
from lfscp.routing.actions import Action

_SUFFIX: Final = ".dcm"


class ActionError(OperationError):
    """An action could not be done to an object."""

    def __init__(self, reason: str) -> None:
        super().__init__("do the actions of the route", reason)


@contextmanager
def prepared(
    instance: StoredInstance, actions: Sequence[Action], folder: Path
) -> Iterator[StoredInstance]:
    """An object after the actions of a route, valid inside.

    Args:
        folder: where the changed object is written; it is removed afterwards.
    Raises:
        ActionError: an action could not be done.
        OSError: the object cannot be read or written.
    """
    if not actions:
        yield instance
        return
    with tempfile.NamedTemporaryFile(dir=folder, prefix="route-", suffix=_SUFFIX) as file:
        path = Path(file.name)
        _write_changed(instance, actions, path)
        content = path.read_bytes()
        media = read_media(memoryview(content))
        yield replace(
            instance,
            sop_class_uid=media.sop_class_uid,
            sop_instance_uid=media.sop_instance_uid,
            transfer_syntax_uid=media.transfer_syntax_uid,
            path=path,
            dataset_offset=media.dataset_offset,
            size=len(content) - media.dataset_offset,
        )


def _write_changed(instance: StoredInstance, actions: Sequence[Action], path: Path) -> None:
    with instance.path.open("rb") as stored:
        try:
            _change(stored, actions, path)
        except OperationError as error:
            raise ActionError(error.reason) from None
        except OSError:
            raise
        except Exception as error:  # whatever it is: this object fails, the others go
            raise ActionError("an attribute is not as the action needs it") from error


def _change(stored: IO[bytes], actions: Sequence[Action], path: Path) -> None:
    whole = dcmread(stored, force=True)
    meta = whole.file_meta
    changed: Dataset = whole
    for action in actions:
        changed = action(changed)
    meta.MediaStorageSOPClassUID = changed.SOPClassUID
    meta.MediaStorageSOPInstanceUID = changed.SOPInstanceUID
    written = FileDataset(str(path), changed, preamble=b"\0" * 128, file_meta=meta)
    dcmwrite(path, written, enforce_file_format=True)
