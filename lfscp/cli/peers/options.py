"""The options of the commands that ask another node.

They are those of DCMTK's tools.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    str,
    typer.Argument(
        metavar="NODE",
        help="The other node: AET@HOST:PORT, where AET@ may be left out, or the URL of a "
        "DICOMweb server, such as https://pacs.example/dicom-web.",
    ),
]
ApplicationEntity = Annotated[
    str, typer.Argument(metavar="AET@HOST:PORT", help="The other node. AET@ may be left out.")
]
User = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="NAME",
        help="User at the node. The passcode or password is taken from --password-file or from the "
        "variable LFSCP_PEER_PASSWORD (empty for none), or asked for.",
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="A file with the passcode or password of --user in its first line.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", help="A file with a Bearer token for a DICOMweb server."
    ),
]
OurTitle = Annotated[str, typer.Option("--aet", "-aet", metavar="TITLE", help="Our AE title.")]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", "-to", metavar="SECONDS", help="Longest wait for an answer.", min=0.1
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="Connect with TLS and verify the node.")]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Certificates to trust, PEM. [default: the system's]"
    ),
]
CertificateFile = Annotated[
    Path | None,
    typer.Option(
        "--cert",
        metavar="FILE",
        help="Our certificate, PEM. The file may also hold the private key.",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="The private key, PEM, if the file of --cert does not hold it.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure", help="Connect with TLS, but do not verify the node. For tests only."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        "-k",
        metavar="KEYWORD=VALUE",
        help='A key, such as PatientName=DOE* or "0010,0010=DOE*". May be given several times. '
        "A key without a value asks for the value.",
    ),
]
RetrieveKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        "-k",
        metavar="KEYWORD=VALUE",
        help="What to retrieve, such as StudyInstanceUID=1.2.3. May be given several times.",
    ),
]
QueryLevel = Annotated[
    str | None,
    typer.Option(
        "--level",
        "-l",
        metavar="LEVEL",
        help="PATIENT, STUDY, SERIES or IMAGE; -k QueryRetrieveLevel=LEVEL says the same. "
        "[default: STUDY]",
    ),
]
PatientRoot = Annotated[bool, typer.Option("--patient", "-P", help="Use the Patient Root model.")]
StudyRoot = Annotated[
    bool, typer.Option("--study", "-S", help="Use the Study Root model. This is the default.")
]
PatientStudy = Annotated[
    bool, typer.Option("--psonly", "-O", help="Use the Patient/Study Only model. It is retired.")
]
