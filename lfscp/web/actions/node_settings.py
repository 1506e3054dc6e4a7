"""The settings in force with their sources, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from lfscp.config import Settings
from lfscp.config.declaration import Section
from lfscp.config.describe import (
    LISTS,
    PEERS,
    REPEATED,
    leaves,
    mask_password,
    table_of,
    toml_value,
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
    """Every setting, in the order of the configuration file; those of peers, then lists, last."""
    return [*_of_sections(settings), *_of_peers(settings), *_of_lists(settings)]


def _of_sections(settings: Settings) -> Iterator[SettingInForce]:
    for leaf in leaves():
        if leaf.section not in REPEATED:
            value = getattr(table_of(settings, leaf.section), leaf.key)
            source = origin_of(settings.origins, tuple(leaf.name.split(".")))
            yield SettingInForce(leaf.name, _shown(leaf.key, value), source, leaf.help)


def _of_peers(settings: Settings) -> Iterator[SettingInForce]:
    for title, peer in settings.peers.items():
        yield from _of_one(settings, PEERS, f"peers.{title}", ("peers", title), peer)


def _of_lists(settings: Settings) -> Iterator[SettingInForce]:
    """The settings of each table of a list, such as [[route]], by the name of the table."""
    for section in LISTS:
        for at, table in enumerate(getattr(settings, section)):
            place = (section, str(at))
            yield from _of_one(settings, section, f"{section}.{table.name}", place, table)


def _of_one(
    settings: Settings, section: str, name: str, place: tuple[str, ...], table: Section
) -> Iterator[SettingInForce]:
    """What is set of one table of several."""
    helps = {leaf.key: leaf.help for leaf in leaves() if leaf.section == section}
    for key, value in table.model_dump(exclude_unset=True, by_alias=True).items():
        source = origin_of(settings.origins, (*place, key))
        yield SettingInForce(f"{name}.{key}", _shown(key, value), source, helps[key])


def _shown(key: str, value: Any) -> str:
    written = mask_password(toml_value(value))
    if _HIDDEN.search(key) and value:
        return '"***"' if written != '""' else written
    return _HASH.sub(r"\1***", written) if key in _HASHES else written
