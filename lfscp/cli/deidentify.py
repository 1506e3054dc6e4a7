"""The command `deidentify`: writes the objects of a folder again, without the people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lfscp.cli.errors import OptionError


def deidentify(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A DICOM file, or a folder with everything in it.")
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT_DIR", help="Folder for the new files. The command makes it."),
    ],
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="The secret of the project, of 16 bytes or more. The same key gives the same UIDs,"
            " names and dates again. [default: a new one, which is forgotten]",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="A file with the key. Other users of the machine may see --key, but not this one.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="OPTION",
            help="What more is kept or cleaned, such as retain-modified-dates. May be given several"
            " times. config/deidentification.md has all of them.",
        ),
    ] = None,
    devices: Annotated[
        Path | None,
        typer.Option(
            "--devices",
            metavar="FILE",
            help="Where devices burn text into images, in TOML. The command blackens it.",
        ),
    ] = None,
) -> None:
    """Write DICOM files again, without the people.

    The new files do not tell whose they are (PS3.15 annex E). If the command cannot be sure of
    that, it holds the object back and names it with the reason. The exit code is 1 then.
    """
    from lfscp.cli.deidentify_files import deidentify_files
    from lfscp.deidentification.deidentifier import Deidentifier
    from lfscp.deidentification.errors import DeidentificationRequestError
    from lfscp.deidentification.options import options_named
    from lfscp.deidentification.pixels.burned_in import read_device_rules

    try:
        deidentifier = Deidentifier(
            options_named(option or []),
            _key(key, key_file),
            read_device_rules(devices) if devices is not None else (),
        )
    except DeidentificationRequestError as error:
        raise OptionError(error.reason) from error
    raise typer.Exit(deidentify_files(deidentifier, source, target))


def _key(key: str | None, key_file: Path | None) -> bytes | None:
    if key is not None and key_file is not None:
        raise OptionError("--key and --key-file are given; give one of them")
    if key_file is None:
        return None if key is None else key.encode("utf-8", "surrogateescape")
    try:
        return key_file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise OptionError(f"{key_file}: {error.strerror}") from error
