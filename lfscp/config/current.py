"""Holds the settings of a running node, which a reload replaces as a whole.

Settings themselves never change. Code that must see a reload holds a `CurrentSettings` and reads it
each time. An association keeps the settings with which it began.
"""

from __future__ import annotations

from dataclasses import dataclass

from lfscp.config.describe import LISTS, REPEATED, leaves, table_of
from lfscp.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Renewal:
    """The outcome of reading the settings again.

    Args:
        settings: the old ones with every change that a running node can make.
        changed: the names of these changes ("server.max_associations", "peers").
        waiting: the names of the changes that need a restart.
    """

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


class CurrentSettings:
    """The present settings. Any thread may read them; a reload replaces them in one step.

    Attributes:
        settings: read it once for values that belong together.
    """

    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def of(cls, settings: Settings | CurrentSettings) -> CurrentSettings:
        """Settings as current ones; those that are current stay the same."""
        return settings if isinstance(settings, CurrentSettings) else cls(settings)


def renew(old: Settings, new: Settings) -> Renewal:
    """Take over the changes that a running node can make; no I/O."""
    changed: list[str] = []
    waiting: list[str] = []
    sections: dict[str, dict[str, object]] = {}
    for leaf in leaves():
        if leaf.section in REPEATED:
            continue
        before, after = (getattr(table_of(each, leaf.section), leaf.key) for each in (old, new))
        if before == after:
            continue
        if leaf.is_live:
            changed.append(leaf.name)
            sections.setdefault(leaf.section, {})[leaf.key] = after
        else:
            waiting.append(leaf.name)
    update: dict[str, object] = {}
    while sections:
        name = max(sections, key=lambda each: each.count("."))  # inner ones first
        renewed = table_of(old, name).model_copy(update=sections.pop(name))
        outer, _, key = name.rpartition(".")
        (sections.setdefault(outer, {}) if outer else update)[key] = renewed
    for name in ("peers", *LISTS):
        if getattr(old, name) != getattr(new, name):
            changed.append(name)
            update[name] = getattr(new, name)
    taken = {*changed, "peers"}
    origins = {
        path: origin
        for settings, are_taken in ((old, False), (new, True))
        for path, origin in settings.origins.items()
        if any(".".join(path[:end]) in taken for end in range(1, len(path) + 1)) is are_taken
    }
    renewed = old.model_copy(update=update).with_origins(origins)
    return Renewal(renewed, tuple(changed), tuple(waiting))
