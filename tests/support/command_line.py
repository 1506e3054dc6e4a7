"""Runs a command of the CLI in the tests' own process; fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfscp.cli.app import app
from lfscp.config import Settings
from lfscp.config.describe import toml_value
from lfscp.observe.audit import current


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    """Runs a command with these settings; gives its exit code, or raises its error."""

    def run(settings: Settings, *arguments: object) -> int:
        given = settings.model_dump(exclude_unset=True)
        sections = {name: given.pop(name) for name in list(given) if isinstance(given[name], dict)}
        lines = [f"{key} = {toml_value(value)}" for key, value in given.items()]
        for name, values in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {toml_value(value)}" for key, value in values.items()]
        file = tmp_path / "lfscp.toml"
        file.write_text("\n".join(lines), encoding="utf-8")
        return app([*map(str, arguments), "--config", str(file)], standalone_mode=False) or 0

    return run


@pytest.fixture(autouse=True)
def nobody_acts_afterwards() -> Iterator[None]:
    """Who acts in the audit trail ends with a command's process; here with the test."""
    before = current._actor.set(None)
    yield
    current._actor.reset(before)
