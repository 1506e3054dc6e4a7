"""Leads other libraries' logs and warnings into the ordinary log as events of one line.

Rules: pynetdicom's running commentary (INFO) is debug here, and its DEBUG, which prints
datasets, is never shown. Its errors, and pydicom's, lose quoted values, because those may be a
patient's. A traceback becomes its exception's type and text. Others keep their level.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

Sink = Callable[[str, str, str, dict[str, Any]], None]

LIBRARIES: Final = ("pynetdicom", "pydicom")  # they quote values of datasets
_QUOTED: Final = re.compile(r"""(['"]).*\1""", re.DOTALL)


class _Bridge(logging.Handler):
    """A standard library handler that hands each record on as an event."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level, text, fields = _understand(record)
            self._sink(record.name, level, text, fields)
        except Exception:  # noqa: BLE001 - logging's own rule: a log line never raises
            self.handleError(record)


def connect(sink: Sink) -> None:
    """Send libraries' logs and Python's warnings to `sink(library, level, event, fields)`."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge(sink))

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG001 - the signature is Python's
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        library = next((name for name in LIBRARIES if f"/{name}/" in filename), "python")
        level = "debug" if library in LIBRARIES else "warning"
        where = f"{Path(filename).name}:{lineno}"
        fields = {"category": category.__name__, "where": where, "reason": redact(str(message))}
        sink(library, level, "warning", fields)

    warnings.showwarning = show
    # "always": with "default" Python remembers each distinct text, and texts hold received values.
    for library in LIBRARIES:
        warnings.filterwarnings("always", module=rf"{library}\b")


def set_level(threshold: int) -> None:
    """Let libraries build no record that would not be written.

    Args:
        threshold: the standard library's number of the lowest level written.
    """
    logging.getLogger().setLevel(threshold)
    chatty = logging.INFO if threshold <= logging.DEBUG else max(threshold, logging.WARNING)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(chatty)
    # They tell their steps at INFO.
    for library in ("alembic", "sqlalchemy", "watchfiles"):
        logging.getLogger(library).setLevel(max(threshold, logging.WARNING))


def _understand(record: logging.LogRecord) -> tuple[str, str, dict[str, Any]]:
    library = record.name.partition(".")[0]
    text = record.getMessage()
    level = record.levelno
    if library in LIBRARIES:
        text = redact(text)
        level = logging.DEBUG if level <= _QUIET.get(record.name, _QUIET[library]) else level
    name = next((name for least, name in _NAMES if level >= least), "debug")
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return name, text, {}
    if library in LIBRARIES:
        return name, text, {"reason": f"{type(error).__name__}: {redact(str(error))}"}
    return name, text, {"exc_info": error}


# The highest level of a logger, or of its library, that is debug here.
_QUIET: Final = {
    "pynetdicom": logging.INFO,
    # A peer's rejection, in three lines, its going away, what it sent wrong, or an AE title that is
    # none: our own line about the association says it in one.
    "pynetdicom.acse": logging.ERROR,
    "pynetdicom.association": logging.ERROR,
    "pynetdicom.dimse": logging.ERROR,
    "pynetdicom.dul": logging.ERROR,
    "pynetdicom.fsm": logging.ERROR,
    "pynetdicom.utils": logging.ERROR,
    # What it warns of is a peer's dataset, and it says the same as a Python warning.
    "pydicom": logging.WARNING,
    # Each decoder that fails at broken pixels: our own line says why it cannot be decoded.
    "pydicom.pixels.decoders.base": logging.ERROR,
}

_NAMES: Final = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


def redact(text: str) -> str:
    """Take quoted values out of a library's message; they may be a patient's."""
    return _QUOTED.sub("'...'", text)
