"""The commands `service install` and `service remove`: the node as a service of systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lfscp.cli.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lfscp.systemd.steps import Step

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Install the node as a systemd service, or remove it.",
)

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, one step a line.")
]


@app.command()
def install(
    dry_run: DryRun = False,
    socket: Annotated[
        bool,
        typer.Option(
            "--socket",
            help="systemd opens the DICOM port, which may then be below 1024; no connection is "
            "refused while the node restarts.",
        ),
    ] = False,
    no_start: Annotated[
        bool, typer.Option("--no-start", help="Only write the files; start nothing.")
    ] = False,
) -> None:
    """Install the node as a service, and start it.

    The service runs as the user lfscp and keeps its data in /var/lib/lfscp. Its configuration is
    /etc/lfscp/lfscp.toml; if there is one, it stays as it is. Call it again after an upgrade.
    """
    from lfscp.config.sources import SYSTEM_FILE
    from lfscp.systemd import installing

    installing.require_possible(is_for_real=not dry_run)
    switches = installing.switches(socket=socket)
    was_running = installing.is_running() and not switches
    steps = installing.installation(socket=socket, start=not no_start, switches=switches)
    _perform(steps, dry_run)
    if dry_run:
        return
    if no_start:
        unit = "lfscp.socket" if socket else "lfscp.service"
        tell(f"to start it: systemctl enable --now {unit}")
    elif was_running:
        tell("the service was running, and goes on with its old version; for the new one:")
        tell("systemctl kill --kill-whom=main -s USR2 lfscp")
    else:
        tell("the service is installed and runs; journalctl -u lfscp shows its log")
    tell(f"its configuration is {SYSTEM_FILE}, its data are in {installing.DATA_DIR}")


@app.command()
def remove(dry_run: DryRun = False) -> None:
    """Stop the service and remove its files.

    Configuration, data and the user lfscp stay.
    """
    from lfscp.config.sources import SYSTEM_FILE
    from lfscp.systemd import installing

    installing.require_possible(is_for_real=not dry_run)
    _perform(installing.removal(), dry_run)
    if not dry_run:
        kept = f"{SYSTEM_FILE}, {installing.DATA_DIR} and the user lfscp"
        tell(f"the service is removed; {kept} are kept")


def _perform(steps: Iterable[Step], dry_run: bool) -> None:
    for step in steps:
        tell(step.said())
        if not dry_run:
            step.perform()
