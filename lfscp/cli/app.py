"""The commands of `lfscp` and their options; what they do is imported when one of them runs.

Rules: exit 0 when done, 1 when it failed, 2 when it was asked wrongly (configuration, options).
A failure is one line on standard error; nobody is shown a traceback, except at log level debug.
Options that are settings take their names and help from the settings' declarations.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from lfscp import __version__
from lfscp.cli import archive_commands, peer_commands
from lfscp.cli.options import ConfigFile, DataDir, setting_option
from lfscp.cli.terminal import keep_writable, warn
from lfscp.config import ConfigError, Resolved, Settings, resolve_settings
from lfscp.python_build import PythonBuildError, require_gil

_OTHERS: Final = 0o027  # what nobody outside the group may do, nor the group change

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich takes 0.1 s to import, and serve must start fast
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A DICOM archive (PACS) whose associations are served by a leader/follower thread pool.",
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001, RUF100 - Typer calls it so
    if wanted:
        sys.stdout.write(f"lfscp {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command()
def serve(  # noqa: PLR0913, RUF100 - an option each
    config: ConfigFile = None,
    host: Annotated[str | None, setting_option("server.host", "ADDRESS")] = None,
    port: Annotated[str | None, setting_option("server.port", "PORT")] = None,
    aet: Annotated[str | None, setting_option("server.ae_title", "TITLE")] = None,
    data_dir: DataDir = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="AET=HOST:PORT", help="Another node; may be given several times."),
    ] = None,
    http_port: Annotated[str | None, setting_option("web.port", "PORT")] = None,
    no_http: Annotated[
        bool, typer.Option("--no-http", help="Serve DICOM only, no page and no API.")
    ] = False,
    max_running: Annotated[str | None, setting_option("pool.max_running", "N")] = None,
    max_waiting: Annotated[str | None, setting_option("pool.max_waiting", "N")] = None,
    threads: Annotated[str | None, setting_option("pool.threads", "N")] = None,
    workers: Annotated[str | None, setting_option("pool.workers", "N")] = None,
    log_format: Annotated[str | None, setting_option("logging.format", "console|json")] = None,
    log_level: Annotated[str | None, setting_option("logging.level", "LEVEL")] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Take the place of the node that runs on the data folder: it finishes what it has "
            "begun, and no connection is refused. Starts as usual when none runs.",
        ),
    ] = False,
) -> None:
    """Run the node: DICOM, the page and the API.

    It serves C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET until SIGTERM or SIGINT.
    """
    gc.disable()  # imports make much and drop little; Node.run() turns it on again
    if http_port is not None and no_http:
        raise ConfigError(f"flag --http-port {http_port}: contradicts --no-http; leave one out")
    flags = {
        "web.enabled": "false" if no_http else "true" if http_port is not None else None,
        "web.port": http_port,
        "server.host": host,
        "server.port": port,
        "server.ae_title": aet,
        "data_dir": data_dir,
        "pool.max_running": max_running,
        "pool.max_waiting": max_waiting,
        "pool.threads": threads,
        "pool.workers": workers,
        "logging.format": log_format,
        "logging.level": log_level,
    }
    resolved = _resolve(config, flags, peer or [])
    _configure_logging(resolved)
    from lfscp.node.supervisor import run_node

    def read_again() -> Settings:
        return _resolve(config, flags, peer or []).settings

    raise typer.Exit(run_node(resolved.settings, read_again, follow_on=take_over))


def _quietly_resolved(config: Path | None, data_dir: str | None) -> Settings:
    """The settings of a command that prints its results, and logs only what is wrong."""
    resolved = _resolve(config, {"data_dir": data_dir})
    _configure_logging(resolved, at_least="warning")
    return resolved.settings


peer_commands.add_to(app)
archive_commands.add_to(app, _quietly_resolved)


@app.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with all in it, a file, a ZIP.")
    ],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Store the DICOM files of a folder or a ZIP.

    The node must not be running.
    """
    from lfscp.cli.archive import import_files

    raise typer.Exit(import_files(_quietly_resolved(config, data_dir), folder))


@app.command()
def check(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is found; without it nothing is changed.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make a lost or damaged index anew from the objects.")
    ] = False,
) -> None:
    """Compare index and objects, and repair them.

    Says what is missing, left over or damaged. The node must not be running.
    """
    from lfscp.cli.archive import check_archive

    settings = _quietly_resolved(config, data_dir)
    if rebuild:
        from lfscp.cli.backups import rebuild_index

        raise typer.Exit(rebuild_index(settings))
    raise typer.Exit(check_archive(settings, repair=repair))


@app.command("config")
def show_config(
    config: ConfigFile = None,
    template: Annotated[
        bool, typer.Option("--template", help="Print a file with every setting explained.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of all settings in Markdown.")
    ] = False,
) -> None:
    """Print each setting and where its value came from."""
    from lfscp.cli import show

    if template or markdown:
        show.description(as_table=markdown)
    else:
        show.configuration(_resolve(config))


@app.command()
def conformance(config: ConfigFile = None) -> None:
    """Print the DICOM conformance statement (PS3.2).

    It is that of the node as configured, in Markdown.
    """
    from lfscp.cli import show

    show.conformance(_resolve(config).settings)


@app.command("hash-password")
def hash_password(
    token: Annotated[
        bool, typer.Option("--token", help="Make a bearer token for scripts instead.")
    ] = False,
) -> None:
    """Hash a password, or make a token, for the page.

    Put the hash into web.users. With --token it makes a token and its hash for web.tokens.
    """
    from lfscp.cli.access import print_password_hash, print_token

    print_token() if token else print_password_hash()


@app.command()
def version() -> None:
    """Print the versions of lfscp and of its libraries."""
    from lfscp.cli import show

    show.versions()


def main() -> None:
    """Run the command line; the entry point of the package."""
    _fill_standard_streams()
    keep_writable()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # pydicom's, which quote what peers say; the log shows them
    # What is written is about patients: files 0640 and folders 0750 at most, SQLite's too.
    os.umask(os.umask(_OTHERS) | _OTHERS)
    try:
        require_gil()
        app(prog_name="lfscp")
    except ConfigError as error:
        _fail(str(error), 2)
    except PythonBuildError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the last flush does not fail again
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort, so that nobody sees a traceback
        _fail(_describe(error), 1)


def _fill_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed.

    Else the first file opened gets its number, and the log is written into it: into the index!
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _resolve(
    config: Path | None, flags: dict[str, str | None] | None = None, peers: list[str] | None = None
) -> Resolved:
    given = {name: text for name, text in (flags or {}).items() if text is not None}
    return resolve_settings(config, environment=os.environ, flags=given, peers=peers or [])


def _configure_logging(resolved: Resolved, at_least: str = "debug") -> None:
    with _without_rich():  # structlog would load it for tracebacks of a kind that we never write
        from lfscp.observe import logging

    settings = resolved.settings.logging
    level = max(settings.level, at_least, key=lambda name: logging.LEVELS[name])
    logging.configure(level, settings.format)


@contextmanager
def _without_rich() -> Iterator[None]:
    """Keep modules that would use Rich if it is there from loading it: it costs 50 ms and 5 MB."""
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # makes its import fail
    try:
        yield
    finally:
        del sys.modules["rich"]


def _fail(message: str, code: int) -> None:
    warn(f"lfscp: {message}")
    sys.exit(code)


def _describe(error: Exception) -> str:
    from lfscp.cli.failures import CommandError
    from lfscp.errors import OperationError
    from lfscp.node.parts import NodeError
    from lfscp.observe.systemd import SystemdError

    if isinstance(error, OperationError | CommandError | NodeError | SystemdError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if os.environ.get("LFSCP_LOGGING__LEVEL", "").lower() == "debug":
        import traceback

        traceback.print_exception(error)
    text = " ".join(str(error).split())
    what = f"internal error: {text}" if text else "internal error"
    return f"{what}; LFSCP_LOGGING__LEVEL=debug shows where, please report it"
