"""Defines the options of most commands, and reads the settings that they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lfscp.config import Resolved, Settings

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration file, in TOML. "
        "[default: $LFSCP_CONFIG, else /etc/lfscp/lfscp.toml if it exists]",
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help=(
            "Folder of the index and the objects. The node creates it. Only one "
            "node may use it at a time. [default: ~/.local/share/lfscp]"
        ),
    ),
]


def resolve(
    config: Path | None, flags: dict[str, str | None] | None = None, peers: list[str] | None = None
) -> Resolved:
    """The settings, with the source of each.

    Args:
        flags: the text of each option that is a setting, by the setting's name; None: not given.
        peers: what --peer gave.
    Raises:
        ConfigError: a setting is wrong.
    """
    from lfscp.config import resolve_settings

    given = {name: text for name, text in (flags or {}).items() if text is not None}
    return resolve_settings(config, environment=os.environ, flags=given, peers=peers or [])


def settings_of(config: Path | None, data_dir: str | None) -> Settings:
    """The settings of a command that prints its results. It logs only what is wrong.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = resolve(config, {"data_dir": data_dir}).settings
    configure_logging(settings, at_least="warning")
    return settings


def configure_logging(settings: Settings, at_least: str = "debug") -> None:
    """Set up the log as configured, at the level `at_least` or above."""
    from lfscp.observe import logging

    level = max(settings.logging.level, at_least, key=lambda name: logging.LEVELS[name])
    logging.configure(level, settings.logging.format)
