"""The settings of a node that runs: replaced as a whole when it is told to read them again.

Settings themselves never change. Who must see a change holds a `CurrentSettings` and asks it each
time; what was asked for once, by an association that runs, stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from lfscp.config.describe import leaves
from lfscp.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Renewal:
    """What came of reading the settings again.

    Args:
        settings: the old ones with every change that a running node can make.
        changed: the names of those changes ("server.max_associations", "peers").
        waiting: the names of changes that the next start will make.
    """

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


class CurrentSettings:
    """The settings as they are now. Any thread may ask; they are replaced in one step.

    Attributes:
        settings: the settings; to be read once for all that belongs together.
    """

    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def of(cls, settings: Settings | CurrentSettings) -> CurrentSettings:
        """Settings that never change, or those that do, as one type."""
        return settings if isinstance(settings, CurrentSettings) else cls(settings)


def renew(old: Settings, new: Settings) -> Renewal:
    """Take over what a running node can change; no I/O."""
    changed: list[str] = []
    waiting: list[str] = []
    sections: dict[str, dict[str, object]] = {}
    for leaf in leaves():
        if leaf.section == "peers.*":
            continue
        before, after = (
            getattr(getattr(each, leaf.section) if leaf.section else each, leaf.key)
            for each in (old, new)
        )
        if before == after:
            continue
        if leaf.is_live:
            changed.append(leaf.name)
            sections.setdefault(leaf.section, {})[leaf.key] = after
        else:
            waiting.append(leaf.name)
    update: dict[str, object] = {
        name: getattr(old, name).model_copy(update=values) for name, values in sections.items()
    }
    if old.peers != new.peers:
        changed.append("peers")
        update["peers"] = new.peers
    return Renewal(old.model_copy(update=update), tuple(changed), tuple(waiting))
