"""Gets the package of OHIF: by the user's npm, or from a file; it must be the known one.

Nothing of a package is unpacked, and none of its scripts is run, before its digest is right.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

from lfscp.errors import OperationError
from lfscp.web.ohif.package import Package

INSTALL: Final = "install OHIF"
_TIMEOUT_S: Final = 1800


def fetch(package: Package, folder: Path) -> Path:
    """Have npm download a package.

    Args:
        folder: where the file is put.
    Returns:
        The file.
    Raises:
        OperationError: there is no npm, or it fails.
    """
    npm = shutil.which("npm")
    by_hand = f"`npm pack {package.spec}` on another machine, and give the file with --from"
    if npm is None:
        raise OperationError(INSTALL, "npm is not installed", f"install it, or run {by_hand}")
    command = [npm, "pack", package.spec, "--pack-destination", str(folder), "--ignore-scripts"]
    try:
        done = subprocess.run(  # noqa: S603 - the words of the command are ours
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"npm has not ended after {_TIMEOUT_S // 60} minutes"
        raise OperationError(INSTALL, reason, f"try again, or run {by_hand}") from None
    files = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(files) != 1:
        raise OperationError(INSTALL, f"npm failed: {_why(done.stderr)}", f"or run {by_hand}")
    return files[0]


def _why(words: str) -> str:
    """The line in which npm says what is wrong."""
    lines = [each.strip() for each in words.splitlines() if each.strip()]
    errors = [each for each in lines if "error" in each.lower() and " code " not in each]
    return (errors or lines or ["it gave no reason"])[0][:300]


def require_package(file: Path, package: Package) -> None:
    """Refuse a file that is not the package.

    Raises:
        OperationError: it has another digest, or cannot be read.
    """
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha512").digest()
    except OSError as error:
        raise OperationError(INSTALL, f"{file}: {error.strerror}") from None
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != package.integrity:
        raise OperationError(
            INSTALL,
            f"{file} is not {package.spec}: its digest is {found}, expected {package.integrity}",
            f"get it with `npm pack {package.spec}`",
        )
