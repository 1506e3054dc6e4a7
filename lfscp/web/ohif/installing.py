"""Installs OHIF in a data folder, and removes it; the node may run meanwhile.

An installation is made ready in a folder of its own. Then its record takes the place of the old
one in one step, and what the old one had is deleted. If this is broken off, the old one stays.
"""

from __future__ import annotations

import base64
import fcntl
import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from lfscp.errors import OperationError
from lfscp.web.ohif.fetching import INSTALL, fetch, require_package
from lfscp.web.ohif.installation import (
    FOLDER,
    RECORD,
    ZIP_SUFFIX,
    Installation,
    InstalledFile,
    read_installation,
)
from lfscp.web.ohif.package import OHIF, Package
from lfscp.web.ohif.unpacking import PUBLIC_FILE, PUBLIC_FOLDER, unpack

REMOVE: Final = "remove OHIF"
LOCK: Final = "lock"
MIN_ZIPPED_BYTES: Final = 1000
_ZIPPED: Final = (".css", ".html", ".ico", ".js", ".json", ".svg", ".wasm", ".webapp", ".xml")
_FILES: Final = "files-"  # how the folders of files are named


def install(data_dir: Path, file: Path | None = None, package: Package = OHIF) -> Installation:
    """Install OHIF, in the place of what is installed.

    Args:
        file: the package; None has npm fetch it.
    Returns:
        What is installed now.
    Raises:
        OperationError: the package cannot be had, or is not the one that is known.
    """
    with _only_one(data_dir, INSTALL) as home, tempfile.TemporaryDirectory(dir=home) as fetched:
        found = file or fetch(package, Path(fetched))
        require_package(found, package)
        files = Path(tempfile.mkdtemp(prefix=_FILES, dir=home))
        try:
            made = _make_ready(files, unpack(found, package, files), package)
            _open_to_all(files)
            os.sync()  # the record must not be on the disk before the files are
            _replace_record(home, made)
        except BaseException:
            shutil.rmtree(files, ignore_errors=True)
            raise
        _clear(home, keep=made.folder)
        return made


def remove(data_dir: Path) -> bool:
    """Remove what is installed; False when nothing is.

    Raises:
        OperationError: the folder cannot be changed.
    """
    if not (data_dir / FOLDER).is_dir():
        return False
    with _only_one(data_dir, REMOVE) as home:
        was_there = read_installation(data_dir) is not None
        (home / RECORD).unlink(missing_ok=True)
        _clear(home)
        return was_there


@contextmanager
def _only_one(data_dir: Path, operation: str) -> Iterator[Path]:
    """The folder of installations, for one installer at a time."""
    home = data_dir / FOLDER
    try:
        data_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        home.mkdir(mode=PUBLIC_FOLDER, exist_ok=True)
        lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        hint = "run this as the node's user, or set data_dir"
        raise OperationError(operation, f"{error.filename}: {error.strerror}", hint) from None
    try:
        home.chmod(PUBLIC_FOLDER)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise OperationError(operation, f"{where}{error.strerror}") from None
    finally:
        os.close(lock)


def _make_ready(folder: Path, names: list[str], package: Package) -> Installation:
    """Make the gzip copies, and note what the node must know to serve the files."""
    start_page = (folder / "index.html").read_text(encoding="utf-8")
    return Installation(
        version=package.version,
        integrity=package.integrity,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=folder.name,
        scripts=inline_script_hashes(start_page),
        evaluating=package.evaluating,
        files={name: _look_at(folder / name) for name in sorted(names)},
    )


def _look_at(file: Path) -> InstalledFile:
    content = file.read_bytes()
    digest = hashlib.blake2b(content, digest_size=12).hexdigest()
    zipped = b""
    if file.suffix in _ZIPPED and len(content) >= MIN_ZIPPED_BYTES:
        zipped = gzip.compress(content, mtime=0)
        copy = file.with_name(file.name + ZIP_SUFFIX)
        copy.write_bytes(zipped)
        copy.chmod(PUBLIC_FILE)
    return InstalledFile(digest, len(content), len(zipped))


def _open_to_all(folder: Path) -> None:
    """Let the node's user enter the folders, whoever installs."""
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        each.chmod(PUBLIC_FOLDER)


def _replace_record(home: Path, made: Installation) -> None:
    new = home / f"{RECORD}.new"
    with new.open("w", encoding="utf-8") as written:
        written.write(made.as_json())
        written.flush()
        os.fsync(written.fileno())
    new.chmod(PUBLIC_FILE)
    new.replace(home / RECORD)


def _clear(home: Path, keep: str = "") -> None:
    """Delete the files of other installations, those that were broken off too."""
    for each in home.iterdir():
        if each.is_dir() and each.name.startswith((_FILES, "tmp")) and each.name != keep:
            shutil.rmtree(each, ignore_errors=True)


class _Scripts(HTMLParser):
    """Collects the scripts that stand in a page itself."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a script."""
        self._is_inside = tag == "script" and "src" not in dict(attrs)
        if self._is_inside:
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        """End it."""
        self._is_inside = self._is_inside and tag != "script"

    def handle_data(self, data: str) -> None:
        """Take a piece of its text."""
        if self._is_inside:
            self.found[-1] += data


def inline_script_hashes(page: str) -> tuple[str, ...]:
    """The hashes by which a Content-Security-Policy allows a page's inline scripts.

    Source: CSP Level 3, section 6.7.3.3.
    """
    scripts = _Scripts()
    scripts.feed(page)
    scripts.close()
    digests = (hashlib.sha256(each.encode()).digest() for each in scripts.found)
    return tuple(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
