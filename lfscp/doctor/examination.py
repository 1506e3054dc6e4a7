"""Puts the parts of an examination together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lfscp.archive.data_folder import is_in_use
from lfscp.config import ConfigError
from lfscp.config.present import require_present
from lfscp.doctor import clock, database, folders, peers, ports, versions
from lfscp.doctor.finding import Finding, fine, wrong

if TYPE_CHECKING:
    from lfscp.config import Resolved

_NODE: Final = "node"


def examine(resolved: Resolved, *, asks_peers: bool = True) -> Iterator[Finding]:
    """Look at everything; findings come as they are made.

    Args:
        asks_peers: whether the peers of the configuration are asked too.
    """
    settings = resolved.settings
    yield from versions.examine(settings)
    yield from _configuration(resolved)
    is_running = is_in_use(settings.data_dir)
    word = "runs" if is_running else "does not run"
    yield fine(_NODE, f"the node {word}; its data folder is {settings.data_dir}")
    yield from _as_far_as_possible("rights", folders.examine(resolved))
    index = database.examine(settings)
    yield from index.findings
    yield from ports.examine(settings, is_running=is_running)
    yield from clock.examine(index.newest_s)
    if asks_peers:
        yield from peers.examine(settings)


def _as_far_as_possible(subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings, and what ended them if something cannot be looked at."""
    try:
        yield from findings
    except OSError as error:
        advice = "run it as the user of the node, or as root"
        yield wrong(subject, f"{error.filename}: {error.strerror}", advice)


def _configuration(resolved: Resolved) -> Iterator[Finding]:
    try:
        require_present(resolved)
    except ConfigError as error:
        for each in error.complaints:
            yield wrong("settings", each, "`lfscp config` shows all settings and their sources")
    else:
        sources = ", ".join(dict.fromkeys(resolved.origins.values())) or "defaults alone"
        yield fine("settings", f"they are right; they come from {sources}")
