"""scripts/serve puts the data into ./data, unless the caller's own configuration names a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree whose environment is installed, and whose `lfscp serve` shows its settings."""
    source = tmp_path / "source"
    (source / "scripts").mkdir(parents=True)
    for name in ("serve", "environment"):
        shutil.copy(ROOT / "scripts" / name, source / "scripts")
    shutil.copy(ROOT / "pyproject.toml", source)
    programs = source / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    lfscp = programs / "lfscp"
    lfscp.write_text(
        f"#!{sys.executable}\nimport sys\nfrom lfscp.cli.app import main\n"
        "sys.argv[1] = 'config'  # instead of serve\nmain()\n"
    )
    lfscp.chmod(0o755)
    stamp = source / ".venv/installed-codecs"
    stamp.touch()
    os.utime(source / "pyproject.toml", (1, 1))
    return source


@pytest.mark.parametrize(
    ("content", "environment", "folder"),
    [
        (None, {}, "source/data"),
        (None, {"LFSCP_DATA_DIR": "elsewhere"}, "elsewhere"),
        ("durability = 'os'", {}, "source/data"),
        ("data_dir = 'named'", {}, "named"),
        ("data_dir = 'named'", {"LFSCP_DATA_DIR": "elsewhere"}, "elsewhere"),
    ],
    ids=["nothing", "environment", "file", "file-names-it", "both"],
)
def test_the_data_folder(
    source: Path, content: str | None, environment: dict[str, str], folder: str
) -> None:
    flags: list[str] = []
    if content is not None:
        file = source / "my.toml"
        file.write_text(content)
        flags = ["--config", str(file)]
    others = {key: text for key, text in os.environ.items() if not key.startswith("LFSCP_")}
    command = [str(source / "scripts/serve"), *flags]
    shown = subprocess.run(
        command, env=others | environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("data_dir")]
    assert f'{folder}"' in line
