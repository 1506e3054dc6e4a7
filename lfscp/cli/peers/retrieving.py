"""The commands `get` and `move`: objects of another node, into a folder or to a third."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lfscp.cli.peers import services
from lfscp.cli.peers.addressed import Login, peer_of, target_of
from lfscp.cli.peers.options import (
    ApplicationEntity,
    CaFile,
    CertificateFile,
    Insecure,
    Json,
    KeyFile,
    OurTitle,
    PasswordFile,
    PatientRoot,
    PatientStudy,
    QueryLevel,
    RetrieveKeys,
    StudyRoot,
    Target,
    Timeout,
    Tls,
    TokenFile,
    User,
)
from lfscp.cli.peers.query import query_of
from lfscp.cli.terminal import Interrupt, counted, interruptible, progress_bar, tell, tell_json

if TYPE_CHECKING:
    from lfscp.scu.parts import RetrieveProgress, RetrieveResult


def get(
    peer: Target,
    key: RetrieveKeys = None,
    level: QueryLevel = None,
    patient: PatientRoot = False,
    study: StudyRoot = False,
    psonly: PatientStudy = False,
    output: Annotated[
        Path, typer.Option("--output", "-od", metavar="DIR", help="Folder for the objects.")
    ] = Path(),
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
    """Retrieve objects into a folder (C-GET, or WADO-RS).

    The objects come as the other node has stored them.
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
    query = query_of(key, level, patient, study, psonly)
    output.mkdir(parents=True, exist_ok=True)
    from lfscp.cli.peers.saved_objects import SavedObjects

    saved = SavedObjects(output)
    with interruptible() as cancel, _following("retrieving") as follow:
        result = services.get(
            asked, query, saved.save, saved.warn_of_refused, follow, cancel, output
        )
        facts = {"files": saved.count, "bytes": saved.bytes, "folder": str(output)}
        _end_retrieve(result, facts, cancel, output, as_json)


def move(
    peer: ApplicationEntity,
    key: RetrieveKeys = None,
    level: QueryLevel = None,
    patient: PatientRoot = False,
    study: StudyRoot = False,
    psonly: PatientStudy = False,
    destination: Annotated[
        str | None,
        typer.Option(
            "--destination",
            "-aem",
            metavar="TITLE",
            help="AE title to send to. The other node must know it. [default: our AE title]",
        ),
    ] = None,
    aet: OurTitle = "LFSCP",
    timeout: Timeout = 60.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    user: User = None,
    password_file: PasswordFile = None,
    as_json: Json = False,
) -> None:
    """Have another node send objects to a third (C-MOVE)."""
    asked = peer_of(
        peer, aet, timeout, tls, ca, cert, key_file, insecure, Login(user, password_file)
    )
    query = query_of(key, level, patient, study, psonly)
    from lfscp.scu.retrieve import move

    to = destination or asked.calling_ae_title
    with interruptible() as cancel, _following("moving") as follow:
        result = move(
            asked, query.identifier, to, model=query.model, progress=follow, cancel=cancel
        )
        _end_retrieve(result, {"destination": to}, cancel, to, as_json)


@contextmanager
def _following(what: str) -> Iterator[Callable[[RetrieveProgress], None]]:
    """A bar that follows a retrieve's counters."""
    with progress_bar(what) as show:

        def follow(counters: RetrieveProgress) -> None:
            done = counters.completed + counters.failed + counters.warning
            show(done, None if counters.remaining is None else done + counters.remaining, "")

        yield follow


def _end_retrieve(
    result: RetrieveResult, facts: dict[str, Any], cancel: Interrupt, to: object, as_json: bool
) -> None:
    """Print the result of a retrieve, and end the command with the right exit code."""
    done = result.completed + result.warning
    if as_json:
        tell_json({**asdict(result), **facts})
    else:
        failed = f", {result.failed} failed" if result.failed else ""
        comment = f" ({result.comment})" if result.comment else ""
        is_nothing = not (done or result.failed or result.is_cancelled)
        matched = "nothing matches: " if is_nothing else ""
        tell(f"{matched}{counted(done, 'object', 'objects')} to {to}{failed}{comment}")
    if result.is_cancelled:
        raise typer.Exit(cancel.exit_code)
    raise typer.Exit(1 if result.failed else 0)
