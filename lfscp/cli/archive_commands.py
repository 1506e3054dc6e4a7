"""The commands that look after an archive, and their options.

What they do is in `backups` and `retention`, imported when one of them runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lfscp.cli.options import ConfigFile, DataDir
from lfscp.config import Settings

Study = Annotated[str, typer.Argument(metavar="UID", help="A Study Instance UID.")]
SettingsOf = Callable[[Path | None, str | None], Settings]


def add_to(app: typer.Typer, settings_of: SettingsOf) -> None:
    """Add the commands.

    Args:
        settings_of: gives the settings for a configuration file and a data folder, and sets up
            the log.
    """

    @app.command()
    def backup(
        target: Annotated[
            Path,
            typer.Argument(metavar="DIR", help="Made when missing; run again: brought up to date."),
        ],
        config: ConfigFile = None,
        data_dir: DataDir = None,
        copy: Annotated[
            bool, typer.Option("--copy", help="Copy objects, never link them (same disk).")
        ] = False,
        verify: Annotated[
            bool, typer.Option("--verify", help="Read the backup, compare every digest.")
        ] = False,
        replace: Annotated[
            bool,
            typer.Option(
                "--replace",
                help="Drop what is there, though it is another archive's or most of it.",
            ),
        ] = False,
    ) -> None:
        """Back up index and objects into a folder.

        The node may be running.
        """
        from lfscp.cli.backups import back_up

        settings = settings_of(config, data_dir)
        raise typer.Exit(back_up(settings, target, copy=copy, verify=verify, replace=replace))

    @app.command()
    def restore(
        source: Annotated[Path, typer.Argument(metavar="DIR", help="What `lfscp backup` made.")],
        config: ConfigFile = None,
        data_dir: DataDir = None,
        link: Annotated[
            bool, typer.Option("--link", help="Link objects instead of copying them (same disk).")
        ] = False,
    ) -> None:
        """Fill an empty data folder from a backup, and check it."""
        from lfscp.cli.backups import restore_backup

        raise typer.Exit(restore_backup(settings_of(config, data_dir), source, link=link))

    @app.command()
    def retention(
        config: ConfigFile = None,
        data_dir: DataDir = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only print what would go; a node may be running.")
        ] = False,
        clock_is_right: Annotated[
            bool,
            typer.Option(
                "--clock-is-right",
                help="Only trust the clock again; a node may be running.",
            ),
        ] = False,
    ) -> None:
        """Delete the studies that are too many or too old.

        A running node does it by itself; stop it first, or use --dry-run.
        """
        from lfscp.cli.retention import recycle_now, show_candidates, trust_clock

        settings = settings_of(config, data_dir)
        if clock_is_right:
            raise typer.Exit(trust_clock(settings))
        raise typer.Exit(show_candidates(settings) if dry_run else recycle_now(settings))

    @app.command()
    def protect(uid: Study, config: ConfigFile = None, data_dir: DataDir = None) -> None:
        """Protect a study from deletion and change.

        The node may be running.
        """
        from lfscp.cli.retention import set_protection

        raise typer.Exit(set_protection(settings_of(config, data_dir), uid, on=True))

    @app.command()
    def unprotect(uid: Study, config: ConfigFile = None, data_dir: DataDir = None) -> None:
        """Let a protected study be deleted again."""
        from lfscp.cli.retention import set_protection

        raise typer.Exit(set_protection(settings_of(config, data_dir), uid, on=False))
