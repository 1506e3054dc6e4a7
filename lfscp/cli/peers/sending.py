"""The command `send`: files to another node."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lfscp.cli.errors import CommandError
from lfscp.cli.peers import services
from lfscp.cli.peers.addressed import Login, target_of
from lfscp.cli.peers.files import find_objects
from lfscp.cli.peers.options import (
    CaFile,
    CertificateFile,
    Insecure,
    Json,
    KeyFile,
    OurTitle,
    PasswordFile,
    Target,
    Timeout,
    Tls,
    TokenFile,
    User,
)
from lfscp.cli.terminal import interruptible, progress_bar, tell, tell_json, warn

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import StoredInstance
    from lfscp.services.sending.sub_operations import SubOperationOutcome


def send(
    peer: Target,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Files, and folders with everything in them."),
    ],
    aet: OurTitle = "LFSCP",
    timeout: Timeout = 60.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    user: User = None,
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Send DICOM files to another node (C-STORE, or STOW-RS).

    Files that are not DICOM are named and left out.
    """
    asked = target_of(
        peer,
        aet,
        timeout,
        tls,
        ca,
        cert,
        key_file,
        insecure,
        Login(user, password_file, token_file),
    )
    found = find_objects(paths, "not sent", lambda file, note: warn(f"lfscp: {file}: {note}"))
    instances = found.instances
    if not instances:
        raise CommandError("there is no DICOM file to send")
    done = 0
    with interruptible() as cancel, progress_bar("sending") as show:
        show(0, len(instances), "")

        def note_sent(instance: StoredInstance, _outcome: SubOperationOutcome, reason: str) -> None:
            nonlocal done
            done += 1
            show(done, len(instances), f"{instance.path}: {reason}" if reason else "")

        result = services.send(asked, instances, note_sent, cancel)
    if as_json:
        tell_json({**asdict(result), "not_sent": found.left_out})
    else:
        failed = f", {len(result.failed)} failed" if result.failed else ""
        left = f", {result.left} left" if result.left else ""
        tell(f"{result.completed + result.warning} sent{failed}{left}")
    if cancel.is_set():
        raise typer.Exit(cancel.exit_code)
    raise typer.Exit(1 if result.failed or found.is_any_broken else 0)
