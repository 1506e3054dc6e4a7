"""Where settings come from: defaults < file < environment < command line, merged with provenance.

One rule for errors: the first guilty value is named with its source, key, value and what was
expected, in one line (`ConfigError`). Nothing is guessed, and an unknown name is an error too,
so that a typing mistake never goes unnoticed.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lfscp.config.access import Peer
from lfscp.config.checks import validate_ae_title
from lfscp.config.describe import (
    ENVIRONMENT_PREFIX,
    FILE_VARIABLE,
    leaf,
    leaves,
    mask_password,
    sections,
)
from lfscp.config.settings import Settings

SYSTEM_FILE: Final = Path("/etc/lfscp/lfscp.toml")
DEFAULT: Final = "default"
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})

Path_ = tuple[str, ...]  # e.g. ("server", "port") or ("peers", "DST", "host")


class ConfigError(Exception):
    """A wrong configuration; its text is one line for the administrator."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings, and for each value given by somebody: who gave it."""

    settings: Settings
    origins: Mapping[Path_, str]

    def origin(self, path: Path_) -> str:
        """Who gave the value at `path`, or a part of it, or all around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return DEFAULT


@dataclass(slots=True)
class _Layers:
    """Values merged so far, later ones over earlier ones."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path_, str] = field(default_factory=dict)

    def put(self, path: Path_, value: Any, origin: str) -> None:
        table = self.values
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{origin}: {'.'.join(path)}: a value stands where a table is needed"
                )
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
        peers: what --peer gave, "AET=HOST:PORT" each.
    Raises:
        ConfigError: one line that names source, key, value and expectation.
    """
    layers = _Layers()
    if environment.get("STATE_DIRECTORY"):
        first = environment["STATE_DIRECTORY"].split(":")[0]
        layers.put(("data_dir",), first, "environment STATE_DIRECTORY")
    file = find_file(config_file, environment)
    if file is not None:
        _put_table(layers, (), read_file(file), str(file))
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name != FILE_VARIABLE:
            _put_variable(layers, name, environment[name])
    for name, text in (flags or {}).items():
        known = leaf(name)
        origin = f"flag {known.flag}"
        path = tuple(name.split("."))
        layers.put(path, _from_text(known.field.annotation, text, path, origin), origin)
    for text in peers:
        _put_peer(layers, text)
    return Resolved(_validate(layers), layers.origins)


def find_file(config_file: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The configuration file to read; None when there is none, and none was asked for."""
    if config_file is not None:
        return config_file
    if environment.get(FILE_VARIABLE):
        return Path(environment[FILE_VARIABLE])
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def read_file(file: Path) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: expected TOML in UTF-8: byte {error.start} is not") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: expected TOML: {_one_line(str(error))}") from error


def _put_table(layers: _Layers, path: Path_, table: Mapping[str, Any], origin: str) -> None:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            _put_table(layers, (*path, key), value, origin)
        else:
            layers.put((*path, key), value, origin)


def _put_variable(layers: _Layers, name: str, text: str) -> None:
    origin = f"environment {name}"
    rest = name.removeprefix(ENVIRONMENT_PREFIX)
    if rest == "PEERS":
        table = _from_json(text, ("peers",), origin)
        if not isinstance(table, dict):
            raise ConfigError(
                _complaint(origin, ("peers",), text, "a JSON object of peers by AE title")
            )
        _put_table(layers, ("peers",), table, origin)
        return
    parts = rest.split("__")
    if parts[0] == "PEERS" and len(parts) == 3:
        path: Path_ = ("peers", parts[1], parts[2].lower())  # an AE title keeps its case
        known = Peer.model_fields.get(path[2])
    else:
        path = tuple(part.lower() for part in parts)
        known = next((item.field for item in leaves() if item.name == ".".join(path)), None)
    if known is None:
        names = [item.variable for item in leaves() if item.section != "peers.*"]
        raise ConfigError(f"{origin}: no setting has this name{_nearest(name, names)}")
    layers.put(path, _from_text(known.annotation, text, path, origin), origin)


def _put_peer(layers: _Layers, text: str) -> None:
    origin = "flag --peer"
    title, equals, address = text.partition("=")
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # [::1]:104
    try:
        title = validate_ae_title(title)
        number = int(port)
        complete = bool(equals and colon and host and 1 <= number <= 65535)
    except ValueError:
        complete = False
    if not complete:
        raise ConfigError(
            f"{origin} {text!r}: expected AET=HOST:PORT, for example PACS=10.0.0.5:104"
        )
    layers.put(("peers", title, "host"), host, origin)
    layers.put(("peers", title, "port"), number, origin)


def _from_text(annotation: Any, text: str, path: Path_, origin: str) -> Any:
    """Turn the text of a variable or flag into the type that the file would have given."""
    expected = ""
    if get_origin(annotation) is tuple or dict in get_args(annotation):
        return _from_json(text, path, origin)
    if annotation is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        expected = "true or false"
    elif annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            expected = "a whole number" if annotation is int else "a number"
    else:
        return text
    raise ConfigError(_complaint(origin, path, text, expected))


def _from_json(text: str, path: Path_, origin: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        expected = 'JSON, for example ["one", "two"]'
        raise ConfigError(_complaint(origin, path, text, expected)) from error


def _validate(layers: _Layers) -> Settings:
    try:
        return Settings.model_validate(layers.values)
    except ValidationError as error:
        # "[key]" ends the location when a dictionary's key, here an AE title, is wrong.
        problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        path = tuple(str(part) for part in problem["loc"] if part != "[key]")
        origin = _origin(layers, path)
        where = f"{origin}: {'.'.join(path)}"
        if problem["type"] == "extra_forbidden":
            nearest = _nearest(path[-1], _known_keys(path[:-1]))
            raise ConfigError(_one_line(f"{where}: unknown key{nearest}")) from error
        if problem["type"] == "missing":
            raise ConfigError(_one_line(f"{where}: missing, it has no default")) from error
        expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if problem["type"] in ("model_type", "dict_type"):
            expected = "a table"
        raise ConfigError(_complaint(origin, path, problem["input"], expected)) from error


def _origin(layers: _Layers, path: Path_) -> str:
    origin = Resolved(Settings.model_construct(), layers.origins).origin(path)
    if origin != DEFAULT:
        return origin
    # A table has no origin of its own: whoever gave something in it is at fault.
    inside = (by for at, by in layers.origins.items() if at[: len(path) - 1] == path[:-1])
    return next(inside, DEFAULT)


def _known_keys(path: Path_) -> list[str]:
    if not path:
        return list(Settings.model_fields)
    model: type[BaseModel] | None = Peer if path[0] == "peers" else dict(sections()).get(path[0])
    return list(model.model_fields) if model else []


def _nearest(name: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(names)}"


def _complaint(origin: str, path: Path_, value: object, expected: str) -> str:
    shown = mask_password(json.dumps(value, default=str, ensure_ascii=False))
    if len(shown) > 100:
        shown = shown[:100] + "..."
    return _one_line(f"{origin}: {'.'.join(path)} = {shown}: expected {expected}")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if line.isprintable() else line.encode("unicode_escape").decode("ascii")
