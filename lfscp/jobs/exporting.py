"""Writes objects of the archive as files into a folder, for a retrieve that names one.

A file is there whole or not at all, as `FOLDER/<StudyUID>/<InstanceUID>.dcm`, with exactly the
bytes of the archive. It replaces an older file of this name. With durability "full" the files are
on disk before the job counts them as written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.archive.durability import sync_folder, whole_file
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.jobs.roots import allowed_folder

if TYPE_CHECKING:
    from lfscp.config import Settings


def write_files(
    instances: Iterable[StoredInstance], folder: str, settings: Settings
) -> Iterator[tuple[StoredInstance, str]]:
    """Write objects into a folder; gives each with the reason why it was not written, or "".

    Args:
        folder: below one of web.roots.
    Raises:
        InvalidRequestError: the folder may no longer be used.
        OSError: the names of the files cannot be put on disk.
    """
    roots, sync = settings.web.roots, settings.durability == "full"
    top = allowed_folder(folder, roots)
    written: set[Path] = set()
    for instance in instances:
        try:
            below = top / instance.study_uid
            below.mkdir(exist_ok=True)
            # A link that was put there may lead out of the roots.
            study = allowed_folder(below, roots)
            with (
                instance.path.open("rb") as source,
                whole_file(study / f"{instance.sop_instance_uid}.dcm", sync=sync) as file,
            ):
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            yield instance, f"not written: {error.strerror or error}"
        else:
            written.add(study)
            yield instance, ""
    if sync and written:
        for each in (*written, top):
            sync_folder(each)
