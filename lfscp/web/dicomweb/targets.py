"""Finds what a path of DICOMweb names: a study, series or instance, and its version."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from errno import ENOENT
from pathlib import Path
from typing import IO, Any, Final

from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.values.attributes import Level
from lfscp.web.actions.studies import file_of, instance_row
from lfscp.web.dicomweb.addresses import require_uid
from lfscp.web.dicomweb.answering import Asked
from lfscp.web.problems import not_found

HOW: Final = "DICOMweb"  # in the audit trail
_LEVELS: Final = {"study": Level.STUDY, "series": Level.SERIES, "instance": Level.IMAGE}


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance.

    Args:
        version: changes when other content takes its place.
        row: its values in the index.
        study_key: of the row of its study.
        size: bytes of its dataset.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    file: StoredFile
    dataset_offset: int
    version: str
    row: Sequence[Any]
    study_key: int
    size: int

    def open(self) -> IO[bytes]:
        """Open its file.

        Raises:
            FileNotFoundError: it is not there, or its name was given to other content.
            OSError: it cannot be read.
        """
        file = self.file.open("rb")
        if isinstance(self.file, Path):
            if os.fstat(file.fileno()).st_size == self.dataset_offset + self.size:
                return file
            file.close()
            raise FileNotFoundError(ENOENT, "the object was replaced", str(self.file))
        return file


def instance_of(asked: Asked) -> Instance:
    """The instance that the path names, with `study`, `series` and `instance`.

    Raises:
        Problem: it does not exist there.
    """
    uids = {name: require_uid(asked.path[name]) for name in ("study", "series", "instance")}
    return instance_at(asked, uids["study"], uids["series"], uids["instance"])


def instance_at(asked: Asked, study_uid: str, series_uid: str, instance_uid: str) -> Instance:
    """One instance by its UID and those above it; raises as `instance_of`."""
    row = instance_row(asked.web, instance_uid)
    for what, uid in (("study", study_uid), ("series", series_uid)):
        if row[f"{what}_instance_uid"] != uid:
            raise not_found("instance", f"{instance_uid} in {what} {uid}")
    asked.web.views.note(study_uid, HOW, row["study_key"])
    return Instance(
        row["sop_class_uid"],
        instance_uid,
        row["transfer_syntax_uid"],
        file_of(asked.web, row),
        row["dataset_offset"],
        _version(row),
        tuple(row.values()),
        row["study_key"],
        row["size"],
    )


def _version(row: dict[str, Any]) -> str:
    return "|".join(str(row[each]) for each in ("id", "path", "digest", "size", "received_at"))


@dataclass(frozen=True, slots=True)
class Target:
    """All instances of a study, of a series, or one.

    Args:
        name: for people and for file names.
        version: changes when an instance comes, goes or changes.
    """

    level: Level
    name: str
    instances: Sequence[StoredInstance]
    version: str


def target_of(asked: Asked) -> Target:
    """What the path names, with `study`, `series` and `instance`, as far as they are there.

    Raises:
        Problem: it does not exist.
    """
    path = asked.path
    return target_of_uids(asked, *(require_uid(path[each]) for each in _LEVELS if each in path))


def target_of_uids(asked: Asked, *found: str) -> Target:
    """The same by the UIDs of study, series and instance."""
    uids = dict(zip(_LEVELS.values(), found, strict=False))
    level = list(uids)[-1]
    version = asked.web.archive.index.lookups.version_of(*found)
    instances = asked.web.archive.select(level, {key: [uid] for key, uid in uids.items()})
    if not len(instances):
        what = next(name for name, each in _LEVELS.items() if each is level)
        raise not_found(what, uids[level])
    asked.web.views.note(uids[Level.STUDY], HOW)
    return Target(level, uids[level], instances, version)
