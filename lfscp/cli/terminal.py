"""Writes to the terminal of a command, shows its progress, and handles Ctrl-C.

Rule: no text from peers, files and objects controls the terminal. Characters that are not printable
(controls, escape sequences, marks that turn the direction of text, half characters) are written as
escapes, `\\x1b`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from lfscp.cli.errors import CommandError

_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def printable(text: str) -> str:
    """The text on one line, with escapes for what is not printable."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def tell(text: str) -> None:
    """Write one line to standard output."""
    sys.stdout.write(f"{printable(text)}\n")


def warn(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{printable(text)}\n")


def tell_json(values: Any) -> None:
    """Write values as JSON on one line, also without controls beyond ASCII."""
    text = json.dumps(values, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
    sys.stdout.write(f"{text}\n")


def keep_writable() -> None:
    """Let no character that the terminal's encoding lacks end a command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def counted(number: int, one: str, several: str) -> str:
    """A number of things, in words."""
    return f"{number} {one if number == 1 else several}"


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int | None, str], None]]:
    """A progress bar on standard error; without a terminal, only the remarks.

    Yields:
        A function that shows how much is done, of how much, and a remark that stays visible.
    """

    def show(_done: int, _total: int | None, remark: str) -> None:
        if remark:
            warn(remark)

    if not sys.stderr.isatty():
        yield show
        return
    if sys.modules.get("rich", True) is None:
        del sys.modules["rich"]  # `app` has left it out
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def draw(done: int, total: int | None, remark: str) -> None:
            if remark:
                console.print(printable(remark), markup=False, highlight=False, soft_wrap=True)
            progress.update(task, completed=done, total=total)

        yield draw


class Interrupt(threading.Event):
    """Set by a signal; `exit_code` tells which one, as in shells."""

    exit_code = 128 + signal.SIGINT


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Let signals interrupt the work with a peer, whose failure ends the command with one line.

    Ctrl-C or SIGTERM sets the event, so that a C-CANCEL goes out. A second signal ends the command
    at once, a third one without cleaning up.

    Raises:
        CommandError: the peer failed.
    """
    from lfscp.scu.errors import PeerError

    cancel = Interrupt()
    signals: list[int] = []

    def handle(number: int, _frame: object) -> None:
        signals.append(number)
        if len(signals) > 2:
            os._exit(cancel.exit_code)
        if len(signals) == 2:
            warn("lfscp: interrupted")
            sys.exit(cancel.exit_code)
        cancel.exit_code = 128 + number
        cancel.set()

    before = {number: signal.signal(number, handle) for number in _ENDING_SIGNALS}
    try:
        yield cancel
    except PeerError as error:
        if not signals:
            raise CommandError(str(error)) from error
        warn(f"lfscp: {error}")
        sys.exit(cancel.exit_code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
