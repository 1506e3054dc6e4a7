"""Packages of OHIF: the real one, which npm fetches once, and small ones for the rules."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from lfscp.errors import OperationError
from lfscp.web.ohif.fetching import fetch, require_package
from lfscp.web.ohif.package import OHIF, Package
from tests.support.ci import in_ci

INLINE = 'console.log("a < b && c");\n  window.PUBLIC_URL = "/"'
START_PAGE = (
    f'<!doctype html><html><head><script>{INLINE}</script><script src="/app-config.js"></script>'
    f'<script defer src="/app.bundle.0123456789abcdef.js"></script></head><body></body></html>'
)
WORKER = "12.bundle.fedcba9876543210.js"
FILES = {
    "index.html": START_PAGE,
    "app.bundle.0123456789abcdef.js": "let some = 'text';\n" * 200,
    WORKER: "new Function('return 1')",
    "app.bundle.css": "body {}",
    "assets/favicon.ico": "icon",
    "app-config.js": "window.config = 'of the package'",
    "ort/large.wasm": "not needed",
}


def small_package(folder: Path, files: Mapping[str, str] | None = None) -> tuple[Path, Package]:
    """A package with these files in its folder `dist`, and how it is known."""
    members = {f"package/dist/{name}": text for name, text in (files or FILES).items()}
    members["package/LICENSE"] = "MIT"
    infos = []
    for name, text in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(text)
        infos.append((info, text.encode()))
    return packed(folder, infos)


def packed(folder: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> tuple[Path, Package]:
    """A package of these members, and how it is known."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "package.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    package = Package(
        "@ohif/app",
        "1.2.3",
        f"sha512-{digest}",
        evaluating=(WORKER,),
        left_out=("ort/", "app-config.js"),
        max_bytes=1 << 20,
        max_files=20,
    )
    return file, package


def real_package(folder: Path) -> Path:
    """OHIF's own package, fetched by npm; a second test run finds it in the folder.

    If npm is not there, or cannot fetch it, a run in CI fails; any other skips.
    """
    file = folder / f"ohif-{OHIF.version}.tgz"
    with (folder / "lock").open("w") as lock:  # tests run in two processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            try:
                fetch(OHIF, folder).rename(file)
            except OperationError as error:
                (pytest.fail if in_ci() else pytest.skip)(str(error))
        require_package(file, OHIF)
    return file
