"""The commands that ask another node: `echo`, `find`, `get`, `move`, `send`.

All but `move` ask a DICOMweb server as well, if they are given its URL. The options are those of
DCMTK's tools. Results go to standard output, progress and problems to
standard error. The exit code is 0 when all is done, 1 after a failure, 130 after Ctrl-C and 143
after SIGTERM (then the peer gets a C-CANCEL).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lfscp.cli import peer_services
from lfscp.cli.errors import CommandError, OptionError
from lfscp.cli.peer_options import (
    ApplicationEntity,
    CaFile,
    CertificateFile,
    Insecure,
    Json,
    KeyFile,
    Keys,
    OurTitle,
    PatientRoot,
    PatientStudy,
    QueryLevel,
    StudyRoot,
    Target,
    Timeout,
    Tls,
    TokenFile,
    User,
    peer_of,
    query_of,
    target_of,
)
from lfscp.cli.terminal import (
    Interrupt,
    counted,
    interruptible,
    progress_bar,
    tell,
    tell_json,
    warn,
)

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import StoredInstance
    from lfscp.scu.parts import RetrieveProgress, RetrieveResult
    from lfscp.services.sending.sub_operations import SubOperationOutcome


def echo(
    peer: Target,
    aet: OurTitle = "LFSCP",
    timeout: Timeout = 10.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    user: User = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Ask another node whether it answers (C-ECHO).

    A DICOMweb server is asked for a study.
    """
    asked = target_of(peer, aet, timeout, tls, ca, cert, key_file, insecure, user, token_file)
    with interruptible() as cancel:
        answer = peer_services.echo(asked, cancel)
    if as_json:
        tell_json(asdict(answer))
    else:
        tell(f"{asked} answers, {answer.duration_ms:.0f} ms")


def find(
    peer: Target,
    key: Keys = None,
    level: QueryLevel = None,
    patient: PatientRoot = False,
    study: StudyRoot = False,
    psonly: PatientStudy = False,
    limit: Annotated[
        int | None,
        typer.Option("--cancel", metavar="N", help="Cancel the query after N matches.", min=1),
    ] = None,
    aet: OurTitle = "LFSCP",
    timeout: Timeout = 60.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    user: User = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Query another node (C-FIND, or QIDO-RS).

    With --json, each match is one line with one object.
    """
    asked = target_of(peer, aet, timeout, tls, ca, cert, key_file, insecure, user, token_file)
    query = query_of(key, level, patient, study, psonly)
    from lfscp.scu.errors import PeerError
    from lfscp.scu.identifiers import plain

    count = 0
    with interruptible() as cancel:
        try:
            for match in peer_services.find(asked, query, cancel):
                if as_json:
                    tell_json(plain(match))
                else:
                    _print_match(count, plain(match))
                count += 1
                if count == limit:
                    cancel.set()
        except PeerError:
            if count != limit:  # else the peer only ignored the C-CANCEL
                raise
    if not as_json:
        tell(counted(count, "match", "matches"))
    if cancel.is_set() and count != limit:
        raise typer.Exit(cancel.exit_code)


def _print_match(number: int, values: dict[str, Any]) -> None:
    if number:
        tell("")
    width = max(map(len, values), default=0)
    for keyword, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        tell(f"{keyword:<{width}}  {text}")


def get(
    peer: Target,
    key: Keys = None,
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
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Retrieve objects into a folder (C-GET, or WADO-RS).

    The objects come as the other node has stored them.
    """
    asked = target_of(peer, aet, timeout, tls, ca, cert, key_file, insecure, user, token_file)
    query = query_of(key, level, patient, study, psonly)
    output.mkdir(parents=True, exist_ok=True)
    from lfscp.cli.saved_objects import SavedObjects

    saved = SavedObjects(output)
    with interruptible() as cancel, _following("retrieving") as follow:
        result = peer_services.get(
            asked, query, saved.save, saved.warn_of_refused, follow, cancel, output
        )
        facts = {"files": saved.count, "bytes": saved.bytes, "folder": str(output)}
        _end_retrieve(result, facts, cancel, output, as_json)


def move(
    peer: ApplicationEntity,
    key: Keys = None,
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
    as_json: Json = False,
) -> None:
    """Have another node send objects to a third (C-MOVE)."""
    asked = peer_of(peer, aet, timeout, tls, ca, cert, key_file, insecure)
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
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Send DICOM files to another node (C-STORE, or STOW-RS).

    Files that are not DICOM are named and left out.
    """
    asked = target_of(peer, aet, timeout, tls, ca, cert, key_file, insecure, user, token_file)
    for path in paths:
        if not path.exists():
            raise OptionError(f"{path}: there is no such file or folder")
    from lfscp.scu.send import objects_in

    not_sent: list[dict[str, str]] = []
    broken: list[Path] = []

    def note_other(file: Path, reason: str) -> None:
        not_sent.append({"file": str(file), "reason": reason})
        warn(f"lfscp: {file}: not sent, {reason}")

    def note_broken(file: Path, reason: str) -> None:
        note_other(file, reason)
        broken.append(file)

    def note_odd(file: Path, note: str) -> None:
        warn(f"lfscp: {file}: {note}")

    instances = objects_in(paths, on_other=note_other, on_broken=note_broken, on_note=note_odd)
    if not instances:
        raise CommandError("there is no DICOM file to send")
    done = 0
    with interruptible() as cancel, progress_bar("sending") as show:
        show(0, len(instances), "")

        def note_sent(instance: StoredInstance, _outcome: SubOperationOutcome, reason: str) -> None:
            nonlocal done
            done += 1
            show(done, len(instances), f"{instance.path}: {reason}" if reason else "")

        result = peer_services.send(asked, instances, note_sent, cancel)
    if as_json:
        tell_json({**asdict(result), "not_sent": not_sent})
    else:
        failed = f", {len(result.failed)} failed" if result.failed else ""
        left = f", {result.left} left" if result.left else ""
        tell(f"{result.completed + result.warning} sent{failed}{left}")
    if cancel.is_set():
        raise typer.Exit(cancel.exit_code)
    raise typer.Exit(1 if result.failed or broken else 0)
