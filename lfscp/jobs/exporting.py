"""Objects of the archive as files in a folder: what a retrieve into a folder ends with.

A file is there as a whole or not at all, as `FOLDER/<StudyUID>/<InstanceUID>.dcm`, with exactly the
bytes that the archive has; one that is there already is replaced.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.jobs.roots import allowed_folder


def write_files(
    instances: Iterable[StoredInstance], folder: str, roots: Sequence[Path]
) -> Iterator[tuple[StoredInstance, str]]:
    """Write objects into a folder; gives each, with the reason why it could not be written or "".

    Args:
        folder: below one of `roots`.
        roots: web.roots.
    Raises:
        InvalidRequestError: the folder may not be used any more.
    """
    top = allowed_folder(folder, roots)
    for instance in instances:
        try:
            below = top / instance.study_uid
            below.mkdir(exist_ok=True)
            # Somebody may have put a link there that leads out of the roots.
            _write(instance.path, allowed_folder(below, roots) / f"{instance.sop_instance_uid}.dcm")
        except OSError as error:
            yield instance, f"not written: {error.strerror or error}"
        else:
            yield instance, ""


def _write(source: StoredFile, target: Path) -> None:
    piece = target.with_suffix(".part")
    piece.unlink(missing_ok=True)  # of a run that was interrupted
    try:
        with source.open("rb") as read, piece.open("xb") as written:
            shutil.copyfileobj(read, written, 1 << 20)
        piece.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            piece.unlink()
        raise
