"""Where PostgreSQL's programs are, and as which user they run; benchmarks need it too."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def binaries() -> Path | None:
    """Where the server's programs are: where Debian puts them, or on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if not found and on_path:
        found = [Path(on_path).resolve()]
    return found[-1].parent if found else None


def as_its_user() -> dict[str, Any]:
    """Options of Popen: as root the user `postgres`, since PostgreSQL refuses to run as root."""
    if os.getuid() == 0:
        return {"user": "postgres", "group": "postgres", "extra_groups": []}
    return {}
