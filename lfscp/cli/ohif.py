"""The commands `ohif`, `ohif install`, `ohif show` and `ohif remove`; the node may run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lfscp.cli.errors import OptionError
from lfscp.cli.options import ConfigFile, DataDir, settings_of
from lfscp.cli.terminal import tell

if TYPE_CHECKING:
    from lfscp.config import Settings
    from lfscp.web.ohif.installation import Installation

app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Install, show or remove the OHIF viewer. The node may be running.",
)


@app.callback()
def ohif(
    context: typer.Context,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Show what is installed, if no command is given."""
    command = context.invoked_subcommand
    if command is None:
        _show(settings_of(config, data_dir))
    elif config is not None or data_dir is not None:
        name = "--config" if config is not None else "--data-dir"
        raise OptionError(
            f"flag {name}: put it behind the command: lfscp ohif {command} {name} ..."
        )


@app.command()
def install(
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="The package of OHIF, as `npm pack` gives it. Without it, npm downloads it.",
        ),
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Install OHIF in the data folder, or install it again.

    The package is not a part of lfscp. npm downloads it, or it comes from a file. It must be the
    one that lfscp knows by its digest. OHIF has the MIT licence; a library in it has LGPL-2.1.
    """
    from lfscp.web.ohif.installation import read_installation
    from lfscp.web.ohif.installing import install as install_package
    from lfscp.web.ohif.package import OHIF

    settings = settings_of(config, data_dir)
    was_there = read_installation(settings.data_dir) is not None
    if file is None:
        tell(f"npm downloads {OHIF.spec}")
    made = install_package(settings.data_dir, file)
    tell(f"{_described(made)} is installed in {settings.data_dir / 'ohif'}")
    _tell_where(settings, is_first=not was_there)


@app.command()
def show(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Show what is installed, and where it is served."""
    _show(settings_of(config, data_dir))


@app.command()
def remove(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Remove OHIF from the data folder."""
    from lfscp.web.ohif.installing import remove as remove_package

    settings = settings_of(config, data_dir)
    if remove_package(settings.data_dir):
        tell(f"OHIF is removed from {settings.data_dir / 'ohif'}")
    else:
        tell("OHIF is not installed")


def _show(settings: Settings) -> None:
    from lfscp.web.ohif.installation import read_installation

    found = read_installation(settings.data_dir)
    if found is None:
        tell(f"OHIF is not installed in {settings.data_dir}; `lfscp ohif install` installs it")
        return
    tell(f"{_described(found)}, installed {found.at} in {settings.data_dir / 'ohif'}")
    _tell_where(settings, is_first=False)


def _described(installed: Installation) -> str:
    return f"OHIF {installed.version} ({installed.size / 1e6:.0f} MB)"


def _tell_where(settings: Settings, *, is_first: bool) -> None:
    from lfscp.archive.data_folder import LOCK_FILE

    if not (settings.data_dir / LOCK_FILE).exists():
        tell("no node has used this data folder; if yours has another one, name it by --data-dir")
    tell(_where(settings, is_first=is_first))


def _where(settings: Settings, *, is_first: bool) -> str:
    """Where it is served, and what must be done for that."""
    ohif, web = settings.ohif, settings.web
    for name, is_on in (("web.enabled", web.enabled), ("ohif.enabled", ohif.enabled)):
        if not is_on:
            return f"it is not served, since {name} is false"
    if not ohif.port:
        return "the node serves it at any free port (ohif.port is 0), and the log says which"
    url = ohif.public_url or f"http://{web.host}:{ohif.port}"
    needs_restart = is_first and "port" not in ohif.model_fields_set
    after = "; restart the node if it is running" if needs_restart else ""
    return f"the node serves it at {url}/{after}"
