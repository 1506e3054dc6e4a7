"""Tells what is installed in a data folder: the version of OHIF, and its files.

The folder `ohif` there has one folder of files for each installation, and the file
`installed.json`, which names the one that counts. It is replaced as a whole. So a node sees the
old installation or the new one, and a stopped installation is never seen.
"""

from __future__ import annotations

import json
import stat
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = "ohif"  # in the data folder
RECORD: Final = "installed.json"
ZIP_SUFFIX: Final = ".gz"  # of the copies beside the files


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file of the viewer.

    Args:
        digest: of its content.
        size: in bytes.
        zipped: size of its gzip copy beside it; 0 when there is none.
    """

    digest: str
    size: int
    zipped: int


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed.

    Args:
        integrity: digest of the package, as npm writes it.
        at: when it was installed, ISO 8601 in UTC.
        folder: name of the folder of its files, in the folder `ohif`.
        scripts: the hashes of the start page's inline scripts, as a policy names them.
        evaluating: the workers that make code from text.
        files: by their path in the folder.
    """

    version: str
    integrity: str
    at: str
    folder: str
    scripts: tuple[str, ...]
    evaluating: tuple[str, ...]
    files: dict[str, InstalledFile]

    @property
    def size(self) -> int:
        """How much disk space it takes, in bytes."""
        return sum(each.size + each.zipped for each in self.files.values())

    def as_json(self) -> str:
        """The content of its record."""
        return json.dumps(asdict(self), indent=1)


def read_installation(data_dir: Path) -> Installation | None:
    """What is installed; None when nothing is, or its record cannot be read."""
    try:
        return _from_json(json.loads((data_dir / FOLDER / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _from_json(found: dict[str, Any]) -> Installation:
    files = {name: InstalledFile(**each) for name, each in found.pop("files").items()}
    scripts, evaluating = tuple(found.pop("scripts")), tuple(found.pop("evaluating"))
    return Installation(**found, scripts=scripts, evaluating=evaluating, files=files)


class Installed:
    """What is installed in a data folder at any moment; read again only when it has changed.

    Any thread may ask.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._found: Installation | None = None

    def now(self) -> Installation | None:
        """What is installed now; None when nothing is."""
        try:
            state = (self._data_dir / FOLDER / RECORD).stat()
            seen = (state.st_ino, state.st_mtime_ns)
        except OSError:
            seen = None
        with self._lock:
            if seen != self._seen:
                self._found = read_installation(self._data_dir) if seen else None
                self._seen = seen
            return self._found

    def has(self, installation: Installation, name: str) -> bool:
        """Whether a file is there as it was installed: no link took its place."""
        folder = self._data_dir / FOLDER / installation.folder
        try:
            found = (folder / name).stat()
            is_in_place = (folder / name).resolve() == folder.resolve() / name
        except (OSError, RuntimeError):  # a loop of links
            return False
        return is_in_place and stat.S_ISREG(found.st_mode)

    def path(self, installation: Installation, name: str) -> Path:
        """Where a file of an installation is."""
        return self._data_dir / FOLDER / installation.folder / name
