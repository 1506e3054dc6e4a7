"""The settings described: config/lfscp.toml, the table of README, the help of each flag.

All are made from the declarations in `settings`; tests/meta fails when a file differs.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lfscp.config.access import Peer
from lfscp.config.declaration import Section
from lfscp.config.settings import Settings

ENVIRONMENT_PREFIX: Final = "LFSCP_"
FILE_VARIABLE: Final = "LFSCP_CONFIG"  # names the file itself, so it is no setting
_EXAMPLE_PEER: Final = "WORKSTATION"
_HEAD: Final = """\
# Configuration of an lfscp node; every setting with its default. Remove the "#" to change one.
# Made from lfscp/config/settings.py by `lfscp config --template`; do not edit a copy in the source.
#
# A variable of the environment goes before this file, an option of `lfscp serve` before both:
#   LFSCP_SERVER__PORT=104        section and key joined by two underscores
#   LFSCP_DATA_DIR=/srv/lfscp     keys of no section
"""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: its section ("" for none, "peers.*" for a peer's), key and declaration."""

    section: str
    key: str
    field: FieldInfo

    @property
    def name(self) -> str:
        """Section and key joined by a dot, as in messages."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def help(self) -> str:
        """What the setting does."""
        return self.field.description or ""

    @property
    def flag(self) -> str:
        """The option of `lfscp serve` that sets it, or ""."""
        return str(_extra(self.field).get("flag", ""))

    @property
    def is_live(self) -> bool:
        """Whether SIGHUP changes it in a node that runs."""
        return bool(_extra(self.field).get("live", False))

    @property
    def variable(self) -> str:
        """The variable of the environment that sets it."""
        return ENVIRONMENT_PREFIX + self.name.replace(".", "__").replace("*", "TITLE").upper()

    @property
    def default(self) -> str:
        """The default, written as TOML; "" when the setting must be given."""
        shown = str(_extra(self.field).get("shown", ""))
        if shown:
            return toml_value(shown)
        return "" if self.field.default is PydanticUndefined else toml_value(self.field.default)


def mask_password(text: str) -> str:
    """Hide the password of every URL in a text, before its host or among its parameters."""
    text = re.sub(r'(://[^/:@\s"]*):[^\s"]*@', r"\1:***@", text)
    return re.sub(r'([?&](?:ssl)?password=)[^&\s"]*', r"\1***", text)


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def sections(model: type[BaseModel] = Settings) -> Iterator[tuple[str, type[Section]]]:
    """The sections of the file, in its order, without the peers."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


@cache
def leaves() -> tuple[Leaf, ...]:
    """Every setting, in the file's order; those of a peer last."""
    names = {name for name, _ in sections()} | {"peers"}
    found = [
        Leaf("", key, field) for key, field in Settings.model_fields.items() if key not in names
    ]
    for name, section in sections():
        found += [Leaf(name, key, field) for key, field in section.model_fields.items()]
    found += [Leaf("peers.*", key, field) for key, field in Peer.model_fields.items()]
    return tuple(found)


def leaf(name: str) -> Leaf:
    """The setting called `name`, e.g. "server.port".

    Raises:
        KeyError: there is none.
    """
    for candidate in leaves():
        if candidate.name == name:
            return candidate
    raise KeyError(name)


def toml_value(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str | Path):
        # A JSON string is a TOML basic string, except that TOML wants DEL escaped as well.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def template() -> str:
    """The file config/lfscp.toml."""
    out = [_HEAD]
    section = ""
    for item in leaves():
        if item.section != section:
            section = item.section
            out.append(_section_head(section))
        value = item.default or _example(item.key)
        out.append(f"{_comment(item.help)}\n#{item.key} = {value}\n")
    return "\n".join(out)


def _section_head(section: str) -> str:
    if section == "peers.*":
        return f"{_comment(Peer.__doc__ or '')}\n#[peers.{_EXAMPLE_PEER}]\n"
    return f"{_comment(dict(sections())[section].__doc__ or '')}\n[{section}]\n"


def _comment(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="# ", subsequent_indent="# ")


def _example(key: str) -> str:
    return {"host": '"192.0.2.10"', "port": "104"}[key]


def markdown_table() -> str:
    """The table of settings in README."""
    rows = ["| setting | default | flag | what it does |", "|---|---|---|---|"]
    for item in leaves():
        flag = f"`{item.flag}`" if item.flag else ""
        default = f"`{item.default}`" if item.default else "must be given"
        name = item.name.replace("*", "TITLE")
        rows.append(f"| `{name}` | {default} | {flag} | {item.help} |")
    return "\n".join(rows) + "\n"
