"""Settings of a node: declared in `settings`, merged in `sources`, described in `describe`."""

from lfscp.config.access import PeerSettings
from lfscp.config.settings import Settings
from lfscp.config.sources import ConfigError, Resolved, resolve_settings

__all__ = ["ConfigError", "PeerSettings", "Resolved", "Settings", "resolve_settings"]
