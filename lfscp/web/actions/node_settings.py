"""The settings in force with their sources, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from lfscp.config import Settings
from lfscp.config.describe import (
    LISTS,
    PLUGIN_SETTINGS,
    REPEATED,
    leaves,
    mask_password,
    table_of,
    toml_value,
    without_values,
)
from lfscp.config.sources import DEFAULT, origin_of

# The end of NAME:ROLE:HASH, as of users and tokens; and settings that are a hash as a whole.
_HASH: Final = re.compile(r"(:)[^:\"]{16,}(?=\")")
_HASHES: Final = ("users", "tokens")
_HIDDEN: Final = re.compile(r"(^|_)(password|token|secret|token_hash|hash)$")


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting.

    Args:
        name: section and key.
        value: written as TOML; secrets are ***.
        source: "default", a file, a variable of the environment or a flag.
    """

    name: str
    value: str
    source: str
    help: str

    @property
    def is_default(self) -> bool:
        """Whether nothing sets it."""
        return self.source == DEFAULT


def settings_in_force(settings: Settings) -> list[SettingInForce]:
    """Every setting, in the order of the configuration file.

    Those of peers, coercions and routes come last, and only those that are set.
    """
    return [*_of_sections(settings), *_of_peers(settings), *_of_lists(settings)]


def _of_sections(settings: Settings) -> Iterator[SettingInForce]:
    for leaf in leaves():
        if leaf.section not in REPEATED:
            value = getattr(table_of(settings, leaf.section), leaf.key)
            value = without_values(value) if leaf.name == PLUGIN_SETTINGS else value
            source = origin_of(settings.origins, tuple(leaf.name.split(".")))
            yield SettingInForce(leaf.name, _shown(leaf.key, value), source, leaf.help)


def _of_peers(settings: Settings) -> Iterator[SettingInForce]:
    helps = {leaf.key: leaf.help for leaf in leaves() if leaf.section == "peers.*"}
    for title, peer in settings.peers.items():
        for key, value in peer:
            if key in peer.model_fields_set:
                source = origin_of(settings.origins, ("peers", title, key))
                yield SettingInForce(f"peers.{title}.{key}", _shown(key, value), source, helps[key])


def _of_lists(settings: Settings) -> Iterator[SettingInForce]:
    """Those of coercions and routes, such as `route.NAME.send_to`."""
    for section in LISTS:
        for at, table in enumerate(getattr(settings, section)):
            shown = table.model_dump(mode="json", by_alias=True, exclude_unset=True)
            for leaf in leaves():
                if leaf.section == section and leaf.key in shown:
                    source = origin_of(settings.origins, (section, str(at), leaf.key))
                    name = f"{section}.{table.name}.{leaf.key}"
                    value = _shown(leaf.key, shown[leaf.key])
                    yield SettingInForce(name, value, source, leaf.help)


def _shown(key: str, value: Any) -> str:
    written = mask_password(toml_value(value))
    if _HIDDEN.search(key) and value:
        return '"***"' if written != '""' else written
    return _HASH.sub(r"\1***", written) if key in _HASHES else written
