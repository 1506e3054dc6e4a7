"""Describes the settings in config/lfscp.toml and config/settings.md.

Both are made from the declarations in `settings`; tests/meta fails if a file differs.
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
from typing import Any, Final, cast

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lfscp.config.access import PeerSettings
from lfscp.config.coercion import CoercionSection
from lfscp.config.declaration import Section
from lfscp.config.routes import RouteSettings
from lfscp.config.settings import Settings

ENVIRONMENT_PREFIX: Final = "LFSCP_"
FILE_VARIABLE: Final = "LFSCP_CONFIG"  # names the file itself, so it is no setting
PEER_PASSWORD_VARIABLE: Final = "LFSCP_PEER_PASSWORD"  # noqa: S105 - its name: of `lfscp find --user`
NO_SETTINGS: Final = frozenset({FILE_VARIABLE, PEER_PASSWORD_VARIABLE})
# Sections of which there may be several; each is one value for a reload.
PEERS: Final = "peers.*"
LISTS: Final[dict[str, type[Section]]] = {  # arrays of tables
    "coercion": CoercionSection,
    "route": RouteSettings,
}
REPEATED: Final = frozenset({PEERS, *LISTS})
# Where defaults say nothing.
_EXAMPLES: Final = {
    "peers.*.host": '"192.0.2.10"',
    "peers.*.port": "104",
    "coercion.name": '"NAME"',
    "route.name": '"ct-to-archive"',
    "route.send_to": '["WORKSTATION"]',
}
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
    """One setting as it is declared.

    Args:
        section: "" for none, "peers.*" for a peer's; "web.oidc" is a section in one; "route" is
            one of a list.
        flag: the option of `lfscp serve` that sets it, or "".
        is_live: whether SIGHUP changes it in a node that runs.
        default: written as TOML; "" when the setting must be given.
    """

    section: str
    key: str
    annotation: Any
    help: str
    flag: str
    is_live: bool
    default: str

    @classmethod
    def of(cls, section: str, key: str, field: FieldInfo) -> Leaf:
        """What one field declares."""
        extra = cast("dict[str, Any]", field.json_schema_extra)  # see declaration.setting
        is_given = field.default in (PydanticUndefined, ...) and not extra["shown"]
        default = "" if is_given else toml_value(extra["shown"] or field.default)
        if field.default_factory is dict:
            default = "{}"
        help_ = field.description or ""
        return cls(section, key, field.annotation, help_, extra["flag"], extra["live"], default)

    @property
    def name(self) -> str:
        """Section and key joined by a dot, as in messages."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def variable(self) -> str:
        """The variable of the environment that sets it."""
        return ENVIRONMENT_PREFIX + self.name.replace(".", "__").replace("*", "TITLE").upper()


def mask_password(text: str) -> str:
    """Hide passwords and tokens in a text: in URLs, and those of peers in JSON."""
    text = re.sub(r'("(?:password|token)"\s*:\s*)"(?:[^"\\]|\\.)*"?', r'\1"***"', text)
    text = re.sub(r'(://[^/:@\s"]*):[^\s"]*@', r"\1:***@", text)
    return re.sub(r'([?&](?:ssl)?password=)[^&\s"]*', r"\1***", text)


def sections() -> dict[str, type[Section]]:
    """The sections of the file by name, in its order; those that may be repeated come last."""
    return {**dict(_sections_of(Settings, "")), PEERS: PeerSettings, **LISTS}


def _sections_of(table: type[Section], prefix: str) -> Iterator[tuple[str, type[Section]]]:
    for key, field in table.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield prefix + key, field.annotation
            yield from _sections_of(field.annotation, f"{prefix}{key}.")


def table_of(settings: Settings, section: str) -> Section:
    """The values of a section; "" for those outside the sections."""
    table: Section = settings
    for key in section.split(".") if section else ():
        table = getattr(table, key)
    return table


@cache
def leaves() -> tuple[Leaf, ...]:
    """Every setting, in the file's order; those of peers and routes last."""
    tables = sections()
    found = [
        Leaf.of("", key, field)
        for key, field in Settings.model_fields.items()
        if key not in tables and key != "peers"  # a list is a table of `sections`
    ]
    for name, section in tables.items():
        found += [
            Leaf.of(name, field.alias or key, field)
            for key, field in section.model_fields.items()
            if f"{name}.{key}" not in tables
        ]
    return tuple(found)


def toml_value(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, SecretStr):
        return '"***"' if value.get_secret_value() else '""'
    if isinstance(value, str | Path):
        # A JSON string is a TOML basic string, except that TOML wants DEL escaped as well.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def template() -> str:
    """The file config/lfscp.toml."""
    out = [_HEAD]
    for section, items in groupby(leaves(), attrgetter("section")):
        if section:
            name = "#[peers.WORKSTATION]" if section == PEERS else f"[{section}]"
            name = f"#[[{section}]]" if section in LISTS else name
            out.append(f"{_comment(_about(section))}\n{name}\n")
        for item in items:
            value = _EXAMPLES.get(item.name, item.default)
            out.append(f"{_comment(item.help)}\n#{item.key} = {value}\n")
    return "\n".join(out)


def _about(section: str) -> str:
    return sections()[section].__doc__ or ""


def _comment(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="# ", subsequent_indent="# ")


def markdown() -> str:
    """The file config/settings.md."""
    out = [_MARKDOWN_HEAD]
    for section, items in groupby(leaves(), attrgetter("section")):
        name = f"[{section}]" if section in LISTS else section.replace("*", "TITLE")
        about = f"[{name}]\n\n{_about(section)}" if section else "Outside the sections"
        out.append(f"## {about}\n")
        out.append("\n".join([_TABLE_HEAD, *map(_markdown_row, items)]) + "\n")
    return "\n".join(out)


def _markdown_row(item: Leaf) -> str:
    flag = f"`{item.flag}`" if item.flag else ""
    default = f"`{item.default}`" if item.default else "must be given"
    # A reload replaces the peers as a whole, and likewise coercions and routes.
    reload = "yes" if item.is_live or item.section in REPEATED else ""
    return f"| `{item.name.replace('*', 'TITLE')}` | {default} | {flag} | {reload} | {item.help} |"
