"""Reads and merges settings with their sources: defaults < file < environment < command line.

Each wrong value is one line with its source, key, value and what was expected; all of them are said
at once (`ConfigError`). What only follows from a wrong value is not said.
An unknown name is an error too, so that no typing mistake goes unnoticed.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_origin

from pydantic import ValidationError

from lfscp.ae_title import validate_ae_title
from lfscp.config.declaration import Section
from lfscp.config.describe import (
    ENVIRONMENT_PREFIX,
    FILE_VARIABLE,
    LISTS,
    NO_SETTINGS,
    REPEATED,
    Leaf,
    leaves,
    mask_password,
    sections,
)
from lfscp.config.settings import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SYSTEM_FILE: Final = Path("/etc/lfscp/lfscp.toml")
DEFAULT: Final = "default"
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})

# Plain words for what pydantic expected.
_EXPECTED: Final = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "model_type": "a table",
    "path_type": "a path in quotes",
    "string_type": "text in quotes",
}

# Keys whose values no message shows.
_SECRETS: Final = frozenset({"password", "token", "client_secret"})

_WORDS: Final = (
    ("Input should be ", ""),
    ("String should have ", ""),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
)

KeyPath = tuple[str, ...]  # e.g. ("server", "port") or ("peers", "DST", "host")


class ConfigError(Exception):
    """A wrong configuration.

    Args:
        complaints: one line for the administrator about each thing that is wrong; at least one.
    """

    def __init__(self, *complaints: str) -> None:
        super().__init__(*complaints)
        self.complaints = complaints

    def __str__(self) -> str:
        """All of them on one line."""
        return "; ".join(self.complaints)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings, and the source of each value that is not a default."""

    settings: Settings
    origins: Mapping[KeyPath, str]

    def origin(self, path: KeyPath) -> str:
        """The source of the value at `path`."""
        return origin_of(self.origins, path)


@dataclass(slots=True)
class _Layers:
    """Values merged so far, later ones over earlier ones, and what could not be merged."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    left_out: list[KeyPath] = field(default_factory=list)

    def refuse(self, path: KeyPath, complaint: str) -> None:
        """Leave out a value, and note why."""
        self.complaints.append(complaint)
        self.left_out.append(path)

    def put(self, path: KeyPath, value: Any, origin: str) -> None:
        table = self.values
        for depth, part in enumerate(path[:-1], 1):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                above = path[:depth]
                self.refuse(above, complaint(self.origins[above], above, table, "a table"))
                return
        table[path[-1]] = value
        self.origins[path] = origin


def resolve_settings(
    config_file: Path | None = None,
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, str] | None = None,
    peers: Iterable[str] = (),
) -> Resolved:
    """Merge all sources into the settings of a node.

    Args:
        config_file: what --config names; else LFSCP_CONFIG, else SYSTEM_FILE if it exists.
        environment: usually os.environ; only names that begin with LFSCP_ are read, and systemd's
            STATE_DIRECTORY as the data folder when nothing else names one.
        flags: values given on the command line, by the setting's name ("server.port").
        peers: what --peer gave, "AET=HOST:PORT" each, or "NAME=URL" of a DICOMweb server.
    Raises:
        ConfigError: something is wrong; each line names source, key, value and expectation.
    """
    layers = _Layers()
    if environment.get("STATE_DIRECTORY"):
        first = environment["STATE_DIRECTORY"].split(":")[0]
        layers.put(("data_dir",), first, "environment STATE_DIRECTORY")
    usual = SYSTEM_FILE if SYSTEM_FILE.exists() else None
    named = environment.get(FILE_VARIABLE)
    file = config_file or (Path(named) if named else usual)
    if file is not None:
        _put_table(layers, (), _read_file(file), str(file))
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NO_SETTINGS:
            _put_variable(layers, name, environment[name])
    known = {item.name: item for item in leaves()}
    for name, text in (flags or {}).items():
        _put_text(layers, known[name], tuple(name.split(".")), text, f"flag {known[name].flag}")
    for text in peers:
        _put_peer(layers, text)
    return Resolved(_validate(layers).with_origins(layers.origins), layers.origins)


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: expected TOML in UTF-8: byte {error.start} is not") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: expected TOML: {_one_line(str(error))}") from error


def _put_table(layers: _Layers, path: KeyPath, table: Mapping[str, Any], origin: str) -> None:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            _put_table(layers, (*path, key), value, origin)
        else:
            layers.put((*path, key), value, origin)


def _put_variable(layers: _Layers, name: str, text: str) -> None:
    origin = f"environment {name}"
    rest = name.removeprefix(ENVIRONMENT_PREFIX)
    if rest == "PEERS":
        try:
            table = json.loads(text)
        except ValueError:
            table = None
        if isinstance(table, dict):
            _put_table(layers, ("peers",), table, origin)
        else:
            expected = "a JSON object of peers by AE title"
            layers.refuse(("peers",), complaint(origin, ("peers",), text, expected))
        return
    if rest.lower() in LISTS:
        key = rest.lower()
        try:
            layers.put((key,), json.loads(text), origin)
        except ValueError:
            layers.refuse((key,), complaint(origin, (key,), text, "a JSON array of objects"))
        return
    known = {each.name: each for each in leaves() if each.section not in LISTS}
    parts = rest.split("__")
    if parts[0] == "PEERS" and len(parts) == 3:
        path: KeyPath = ("peers", parts[1], parts[2].lower())  # an AE title keeps its case
        item = known.get(f"peers.*.{path[2]}")
    else:
        path = tuple(part.lower() for part in parts)
        item = known.get(".".join(path))
    if item is None:
        names = [each.variable for each in leaves() if each.section not in REPEATED]
        names += [ENVIRONMENT_PREFIX + name.upper() for name in LISTS]
        layers.refuse(path, f"{origin}: no setting has this name{_nearest(name, names)}")
        return
    _put_text(layers, item, path, text, origin)


def _put_peer(layers: _Layers, text: str) -> None:
    origin = "flag --peer"
    title, equals, address = text.partition("=")
    if address.lower().startswith(("http://", "https://")):
        layers.put(("peers", title, "url"), address, origin)
        return
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # [::1]:104
    try:
        title = validate_ae_title(title)
        number = int(port)
        complete = bool(equals and colon and host and 1 <= number <= 65535)
    except ValueError:
        complete = False
    if not complete:
        expected = "expected AET=HOST:PORT, for example PACS=10.0.0.5:104, or NAME=URL"
        layers.refuse(("peers", title), f"{origin} {text!r}: {expected}")
        return
    layers.put(("peers", title, "host"), host, origin)
    layers.put(("peers", title, "port"), number, origin)


def _put_text(layers: _Layers, item: Leaf, path: KeyPath, text: str, origin: str) -> None:
    """Put in the text of a variable or flag, as the type that the file would give."""
    value: Any = text
    expected = ""
    if get_origin(item.annotation) in (tuple, dict):
        try:
            value = json.loads(text)
        except ValueError:
            expected = "a JSON value"
            if get_origin(item.annotation) is tuple:
                expected = 'JSON, for example ["one", "two"]'
    elif item.annotation is bool:
        value = text.lower() in _TRUE
        expected = "" if text.lower() in _TRUE | _FALSE else "true or false"
    elif item.annotation in (int, float):
        try:
            value = item.annotation(text)
        except ValueError:
            expected = "a whole number" if item.annotation is int else "a number"
    if expected:
        layers.refuse(path, complaint(origin, path, text, expected))
    else:
        layers.put(path, value, origin)


def _validate(layers: _Layers) -> Settings:
    """The settings of all values.

    Raises:
        ConfigError: of what is wrong, or could not be merged.
    """
    complaints = layers.complaints
    try:
        settings = Settings.model_validate(layers.values)
    except ValidationError as error:
        # An unknown name comes first: it is often why something else is missing.
        found = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        complaints = [*complaints, *_complaints_about(found, layers)]
    if complaints:
        raise ConfigError(*dict.fromkeys(complaints))
    return settings


def _complaints_about(problems: Iterable[ErrorDetails], layers: _Layers) -> Iterator[str]:
    for problem in problems:
        # "[key]" ends the location when a dictionary's key, here an AE title, is wrong.
        path = tuple(str(part) for part in problem["loc"] if part != "[key]")
        if not any(each[: len(path)] == path for each in layers.left_out):
            yield _explain(problem, path, _guilty(layers, path))


def _explain(problem: ErrorDetails, path: KeyPath, origin: str) -> str:
    """Pydantic's error in one line for the administrator."""
    where = f"{origin}: {'.'.join(path)}"
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        table = "peers.*" if path[0] == "peers" else ".".join(path[:-1])
        table = path[0] if path[0] in LISTS and len(path) > 1 else table
        names = [each.key for each in leaves() if each.section == table]
        inner = f"{table}." if table else ""
        names += [
            name.removeprefix(inner).split(".")[0] for name in sections() if name.startswith(inner)
        ]
        return _one_line(f"{where}: unknown key{_nearest(path[-1], names)}")
    if kind == "missing":
        return _one_line(f"{where}: missing; it has no default")
    is_table = isinstance(problem["input"], dict | Section)
    if kind == "value_error" and is_table:  # it lacks something
        return _one_line(f"{where}: {message}")
    for programmers, words in _WORDS:
        message = message.replace(programmers, words)
    return complaint(origin, path, problem["input"], _EXPECTED.get(kind, message))


def _guilty(layers: _Layers, path: KeyPath) -> str:
    """The source of a wrong value; for a table, the source of a value in it."""
    for at, by in layers.origins.items():
        if at[: len(path)] == path and len(at) > len(path):
            return by
    origin = origin_of(layers.origins, path)
    beside = (by for at, by in layers.origins.items() if at[: len(path) - 1] == path[:-1])
    return next(beside, DEFAULT) if origin == DEFAULT else origin


def origin_of(origins: Mapping[KeyPath, str], path: KeyPath) -> str:
    """The source of the value at `path`, of a table around it, or of the first value in it."""
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return origins[path[:length]]
    inside = (origin for at, origin in origins.items() if at[: len(path)] == path)
    return next(inside, DEFAULT)


def _nearest(name: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(names)}"


def complaint(origin: str, path: KeyPath, value: object, expected: str) -> str:
    """One line about a wrong value, without its secrets."""
    shown = mask_password(json.dumps(value, default=str, ensure_ascii=False))
    if path[-1] in _SECRETS or path == ("peers",):  # whose JSON may be too broken to find them
        shown = '"***"'
    if len(shown) > 100:
        shown = shown[:100] + "..."
    return _one_line(f"{origin}: {'.'.join(path)} = {shown}: expected {expected}")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if line.isprintable() else line.encode("unicode_escape").decode("ascii")
