"""The command line `lfscp`: its commands in the order of --help, and how each of them ends.

Rules: exit 0 when done, 1 when it failed, 2 when it was asked wrongly (configuration, options).
A failure is one line on standard error; nobody is shown a traceback, except at log level debug.
A command imports what it needs when it runs: most commands are short, and `lfscp --help` needs
nothing.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Final, NoReturn

import typer

from lfscp import __version__
from lfscp.cli import archive, peers, retention, serve, show
from lfscp.cli.errors import CommandError
from lfscp.cli.terminal import keep_writable, warn
from lfscp.python_build import PythonBuildError, require_gil

_OTHERS: Final = 0o027  # what nobody outside the group may do, nor the group change

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich takes 0.1 s to import
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A DICOM archive (PACS). A leader/follower thread pool serves its associations.",
)


def _print_version(wanted: bool) -> None:
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


app.command()(serve.serve)
app.command()(peers.echo)
app.command()(peers.find)
app.command()(peers.get)
app.command()(peers.move)
app.command()(peers.send)
app.command()(archive.backup)
app.command()(archive.restore)
app.command()(retention.retention)
app.command()(retention.protect)
app.command()(retention.unprotect)
app.command("import")(archive.import_)
app.command()(archive.check)
app.command()(show.config)
app.command()(show.conformance)
app.command()(show.hash_password)
app.command()(show.version)


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
    except PythonBuildError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the last flush does not fail again
        sys.exit(1)
    except CommandError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort, so that nobody sees a traceback
        _fail_of(error)


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


def _fail(message: str, exit_code: int) -> NoReturn:
    warn(f"lfscp: {message}")
    sys.exit(exit_code)


def _fail_of(error: Exception) -> NoReturn:
    """Say in one line why a command failed, for every error that is not the command's own."""
    from lfscp.config import ConfigError
    from lfscp.errors import OperationError
    from lfscp.node.errors import NodeError
    from lfscp.observe.systemd import SystemdError

    if isinstance(error, ConfigError):
        _fail(str(error), 2)
    if isinstance(error, OperationError | NodeError | SystemdError):
        _fail(str(error), 1)
    if isinstance(error, OSError) and error.strerror:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror, 1)
    if os.environ.get("LFSCP_LOGGING__LEVEL", "").lower() == "debug":
        import traceback

        traceback.print_exception(error)
    text = " ".join(str(error).split())
    what = f"internal error: {text}" if text else "internal error"
    _fail(f"{what}. Please report it; LFSCP_LOGGING__LEVEL=debug shows where it happened", 1)
