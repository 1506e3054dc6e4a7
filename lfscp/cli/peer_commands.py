"""The commands that talk to another node, and their options; the habits are those of DCMTK's tools.

What they do is in `peers`, imported when one of them runs. Whom to ask, and how, is said by the
same options for all of them: `_asking` adds these to a command's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

from lfscp.cli.imports import without

if TYPE_CHECKING:
    from types import ModuleType

    from lfscp.scu.peer import Peer

Target = Annotated[
    str, typer.Argument(metavar="AET@HOST:PORT", help="Whom to ask; AET@ may be left out.")
]
OurTitle = Annotated[str, typer.Option("--aet", "-aet", metavar="TITLE", help="Our AE title.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", "-to", metavar="SECONDS", help="Longest silence.", min=0.1),
]
Tls = Annotated[bool, typer.Option("--tls", help="Connect with TLS, and verify the peer.")]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", help="Certificates to trust, PEM [default: system's]."),
]
CertificateFile = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="Our certificate, PEM, with --key.")
]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", metavar="FILE", help="Our certificate's private key.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="TLS without verifying the peer: for tests only.")
]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on standard output.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        "-k",
        metavar="KEYWORD=VALUE",
        help='A key, as PatientName=DOE* or "0010,0010=DOE*"; without value: return it.',
    ),
]
QueryLevel = Annotated[
    str | None,
    typer.Option(
        "--level",
        "-l",
        metavar="LEVEL",
        help="PATIENT, STUDY, SERIES or IMAGE [default: STUDY]; also -k QueryRetrieveLevel=…",
    ),
]
PatientRoot = Annotated[bool, typer.Option("--patient", "-P", help="Patient Root model.")]
StudyRoot = Annotated[bool, typer.Option("--study", "-S", help="Study Root model, the default.")]
PatientStudy = Annotated[
    bool, typer.Option("--psonly", "-O", help="Patient/Study Only model, retired.")
]


_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {  # of every command, with their defaults
    "aet": (OurTitle, "LFSCP"),
    "timeout": (Timeout, 60.0),
    "tls": (Tls, False),
    "ca": (CaFile, None),
    "cert": (CertificateFile, None),
    "key_file": (KeyFile, None),
    "insecure": (Insecure, False),
    "json": (Json, False),
}
# Imported by pydicom if they are there, for what most of these commands never do: downloads of test
# files, and pixels. Without them a command starts in half the time.
_NOT_NEEDED: Final = ("requests", "numpy", "PIL")

Command = Callable[..., int]


def _asking(
    timeout_s: float = 60.0, not_needed: tuple[str, ...] = _NOT_NEEDED
) -> Callable[[Command], Callable[..., None]]:
    """Make a command of a function of (peers, the peer to ask, its own options, as_json)."""

    def decorate(function: Command) -> Callable[..., None]:
        hints = get_type_hints(function, {**globals(), "ModuleType": Any, "Peer": Any}, None, True)
        own = [
            each.replace(annotation=hints[each.name])
            for each in inspect.signature(function).parameters.values()
            if each.name not in ("peers", "asked", "as_json")
        ]
        kind = inspect.Parameter.KEYWORD_ONLY
        common = [
            inspect.Parameter(
                name,
                kind,
                annotation=annotation,
                default=timeout_s if name == "timeout" else default,
            )
            for name, (annotation, default) in _OPTIONS.items()
        ]
        target = inspect.Parameter("peer", kind, annotation=Target)
        parameters = [target, *(each.replace(kind=kind) for each in own), *common]

        def run(**given: Any) -> None:
            with without(*not_needed):
                from lfscp.cli import peers

                tls = {name: given.pop(name) for name in ("tls", "ca", "cert", "insecure")}
                asked = peers.peer(
                    given.pop("peer"),
                    given.pop("aet"),
                    given.pop("timeout"),
                    key=given.pop("key_file"),
                    **tls,
                )
                as_json = given.pop("json")
                code = function(peers, asked, as_json=as_json, **given)
            raise typer.Exit(code)

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


@_asking(timeout_s=10.0)
def echo(peers: ModuleType, asked: Peer, *, as_json: bool) -> int:
    """Ask another node for a C-ECHO."""
    return int(peers.echo(asked, as_json=as_json))


@_asking()
def find(
    peers: ModuleType,
    asked: Peer,
    key: Keys = None,
    level: QueryLevel = None,
    patient: PatientRoot = False,
    study: StudyRoot = False,
    psonly: PatientStudy = False,
    limit: Annotated[
        int | None,
        typer.Option("--cancel", metavar="N", help="Cancel the query after N matches.", min=1),
    ] = None,
    *,
    as_json: bool,
) -> int:
    """Query another node (C-FIND).

    With --json, one object per match and line.
    """
    query = peers.query(key or [], level, patient=patient, study=study, psonly=psonly)
    return int(peers.find(asked, query, limit=limit, as_json=as_json))


@_asking()
def get(
    peers: ModuleType,
    asked: Peer,
    key: Keys = None,
    level: QueryLevel = None,
    patient: PatientRoot = False,
    study: StudyRoot = False,
    psonly: PatientStudy = False,
    output: Annotated[
        Path, typer.Option("--output", "-od", metavar="DIR", help="Folder for the objects.")
    ] = Path(),
    *,
    as_json: bool,
) -> int:
    """Retrieve objects into a folder (C-GET).

    They come as the peer has stored them.
    """
    query = peers.query(key or [], level, patient=patient, study=study, psonly=psonly)
    return int(peers.get(asked, query, output, as_json=as_json))


@_asking()
def move(
    peers: ModuleType,
    asked: Peer,
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
            help="AE title to send to, which the peer must know [default: our AE title].",
        ),
    ] = None,
    *,
    as_json: bool,
) -> int:
    """Have another node send objects to a third (C-MOVE)."""
    query = peers.query(key or [], level, patient=patient, study=study, psonly=psonly)
    return int(peers.move(asked, query, destination or asked.calling_ae_title, as_json=as_json))


@_asking(not_needed=("requests",))  # compressed objects may have to be decoded
def send(
    peers: ModuleType,
    asked: Peer,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, and folders with all in them.")
    ],
    *,
    as_json: bool,
) -> int:
    """Send DICOM files to another node (C-STORE).

    A file that is not DICOM is named and left out.
    """
    return int(peers.send(asked, paths, as_json=as_json))


def add_to(app: Any) -> None:
    """Make these commands of the application."""
    for command in (echo, find, get, move, send):
        app.command()(command)
