"""Finds the DICOM objects in the files and folders that a command names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.cli.errors import OptionError
from lfscp.cli.terminal import warn

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import StoredInstance


@dataclass(frozen=True, slots=True)
class FilesFound:
    """What is in the files and folders.

    Args:
        instances: the DICOM objects.
        left_out: the other files, each with its `file` and the `reason`.
        is_any_broken: whether one of those is or may be a DICOM object.
    """

    instances: list[StoredInstance]
    left_out: list[dict[str, str]]
    is_any_broken: bool


def find_objects(
    paths: Sequence[Path],
    verdict: str,
    on_note: Callable[[Path, str], None] = lambda _file, _note: None,
) -> FilesFound:
    """Find the DICOM objects, and warn of each file that is left out.

    Args:
        verdict: what a warning says of such a file, for example `not sent`.
        on_note: called with each object that is odd, and in what way.
    Raises:
        OptionError: a file or folder does not exist.
    """
    for path in paths:
        if not path.exists():
            raise OptionError(f"{path}: there is no such file or folder")
    from lfscp.scu.send import objects_in

    left_out: list[dict[str, str]] = []
    broken: list[Path] = []

    def note_other(file: Path, reason: str) -> None:
        left_out.append({"file": str(file), "reason": reason})
        warn(f"lfscp: {file}: {verdict}, {reason}")

    def note_broken(file: Path, reason: str) -> None:
        note_other(file, reason)
        broken.append(file)

    instances = objects_in(paths, on_other=note_other, on_broken=note_broken, on_note=on_note)
    return FilesFound(instances, left_out, bool(broken))
