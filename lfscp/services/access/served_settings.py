"""The settings as the services see them: with the peers that were added with rights on the page.

A change of those peers counts within a second. An association keeps the settings with which it
began. A configured peer goes before an added one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from lfscp.config import PeerSettings
from lfscp.config.current import CurrentSettings
from lfscp.config.settings import Settings
from lfscp.services.access.added_peers import AddedPeers

LOOK_AGAIN_S: Final = 0.5  # at the file: a store must not wait for it each time


class ServedSettings(CurrentSettings):
    """The present settings of a node with its added peers. Any thread may read them.

    Args:
        current: those of the configuration, which a reload replaces.
        added: the peers of the page and the API.
    """

    __slots__ = ("_added", "_current", "_look_at", "_rights", "_seen")

    def __init__(self, current: CurrentSettings, added: AddedPeers) -> None:
        self._current = current
        self._added = added
        self._look_at = 0.0
        self._rights: Mapping[str, PeerSettings] = {}
        # What the settings were made of, and they themselves: replaced as a whole.
        self._seen: tuple[Settings, Mapping[str, PeerSettings], Settings] | None = None

    @property
    def settings(self) -> Settings:  # type: ignore[override]
        """Read it once for values that belong together."""
        configured = self._current.settings
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_AGAIN_S
            self._rights = self._added.with_rights()
        rights = self._rights
        if not rights:
            return configured
        seen = self._seen
        if seen is None or seen[0] is not configured or seen[1] != rights:
            peers = {**rights, **configured.peers}
            seen = (configured, rights, configured.model_copy(update={"peers": peers}))
            self._seen = seen
        return seen[2]
