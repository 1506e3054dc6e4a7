"""The settings described: config/lfscp.toml, config/settings.md, the help of each flag.

All are made from the declarations in `settings`; tests/meta fails when a file differs.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
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
# The configuration of an lfscp node: every setting with its default. To change one, remove its "#".
#
# An environment variable overrides this file, and an option of `lfscp serve` overrides both:
#   LFSCP_SERVER__PORT=104        section and key, joined by two underscores
#   LFSCP_DATA_DIR=/srv/lfscp     a key outside the sections
#
# In the source tree `lfscp config --template` writes this file; do not edit it there by hand.
"""
_MARKDOWN_HEAD: Final = """\
# All settings

`lfscp config --markdown` writes this file. Do not edit it by hand.

`server.port` is the key `port` in the section `[server]` of the configuration file; [where settings
come from](README.md#configuration). If "reload" says yes, a running node takes the new value at
SIGHUP (`systemctl reload lfscp`). All others need a restart. The unit is part of the name: `_s` is
seconds, `_mb` megabytes, `_gb` gigabytes.
"""
_TABLE_HEAD: Final = """\
| setting | default | flag | reload | what it does |
|---|---|---|---|---|"""


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
    name = f"#[peers.{_EXAMPLE_PEER}]" if section == "peers.*" else f"[{section}]"
    return f"{_comment(_about(section))}\n{name}\n"


def _about(section: str) -> str:
    model = Peer if section == "peers.*" else dict(sections())[section]
    return model.__doc__ or ""


def _comment(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="# ", subsequent_indent="# ")


def _example(key: str) -> str:
    return {"host": '"192.0.2.10"', "port": "104"}[key]


def markdown() -> str:
    """The file config/settings.md."""
    out = [_MARKDOWN_HEAD]
    for section, items in groupby(leaves(), attrgetter("section")):
        out.append(_markdown_head(section))
        out.append("\n".join([_TABLE_HEAD, *map(_markdown_row, items)]) + "\n")
    return "\n".join(out)


def _markdown_head(section: str) -> str:
    if not section:
        return "## Outside the sections\n"
    name = section.replace("*", "TITLE")
    return f"## [{name}]\n\n{_about(section)}\n"


def _markdown_row(item: Leaf) -> str:
    flag = f"`{item.flag}`" if item.flag else ""
    default = f"`{item.default}`" if item.default else "must be given"
    # A reload replaces the peers as a whole.
    reload = "yes" if item.is_live or item.section == "peers.*" else ""
    return f"| `{item.name.replace('*', 'TITLE')}` | {default} | {flag} | {reload} | {item.help} |"
