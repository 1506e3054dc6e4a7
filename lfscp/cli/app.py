"""The command line `lfscp`: puts the commands together, and ends each with the right exit code.

Rules: the exit code is 0 when all is done, 1 after a failure, and 2 if the configuration or an
option is wrong. A failure is one line on standard error, and so is each wrong setting; there is a
traceback at log level debug only. A command imports what it needs when it runs, so that short
commands and --help start fast.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Final, NoReturn

import typer

from lfscp import __version__
from lfscp.cli import (
    archive,
    correct,
    deidentify,
    doctor,
    ohif,
    plugins,
    retention,
    route,
    serve,
    service,
    show,
    worklist,
)
from lfscp.cli.errors import CommandError
from lfscp.cli.peers import commit, finding, retrieving, sending
from lfscp.cli.terminal import keep_writable, warn
from lfscp.python_build import PythonBuildError, require_gil

# pydicom fetches examples with the one and structlog shows tracebacks with the other, if they are
# installed. No command needs that, and each takes 0.06 s to import.
_LEFT_OUT: Final = ("requests", "rich")
_NOT_FOR_OTHERS: Final = 0o027  # the group may not write, others may do nothing

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
app.command()(finding.echo)
app.command()(finding.find)
app.command()(retrieving.get)
app.command()(retrieving.move)
app.command()(sending.send)
app.command()(commit.commit)
app.command()(archive.backup)
app.command()(archive.restore)
app.command()(retention.retention)
app.command()(retention.protect)
app.command()(retention.unprotect)
app.command()(deidentify.deidentify)
app.add_typer(worklist.app, name="worklist")
app.add_typer(route.app, name="route")
app.add_typer(correct.app, name="correct")
app.add_typer(ohif.app, name="ohif")
app.command()(plugins.plugins)
app.add_typer(service.app, name="service")
app.command("import")(archive.import_)
app.command()(archive.check)
app.command()(doctor.doctor)
app.command()(show.config)
app.command()(show.conformance)
app.command()(show.hash_password)
app.command()(show.version)


def main() -> None:
    """Run the command line; the entry point of the package."""
    _fill_standard_streams()
    keep_writable()
    for package in _LEFT_OUT:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type] # to import it now fails
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # pydicom's quote values of peers; the log shows them
    # Files are about patients: 0640 and folders 0750 at most, SQLite's too.
    os.umask(os.umask(_NOT_FOR_OTHERS) | _NOT_FOR_OTHERS)
    try:
        require_gil()
        app(prog_name="lfscp")
    except PythonBuildError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the last flush does not fail too
        sys.exit(1)
    except CommandError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort against a traceback
        _fail_of(error)


def _fill_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed.

    Otherwise the first file that is opened, the index, gets its number, and the log goes into it.
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
    """Say in one line why a command failed."""
    from lfscp.config import ConfigError
    from lfscp.errors import OperationError
    from lfscp.node.errors import NodeError
    from lfscp.observe.systemd import SystemdError

    if isinstance(error, ConfigError):
        for each in error.complaints:
            warn(f"lfscp: {each}")
        sys.exit(2)
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
