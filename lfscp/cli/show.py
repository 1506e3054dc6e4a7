"""The commands that only print: `config`, `conformance`, `hash-password`, `version`."""

from __future__ import annotations

import getpass
import platform
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lfscp import __version__
from lfscp.cli.errors import CommandError
from lfscp.cli.options import ConfigFile, resolve

if TYPE_CHECKING:
    from lfscp.config import Resolved

_STANDS_ON = ("pynetdicom", "pydicom", "sqlalchemy", "pydantic", "structlog")


def config(
    config: ConfigFile = None,
    template: Annotated[
        bool,
        typer.Option("--template", help="Print a configuration file with every setting explained."),
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print every setting explained, in Markdown.")
    ] = False,
) -> None:
    """Print each setting and where its value came from."""
    from lfscp.config import describe

    if template or markdown:
        sys.stdout.write(describe.markdown() if markdown else describe.template())
    else:
        _print_settings(resolve(config))


def _print_settings(resolved: Resolved) -> None:
    """Print the settings in effect as TOML, each with its source as a comment."""
    from lfscp.config.describe import LISTS, REPEATED, leaves, table_of, toml_value

    settings = resolved.settings
    section = ""
    for item in leaves():
        if item.section in REPEATED:
            continue
        if item.section != section:
            section = item.section
            _print(f"\n[{section}]")
        value = getattr(table_of(settings, section), item.key)
        if item.name == "plugins.settings":
            value = _masked(value)
        _print_value(item.key, value, resolved.origin(tuple(item.name.split("."))))
    for title, peer in settings.peers.items():
        _print(f"\n[peers.{toml_value(title)}]")
        for key, value in peer:
            _print_value(key, value, resolved.origin(("peers", title, key)))
    for name in LISTS:
        for at, table in enumerate(getattr(settings, name)):
            _print(f"\n[[{name}]]")
            shown = table.model_dump(mode="json", by_alias=True)
            for field, (key, value) in zip(type(table).model_fields, shown.items(), strict=True):
                is_given = field in table.model_fields_set
                origin = resolved.origin((name, str(at), field)) if is_given else "default"
                _print_value(key, value, origin)


def _masked(value: object) -> object:
    """What a plug-in is given, without the values: any of them may be a secret."""
    if isinstance(value, dict):
        return {key: _masked(each) for key, each in value.items()}
    return "***"


def _print_value(key: str, value: object, origin: str) -> None:
    from lfscp.config.describe import mask_password, toml_value

    line = f"{key} = {mask_password(toml_value(value))}"
    _print(f"{line:<50} # {origin}")


def conformance(config: ConfigFile = None) -> None:
    """Print the DICOM conformance statement (PS3.2).

    The statement is in Markdown. It describes the node as configured.
    """
    from lfscp.conformance import statement

    sys.stdout.write(statement(resolve(config).settings))


def hash_password(
    token: Annotated[
        bool, typer.Option("--token", help="Make a bearer token for scripts instead.")
    ] = False,
) -> None:
    """Hash a password, or make a token.

    Put the hash of a password into web.users (page) as NAME:ROLE:HASH, or into identity.users
    (associations) as NAME:HASH. With --token, the command makes a token and its hash. Put that
    hash into web.tokens as NAME:ROLE:HASH, and give the token to the script.
    """
    from lfscp.config import passwords

    if token:
        new, hashed = passwords.new_token()
        _print(f"token      {new}\ntoken_hash {hashed}")
    else:
        _print(passwords.hash_password(_ask_for_password()))


def _ask_for_password() -> str:
    """Read a password, twice from a terminal or one line from a pipe."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Again: "):
            raise CommandError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandError("no password was given")
    return password


def version() -> None:
    """Print the versions of lfscp and of its libraries."""
    from importlib import metadata

    _print(f"lfscp {__version__}")
    _print(f"Python {platform.python_version()}")
    for name in _STANDS_ON:
        _print(f"{name} {metadata.version(name)}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
