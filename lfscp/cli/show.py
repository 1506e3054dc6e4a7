"""Commands that only print: config, conformance, version."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from lfscp import __version__
from lfscp.config import Resolved, Settings
from lfscp.config.describe import leaves, markdown, mask_password, template, toml_value

_STANDS_ON = ("pynetdicom", "pydicom", "sqlalchemy", "pydantic", "structlog")


def configuration(resolved: Resolved) -> None:
    """Print the settings in effect as TOML, each with its origin as a comment."""
    settings = resolved.settings
    section = ""
    for item in leaves():
        if item.section == "peers.*":
            continue
        if item.section != section:
            section = item.section
            _print(f"\n[{section}]")
        table = getattr(settings, section) if section else settings
        path = (section, item.key) if section else (item.key,)
        _print_value(item.key, getattr(table, item.key), resolved.origin(path))
    for title, peer in settings.peers.items():
        _print(f"\n[peers.{toml_value(title)}]")
        for key in type(peer).model_fields:
            _print_value(key, getattr(peer, key), resolved.origin(("peers", title, key)))


def _print_value(key: str, value: object, origin: str) -> None:
    line = f"{key} = {mask_password(toml_value(value))}"
    _print(f"{line:<50} # {origin}")


def description(*, as_table: bool) -> None:
    """Print config/lfscp.toml or config/settings.md."""
    sys.stdout.write(markdown() if as_table else template())


def conformance(settings: Settings) -> None:
    """Print the conformance statement."""
    from lfscp.conformance import statement

    sys.stdout.write(statement(settings))


def versions() -> None:
    """Print the versions of lfscp, Python and the libraries that matter in a bug report."""
    _print(f"lfscp {__version__}")
    _print(f"Python {platform.python_version()}")
    for name in _STANDS_ON:
        _print(f"{name} {metadata.version(name)}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
