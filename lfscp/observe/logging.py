"""The ordinary log: structlog events, one whole line each, written to standard error at once.

Rules: a line costs little (thousands of objects a second are logged), so the level is tested
before anything is built, there are two processors, and one os.write per line, which keeps lines of
several threads apart. A value can break neither its line nor the terminal: control characters are
escaped. No patient identifier belongs here; UIDs do. Other libraries' logs come through
`stdlib_bridge`. Field names in use: association, calling_ae_title, called_ae_title, peer, service,
sop_class_uid, sop_instance_uid, status (hexadecimal text), bytes, duration_ms, reason.
"""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable, MutableMapping
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Final, Literal

import structlog

from lfscp.observe import stdlib_bridge
from lfscp.observe.recent_log import LEVELS as KEPT_LEVELS
from lfscp.observe.recent_log import RecentLog

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
MAX_VALUE_LENGTH: Final = 1000  # characters of one value; a peer must not fill the log
STANDARD_ERROR: Final = 2
_COLOURS: Final = {"debug": "2", "info": "36", "warning": "33", "error": "31", "critical": "31;1"}

Fields = MutableMapping[str, Any]

_kept: RecentLog | None = None  # takes warnings and errors as well
_threshold = LEVELS["info"]  # one global, because reading it must cost next to nothing


class EventLogger(structlog.BoundLoggerBase):
    """A logger with bound fields; `bind(association=7)` gives one with more of them."""

    def debug(self, event: str, **fields: Any) -> None:
        """Write what only a developer looks for."""
        if _threshold <= 10:
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write what happened as it should."""
        if _threshold <= 20:
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write what an administrator should look at some time."""
        if _threshold <= 30:
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write what failed."""
        if _threshold <= 40:
            self._proxy_to_logger("error", event, **fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Write what stops the node."""
        self._proxy_to_logger("critical", event, **fields)


class LineWriter:
    """Writes each line with one system call, whatever thread it comes from."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, line: str) -> None:
        """Write one line; a log that cannot be written must not stop the node."""
        try:
            os.write(self.descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            return

    debug = info = warning = error = critical = write


# Shared by all loggers and changed in place, so that a logger made early follows a later
# configure(), without structlog's proxy, which would make a new logger for every line.
_writer: Final = LineWriter(STANDARD_ERROR)
_processors: Final[list[Any]] = []
_marks: Final[dict[str, Any]] = {}


def get_logger(name: str) -> EventLogger:
    """A logger for the part of lfscp called `name`; it may be made before `configure`."""
    return EventLogger(_writer, processors=_processors, context={"part": name})


def configure(
    level: str = "info",
    format: Literal["console", "json"] = "console",  # noqa: A002 - the setting's name
    *,
    descriptor: int = STANDARD_ERROR,
) -> None:
    """Set up the log of this process, and lead other libraries' logs and warnings into it.

    Args:
        level: the lowest level written: debug, info, warning, error, critical.
        format: "console" is for people, "json" for machines.
        descriptor: the file to write to.
    """
    render = render_json if format == "json" else _console(colours=_wants_colours(descriptor))
    _writer.descriptor = descriptor
    _processors[:] = [_describe_exception, _renderer(render)]
    structlog.configure(  # for code that asks structlog itself for a logger
        processors=_processors,
        wrapper_class=EventLogger,
        context_class=dict,
        logger_factory=lambda *_: _writer,
        cache_logger_on_first_use=False,
    )
    stdlib_bridge.connect(_from_library)
    set_level(level)


def mark_lines(**fields: Any) -> None:
    """Put these fields on every line of this process: a worker's number, for instance."""
    _marks.clear()
    _marks.update(fields)


def keep_recent(kept: RecentLog | None) -> None:
    """Write warnings and errors of this process, and of those that it forks, to this file too."""
    global _kept
    _kept = kept


def set_level(level: str) -> None:
    """Change the level, also while the node runs; from any thread.

    Raises:
        KeyError: there is no such level.
    """
    global _threshold
    _threshold = LEVELS[level]
    stdlib_bridge.set_level(_threshold)


def _from_library(library: str, level: str, event: str, fields: Fields) -> None:
    getattr(get_logger(library), level)(event, **fields)


def _wants_colours(descriptor: int) -> bool:
    return "NO_COLOR" not in os.environ and os.isatty(descriptor)


def _describe_exception(_logger: object, _level: str, fields: Fields) -> Fields:
    """Turn `exc_info` into one line: what and where; the traceback only at level debug."""
    error = fields.pop("exc_info", None)
    if not isinstance(error, BaseException):
        return fields
    fields.setdefault("reason", f"{type(error).__name__}: {error}".removesuffix(": "))
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        fields["where"] = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"  # noqa: PTH119
    if _threshold <= LEVELS["debug"]:
        fields["traceback"] = "".join(traceback.format_exception(error))
    return fields


Render = Callable[[str, str, str, str, Fields], str]


def _renderer(render: Render) -> Callable[[object, str, Fields], str]:
    """The last processor: (time, level, logger, event, fields) to one line."""
    # The pair is replaced as a whole, so that threads never see half of it.
    latest = (0, "")

    def process(_logger: object, level: str, fields: Fields) -> str:
        nonlocal latest
        now = time.time()
        second = int(now)
        known, text = latest
        if known != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            latest = (second, text)
        stamp = f"{text}.{int((now - second) * 1000):03d}Z"
        event = fields.pop("event", "")
        if len(event) > MAX_VALUE_LENGTH:  # a library's
            event = _clip(event)
        name = fields.pop("part", "")
        if _marks:
            fields.update(_marks)
        if _kept is not None and level in KEPT_LEVELS:
            _kept.write(render_json(stamp, level, name, event, fields))
        return render(stamp, level, name, event, fields)

    return process


def render_json(stamp: str, level: str, name: str, event: str, fields: Fields) -> str:
    """One JSON object and a newline, in ASCII; keys are names of Python arguments."""
    parts = [
        f'{{"time":"{stamp}","level":"{level}","logger":{_quote(name)},"event":{_quote(event)}'
    ]
    for key, value in fields.items():
        if type(value) is str and len(value) <= MAX_VALUE_LENGTH:
            parts.append(f'"{key}":{_quote(value)}')
        else:
            parts.append(f'"{key}":{_json_value(value)}')
    text = ",".join(parts) + "}\n"
    return text.replace("\x7f", "\\u007f") if "\x7f" in text else text


def _json_value(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    return _quote(_clip(str(value)))


def _console(*, colours: bool) -> Render:
    def render(stamp: str, level: str, name: str, event: str, fields: Fields) -> str:
        shown = f"\x1b[{_COLOURS[level]}m{level:<8}\x1b[0m" if colours else f"{level:<8}"
        parts = [stamp, shown, f"{name}:", event if event.isprintable() else _escape(event)]
        for key, value in fields.items():
            parts.append(f"{key}={_console_value(value)}")
        return " ".join(parts) + "\n"

    return render


def _console_value(value: object) -> str:
    text = value if type(value) is str else str(value)
    if text.isprintable() and " " not in text and '"' not in text and 0 < len(text) < 200:
        return text
    return _escape(_clip(text))


def _clip(text: str) -> str:
    return text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + "..."


def _escape(text: str) -> str:
    """Quote a text; every character that is not printable is written as \\uXXXX."""
    if text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return _quote(text).replace("\x7f", "\\u007f")


_processors[:] = [_describe_exception, _renderer(_console(colours=False))]
