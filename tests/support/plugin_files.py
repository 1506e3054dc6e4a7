"""Files of plug-ins: those of config/plugins.md, and those that a test writes."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.plugins.plugins import Plugins

DOCUMENT = Path(__file__).parents[2] / "config" / "plugins.md"


def example(folder: Path, name: str) -> Path:
    """One of the examples in the document, as a file."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    found = [block for block in blocks if block.startswith(f'"""{name}: ')]
    assert len(found) == 1, f"{len(found)} examples {name}"
    file = folder / name
    file.write_text(found[0])
    return file


def plugin(folder: Path, name: str, text: str) -> Path:
    """A plug-in with these functions; `hook` and the types are imported."""
    file = folder / f"{name}.py"
    file.write_text("from lfscp.plugins import *\nimport time\n" + textwrap.dedent(text))
    return file


def settings_of(folder: Path, *files: Path, **section: Any) -> Settings:
    """Settings with these plug-ins."""
    plugins = {"files": [str(file) for file in files], **section}
    return Settings.model_validate({"data_dir": str(folder / "data"), "plugins": plugins})


def opened(archive: Archive, folder: Path, *files: Path, **section: Any) -> Plugins:
    """These plug-ins, started, and asked by an archive."""
    plugins = Plugins.load(settings_of(folder, *files, **section))
    plugins.open(archive)
    plugins.start()
    return plugins
