"""Unpacks a package of npm into a folder: regular files below it, and no more than is expected.

A package is known by its digest before it comes here. These rules hold all the same: nothing is
written outside the folder, links and devices are refused, and sizes and numbers have a maximum.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from lfscp.errors import OperationError
from lfscp.web.ohif.fetching import INSTALL
from lfscp.web.ohif.package import Package

FILES: Final = PurePosixPath("package/dist")  # where npm's package has the viewer
LICENCE: Final = PurePosixPath("package/LICENSE")
PUBLIC_FILE: Final = 0o644  # they are no secret, and whoever runs the node must read them
PUBLIC_FOLDER: Final = 0o755
_PIECE: Final = 1 << 20


def unpack(file: Path, package: Package, folder: Path) -> list[str]:
    """Unpack what the viewer needs.

    Args:
        file: the package.
        folder: an empty one.
    Returns:
        The paths of the files in the folder.
    Raises:
        OperationError: it is no package, or breaks a rule.
    """
    found: list[str] = []
    try:
        with tarfile.open(file, "r:gz") as archive:
            for member in _regular(archive, package):
                path = PurePosixPath(member.name)
                name = "LICENSE" if path == LICENCE else _place(path, package)
                if name:
                    _write(archive, member, folder / name)
                    found.append(name)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise OperationError(INSTALL, f"{file} is damaged: {error}") from None
    if "index.html" not in found:
        raise OperationError(INSTALL, f"{file} has no {FILES}/index.html")
    return found


def _regular(archive: tarfile.TarFile, package: Package) -> Iterator[tarfile.TarInfo]:
    """The files of a package, each looked at before it is unpacked."""
    files = octets = 0
    for member in archive:
        if member.isdir():
            continue
        parts = PurePosixPath(member.name).parts
        if not member.isreg():
            raise _refused(f"{member.name} is a link or a device")
        if member.name.startswith("/") or ".." in parts or "\\" in member.name:
            raise _refused(f"{member.name} leads out of the folder")
        files, octets = files + 1, octets + member.size
        if files > package.max_files or octets > package.max_bytes:
            most = f"{package.max_files} files or {package.max_bytes} bytes"
            raise _refused(f"it has more than {most}")
        yield member


def _refused(reason: str) -> OperationError:
    return OperationError(INSTALL, f"the package is not safe to unpack: {reason}")


def _place(path: PurePosixPath, package: Package) -> str:
    """Where a file belongs in the folder; empty if it is not needed."""
    if not path.is_relative_to(FILES):
        return ""
    name = str(path.relative_to(FILES))
    folders = tuple(each for each in package.left_out if each.endswith("/"))
    return "" if name in package.left_out or name.startswith(folders) else name


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(mode=PUBLIC_FOLDER, parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None  # noqa: S101 - it is a regular file
    with content, target.open("xb") as written:
        while piece := content.read(_PIECE):
            written.write(piece)
    target.chmod(PUBLIC_FILE)
