"""The commands `echo` and `find`: does another node answer, and what does it have."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from lfscp.cli.peers import services
from lfscp.cli.peers.addressed import Login, target_of
from lfscp.cli.peers.options import (
    CaFile,
    CertificateFile,
    Insecure,
    Json,
    KeyFile,
    Keys,
    OurTitle,
    PasswordFile,
    PatientRoot,
    PatientStudy,
    QueryLevel,
    StudyRoot,
    Target,
    Timeout,
    Tls,
    TokenFile,
    User,
)
from lfscp.cli.peers.query import query_of
from lfscp.cli.terminal import counted, interruptible, tell, tell_json


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
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Ask another node whether it answers (C-ECHO).

    A DICOMweb server is asked for a study.
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
    with interruptible() as cancel:
        answer = services.echo(asked, cancel)
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
    password_file: PasswordFile = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Query another node (C-FIND, or QIDO-RS).

    Each match has the unique key of its level, such as the Study Instance UID, given or not.
    With --json, each match is one line with one object.
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
    query = query_of(key, level, patient, study, psonly, asks_unique_key=True)
    from lfscp.scu.errors import PeerError
    from lfscp.scu.identifiers import plain

    count = 0
    with interruptible() as cancel:
        try:
            for match in services.find(asked, query, cancel):
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
