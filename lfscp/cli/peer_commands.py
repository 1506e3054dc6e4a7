"""The commands that talk to another node, and their options; the habits are those of DCMTK's tools.

What they do is in `peers`, imported when one of them runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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


def echo(
    peer: Target,
    aet: OurTitle = "LFSCP",
    timeout: Timeout = 10.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> None:
    """Verify that another DICOM node answers a C-ECHO."""
    from lfscp.cli import peers

    asked = peers.peer(
        peer, aet, timeout, tls=tls, ca=ca, cert=cert, key=key_file, insecure=insecure
    )
    raise typer.Exit(peers.echo(asked, as_json=json))


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
    json: Json = False,
) -> None:
    """Query another node (C-FIND); with --json one object per match and line."""
    from lfscp.cli import peers

    asked = peers.peer(
        peer, aet, timeout, tls=tls, ca=ca, cert=cert, key=key_file, insecure=insecure
    )
    query = peers.query(key or [], level, patient=patient, study=study, psonly=psonly)
    raise typer.Exit(peers.find(asked, query, limit=limit, as_json=json))


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
    json: Json = False,
) -> None:
    """Retrieve objects into a folder (C-GET), as they are stored at the peer."""
    from lfscp.cli import peers

    asked = peers.peer(
        peer, aet, timeout, tls=tls, ca=ca, cert=cert, key=key_file, insecure=insecure
    )
    query = peers.query(key or [], level, patient=patient, study=study, psonly=psonly)
    raise typer.Exit(peers.get(asked, query, output, as_json=json))


def move(
    peer: Target,
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
    aet: OurTitle = "LFSCP",
    timeout: Timeout = 60.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> None:
    """Have another node send objects to a third (C-MOVE)."""
    from lfscp.cli import peers

    asked = peers.peer(
        peer, aet, timeout, tls=tls, ca=ca, cert=cert, key=key_file, insecure=insecure
    )
    query = peers.query(key or [], level, patient=patient, study=study, psonly=psonly)
    raise typer.Exit(peers.move(asked, query, destination or aet, as_json=json))


def send(
    peer: Target,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Files, and folders with all in them.")
    ],
    aet: OurTitle = "LFSCP",
    timeout: Timeout = 60.0,
    tls: Tls = False,
    ca: CaFile = None,
    cert: CertificateFile = None,
    key_file: KeyFile = None,
    insecure: Insecure = False,
    json: Json = False,
) -> None:
    """Send DICOM files to another node (C-STORE); what is no DICOM file is said and passed over."""
    from lfscp.cli import peers

    asked = peers.peer(
        peer, aet, timeout, tls=tls, ca=ca, cert=cert, key=key_file, insecure=insecure
    )
    raise typer.Exit(peers.send(asked, paths, as_json=json))


def add_to(app: Any) -> None:
    """Make these commands of the application."""
    for command in (echo, find, get, move, send):
        app.command()(command)
