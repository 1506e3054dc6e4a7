"""An archive that plug-ins are asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive
from lfscp.plugins.plugins import Plugins
from tests.support.plugin_files import opened, plugin

Begin = Callable[..., Plugins]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive."""
    with Archive.open(tmp_path / "data", durability="os") as made:
        yield made


@pytest.fixture
def begin(archive: Archive, tmp_path: Path) -> Iterator[Begin]:
    """Starts plug-ins: a text is the functions of one that is called `one`, `two` and so on."""
    running: list[Plugins] = []

    def start(*texts: str | Path, **section: Any) -> Plugins:
        names = ("one", "two", "three")
        files = [
            text if isinstance(text, Path) else plugin(tmp_path, name, text)
            for name, text in zip(names, texts, strict=False)
        ]
        running.append(opened(archive, tmp_path, *files, **section))
        return running[-1]

    yield start
    for plugins in running:
        plugins.stop()
