"""Options that several commands have; those of settings take their names and help from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lfscp.config.describe import leaf


def setting_option(name: str, metavar: str) -> Any:
    """The option of one setting; its text is checked like that of the environment."""
    declared = leaf(name)
    text = f"{declared.help} [default: {declared.default}]"
    return typer.Option(declared.flag, metavar=metavar, help=text, show_default=False)


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration in TOML [default: $LFSCP_CONFIG, else /etc/lfscp/lfscp.toml if there].",
        show_default=False,
    ),
]
DataDir = Annotated[str | None, setting_option("data_dir", "DIR")]
